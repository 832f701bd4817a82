package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

// A Journal records what a request has triggered, by compare-and-set. *journal.Journal says what its methods promise.
type Journal interface {
	Covers(stored time.Time) bool
	Last(ctx context.Context, key journal.Key) (journal.Event, error)
	Append(ctx context.Context, key journal.Key, last, next journal.Event) (journal.Event, error)
}

// A Store remembers requests and outcomes. store.Store says what its methods promise.
type Store interface {
	Save(ctx context.Context, r Request) error
	Finish(ctx context.Context, o Outcome) (Outcome, error)
	Attempted(ctx context.Context, a restart.Attempt) error
	Outcome(ctx context.Context, id uuid.UUID) (Outcome, error)
}

// A Control says what holds back a group of hosts, and the requests of a campaign, and is told what decides that. *control.Group says what its methods
// promise.
type Control interface {
	Holds(campaign string, ackWait time.Duration) (holds []policy.Hold, left time.Duration, err error)
	Enter(campaign string, ackWait time.Duration) (holds []policy.Hold, left time.Duration, leave func(), err error)
	Fell(ctx context.Context, o Outcome) error
	Rose(ctx context.Context) error
}

// RestarterConfig says how the hosts of a group are restarted. All durations and counts must be positive unless said
// otherwise.
type RestarterConfig struct {
	Driver  *bounded.Driver
	Rules   policy.Rules
	Control Control
	Journal Journal
	Store   Store
	Worker  string         // this worker's name, for events and receipts
	Logger  zerolog.Logger // of what no message owns

	// ProbeInterval is the longest pause between two probes of a host that is waited for, as long as those that are
	// waited for do not become too many for that: 5,000 for each second of it.
	ProbeInterval time.Duration
	VerifyTimeout time.Duration // from a trigger, or its takeover, to a verified host
	StableFor     time.Duration // how long a host must stay ready; may be 0
	StoreTimeout  time.Duration // one try of a write to the store

	Retry         Backoff // between attempts, and after what could not be done
	MaxAttempts   int     // triggers of one request
	MaxDeliveries int     // deliveries after which nothing is triggered any more
}

func (c RestarterConfig) validate() error {
	switch {
	case c.Driver == nil:
		return errors.New("restarter: Driver is missing")
	case c.Control == nil:
		return errors.New("restarter: Control is missing")
	case c.Journal == nil:
		return errors.New("restarter: Journal is missing")
	case c.Store == nil:
		return errors.New("restarter: Store is missing")
	case c.Worker == "":
		return errors.New("restarter: Worker is missing")
	case c.StableFor < 0:
		return errors.New("restarter: StableFor is negative")
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"ProbeInterval", int64(c.ProbeInterval)},
		{"VerifyTimeout", int64(c.VerifyTimeout)},
		{"StoreTimeout", int64(c.StoreTimeout)},
		{"MaxAttempts", int64(c.MaxAttempts)},
		{"MaxDeliveries", int64(c.MaxDeliveries)},
	} {
		if n.value <= 0 {
			return fmt.Errorf("restarter: %s is not positive", n.name)
		}
	}
	if err := c.Retry.validate(); err != nil {
		return fmt.Errorf("restarter: Retry: %w", err)
	}
	return nil
}

// maxWrites is how many messages may wait for the database with a goroutine each: some batches of SQLite's writer, so that
// it never waits for them.
const maxWrites = 2000

// A Restarter is the Work of saving requests and restarting their hosts.
type Restarter struct {
	cfg    RestarterConfig
	store  *watchedStore
	prober prober
	looks  room // at hosts that are waited for
	writes room // to the database, and what waits to try one again
}

var _ Work = (*Restarter)(nil)

// NewRestarter returns a restarter.
func NewRestarter(cfg RestarterConfig) (*Restarter, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Restarter{
		cfg: cfg, store: &watchedStore{Store: cfg.Store, log: cfg.Logger},
		looks: room{free: cfg.Driver.Slots() + besideSlots}, writes: room{free: maxWrites},
	}, nil
}

// Do looks back where there may be a past, saves the request and restarts its host side by side, and finishes with the
// one outcome.
func (r *Restarter) Do(ctx context.Context, job *Job) *Verdict {
	p := &passage{Restarter: r, job: job}
	if job.Deliveries() > 1 || job.Request.Repeatable() {
		standing, err := p.lookBack(ctx)
		if err != nil {
			return r.verdict(ctx, job, err)
		}
		if standing.Kind != "" {
			job.progress.observer.Happened(EventSuppressed)
			return ended(&standing)
		}
	}
	p.save.wait.Add(1)
	if life := &job.life; life.enter(&life.save, &r.writes, p.saveRequest) {
		go p.saveRequest()
	}
	return p.walk(ctx, p.restart)
}

func (p *passage) record() *record { return &record{p.store, p.cfg.StoreTimeout, p.job} }

// saveRequest saves the request, whatever becomes of its host, and goes on with what waits for that.
func (p *passage) saveRequest() {
	p.job.label(PhaseSave)
	then := p.save.begin()
	p.save.err = p.record().save()
	p.job.life.leave(&p.job.life.save)
	p.save.wait.Done()
	if then != nil {
		then()
	}
}

