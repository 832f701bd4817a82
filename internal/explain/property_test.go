package explain_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// drawFacts draws a queued request without an open trigger, with anything in its way.
func drawFacts(t *rapid.T) explain.Facts {
	f := nothingInTheWay()
	maybe := func(name string, do func()) {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			do()
		}
	}
	span := func(name string) time.Duration {
		return time.Duration(rapid.IntRange(-60, 3*24*60).Draw(t, name)) * time.Minute
	}
	f.Queued.Request.NotAfter = now.Add(span("not_after"))
	for _, cause := range []control.Cause{control.ByHand, control.ByBreaker, control.ByWindow, "disk-full"} {
		maybe(string(cause), func() {
			p := pause(cause, now.Add(span("until")))
			if rapid.Bool().Draw(t, "endless") {
				p.Until = time.Time{}
			}
			f.Control.Pauses = append(f.Control.Pauses, p)
		})
	}
	maybe("aborted", func() {
		f.Queued.Request.Campaign = "c1"
		f.Control.Aborted = map[string]policy.Hold{"c1": {By: "ann", Aborts: true}}
	})
	maybe("windows", func() {
		open := rapid.SampledFrom([]string{"22:00-04:00", "sat 01:00-02:00", "09:00-12:01", "mon 12:00-13:00", "mon-fri 00:00-24:00"}).Draw(t, "open")
		var err error
		if f.Rules.Windows, err = policy.ParseWindows([]string{open}, nil, "Europe/Berlin"); err != nil {
			t.Fatal(err)
		}
		f.Rules.Takes = time.Duration(rapid.IntRange(0, 90).Draw(t, "takes")) * time.Minute
	})
	maybe("deny", func() { f.Rules.Deny = policy.Patterns{"db-*"} })
	maybe("only", func() { f.Rules.Only = policy.Patterns{"web-*"} })
	maybe("self", func() { f.Rules.Self.Boot = "boot 1" })
	maybe("dry_run", func() { f.Rules.DryRun = true })
	maybe("min_uptime", func() { f.Queued.Request.MinUptime = restart.Duration(90 * time.Minute) })
	maybe("no uptime", func() { f.State.Since = time.Time{} })
	maybe("not probed", func() { f.State = nil })
	maybe("no answer", func() { f.State, f.ProbeErr = nil, errors.New("no answer") })
	maybe("handed", func() { f.Consumer.Delivered, f.Consumer.InFlight = 7, 1 })
	maybe("full", func() { f.Consumer.InFlight = 20 })
	maybe("nobody", func() { f.Consumer.Waiting = 0 })
	maybe("paused", func() { f.Consumer.PausedUntil = now.Add(span("consumer")) })
	maybe("failed", func() {
		f.Events = []journal.Event{failed(now.Add(-span("failed")))}
	})
	return f
}

func asks(f explain.Facts, at time.Time) policy.Answer {
	return f.Rules.Ask(policy.Asked{Request: f.Queued.Request, State: f.State, Paused: control.HoldsOf(f.Control, f.Queued.Request.Campaign, at), Now: at})
}

func blocks(r explain.Report) bool {
	return slices.ContainsFunc(r.Causes, func(c explain.Cause) bool { return c.Blocks })
}

// Fear: the explanation and the worker do not agree.
func TestExplain_SaysWhatTheGatesDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		r := explain.Explain(f)
		answer := asks(f, now)
		served := f.Consumer.Waiting > 0 && (f.Consumer.InFlight < f.Consumer.Budget || f.Consumer.Delivered >= f.Queued.Sequence) &&
			!f.Consumer.PausedUntil.After(now)
		switch {
		case answer.Verdict == policy.Go && served && len(f.Events) == 0:
			if blocks(r) || !r.Next.Equal(now) {
				t.Fatalf("a worker would trigger it, and the explanation is %+v", r)
			}
		case (answer.Verdict == policy.Later || answer.Verdict == policy.Never) && len(f.Events) == 0:
			if !blocks(r) {
				t.Fatalf("a worker says %+v, and the explanation is %+v", answer, r)
			}
		}
		if r.Verdict == explain.VerdictWillEnd && !r.Next.IsZero() {
			t.Fatalf("it ends, and could be triggered at %s", r.Next)
		}
	})
}

// Fear: somebody waits for a time at which nothing can happen.
func TestExplain_NextIsATimeAtWhichNoGateSaysNo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		r := explain.Explain(f)
		if r.Next.IsZero() {
			return
		}
		if answer := asks(f, r.Next); answer.Verdict != policy.Go && answer.Verdict != policy.Probe {
			t.Fatalf("at %s the gates say %+v, and the explanation is %+v", r.Next, answer, r)
		}
		if r.Next.Before(now) || r.Next.After(r.Expires) {
			t.Fatalf("%s is not between now and not_after %s", r.Next, r.Expires)
		}
		for _, c := range r.Causes {
			if c.Blocks && (c.Until.IsZero() || c.Until.After(r.Next)) {
				t.Fatalf("%+v is still in the way at %s", c, r.Next)
			}
		}
	})
}
