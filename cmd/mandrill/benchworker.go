package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A partWorker is a worker with all its parts, which is measured.
type partWorker struct {
	*benchPart
	service  *service
	held     *heldHosts // of partHeld
	marks    *marks     // of partLag
	extended atomic.Int64
	begun    atomic.Int64 // deliveries
}

// settings returns the settings in which the worker of a part differs from one that nobody has configured.
func (o benchOrder) settings() map[string][]string {
	settings := map[string]string{
		"nats": o.Server.URL, "creds": o.Server.Creds, "token": o.Server.Token, "data": o.Data, "group": string(o.Group), "log.format": "json",
		"ack_wait": o.AckWait.String(), "max_in_flight": strconv.Itoa(o.InFlight), "budget": strconv.Itoa(o.InFlight),
		"simulated.restart_max": max(o.Latency, 1).String(), "simulated.restart_min": o.Latency.String(),
	}
	switch o.Part {
	case partHeld:
		// A host that is down for so long is not asked every second.
		settings["probe_interval"], settings["verify_timeout"], settings["max_lease"] = "1m", "12h", "24h"
	case partStuck:
		settings["driver.slots"], settings["probe_timeout"], settings["restart_timeout"] = "1", "10m", "10m"
	}
	flags := make(map[string][]string, len(settings))
	for key, value := range settings {
		flags[key] = []string{value}
	}
	return flags
}

// worker runs a worker with all its parts.
func (p *benchPart) worker(ctx context.Context) (err error) {
	loaded, err := config.Load(config.Sources{Flags: p.order.settings()})
	if err != nil {
		return err
	}
	// What a worker says of each message is a part of its work.
	sink, err := discard()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	w := &partWorker{benchPart: p}
	a := w.app()
	a.stderr = sink
	log := a.newLogger(loaded.Config.Log)
	w.service, err = a.openService(ctx, loaded.Config, serviceOptions{
		log: log, messages: log, adoptStore: true, settled: p.count.settled,
	})
	if err != nil {
		return err
	}
	report, err := w.measure(ctx)
	if err == nil {
		err = w.recount(ctx, report)
	}
	if closeErr := w.service.close(); !errors.Is(closeErr, errPartly) {
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		return err
	}
	return p.tell(*report)
}

// app returns the program, with the hosts that the part wants, and with what it puts between the parts of the worker.
func (w *partWorker) app() *app {
	a := *w.benchPart.app
	a.newDriver, a.between.endpoint = newDriver, w.order.Server.keepAway
	switch w.order.Part {
	case partHeld:
		w.held = newHeldHosts(w.order.N)
		a.newDriver = func(config.Config, restart.Group) (restart.Driver, error) { return w.held, nil }
		a.between.delivery = func(d handler.Delivery) handler.Delivery { return countExtensions{d, &w.extended} }
	case partStuck:
		a.newDriver = func(config.Config, restart.Group) (restart.Driver, error) { return stuckHosts{}, nil }
		a.between.delivery = w.countBegun
	case partLag:
		w.marks = newMarks(w.order.N)
		a.between = w.marks.seams(a.between, func(ctx context.Context) error { return w.service.conn.FlushWithContext(ctx) })
	}
	return &a
}

// countBegun tells when as many deliveries are begun as there are messages.
func (w *partWorker) countBegun(d handler.Delivery) handler.Delivery {
	if w.begun.Add(1) == int64(w.order.N) {
		_ = w.tell(benchReport{Event: eventHeld, At: time.Now().UTC()}) // whoever waits for it finds out
	}
	return d
}

// measure lets the worker work until all messages are settled, or until it is stopped where they never are.
func (w *partWorker) measure(ctx context.Context) (*benchReport, error) {
	s, err := w.begin()
	if err != nil {
		return nil, err
	}
	working, stopWorking := context.WithCancelCause(ctx)
	defer stopWorking(nil)
	group, running := errgroup.WithContext(working)
	group.Go(func() error { return w.service.work(running) })
	group.Go(func() error {
		defer stopWorking(errAllSettled)
		switch w.order.Part {
		case partStuck:
			<-running.Done()
			return w.end(s)
		case partHeld:
			if err := w.holdAll(running, &s.report, w.held.count.Load, &w.extended); err != nil {
				return err
			}
			w.held.up.Store(true)
		}
		return w.awaitAll(running, w.service.conn, w.service.js, s)
	})
	stop := w.inBackground(ctx, w.tellProgress)
	err = group.Wait()
	stop()
	return &s.report, err
}

// recount asks hosts and database what was done, since they would know it if the worker was wrong.
func (w *partWorker) recount(ctx context.Context, r *benchReport) error {
	if w.order.Part == partStuck {
		w.service.tally.mu.Lock()
		r.HandedBack = w.service.tally.handedBack
		w.service.tally.mu.Unlock()
		return nil
	}
	for _, g := range w.service.groups {
		if hosts, ok := g.driver.(interface{ Boots() int }); ok {
			r.Restarted += hosts.Boots()
		}
	}
	for e, err := range w.service.store.History(ctx, store.Filter{}) {
		if err != nil {
			return fmt.Errorf("cannot count what was recorded: %w", err)
		}
		if e.Outcome.Kind == restart.Restarted {
			r.Recorded++
		}
	}
	if w.marks != nil {
		r.Lags = w.marks.lags()
	}
	return nil
}
