package handler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// The vocabulary that users of this package need.
type (
	Request  = restart.Request
	Outcome  = restart.Outcome
	Envelope = restart.Envelope
	Letter   = deadletter.Letter
)

// A Delivery is one delivery of a message, as the handler sees it.
type Delivery interface {
	Data() []byte
	// Envelope says what the broker knows of the message. An error means that its subject cannot be read; the time of
	// storing and the fallback id are there all the same.
	Envelope() (Envelope, error)
	Subject() string
	Sequence() uint64       // in the work stream
	Deliveries() int        // so far, this one included
	AckWait() time.Duration // as the broker counts it
	Asked() time.Time       // when the message was asked for: it was not handed out before
	// Intake is done when nothing new may be begun: what was not triggered is to be handed back.
	Intake() context.Context

	// Extend asks for AckWait from now on, and returns at once. The answer is told to then: nil if the broker has
	// confirmed it. That is done once, from a goroutine that must not be kept waiting, and not within Extend; nor if
	// Extend returns an error, nor if cancel was in time, which it reports.
	Extend(then func(error)) (cancel func() bool, err error)
	// Ack, Nak and Term settle the message. An error means that the broker may not have heard.
	Ack(ctx context.Context) error
	Nak(ctx context.Context, delay time.Duration) error
	Term(ctx context.Context, reason string) error
}

// Work is what is done for a message while its lease is held.
type Work interface {
	// Do does the work of a request. It must return soon after ctx is done, whose cause says why: ErrLeaseLost,
	// ErrMaxLease, or that of the one who stops the worker.
	Do(ctx context.Context, job *Job) *Verdict

	// Reject records that a message ended unread. The job's Request says what is known of it: ID, and Group and Host
	// unless the subject is unreadable too; as its times, when it was stored; as Raw, what came.
	Reject(ctx context.Context, job *Job, reason error) *Verdict

	// Recorded reports whether the outcome of a message, read or unread, is on record. The job has no lease.
	Recorded(ctx context.Context, job *Job) (bool, error)
}

// DeadLetters keeps what was given up.
type DeadLetters interface {
	// Bury returns nil once the letter is stored, by this call or an earlier one for the same message.
	Bury(ctx context.Context, l Letter) error
}

// Config says how messages are handled.
type Config struct {
	Work        Work
	DeadLetters DeadLetters
	// MaxLease is how long one delivery may be held; then it is given back. It must be positive.
	MaxLease time.Duration
	// Retry is how long a message waits that could not be worked on.
	Retry Backoff
	// Settled, if not nil, is called once for each delivery, after it was settled or left.
	Settled  func(Report)
	Observer Observer // nil: nobody observes
	// Labels has profiles say for whom a goroutine works: those of a message, its calls of the driver among them, carry
	// its id, its host and the phase. That costs about 3 µs and 2 KB of garbage a message, a tenth of all that the
	// handler costs, and while it is in flight 200 B and the stack that its work has needed: too much where nobody can ask
	// for a profile.
	Labels bool
	// SlowPhase is how long a message may be in a phase before the log says so, see WatchSlow; 0 never says it. It must
	// not be negative. PhaseSlot and PhaseVerify may take longer: there, a message waits for other messages, and for a
	// host that boots, for minutes while all is well.
	SlowPhase time.Duration
	Logger    zerolog.Logger
}

// settleTimeout bounds each write that records what has happened, and the settlement: they outlive the stop of the work.
const settleTimeout = 5 * time.Second

// stopDelay is how long a message waits that was triggered by a worker which is stopping: long enough for the stop to
// be over, short enough for the next worker to hold it within a second.
const stopDelay = 200 * time.Millisecond

// A Handler handles messages. Its methods are called from many goroutines at once.
type Handler struct {
	cfg      Config
	inFlight inFlight
	entrance entrance
	sender   sender
	leftSlow atomic.Int64 // how many messages have left a slow phase since the last look

	unconfirmed outage // of the extensions
}

// New returns a handler.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Work == nil:
		return nil, errors.New("handler: Work is missing")
	case cfg.DeadLetters == nil:
		return nil, errors.New("handler: DeadLetters is missing")
	case cfg.MaxLease <= 0:
		return nil, errors.New("handler: MaxLease is not positive")
	case cfg.SlowPhase < 0:
		return nil, errors.New("handler: SlowPhase is negative")
	}
	if err := cfg.Retry.validate(); err != nil {
		return nil, fmt.Errorf("handler: Retry: %w", err)
	}
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	h := &Handler{cfg: cfg}
	h.inFlight.over = h.entrance.clear
	h.entrance.free = besideSlots
	if r, waits := cfg.Work.(*Restarter); waits {
		h.entrance.free += r.cfg.Driver.Slots()
	}
	return h, nil
}

// InFlight returns what is being worked on, in no particular order.
func (h *Handler) InFlight() []Held { return h.inFlight.held() }

// Begin decodes a delivery, begins to take it through its life, and returns. done is called when it was settled or
// left. When ctx ends, the work is stopped and settles itself. While its host is waited for, a message has no goroutine
// at all, but two timers: one that keeps its lease, and one that looks at the host. Nor has it one while it waits, behind
// many others, for the database.
func (h *Handler) Begin(ctx context.Context, d Delivery, done func()) {
	h.entrance.arrive(h.take(ctx, d, done))
}

