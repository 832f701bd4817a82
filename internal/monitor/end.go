package monitor

import (
	"slices"
	"time"
)

// A Reason is why a run ended; the set is closed.
type Reason string

// What ends a run. A failure that was there when something else ended the run is the reason all the same, because what
// the caller does about it must not be left out by chance.
const (
	ReasonStopped    Reason = "stopped"     // the caller's context ended
	ReasonDeadline   Reason = "deadline"    // Config.For is over
	ReasonFailure    Reason = "failure"     // one has failed, and that was enough
	ReasonAllFailed  Reason = "all_failed"  // all have failed
	ReasonNoMonitors Reason = "no_monitors" // there was nothing to do
)

// An Ending is how a run ended, for whatever is to be done about it.
type Ending struct {
	Reason Reason
	Lasted time.Duration

	// Failed has, of each monitor that is failed at the end, the observation by which it failed, the earliest first.
	Failed []Observation
	// Cause is the first of them, if they are the reason.
	Cause *Observation

	// Strays are the monitors whose checks ignored that they were cancelled, and still run.
	Strays []string
}

// end cancels all checks, waits for them, and says how the run ended.
func (r *run) end(reason Reason) Ending {
	ended := r.now()
	r.cancel()
	r.join(ended)
	if late := r.failure(); late != "" {
		reason = late
	}
	e := Ending{Reason: reason, Lasted: ended}
	for i := range r.monitors {
		m := &r.monitors[i]
		if m.cause != nil {
			e.Failed = append(e.Failed, *m.cause)
		}
		if m.stray {
			e.Strays = append(e.Strays, m.Name)
		}
		r.log.Info().Str("monitor", m.Name).Stringer("state", m.state).Msg("monitor stopped")
	}
	slices.SortStableFunc(e.Failed, func(a, b Observation) int { return a.At.Compare(b.At) })
	if reason == ReasonFailure || reason == ReasonAllFailed {
		e.Cause = &e.Failed[0]
	}
	r.log.Info().Str("reason", string(e.Reason)).Dur("lasted", e.Lasted).Int("failed", len(e.Failed)).
		Strs("strays", e.Strays).Msg("monitors ended")
	return e
}

// join takes what arrived by the end, and waits for all checks, but not for long for those that ignore their context.
func (r *run) join(end time.Duration) {
	patience := time.NewTimer(overrun)
	defer patience.Stop()
	for r.calls > 0 {
		select {
		case c := <-r.ended:
			r.takeLast(c, end)
		case <-patience.C:
			for i := range r.monitors {
				if m := &r.monitors[i]; m.call != nil && !m.stray {
					r.abandon(m)
				}
			}
		}
	}
}

// takeLast takes a call after the end. It counts only if it knew its answer by then.
func (r *run) takeLast(c *call, end time.Duration) {
	m := c.m
	m.call = nil
	if m.stray {
		m.stray = false
		return
	}
	r.calls--
	if !c.aborted && c.ended <= end {
		r.observe(m, c.observation(r.started, m.beat))
	}
}
