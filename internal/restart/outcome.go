package restart

import (
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/plainjson"
)

// A Kind is how a request ended. There is exactly one for each request.
type Kind string

const (
	Restarted Kind = "restarted" // another boot was verified
	Skipped   Kind = "skipped"   // a gate said no, for good
	Expired   Kind = "expired"   // its not_after passed
	Cancelled Kind = "cancelled" // by hand, or with its campaign, before the trigger
	Dead      Kind = "dead"      // given up; also in the dead-letter stream
	Unknown   Kind = "unknown"   // triggered, and how it ended was lost with a database; found by a repair
)

// Kinds are all kinds, in the order in which people read them.
var Kinds = []Kind{Restarted, Skipped, Expired, Cancelled, Dead, Unknown}

// A Reason is why a request ended as it did, for machines; the set is closed.
type Reason string

const (
	ReasonVerified         Reason = "verified"          // restarted: our trigger, verified
	ReasonChangedElsewhere Reason = "changed_elsewhere" // restarted: somebody else's hand, verified
	ReasonMinUptime        Reason = "min_uptime"        // skipped: up for less than asked
	ReasonDenied           Reason = "denied"            // skipped: the host is on the deny list
	ReasonNotListed        Reason = "not_listed"        // skipped: the host is not among the only ones
	ReasonSelf             Reason = "self"              // skipped: the worker itself runs on the host
	ReasonDryRun           Reason = "dry_run"           // skipped: it would have been restarted
	ReasonNotAfter         Reason = "not_after"         // expired
	ReasonByHand           Reason = "by_hand"           // cancelled
	ReasonAborted          Reason = "aborted"           // cancelled: its campaign was aborted
	ReasonMalformed        Reason = "malformed"         // dead: cannot be read
	ReasonIDReused         Reason = "id_reused"         // dead: the id belongs to another host's request
	ReasonPoison           Reason = "poison"            // dead: delivered too often without a trigger
	ReasonAttempts         Reason = "attempts"          // dead: attempts used up
	ReasonPermanent        Reason = "permanent"         // dead: the driver can never do it
	ReasonNotReady         Reason = "not_ready"         // dead: another boot, which did not become ready
	ReasonUnconfirmed      Reason = "unconfirmed"       // dead: triggered, and its effect was never seen
	ReasonJournalHorizon   Reason = "journal_horizon"   // dead: older than what the journal can vouch for
	ReasonRepaired         Reason = "repaired"          // unknown: the journal knows of a trigger, the database of no outcome
)

// An Outcome is the one end of a request.
type Outcome struct {
	ID      uuid.UUID `json:"id"`
	Host    Host      `json:"host"`
	Group   Group     `json:"group"`
	Kind    Kind      `json:"outcome"`
	Reason  Reason    `json:"reason"`
	Detail  string    `json:"detail"` // a sentence for people
	At      time.Time `json:"at"`
	Receipt Receipt   `json:"receipt"`
}

// A Receipt is what stands behind an outcome.
type Receipt struct {
	RequestedBy string    `json:"requested_by,omitempty"`
	RequestedAt time.Time `json:"requested_at,omitzero"`
	Worker      string    `json:"worker"`
	Attempt     int       `json:"attempt,omitempty"` // triggers so far; 0 means never triggered
	From        Epoch     `json:"from,omitempty"`
	To          Epoch     `json:"to,omitempty"`
	TriggeredAt time.Time `json:"triggered_at,omitzero"` // as this worker saw it
	VerifiedAt  time.Time `json:"verified_at,omitzero"`
	// Down is how long the host did not do its work, as the worker's probes saw it; zero: not known.
	Down   Duration `json:"down,omitzero"`
	Checks []Check  `json:"checks,omitempty"`
}

// A Check is one thing that was asked of a host after its trigger, and what was seen.
type Check struct {
	Name   string `json:"check"` // epoch, ready or stable_for
	Result string `json:"result"`
}

// An Attempt is one worker's part in one trigger: it gave the trigger, or watched over one that it took over.
type Attempt struct {
	Request   uuid.UUID `json:"-"`       // the request's id
	Number    int       `json:"attempt"` // counts triggers, from 1; the workers that held one share its number
	Worker    string    `json:"worker"`
	StartedAt time.Time `json:"started_at,omitzero"` // when it was triggered or taken over; zero: not known
	EndedAt   time.Time `json:"ended_at,omitzero"`   // zero: the worker did not live to see it
	From      Epoch     `json:"from,omitempty"`
	To        Epoch     `json:"to,omitempty"`
	Error     string    `json:"error,omitempty"` // why it did not end in a verified restart
}

// EncodeInto returns the outcome as json.Marshal does. It overwrites buf, and takes a longer one where that is too short.
func (o *Outcome) EncodeInto(buf []byte) ([]byte, error) {
	w := plainjson.NewWriter(buf)
	w.UUID("id", o.ID)
	w.String("host", string(o.Host))
	w.String("group", string(o.Group))
	w.String("outcome", string(o.Kind))
	w.String("reason", string(o.Reason))
	w.String("detail", o.Detail)
	w.Time("at", o.At)
	w.Begin("receipt", '{')
	o.Receipt.encode(&w)
	w.End('}')
	return w.Bytes()
}

func (r *Receipt) encode(w *plainjson.Writer) {
	w.OptString("requested_by", r.RequestedBy)
	w.OptTime("requested_at", r.RequestedAt)
	w.String("worker", r.Worker)
	w.OptInt("attempt", r.Attempt)
	w.OptString("from", string(r.From))
	w.OptString("to", string(r.To))
	w.OptTime("triggered_at", r.TriggeredAt)
	w.OptTime("verified_at", r.VerifiedAt)
	if r.Down != 0 {
		w.String("down", time.Duration(r.Down).String())
	}
	if len(r.Checks) == 0 {
		return
	}
	w.Begin("checks", '[')
	for _, c := range r.Checks {
		w.Begin("", '{')
		w.String("check", c.Name)
		w.String("result", c.Result)
		w.End('}')
	}
	w.End(']')
}