// take takes the message's lease, decodes it and makes it known.
func (h *Handler) take(ctx context.Context, d Delivery, done func()) arrival {
	j := &Job{Delivery: d, handler: h, began: time.Now(), done: done}
	j.progress.observer = h.cfg.Observer
	unreadable := j.read()
	j.life.work, j.life.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	j.Lease = newLease(&h.sender, j.Asked(), j.Extend, j.AckWait(), j.onLease)
	j.Lease.endAfter(h.cfg.MaxLease, func() { j.life.stop(ErrMaxLease) })
	j.Lease.start()
	j.move(PhaseGate)
	h.inFlight.add(j, ctx)
	return arrival{j, unreadable}
}

// work takes the lease, and begins the work.
func (j *Job) work(unreadable error) {
	h := j.handler
	if j.Deliveries() == 1 {
		h.cfg.Observer.Took(StepQueueWait, j.began.Sub(j.stored))
	}
	j.label(PhaseGate)
	j.Log(zerolog.DebugLevel).Int("deliveries", j.Deliveries()).Msg("consumed")
	j.carryOn(func() *Verdict {
		if unreadable != nil {
			return h.cfg.Work.Reject(j.life.work, j, unreadable)
		}
		return h.cfg.Work.Do(j.life.work, j)
	})
}

// carryOn does a part of the work, dead letter included, and what is to become of the message then, if that is known. A
// panic is this message's alone.
func (j *Job) carryOn(do func() *Verdict) {
	var verdict *Verdict
	err := contain(func() error {
		verdict = do()
		return nil
	})
	if err == nil && verdict.fate == waiting {
		return // the job is another goroutine's by now
	}
	if err == nil && verdict.fate == buried {
		err = j.bury(verdict.Outcome)
	}
	if err != nil {
		verdict = Retry(j.handler.cfg.Retry.Delay(j.Deliveries()), err)
	}
	j.end(verdict)
}

// end releases the lease, and settles the message.
func (j *Job) end(verdict *Verdict) {
	h := j.handler
	j.life.cancel(nil)
	held, extended := j.Lease.release()
	if !held && verdict.fate != left {
		verdict = Leave(ErrLeaseLost)
	}
	j.enter(PhaseSettle)
	report := Report{Verdict: *verdict, Deliveries: j.Deliveries(), Extended: extended}
	report.SettleErr = j.settle(verdict)
	report.Took = time.Since(j.began)
	if !verdict.Finished.IsZero() {
		report.AckLag = time.Since(verdict.Finished)
		h.cfg.Observer.Took(StepAckLag, report.AckLag)
		h.cfg.Observer.Took(StepEndToEnd, time.Since(j.stored))
	}
	h.inFlight.remove(j)
	j.enter("")
	report.log(j)
	if h.cfg.Settled != nil {
		h.cfg.Settled(report)
	}
	j.done()
}

// Recorded reports whether the outcome of a message is on record. The message need not be held: only what it is matters.
func (h *Handler) Recorded(ctx context.Context, d Delivery) (bool, error) {
	j := &Job{Delivery: d, handler: h}
	_ = j.read() // what cannot be read has an outcome too
	return h.cfg.Work.Recorded(ctx, j)
}

// bury stores the dead letter. Like all that records what has happened, it is bounded by the lease, not by the work's
// context.
func (j *Job) bury(o Outcome) error {
	ctx, cancel := context.WithTimeout(j.Lease.Context(), settleTimeout)
	defer cancel()
	return j.handler.cfg.DeadLetters.Bury(ctx, Letter{
		Outcome: o, WorkSubject: j.Subject(), WorkSequence: j.Sequence(), Stored: j.stored,
		Deliveries: j.Deliveries(), Version: j.version, Data: j.Data(),
	})
}

// settle is the one place where a message is settled.
func (j *Job) settle(v *Verdict) error {
	ctx := newBrief(j.life.work, settleTimeout)
	defer ctx.end(context.Canceled)
	switch v.fate {
	case done:
		return j.Ack(ctx)
	case retried:
		return j.Nak(ctx, v.Delay)
	case buried:
		return j.Term(ctx, string(v.Outcome.Reason))
	default:
		return nil
	}
}

// onLease is told of each extension that was asked for at that time: nil, or why it was not confirmed. That all messages
// are without one is said once, and of each that is lost by it.
func (j *Job) onLease(asked time.Time, err error) {
	if errors.Is(err, ErrLeaseLost) {
		j.life.stop(ErrLeaseLost)
		j.Log(zerolog.WarnLevel).Msg("lease lost")
		return
	}
	h := j.handler
	before, news := h.unconfirmed.heard(asked, err != nil)
	switch {
	case news && err != nil:
		h.cfg.Logger.Warn().Err(err).Msg("leases are not extended, trying again")
	case news:
		h.cfg.Logger.Info().Stringer("after", before.Round(time.Millisecond)).Msg("leases are extended again")
	}
	if err != nil {
		j.Log(zerolog.DebugLevel).Err(err).Msg("cannot extend lease, trying again")
	} else {
		j.Log(zerolog.DebugLevel).Msg("extended")
	}
}
