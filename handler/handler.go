package handler

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
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
	// Intake is done when nothing new may be begun: what was not triggered is to be handed back.
	Intake() context.Context

	// Extend asks for AckWait from now on, and returns nil once the broker has confirmed it.
	Extend(ctx context.Context) error
	// Ack, Nak and Term settle the message. An error means that the broker may not have heard.
	Ack(ctx context.Context) error
	Nak(ctx context.Context, delay time.Duration) error
	Term(ctx context.Context, reason string) error
}

// A Job is a message in work.
type Job struct {
	Delivery
	Request Request
	Lease   *Lease
	Log     zerolog.Logger

	handler  *Handler
	progress progress
}

// Work is what is done for a message while its lease is held.
type Work interface {
	// Do does the work of a request. It must return soon after ctx is done, whose cause says why: ErrLeaseLost,
	// ErrMaxLease, or that of the one who stops the worker.
	Do(ctx context.Context, job *Job) Verdict

	// Reject records that a message ended unread. The job's Request says what is known of it: ID, and Group and Host
	// unless the subject is unreadable too; as its times, when it was stored; as Raw, what came.
	Reject(ctx context.Context, job *Job, reason error) Verdict

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
	// handler costs, and 200 B while it is in flight: too much where nobody can ask for a profile.
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
	leftSlow atomic.Int64 // how many messages have left a slow phase since the last look
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
	return &Handler{cfg: cfg, inFlight: inFlight{jobs: map[*Job]struct{}{}}}, nil
}

// InFlight returns what is being worked on, in no particular order.
func (h *Handler) InFlight() []Held { return h.inFlight.held() }

// Handle takes one delivery through its life, and returns when it was settled or left. When ctx ends, the work is
// stopped and settles itself.
func (h *Handler) Handle(ctx context.Context, d Delivery) {
	began := time.Now()
	job, unreadable := h.read(d)
	envelope, _ := d.Envelope() // the time of storing is there in any case
	if d.Deliveries() == 1 {
		h.cfg.Observer.Took(StepQueueWait, began.Sub(envelope.Stored))
	}
	if h.cfg.Labels {
		defer pprof.SetGoroutineLabels(ctx) // those of before
	}
	job.enter(PhaseGate)
	h.inFlight.add(job)
	job.Log.Debug().Int("deliveries", d.Deliveries()).Msg("consumed")
	job.Lease = hold(began, job.extend, d.AckWait(), func(err error) { logExtension(job.Log, err) })

	verdict := h.work(ctx, job, unreadable)

	held, extended := job.Lease.release()
	if !held && verdict.fate != left {
		verdict = Leave(ErrLeaseLost)
	}
	job.enter(PhaseSettle)
	report := Report{Verdict: verdict, Deliveries: d.Deliveries(), Extended: extended}
	report.SettleErr = h.settle(ctx, job, verdict)
	report.Took = time.Since(began)
	if !verdict.Finished.IsZero() {
		report.AckLag = time.Since(verdict.Finished)
		h.cfg.Observer.Took(StepAckLag, report.AckLag)
		h.cfg.Observer.Took(StepEndToEnd, time.Since(envelope.Stored))
	}
	h.inFlight.remove(job)
	job.enter("")
	report.log(job)
	if h.cfg.Settled != nil {
		h.cfg.Settled(report)
	}
}

// read decodes the message. An error means that it can never be read; the job then says what is known of it.
func (h *Handler) read(d Delivery) (job *Job, err error) {
	job = &Job{Delivery: d, handler: h, progress: progress{observer: h.cfg.Observer}}
	envelope, err := d.Envelope()
	if err == nil {
		job.Request, err = contain(func() (Request, error) { return restart.Decode(envelope, d.Data()) })
	}
	if err != nil {
		job.Request = Request{
			ID: envelope.FallbackID, Group: envelope.Group, Host: envelope.Host,
			RequestedAt: envelope.Stored, NotAfter: envelope.Stored, Raw: d.Data(),
		}
	}
	job.Log = h.cfg.Logger.With().Stringer("id", job.Request.ID).Str("instance", job.Request.Instance).
		Str("host", string(job.Request.Host)).Str("group", string(job.Request.Group)).Logger()
	return job, err
}

// Recorded reports whether the outcome of a message is on record. The message need not be held: only what it is matters.
func (h *Handler) Recorded(ctx context.Context, d Delivery) (bool, error) {
	job, _ := h.read(d) // what cannot be read has an outcome too
	return h.cfg.Work.Recorded(ctx, job)
}

// work does the work under the lease, dead letter included, and returns what is to become of the message. A panic is
// this message's alone.
func (h *Handler) work(ctx context.Context, job *Job, unreadable error) Verdict {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(job.Lease.ctx, func() { cancel(context.Cause(job.Lease.ctx)) })()
	ctx, cancelTimeout := context.WithTimeoutCause(ctx, h.cfg.MaxLease, ErrMaxLease)
	defer cancelTimeout()

	verdict, err := contain(func() (Verdict, error) {
		if unreadable != nil {
			return h.cfg.Work.Reject(ctx, job, unreadable), nil
		}
		return h.cfg.Work.Do(ctx, job), nil
	})
	if err == nil && verdict.fate == buried {
		err = h.bury(job, verdict.Outcome)
	}
	if err != nil {
		return Retry(h.cfg.Retry.Delay(job.Deliveries()), err)
	}
	return verdict
}

// bury stores the dead letter. Like all that records what has happened, it is bounded by the lease, not by the work's
// context.
func (h *Handler) bury(job *Job, o Outcome) error {
	ctx, cancel := context.WithTimeout(job.Lease.ctx, settleTimeout)
	defer cancel()
	envelope, _ := job.Envelope() // what there is of it
	return h.cfg.DeadLetters.Bury(ctx, Letter{
		Outcome: o, WorkSubject: job.Subject(), WorkSequence: job.Sequence(), Stored: envelope.Stored,
		Deliveries: job.Deliveries(), Version: envelope.Version, Data: job.Data(),
	})
}

// settle is the one place where a message is settled.
func (h *Handler) settle(ctx context.Context, job *Job, v Verdict) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	switch v.fate {
	case done:
		return job.Ack(ctx)
	case retried:
		return job.Nak(ctx, v.Delay)
	case buried:
		return job.Term(ctx, string(v.Outcome.Reason))
	default:
		return nil
	}
}

func logExtension(log zerolog.Logger, err error) {
	switch {
	case err == nil:
		log.Debug().Msg("extended")
	case errors.Is(err, ErrLeaseLost):
		log.Warn().Msg("lease lost")
	default:
		log.Warn().Err(err).Msg("cannot extend lease, trying again")
	}
}
