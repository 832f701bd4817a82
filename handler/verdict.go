package handler

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"
)

// fate is what becomes of a message. Its zero value harms nobody.
type fate int

const (
	left    fate = iota // nothing is settled
	done                // acknowledged
	retried             // given back
	buried              // dead letter, then terminated
	waiting             // nothing yet: the work is carried on later, by whoever it waits for
)

func (f fate) String() string { return [...]string{"left", "acked", "retried", "buried", "waiting"}[f] }

// A Verdict is what is to become of a message, and why.
type Verdict struct {
	fate  fate
	Delay time.Duration // of a retry
	Err   error         // why it was not done; nil if it was

	// Outcome is the one that stands, with the zero Kind if there is none yet. It is on record, and may be told.
	Outcome Outcome
	// Finished is when Outcome was known to be on record.
	Finished time.Time
	// Saved reports whether the request is on record.
	Saved bool
	// HandedBack marks a retry of what was never triggered, by a worker that is stopping; Unknown one of what was
	// triggered and could not be verified in time.
	HandedBack, Unknown bool
}

// Done acknowledges the message.
func Done() *Verdict { return &Verdict{fate: done} }

// Retry gives the message back, to be delivered again after the delay.
func Retry(delay time.Duration, err error) *Verdict {
	return &Verdict{fate: retried, Delay: delay, Err: err}
}

// Bury stores a dead letter with the outcome, and terminates the message.
func Bury(o Outcome) *Verdict { return &Verdict{fate: buried, Outcome: o} }

// Leave settles nothing, because somebody else holds the message.
func Leave(err error) *Verdict { return &Verdict{fate: left, Err: err} }

// carriedOn is the verdict of work that is carried on later. It is nobody's to change.
var carriedOn = &Verdict{fate: waiting}

// A Report is what became of one delivery.
type Report struct {
	Verdict
	Deliveries int // so far, this one included
	Extended   int
	SettleErr  error         // why the broker may not have heard
	AckLag     time.Duration // from Finished to the settlement; 0 without an outcome
	Took       time.Duration
}

// Retried reports whether the message was given back.
func (r Report) Retried() bool { return r.fate == retried }

// Buried reports whether the message became a dead letter.
func (r Report) Buried() bool { return r.fate == buried }

// LeaseLost reports whether the message was left because its lease was lost.
func (r Report) LeaseLost() bool { return r.fate == left && errors.Is(r.Err, ErrLeaseLost) }

func (r *Report) log(j *Job) {
	if r.SettleErr != nil {
		j.Log(zerolog.ErrorLevel).Err(r.SettleErr).Stringer("fate", r.fate).Msg("cannot settle, it will be delivered again")
	} else {
		j.Log(zerolog.DebugLevel).Msg(r.fate.String())
	}
	logPanic(j, r.Err)
	event := j.Log(zerolog.InfoLevel).Stringer("fate", r.fate).Int("deliveries", r.Deliveries).Int("extended", r.Extended).
		Bool("saved", r.Saved).Dur("took", r.Took)
	if o := r.Outcome; o.Kind != "" {
		event = event.Str("outcome", string(o.Kind)).Str("reason", string(o.Reason)).Int("attempt", o.Receipt.Attempt).
			Str("from", string(o.Receipt.From)).Str("to", string(o.Receipt.To))
	}
	if r.fate == retried {
		event = event.Dur("delay", r.Delay)
	}
	event.Err(r.Err).Msg("settled")
}

// Backoff computes exponential delays with full jitter: uniform between zero and a bound that doubles from Base up to
// Cap, which spreads the tries of many messages that failed together as widely as can be. (Marc Brooker, "Exponential
// Backoff And Jitter", AWS Architecture Blog, 2015.)
type Backoff struct {
	Base, Cap time.Duration // 0 < Base ≤ Cap
}

func (b Backoff) validate() error {
	if b.Base <= 0 || b.Cap < b.Base {
		return errors.New("base must be positive and at most cap")
	}
	return nil
}

// Delay returns how long to wait after the n-th failure, n from 1.
func (b Backoff) Delay(n int) time.Duration {
	bound := b.Cap
	if shift := max(n-1, 0); shift < 32 && b.Base<<shift > 0 {
		bound = min(b.Cap, b.Base<<shift)
	}
	return time.Duration(rand.Int64N(int64(bound) + 1))
}
