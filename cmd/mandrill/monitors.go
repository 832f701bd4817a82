package main

import (
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/guard"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/ops"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// newRunner makes the monitors of a process ready to be run, until they end by what is configured or span is over.
// observe is told of each result, after the metrics.
func newRunner(cfg config.Config, specs []monitor.Spec, span time.Duration, metrics *ops.Metrics, observe func(monitor.Observation), log zerolog.Logger) (*monitor.Runner, error) {
	exported := map[string]*ops.Monitor{}
	for _, spec := range specs {
		exported[spec.Name] = metrics.Monitor(spec.Name)
	}
	return monitor.New(monitor.Config{
		Monitors: specs, StopOn: monitor.StopOn(cfg.Monitor.StopOn), For: span, Logger: log,
		Observe: func(o monitor.Observation) {
			exported[o.Name].Checked(readingOf(o))
			observe(o)
		},
	})
}

func readingOf(o monitor.Observation) ops.Reading {
	r := ops.Reading{Good: o.After == monitor.StateGood, Took: o.Result.Took}
	for _, fact := range o.Result.Facts {
		if r.HTTP == nil {
			r.HTTP = &ops.HTTPReading{}
		}
		switch fact.Name {
		case httpcheck.FactCode:
			r.HTTP.Code = int(fact.Value)
		case httpcheck.FactBytes:
			r.HTTP.Bytes = fact.Value
		case httpcheck.FactTLSLeft:
			r.HTTP.TLSExpiry = o.At.Add(time.Duration(fact.Value) * time.Second)
		}
	}
	return r
}

// checks are the monitors beside a worker, and what they hold back.
type checks struct {
	*guard.Guard
	runner *monitor.Runner
	// judged has, for each monitor, what is closed once it has come to a verdict.
	judged map[string]chan struct{}
	guards map[restart.Group][]string // the monitors of each group
}

// openMonitors makes the monitors ready to be run, and what they see ready to hold groups back.
func (s *service) openMonitors(specs []monitor.Spec) (err error) {
	c := &checks{judged: map[string]chan struct{}{}, guards: map[restart.Group][]string{}}
	var guarding []guard.Monitor
	for _, m := range s.cfg.Monitors {
		guarding = append(guarding, guard.Monitor{Name: m.Name, Groups: m.Pause, ResumeAfter: m.ResumeAfter})
		c.judged[m.Name] = make(chan struct{})
		for _, group := range m.Pause {
			c.guards[group] = append(c.guards[group], m.Name)
		}
	}
	c.Guard, err = guard.New(guard.Config{
		Monitors: guarding, KV: s.bucket, Watcher: s.watcher, Worker: s.name, Logger: s.log,
		Derive: func(ctx context.Context, group restart.Group) error {
			return control.Derive(ctx, s.js, s.bucket, group)
		},
	})
	if err != nil {
		return err
	}
	c.runner, err = newRunner(s.cfg, specs, 0, s.metrics, c.observe, s.log)
	s.checks = c
	return err
}

func (c *checks) observe(o monitor.Observation) {
	c.Guard.Observe(o)
	if o.Before == monitor.StateUnknown && o.After != monitor.StateUnknown {
		close(c.judged[o.Name])
	}
}

// await returns true once every monitor of the group has come to a verdict, and false when ctx ends before. What is pulled
// before that would only wait to be tried again, and use up the group's budget.
func (c *checks) await(ctx context.Context, group restart.Group) bool {
	for _, name := range c.guards[group] {
		select {
		case <-c.judged[name]:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// runMonitors runs the monitors until ctx ends, or they end what they guard: then the error says so.
func (s *service) runMonitors(ctx context.Context) error {
	if len(s.cfg.Monitors) == 0 {
		return nil // which the monitoring daemon warns of
	}
	ending, err := s.checks.runner.Run(ctx)
	if err != nil {
		return err
	}
	return reportOf(ending).act(ctx, s.cfg.Monitor, s.log)
}

// A guardedGroup is held back by what the control bucket says, and by what the monitors of this worker have not put there
// yet.
type guardedGroup struct {
	*control.Group
	name   restart.Group
	checks *checks
}

// Holds implements handler.Control.
func (g guardedGroup) Holds(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, error) {
	own := g.checks.Holds(g.name) // before the bucket, where they go
	holds, left, err := g.Group.Holds(campaign, ackWait)
	return joined(own, holds), left, err
}

// Enter implements handler.Control.
func (g guardedGroup) Enter(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, func(), error) {
	own := g.checks.Holds(g.name)
	holds, left, leave, err := g.Group.Enter(campaign, ackWait)
	return joined(own, holds), left, leave, err
}

func joined(own, holds []policy.Hold) []policy.Hold {
	if len(own) == 0 {
		return holds
	}
	return slices.Concat(own, holds)
}
