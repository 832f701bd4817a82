package explain

import (
	"time"
)

// A Report is what the facts come to.
type Report struct {
	Verdict Verdict `json:"verdict"`
	Summary string  `json:"summary"` // one sentence for people
	Causes  []Cause `json:"causes"`
	// Next is the earliest time at which the host could be triggered, as far as known: at once, or when all that is in
	// the way has ended by itself. Zero: nobody knows, or never.
	Next time.Time `json:"next,omitzero"`
	// Expires is when the request ends if it was not triggered before; zero where that does not matter any more.
	Expires time.Time `json:"expires,omitzero"`
}

// A Verdict is how things stand, for machines.
type Verdict string

const (
	VerdictUnknown       Verdict = "unknown"        // what is queued could not be read
	VerdictNothingQueued Verdict = "nothing_queued" // and no earlier request is known
	VerdictEnded         Verdict = "ended"          // the latest request has its outcome
	VerdictWillEnd       Verdict = "will_end"       // a gate refuses for good, when a worker takes the request up
	VerdictHeld          Verdict = "held"           // something is in the way
	VerdictQueued        Verdict = "queued"         // nothing is, and no worker was handed it yet
	VerdictHandedOut     Verdict = "handed_out"     // nothing is, a worker was handed it, and no trigger is known
	VerdictWaiting       Verdict = "waiting"        // the last attempt was refused, and another one comes
	VerdictRunning       Verdict = "running"        // triggered, or about to be, and not yet verified
)

// A Cause is one reason why things stand as they do.
type Cause struct {
	Code   Code   `json:"cause"`
	Detail string `json:"detail"` // for people
	// Blocks is whether the host is not triggered for it. The others are for understanding.
	Blocks bool `json:"blocks"`
	// Until is when it ends by itself, at the latest. Zero: nobody knows, or never.
	Until time.Time `json:"until,omitzero"`
}

// A Code names a cause, for machines.
type Code string

const (
	// Of gates that end the request.
	CauseNotAfter  Code = "not_after"
	CauseDeny      Code = "deny"
	CauseOnly      Code = "only"
	CauseSelf      Code = "self"
	CauseAborted   Code = "aborted"    // its campaign was
	CauseMinUptime Code = "min_uptime" // or only delays it, where the uptime cannot be told
	CauseDryRun    Code = "dry_run"
	CauseMalformed Code = "malformed" // no gate: the message cannot be read

	// Of what holds a group.
	CausePause   Code = "pause" // by hand
	CauseBreaker Code = "breaker"
	CauseWindow  Code = "window"
	CauseMonitor Code = "monitor"

	// Of what hands messages out, and takes them.
	CauseNeverServed Code = "never_served"
	CauseNoWorker    Code = "no_worker"
	CauseBudgetFull  Code = "budget_full"

	// Of the host.
	CauseUnknownState Code = "unknown_state"

	// Of how far the request has come.
	CauseNothingQueued Code = "nothing_queued"
	CauseHandedOut     Code = "handed_out"
	CauseFailed        Code = "failed"
	CauseRestarting    Code = "restarting"
	CauseEnded         Code = "ended"
	CauseDeadLetter    Code = "dead_letter"
)
