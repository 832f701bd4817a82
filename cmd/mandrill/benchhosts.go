package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const benchPrefix = "bench-"

// benchInstance returns the name of the i-th host of a benchmark.
func benchInstance(i int) string { return fmt.Sprintf("%s%07d", benchPrefix, i) }

// benchIndex returns which host of a benchmark has that name.
func benchIndex(host restart.Host) int {
	number, _, _ := strings.Cut(strings.TrimPrefix(string(host), benchPrefix), ".")
	i, err := strconv.Atoi(number)
	if err != nil {
		return 0 // unreachable: all hosts are named by benchInstance
	}
	return i
}

var errDown = errors.New("it is down")

// heldHosts are hosts that go down when they are restarted, and stay so until all are let up. They take a bit each, so
// that what is measured is the worker.
type heldHosts struct {
	down  []atomic.Uint64 // a bit for each host that was restarted
	count atomic.Int64    // of restarts
	up    atomic.Bool
}

var _ restart.Driver = (*heldHosts)(nil)

func newHeldHosts(n int) *heldHosts { return &heldHosts{down: make([]atomic.Uint64, n/64+1)} }

func (h *heldHosts) Traits() restart.Traits { return restart.Traits{Compare: restart.CompareAtEffect} }

// Boots returns how often hosts were restarted.
func (h *heldHosts) Boots() int { return int(h.count.Load()) }

func (h *heldHosts) Probe(_ context.Context, host restart.Host) (restart.State, error) {
	i := benchIndex(host)
	switch {
	case h.down[i/64].Load()&(1<<(i%64)) == 0:
		return restart.State{Epoch: "1", Ready: true}, nil
	case h.up.Load():
		return restart.State{Epoch: "2", Ready: true}, nil
	default:
		return restart.State{}, errDown
	}
}

func (h *heldHosts) Restart(_ context.Context, t restart.Trigger) error {
	i := benchIndex(t.Host)
	if h.down[i/64].Or(1<<(i%64))&(1<<(i%64)) != 0 {
		return restart.ErrChanged
	}
	h.count.Add(1)
	return nil
}

// stuckHosts are hosts whose probes are never answered.
type stuckHosts struct{}

var _ restart.Driver = stuckHosts{}

func (stuckHosts) Traits() restart.Traits { return restart.Traits{Compare: restart.CompareAtEffect} }

func (stuckHosts) Probe(ctx context.Context, _ restart.Host) (restart.State, error) {
	<-ctx.Done()
	return restart.State{}, context.Cause(ctx)
}

func (stuckHosts) Restart(context.Context, restart.Trigger) error { return restart.ErrRefused }

// countExtensions counts the extensions of a delivery's lease that the server has confirmed.
type countExtensions struct {
	handler.Delivery
	extended *atomic.Int64
}

func (d countExtensions) Extend(then func(error)) (cancel func() bool, err error) {
	return d.Delivery.Extend(func(err error) {
		if err == nil {
			d.extended.Add(1)
		}
		then(err)
	})
}

// marks are when the steps of messages ended, since the marks were made. Each step of a message is one goroutine's, and
// they are read when all have ended.
type marks struct {
	made time.Time
	of   []mark
}

type mark struct {
	saved, restarted       time.Duration
	finishing, finished    time.Duration // Finish was called, and returned
	acknowledged, answered time.Duration // the acknowledgement was sent; what was sent after it was answered
}

func newMarks(n int) *marks { return &marks{time.Now(), make([]mark, n)} }

func (m *marks) at(host restart.Host) *mark { return &m.of[benchIndex(host)] }
func (m *marks) now() time.Duration         { return time.Since(m.made) }

// seams put the marks between the parts of a worker. flush returns when the server has answered.
func (m *marks) seams(s seams, flush func(context.Context) error) seams {
	s.driver = func(d restart.Driver) restart.Driver { return markedDriver{d, m} }
	s.store = func(st store.Store) store.Store { return markedStore{st, m} }
	s.delivery = func(d handler.Delivery) handler.Delivery { return markedDelivery{d, m, flush} }
	return s
}

type markedDriver struct {
	restart.Driver
	marks *marks
}

// Probe marks the restart's end, which is the last probe that sees another boot, ready.
func (d markedDriver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	state, err := d.Driver.Probe(ctx, host)
	if err == nil && state.Ready && state.Epoch != firstEpoch {
		d.marks.at(host).restarted = d.marks.now()
	}
	return state, err
}

// firstEpoch is the epoch of a simulated host that was not restarted.
const firstEpoch = "1"

type markedStore struct {
	store.Store
	marks *marks
}

func (s markedStore) Save(ctx context.Context, r restart.Request) error {
	err := s.Store.Save(ctx, r)
	s.marks.at(r.Host).saved = s.marks.now()
	return err
}

func (s markedStore) Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error) {
	m := s.marks.at(o.Host)
	m.finishing = s.marks.now()
	standing, err := s.Store.Finish(ctx, o)
	m.finished = s.marks.now()
	return standing, err
}

// confirmEvery is how many acknowledgements there are to one of which the server's answer is awaited.
const confirmEvery = 16

type markedDelivery struct {
	handler.Delivery
	marks *marks
	flush func(context.Context) error
}

func (d markedDelivery) Ack(ctx context.Context) error {
	err := d.Delivery.Ack(ctx)
	acknowledged := d.marks.now()
	envelope, _ := d.Envelope() // it was readable before
	m := d.marks.at(envelope.Host)
	m.acknowledged = acknowledged
	if benchIndex(envelope.Host)%confirmEvery == 0 && d.flush(ctx) == nil {
		m.answered = d.marks.now()
	}
	return err
}

// lags are how long messages waited between their steps, in milliseconds.
type lags struct {
	EndsToFinish bench.Quantiles `json:"ends_to_finish_ms"`          // from the later of the two ends until Finish is called
	Finish       bench.Quantiles `json:"finish_ms"`                  // until it returns
	AckSent      bench.Quantiles `json:"finish_to_ack_sent_ms"`      // from its return
	AckConfirmed bench.Quantiles `json:"finish_to_ack_confirmed_ms"` // from its return, of one in confirmEvery
}

func (m *marks) lags() lags {
	var ends, finish, sent, confirmed []time.Duration
	for _, of := range m.of {
		if of.acknowledged == 0 {
			continue // it was not delivered, which is told elsewhere
		}
		ends = append(ends, of.finishing-max(of.saved, of.restarted))
		finish = append(finish, of.finished-of.finishing)
		sent = append(sent, of.acknowledged-of.finished)
		if of.answered > 0 {
			confirmed = append(confirmed, of.answered-of.finished)
		}
	}
	return lags{bench.QuantilesOf(ends), bench.QuantilesOf(finish), bench.QuantilesOf(sent), bench.QuantilesOf(confirmed)}
}
