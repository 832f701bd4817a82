package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/consumer"
	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// served is one group that a service serves.
type served struct {
	name     restart.Group
	driver   restart.Driver
	bounded  *bounded.Driver
	rules    policy.Rules
	control  *control.Group
	metrics  groupMetrics
	work     *handler.Handler
	consumer *consumer.Consumer

	campaigns *campaign.Server
}

// newServed makes what a group has of its own, from the configuration that is in effect for it.
func (a *app) newServed(cfg config.Config, name restart.Group, log zerolog.Logger) (*served, error) {
	g := &served{name: name}
	var err error
	if g.rules, err = newRules(cfg); err != nil {
		return nil, err
	}
	if g.driver, err = a.newDriver(cfg, name); err != nil {
		return nil, err
	}
	g.bounded, err = bounded.New(bounded.Config{
		Driver: a.between.driver(g.driver), Slots: cfg.Driver.Slots,
		ProbeTimeout: cfg.ProbeTimeout, RestartTimeout: cfg.RestartTimeout, Logger: log.With().Str("group", string(name)).Logger(),
	})
	return g, err
}

// newRules makes the gates of a group.
func newRules(cfg config.Config) (rules policy.Rules, err error) {
	rules = policy.Rules{Takes: cfg.Window.RestartTakes, DryRun: cfg.DryRun, Self: thisMachine(cfg)}
	for _, part := range []struct {
		key string
		set func() error
	}{
		{"window", func() (err error) {
			rules.Windows, err = policy.ParseWindows(cfg.Window.Open, cfg.Window.Except, cfg.Window.Zone)
			return err
		}},
		{"deny", func() (err error) { rules.Deny, err = policy.ParsePatterns(cfg.Deny); return err }},
		{"only", func() (err error) { rules.Only, err = policy.ParsePatterns(cfg.Only); return err }},
	} {
		if err := part.set(); err != nil {
			return rules, &config.UsageError{Err: fmt.Errorf("%s: %w", part.key, err)}
		}
	}
	if longest := rules.Windows.Longest(); rules.Takes > longest {
		return rules, usagef("window.restart_takes: %s is longer than every window, the longest of which is %s", rules.Takes, longest)
	}
	return rules, nil
}

// thisMachine returns how the machine is known that this process runs on. What cannot be found out about it is left out:
// it is the operator's to say where names differ.
func thisMachine(cfg config.Config) policy.Self {
	var self policy.Self
	names := append([]string{"localhost"}, cfg.Self...)
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			names = append(names, prefix.Addr().String())
		}
	}
	for _, name := range names {
		self.Names = append(self.Names, restart.Host(strings.ToLower(name)))
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		self.Boot = restart.Epoch(strings.TrimSpace(string(id)))
	}
	return self
}

// openGroups joins what the groups have in common, journal, store and dead letters, to what each has of its own.
func (s *service) openGroups(ctx context.Context, o serviceOptions) error {
	var err error
	s.journal, err = journal.Open(ctx, journal.Config{
		Conn: s.conn.Conn, Created: s.streams.JournalCreated, MaxAge: s.streams.JournalMaxAge,
	})
	if err != nil {
		return err
	}
	box, err := deadletter.Open(ctx, s.js)
	if err != nil {
		return err
	}
	for _, g := range s.groups {
		if err := s.openGroup(g, box, o); err != nil {
			return err
		}
		if _, err := stream.EnsureConsumer(ctx, s.js, g.name, g.control.Settings(s.settingsOf(g.name))); err != nil {
			return err
		}
	}
	return nil
}

// openGroup brings a group up to where its messages could be pulled.
func (s *service) openGroup(g *served, box handler.DeadLetters, o serviceOptions) error {
	g.metrics = groupMetrics{s.metrics.Group(g.name)}
	g.metrics.Driver(g.bounded)
	cfg := s.cfg.For(g.name)
	retry := handler.Backoff{Base: cfg.Retry.Base, Cap: cfg.Retry.Cap}
	restarter, err := handler.NewRestarter(handler.RestarterConfig{
		Driver: g.bounded, Rules: g.rules, Control: guardedGroup{g.control, g.name, s.checks},
		Journal: s.between.journal(s.journal), Store: s.between.store(s.store), Worker: s.name, Logger: s.log,
		ProbeInterval: cfg.ProbeInterval, VerifyTimeout: cfg.VerifyTimeout, StableFor: cfg.StableFor,
		StoreTimeout: cfg.SaveTimeout,
		Retry:        retry, MaxAttempts: cfg.Retry.MaxAttempts, MaxDeliveries: cfg.MaxDeliveries,
	})
	if err != nil {
		return err
	}
	g.work, err = handler.New(handler.Config{
		Work: restarter, DeadLetters: box, MaxLease: cfg.MaxLease, Retry: retry, Logger: o.messages,
		Observer: g.metrics, Labels: cfg.Ops.Pprof, SlowPhase: cfg.SlowPhase,
		Settled: func(r handler.Report) {
			if r.Outcome.Kind != "" {
				s.tell(r.Outcome)
			}
			s.tally.add(r)
			g.metrics.settled(r)
			s.notifySettled(r)
			if o.settled != nil {
				o.settled(r)
			}
		},
	})
	if err != nil {
		return err
	}
	g.consumer, err = consumer.New(consumer.Config{
		Conn: s.conn.Conn, Group: g.name,
		Settings:    func() stream.Settings { return g.control.Settings(s.settingsOf(g.name)) },
		MaxInFlight: cfg.MaxInFlight, Grace: cfg.Grace, Overloaded: s.lag.Overloaded, Logger: s.log,
		Begin: func(ctx context.Context, d *consumer.Delivery, done func()) {
			g.work.Begin(ctx, s.between.delivery(d), done)
		},
		Recorded: func(ctx context.Context, d *consumer.Delivery) (bool, error) { return g.work.Recorded(ctx, d) },
	})
	return err
}

// settingsOf returns what a group's consumer is created with, unless the control bucket says otherwise.
func (s *service) settingsOf(group restart.Group) stream.Settings {
	cfg := s.cfg.For(group)
	return stream.Settings{Replicas: cfg.Replicas, AckWait: cfg.AckWait, Budget: cfg.Budget}
}

// controlEvery is the time between two looks at what steers the groups. A trigger needs one that is not older than a
// lease, whose length is the consumer's and not this worker's configuration: three may fail of the shortest there is.
const controlEvery = 250 * time.Millisecond

// openControl finds out what holds the groups back, before anything could be pulled.
func (s *service) openControl(ctx context.Context) (err error) {
	s.watcher, err = control.NewWatcher(control.WatcherConfig{
		Conn: s.conn.Conn, KV: s.bucket, Every: controlEvery, Logger: s.log,
	})
	if err != nil {
		return err
	}
	for _, g := range s.groups {
		g.control, err = control.NewGroup(control.GroupConfig{
			Watcher: s.watcher, JS: s.js, KV: s.bucket, Group: g.name, Rules: g.rules,
			StopAfter: s.cfg.For(g.name).StopAfter, Worker: s.name, Logger: s.log,
		})
		if err != nil {
			return err
		}
	}
	return s.watcher.Refresh(ctx)
}
