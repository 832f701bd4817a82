package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/ops"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// problems returns what keeps the worker from its work, and what else should be known.
func (s *service) problems() (problems []ops.Problem) {
	if !s.conn.IsConnected() {
		problems = append(problems, ops.Problem{Name: "nats", Detail: "not connected to NATS at " + s.endpoint.shown})
	}
	for _, g := range s.groups {
		if _, _, err := g.control.Holds("", s.cfg.AckWait); err != nil {
			problems = append(problems, ops.Problem{Name: "control", Detail: err.Error()})
		}
		if n := g.bounded.Strays(); n > 0 {
			problems = append(problems, ops.Problem{
				Name: "driver", Detail: fmt.Sprintf("%d calls of the driver of group %s ignore their deadline", n, g.name), Advisory: true,
			})
		}
	}
	return append(problems, problemsOf(s.checks.Failing())...)
}

func (s *service) load() fleet.Load {
	return fleet.Load{Lag: s.lag.Last(), Overloaded: s.lag.Overloaded()}
}

// gaugeEvery is how often the gauges are set that nobody is told of.
const gaugeEvery = 5 * time.Second

// setGauges keeps the gauges of the groups until ctx ends. What cannot be read stays as it was.
func (s *service) setGauges(ctx context.Context) {
	ticker := time.NewTicker(gaugeEvery)
	defer ticker.Stop()
	for {
		for _, g := range s.groups {
			bounded, cancel := context.WithTimeout(ctx, gaugeEvery)
			c, err := s.js.Consumer(bounded, stream.Work, stream.ConsumerName(g.name))
			cancel()
			if err == nil {
				info := c.CachedInfo()
				g.metrics.Queued(info.NumPending)
				g.metrics.Budget(info.Config.MaxAckPending)
			}
			state, _ := s.watcher.State(g.name)
			g.metrics.Paused(causesOf(state.InForce(time.Now()))...)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func causesOf(pauses []control.Pause) (causes []ops.Cause) {
	for _, p := range pauses {
		switch p.Cause {
		case control.ByHand:
			causes = append(causes, ops.ByHand)
		case control.ByWindow:
			causes = append(causes, ops.ByWindow)
		case control.ByBreaker:
			causes = append(causes, ops.ByBreaker)
		default:
			causes = append(causes, ops.ByMonitor)
		}
	}
	return causes
}

// groupMetrics turns what a handler tells into metrics of its group.
type groupMetrics struct{ *ops.Group }

var _ handler.Observer = groupMetrics{}

// Moved implements handler.Observer.
func (g groupMetrics) Moved(from, to handler.Phase) { g.Move(opsPhase(from), opsPhase(to)) }

func opsPhase(p handler.Phase) ops.Phase {
	switch p {
	case handler.PhaseGate:
		return ops.InGate
	case handler.PhaseSlot:
		return ops.InSlot
	case handler.PhaseRestart:
		return ops.InRestart
	case handler.PhaseVerify:
		return ops.InVerify
	case handler.PhaseSave:
		return ops.InSave
	case handler.PhaseFinish:
		return ops.InFinish
	case handler.PhaseSettle:
		return ops.InSettling
	}
	return ops.Outside
}

// Took implements handler.Observer.
func (g groupMetrics) Took(s handler.Step, d time.Duration) {
	switch s {
	case handler.StepQueueWait:
		g.Group.Took(ops.QueueWait, d)
	case handler.StepSave:
		g.Group.Took(ops.Save, d)
	case handler.StepRestart:
		g.Group.Took(ops.Restart, d)
	case handler.StepVerify:
		g.Group.Took(ops.Verify, d)
	case handler.StepFinish:
		g.Group.Took(ops.Finish, d)
	case handler.StepAckLag:
		g.Group.Took(ops.AckLag, d)
	case handler.StepEndToEnd:
		g.Group.Took(ops.EndToEnd, d)
	}
}

// Happened implements handler.Observer.
func (g groupMetrics) Happened(e handler.Event) {
	switch e {
	case handler.EventTrigger:
		g.Count(ops.Trigger, 1)
	case handler.EventTakeover:
		g.Count(ops.Takeover, 1)
	case handler.EventFenced:
		g.Count(ops.TriggerFenced, 1)
	case handler.EventSuppressed:
		g.Count(ops.DuplicateSuppressed, 1)
	}
}

// settled counts what became of a delivery.
func (g groupMetrics) settled(r handler.Report) {
	g.Count(ops.Delivery, 1)
	g.Count(ops.LeaseExtension, r.Extended)
	if r.Deliveries > 1 {
		g.Count(ops.Redelivery, 1)
	}
	if r.LeaseLost() {
		g.Count(ops.LeaseLost, 1)
	}
	if r.Buried() {
		g.Count(ops.DeadLetter, 1)
	}
	if r.SettleErr != nil {
		g.Count(ops.LateAck, 1)
	}
	if o := r.Outcome; o.Kind != "" && !errors.Is(r.Err, handler.ErrLeaseLost) {
		g.Ended(o.Kind, o.Reason)
	}
}