// walk goes on from a step. While the host is waited for it has returned, and another goroutine walks on when it is
// time to look again: what waits for minutes must not hold the stack of what was done before.
func (p *passage) walk(ctx context.Context, step func(context.Context) (*Outcome, error)) *Verdict {
	for {
		var o *Outcome
		err := contain(func() (err error) {
			o, err = step(ctx)
			return err
		})
		switch {
		case errors.Is(err, errWatch):
			step = p.look
		case errors.Is(err, errWait):
			p.job.life.watchAfter(p.watch.pause, p.lookAgain)
			return carriedOn
		default:
			return p.conclude(ctx, o, err)
		}
	}
}

// conclude ends the way, and goes on once the request is saved.
func (p *passage) conclude(ctx context.Context, o *Outcome, err error) *Verdict {
	job := p.job
	p.endWatch()
	if errors.Is(err, errHandBack) {
		job.life.handBackWrites()
	}
	job.handler.entrance.leave(job)
	job.enter(PhaseSave)
	saved := func() *Verdict {
		return p.write(job, func() *Verdict { return p.concludeOnRecord(ctx, o, err) })
	}
	if !p.save.await(func() { job.carryOn(saved) }) {
		return carriedOn
	}
	return saved()
}

// write does what writes to the database, now or when there is room for it.
func (r *Restarter) write(job *Job, do func() *Verdict) *Verdict {
	life := &job.life
	inside := func() *Verdict {
		defer life.leave(&life.next)
		return do()
	}
	if !life.enter(&life.next, &r.writes, func() { job.carryOn(inside) }) {
		return carriedOn
	}
	return inside()
}

// concludeOnRecord records the outcome, or decides what is to become of a message without one.
func (p *passage) concludeOnRecord(ctx context.Context, o *Outcome, err error) *Verdict {
	job, rec, saveErr := p.job, p.record(), p.save.err
	rec.attempts(p.earlier)
	if err != nil || saveErr != nil {
		verdict := p.verdict(ctx, job, errors.Join(err, saveErr))
		verdict.Saved = saveErr == nil
		return verdict
	}
	job.enter(PhaseFinish)
	err = p.count(job, o)
	if err == nil {
		err = rec.finish(o)
	}
	if err != nil {
		verdict := p.verdict(ctx, job, err)
		verdict.Saved = true
		return verdict
	}
	return ended(o)
}

// count tells the group's control of a host that did not come back, or of one that did. The first must be on record
// before the message is settled, which makes room for the next host.
func (r *Restarter) count(job *Job, o *Outcome) error {
	switch o.Reason {
	case restart.ReasonNotReady, restart.ReasonUnconfirmed:
		ctx, cancel := context.WithTimeout(job.Lease.Context(), settleTimeout)
		defer cancel()
		if err := r.cfg.Control.Fell(ctx, *o); err != nil {
			return &laterError{r.cfg.Retry.Delay(job.Deliveries()), fmt.Errorf("cannot count a host that did not come back: %w", err)}
		}
	case restart.ReasonVerified:
		if err := r.cfg.Control.Rose(context.WithoutCancel(job.life.work)); err != nil {
			job.Log(zerolog.WarnLevel).Err(err).Msg("the row of hosts that did not come back goes on, although this one did")
		}
	}
	return nil
}

// Reject implements Work. What cannot be read is saved as it came, and never had a trigger.
func (r *Restarter) Reject(ctx context.Context, job *Job, reason error) *Verdict {
	job.handler.entrance.leave(job)
	return r.write(job, func() *Verdict { return r.reject(ctx, job, reason) })
}

func (r *Restarter) reject(ctx context.Context, job *Job, reason error) *Verdict {
	rec := record{r.store, r.cfg.StoreTimeout, job}
	if err := rec.save(); err != nil {
		return r.verdict(ctx, job, err)
	}
	way := &passage{Restarter: r, job: job}
	o := way.outcome(restart.Dead, restart.ReasonMalformed, reason.Error())
	if err := rec.finish(o); err != nil {
		return r.verdict(ctx, job, err)
	}
	return ended(o)
}

// Recorded implements Work.
func (r *Restarter) Recorded(ctx context.Context, job *Job) (bool, error) {
	rec := record{r.store, r.cfg.StoreTimeout, job}
	standing, err := rec.standing(ctx)
	return standing.Kind != "", err
}

// ended returns the verdict on a message whose outcome is on record.
func ended(o *Outcome) *Verdict {
	verdict := Done()
	if o.Kind == restart.Dead {
		verdict.fate = buried
	}
	verdict.Outcome, verdict.Finished, verdict.Saved = *o, time.Now(), o.Reason != restart.ReasonMalformed
	return verdict
}

// verdict says what becomes of a message without an outcome.
func (r *Restarter) verdict(ctx context.Context, job *Job, err error) *Verdict {
	var later *laterError
	switch {
	case errors.Is(context.Cause(ctx), ErrLeaseLost), errors.Is(err, ErrLeaseLost):
		return Leave(errors.Join(ErrLeaseLost, err))
	case errors.Is(err, journal.ErrConflict):
		return Leave(err)
	case errors.Is(err, errHandBack):
		v := Retry(0, err)
		v.HandedBack = true
		return v
	case errors.As(err, &later):
		return Retry(later.delay, err)
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrMaxLease):
		v := Retry(stopDelay, errors.Join(context.Cause(ctx), err))
		v.Unknown = true
		return v
	default:
		return Retry(r.cfg.Retry.Delay(job.Deliveries()), err)
	}
}

// errHandBack ends the way of a message that was not triggered, when the worker stops.
var errHandBack = errors.New("handed back, the worker is stopping")

// A laterError ends the way of a message that may be tried again after a delay.
type laterError struct {
	delay time.Duration
	err   error
}

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }
