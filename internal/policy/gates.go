package policy

import (
	"fmt"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// NotAfter refuses a request whose time has passed.
func NotAfter(r restart.Request, now time.Time) *Refusal {
	if !now.After(r.NotAfter) {
		return nil
	}
	return &Refusal{
		restart.Expired, restart.ReasonNotAfter,
		fmt.Sprintf("not_after %s has passed", r.NotAfter.Format(time.RFC3339)),
	}
}

// MinUptime refuses a host that has been up for less than the request wants. An error means that nobody knows how long
// it has been up: not now.
func MinUptime(r restart.Request, s restart.State, now time.Time) (*Refusal, error) {
	want := time.Duration(r.MinUptime)
	switch {
	case want == 0:
		return nil, nil
	case s.Since.IsZero():
		return nil, fmt.Errorf("min_uptime is %s, and the driver cannot tell the uptime of host %s", want, r.Host)
	case now.Sub(s.Since) >= want:
		return nil, nil
	}
	return &Refusal{
		restart.Skipped, restart.ReasonMinUptime,
		fmt.Sprintf("up since %s, which is less than %s", s.Since.UTC().Format(time.RFC3339), want),
	}, nil
}

func (Rules) notAfter(a Asked) Answer { return never(NotAfter(a.Request, a.Now)) }

func (r Rules) deny(a Asked) Answer {
	pattern, denied := r.Deny.maybeMatching(a.Request.Host)
	if !denied {
		return Answer{Verdict: Go}
	}
	return never(&Refusal{restart.Skipped, restart.ReasonDenied, fmt.Sprintf("host %q is denied by %q", a.Request.Host, pattern)})
}

func (r Rules) only(a Asked) Answer {
	if _, listed := r.Only.matching(a.Request.Host); listed || len(r.Only) == 0 {
		return Answer{Verdict: Go}
	}
	return never(&Refusal{
		restart.Skipped, restart.ReasonNotListed, fmt.Sprintf("host %q matches none of the only patterns", a.Request.Host),
	})
}

func (r Rules) self(a Asked) Answer {
	if name, ok := r.Self.named(a.Request.Host); ok {
		return never(&Refusal{restart.Skipped, restart.ReasonSelf, fmt.Sprintf("the worker runs on it, as %q", name)})
	}
	switch {
	case r.Self.Boot == "":
		return Answer{Verdict: Go}
	case a.State == nil:
		return Answer{Verdict: Probe}
	case a.State.Epoch == r.Self.Boot:
		return never(&Refusal{restart.Skipped, restart.ReasonSelf, "the worker runs on it: its boot is the worker's own"})
	}
	return Answer{Verdict: Go}
}

func (Rules) aborted(a Asked) Answer {
	for _, hold := range a.Paused {
		if !hold.Aborts {
			continue
		}
		detail := fmt.Sprintf("its campaign %s was aborted by %s", a.Request.Campaign, hold.By)
		if hold.Why != "" {
			detail += ": " + hold.Why
		}
		return never(&Refusal{restart.Cancelled, restart.ReasonAborted, detail})
	}
	return Answer{Verdict: Go}
}

func (r Rules) pause(a Asked) Answer {
	var longest *Hold
	count := 0
	for i := range a.Paused {
		hold := &a.Paused[i]
		if hold.Aborts || !hold.Until.IsZero() && !a.Now.Before(hold.Until) {
			continue
		}
		count++
		if longest == nil || !longest.Until.IsZero() && (hold.Until.IsZero() || hold.Until.After(longest.Until)) {
			longest = hold
		}
	}
	if longest == nil {
		return Answer{Verdict: Go}
	}
	detail := longest.String()
	if count > 1 {
		detail += fmt.Sprintf("; the longest of %d pauses", count)
	}
	return later(GatePause, detail, longest.Until)
}

// String says it in words for people.
func (h Hold) String() string {
	text := "paused until it is resumed"
	if !h.Until.IsZero() {
		text = "paused until " + h.Until.UTC().Format(time.RFC3339)
	}
	text += ", reason " + h.Reason
	if h.By != "" {
		text += ", by " + h.By
	}
	if h.Why != "" {
		text += ": " + h.Why
	}
	return text
}

func (r Rules) window(a Asked) Answer {
	fits, next := r.Windows.Fits(a.Now, r.Takes)
	if fits {
		return Answer{Verdict: Go}
	}
	detail := "closed"
	if open, until := r.Windows.Open(a.Now); open {
		detail = fmt.Sprintf("closes at %s, and a restart takes %s", r.Windows.show(until), r.Takes)
	}
	if next.IsZero() {
		return later(GateWindow, fmt.Sprintf("%s; never within a year (%s)", detail, r.Windows), next)
	}
	return later(GateWindow, fmt.Sprintf("%s; next at %s (%s)", detail, r.Windows.show(next), r.Windows), next)
}

func (Rules) minUptime(a Asked) Answer {
	var state restart.State
	switch {
	case a.State != nil:
		state = *a.State
	case a.Request.MinUptime != 0:
		return Answer{Verdict: Probe}
	}
	refusal, err := MinUptime(a.Request, state, a.Now)
	if err != nil {
		return later(GateMinUptime, err.Error(), time.Time{})
	}
	return never(refusal)
}

func (r Rules) dryRun(a Asked) Answer {
	switch {
	case !r.DryRun:
		return Answer{Verdict: Go}
	case a.State == nil:
		return Answer{Verdict: Probe}
	}
	return never(&Refusal{restart.Skipped, restart.ReasonDryRun, "would have been restarted"})
}

// never returns the answer of a gate that refuses, or, without a refusal, Go.
func never(refusal *Refusal) Answer {
	if refusal == nil {
		return Answer{Verdict: Go}
	}
	return Answer{Verdict: Never, Refusal: *refusal}
}

func later(gate Gate, detail string, until time.Time) Answer {
	return Answer{Verdict: Later, Wait: Wait{gate, detail, until}}
}
