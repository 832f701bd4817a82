// Package journal records what a request has triggered, by compare-and-set on the broker: it is the fence that keeps
// two workers, or one worker before and after its death, from restarting a host twice for one request.
//
// A request's events stand under its id in one order that everybody sees. An event is appended on the one before it or
// not at all, and only where MayFollow allows it. The from of the first restarting event is the request's epoch for
// life: every later event and every trigger carries it, so that any other epoch at the host means that the restart has
// happened, whoever did it. Success therefore needs no event.
package journal

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/plainjson"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Kind is what an event says.
type Kind string

const (
	Restarting Kind = "restarting" // a trigger is about to be given, or is taken over from another holder
	Failed     Kind = "failed"     // the last trigger was positively refused; there may be another attempt
	Skipped    Kind = "skipped"    // this and those below are terminal, and become the outcome of the same name
	Expired    Kind = "expired"
	Cancelled  Kind = "cancelled"
	Dead       Kind = "dead"
)

// Terminal reports whether nothing may follow.
func (k Kind) Terminal() bool {
	return k == Skipped || k == Expired || k == Cancelled || k == Dead
}

func (k Kind) known() bool { return k == Restarting || k == Failed || k.Terminal() }

// A Key names a request. Its id may appear under one group and host only.
type Key struct {
	Group restart.Group
	ID    uuid.UUID
	Host  restart.Host
}

// KeyOf returns the key of a request.
func KeyOf(r restart.Request) Key { return Key{r.Group, r.ID, r.Host} }

// An Event is one entry in the journal. The zero Event stands for "nothing yet".
type Event struct {
	Kind Kind `json:"event"`
	// ID is the event's own, by which its writer knows it again when the answer to its append was lost.
	ID uuid.UUID `json:"id"`
	// Attempt counts triggers, this one included. A trigger that was taken over may never have been given, so its
	// repetition is the same attempt: outages do not use attempts up.
	Attempt int           `json:"attempt,omitempty"`
	From    restart.Epoch `json:"from,omitempty"` // the request's epoch for life; empty before the first trigger
	// Takeover marks a restarting event whose writer triggers nothing, but watches over the trigger before it.
	Takeover bool `json:"takeover,omitempty"`
	// Settled is the writer's word that no earlier trigger can still take effect: it was positively refused, or its
	// settle time has passed.
	Settled bool           `json:"settled,omitempty"`
	Worker  string         `json:"worker"`
	At      time.Time      `json:"at"` // by the writer's clock, for people
	Reason  restart.Reason `json:"reason,omitempty"`
	Detail  string         `json:"detail,omitempty"`
	To      restart.Epoch  `json:"to,omitempty"` // the boot that was seen and did not become ready

	// Sequence is the event's place in the journal; 0 for one that is not there.
	Sequence uint64 `json:"-"`
}

// encodeInto returns the event as json.Marshal does. It overwrites buf, and takes a longer one where that is too short.
func (e *Event) encodeInto(buf []byte) ([]byte, error) {
	w := plainjson.NewWriter(buf)
	w.String("event", string(e.Kind))
	w.UUID("id", e.ID)
	w.OptInt("attempt", e.Attempt)
	w.OptString("from", string(e.From))
	w.OptTrue("takeover", e.Takeover)
	w.OptTrue("settled", e.Settled)
	w.String("worker", e.Worker)
	w.Time("at", e.At)
	w.OptString("reason", string(e.Reason))
	w.OptString("detail", e.Detail)
	w.OptString("to", string(e.To))
	return w.Bytes()
}

// IsZero reports whether the event stands for "nothing yet".
func (e Event) IsZero() bool { return e.Kind == "" }

// NextAttempt returns the attempt that a trigger on top of the event is.
func (e Event) NextAttempt() int {
	if e.Takeover {
		return e.Attempt
	}
	return e.Attempt + 1
}

// MayFollow returns nil if next may be appended on last, and otherwise says why not. Each refusal closes an
// interleaving in which a host would be restarted twice, or a request would end twice.
func MayFollow(last, next Event) error {
	refuse := func(why string) error {
		return fmt.Errorf("%s may not follow %s: %s", describe(next), describe(last), why)
	}
	switch {
	case last.Kind.Terminal():
		return refuse("the request has ended")
	case !last.IsZero() && !last.Kind.known():
		return refuse("nobody knows what that says")
	case !last.IsZero() && next.From != last.From:
		return refuse("the epoch is for life")
	case next.Takeover && next.Kind != Restarting:
		return refuse("only a trigger is taken over")
	}
	switch next.Kind {
	case Restarting:
		return mayRestart(last, next, refuse)
	case Failed:
		// After a takeover the refused trigger would be somebody else's, and so would be the right to say so.
		if last.Kind != Restarting || last.Takeover || next.Attempt != last.Attempt {
			return refuse("only the last trigger's own giver knows that it was refused")
		}
	case Skipped, Expired, Cancelled, Dead:
		seen := next.Kind == Dead && (next.Reason == restart.ReasonNotReady || next.Reason == restart.ReasonUnconfirmed)
		if last.Kind == Restarting && !next.Settled && !seen {
			return refuse("a trigger is open")
		}
		if next.Attempt != last.Attempt {
			return refuse("it is no attempt")
		}
	default:
		return refuse("there is no such event")
	}
	return nil
}

func mayRestart(last, next Event, refuse func(string) error) error {
	switch {
	case next.From == "":
		return refuse("it has no epoch")
	case !utf8.ValidString(string(next.From)):
		// It would be read back as another epoch, which is the proof of a restart.
		return refuse("its epoch is not text")
	case next.Takeover:
		if last.Kind != Restarting || next.Attempt != last.Attempt {
			return refuse("there is no such trigger to take over")
		}
	case next.Attempt != last.NextAttempt():
		return refuse("attempts are counted one by one")
	case last.Kind == Restarting && !next.Settled:
		return refuse("a trigger is open")
	}
	return nil
}

func describe(e Event) string {
	switch {
	case e.IsZero():
		return "nothing"
	case e.Takeover:
		return fmt.Sprintf("%s{%d, takeover}", e.Kind, e.Attempt)
	default:
		return fmt.Sprintf("%s{%d}", e.Kind, e.Attempt)
	}
}
