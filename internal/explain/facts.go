// Package explain answers why a host is not restarted: a pure function of facts, which somebody else has gathered.
//
// It decides nothing by itself. What the gates say, now and later, comes from [policy.Rules], what holds a group from
// [control.HoldsOf], and how far a request has come from its journal: the same code that decides for a worker. So it is
// as right as its facts: the configuration may be another one than the worker's, the host may be seen otherwise from
// there, and all facts may be a moment old. What could not be found out is said, and not guessed.
package explain

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Facts are what is known of a host in a group. A zero value says that something is not there; that it is not known
// whether it is there, Gaps say.
type Facts struct {
	Now   time.Time
	Host  restart.Host
	Group restart.Group

	Queued   *Message        // nil: nothing is queued for the host
	Events   []journal.Event // of the queued request, or else of the host's newest one; the oldest first
	EventsOf uuid.UUID       // the id of that request
	Consumer *Consumer       // nil: no worker has ever served the group
	Control  control.State

	Rules policy.Rules // as the configuration at hand says
	// Elsewhere is whether workers may run on other machines than the one that the Rules' Self is.
	Elsewhere bool
	Limits    Limits

	State    *restart.State // of the host, as just probed; nil: not known
	ProbeErr error          // why the host could not be probed

	Letter  *Letter          // the newest of the host's
	Outcome *restart.Outcome // the newest of the host's

	Gaps []Gap
}

// Message is the one message that the work stream holds for a host.
type Message struct {
	Request  restart.Request
	Err      error // why the message is no request; Request has only an id then
	Sequence uint64
	Stored   time.Time
}

// Consumer is how a group's consumer stands.
type Consumer struct {
	PausedUntil time.Time // zero: it hands messages out
	Budget      int
	InFlight    int    // messages that were handed out and are not settled
	Waiting     int    // what workers have asked for and not been given; 0 only if it was so in several looks
	Pending     uint64 // messages that were never handed out
	Delivered   uint64 // the sequence up to which messages were handed out
}

// Letter is a dead letter.
type Letter struct {
	Outcome    restart.Outcome
	RequeuedAs uuid.UUID // the request that took its place; zero: none has
}

// Limits are what the configuration says of attempts.
type Limits struct {
	MaxAttempts   int
	RetryCap      time.Duration // the longest pause before an attempt
	AckWait       time.Duration // after which a worker that has died is replaced
	VerifyTimeout time.Duration
}

// A Gap is something that could not be found out.
type Gap struct {
	Part Part   `json:"what"`
	Why  string `json:"why"`
}

// A Part is what may be missing among facts.
type Part string

// The parts, in the order in which people are told of them.
const (
	PartQueue    Part = "queue"
	PartWorkers  Part = "workers"
	PartJournal  Part = "journal"
	PartControl  Part = "pauses"
	PartEpoch    Part = "epoch"
	PartDead     Part = "dead letters"
	PartDatabase Part = "database"
)

func (f *Facts) missing(part Part) bool {
	return slices.ContainsFunc(f.Gaps, func(g Gap) bool { return g.Part == part })
}

// last returns the latest event; the zero Event if there is none.
func (f *Facts) last() journal.Event {
	if len(f.Events) == 0 {
		return journal.Event{}
	}
	return f.Events[len(f.Events)-1]
}

// newest returns the host's newest outcome, from wherever it is known, and its dead letter if it has one.
func (f *Facts) newest() (newest restart.Outcome, letter *Letter) {
	if f.Outcome != nil {
		newest = *f.Outcome
	}
	if f.Letter != nil && (f.Letter.Outcome.ID == newest.ID || f.Letter.Outcome.At.After(newest.At)) {
		return f.Letter.Outcome, f.Letter
	}
	return newest, nil
}

// handed reports whether the queued message was handed to a worker. Whether one holds it now, or it waits for being
// handed out again, no broker tells.
func (f *Facts) handed() bool { return f.Consumer != nil && f.Queued.Sequence <= f.Consumer.Delivered }
