// Package policy answers one question: may this host be restarted now? Its gates are pure functions of what they are
// given: they read no clock and reach nothing outside. They guard a trigger, never the verification of one, and a gate
// that cannot be evaluated says no.
//
// [Rules.Ask] is the one place that decides, for a worker, and with [Rules.All] for whoever explains why nothing
// happens. It is asked when a request is taken up, and again, with what was probed, immediately before the trigger: no
// other answer than that last one is a [Go].
package policy

import (
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Rules are what the configuration says of a group. The zero Rules leave only what a request asks for itself: not_after
// and min_uptime.
type Rules struct {
	Windows *Windows      // when its hosts may be restarted; nil: always
	Takes   time.Duration // how long a restart is expected to take, which must still fit into the window
	Deny    Patterns      // hosts that are never restarted
	Only    Patterns      // the only hosts that are; empty: all
	Self    Self          // the machine that the worker runs on, which is never restarted
	DryRun  bool          // requests go as far as the trigger, and end there
}

// Asked is what the gates are asked about.
type Asked struct {
	Request restart.Request
	State   *restart.State // of the host, as just probed; nil: it was not probed yet
	Paused  []Hold         // what holds the request's group, or the request
	Now     time.Time
}

// A Hold is one reason for which a group is paused, or a request must not be met any more.
type Hold struct {
	Reason string // which pause it is, such as manual
	Why    string // a sentence for people
	By     string
	Until  time.Time // when it ends by itself; zero: not before somebody resumes the group
	// Aborts is whether it is for good, because the request's campaign was aborted.
	Aborts bool
}

// An Answer says whether a request's host may be restarted. The zero Answer is nobody's, and not a Go.
type Answer struct {
	Verdict Verdict
	Wait    Wait    // of Later
	Refusal Refusal // of Never
}

// A Verdict is what kind of answer it is.
type Verdict string

const (
	Go    Verdict = "go"    // nothing stands against a trigger
	Probe Verdict = "probe" // nothing so far; to be asked again with the host's State
	Later Verdict = "later" // not now
	Never Verdict = "never" // the request ends
)

// A Wait is a gate's no for now.
type Wait struct {
	Gate   Gate
	Detail string
	Until  time.Time // no sooner than then; zero: nobody knows
}

// A Refusal is a gate's no for good: it ends the request as Kind.
type Refusal struct {
	Kind   restart.Kind
	Reason restart.Reason
	Detail string
}

// A Gate is the name of a gate.
type Gate string

const (
	GateNotAfter  Gate = "not_after"
	GateDeny      Gate = "deny"
	GateOnly      Gate = "only"
	GateSelf      Gate = "self"
	GateAborted   Gate = "aborted"
	GatePause     Gate = "pause"
	GateWindow    Gate = "window"
	GateMinUptime Gate = "min_uptime"
	GateDryRun    Gate = "dry_run"
)

// An Opinion is one gate's own answer.
type Opinion struct {
	Gate Gate
	Answer
}

// gates are all gates, in the order in which they count: first what ends a request at any time of day, so that it does
// not wait in vain, then what delays it, then what only a probe can tell. Nothing changes them.
var gates = []struct {
	name Gate
	ask  func(Rules, Asked) Answer
}{
	{GateNotAfter, Rules.notAfter},
	{GateDeny, Rules.deny},
	{GateOnly, Rules.only},
	{GateSelf, Rules.self},
	{GateAborted, Rules.aborted},
	{GatePause, Rules.pause},
	{GateWindow, Rules.window},
	{GateMinUptime, Rules.minUptime},
	{GateDryRun, Rules.dryRun},
}

// Ask returns the first gate's no. Where none says no, it returns Go, or Probe if the host was not probed yet.
func (r Rules) Ask(a Asked) Answer {
	for _, gate := range gates {
		if answer := gate.ask(r, a); answer.Verdict != Go && answer.Verdict != Probe {
			return answer
		}
	}
	if a.State == nil {
		return Answer{Verdict: Probe}
	}
	return Answer{Verdict: Go}
}

// All returns what every gate says, in the order in which they count. What dry_run says holds only where no other gate
// says no.
func (r Rules) All(a Asked) []Opinion {
	opinions := make([]Opinion, 0, len(gates))
	for _, gate := range gates {
		opinions = append(opinions, Opinion{gate.name, gate.ask(r, a)})
	}
	return opinions
}
