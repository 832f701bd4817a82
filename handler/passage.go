package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

// A passage is one delivery's way to its request's outcome. It goes by what stands last in the journal:
//
//	nothing       gates, probe, fence, trigger, verify
//	failed        the same, from the epoch for life, as the next attempt
//	restarting    take over, verify; once the trigger can no longer take effect, repeat it or give up
//	a terminal    complete it
//
// Its fields belong to the goroutine that walks it: while the host is waited for, there is none.
type passage struct {
	*Restarter
	job   *Job
	last  journal.Event // what stands in the journal, as far as this delivery knows
	save  save
	watch watch

	// harmless is whether every trigger before the last was positively refused, so that only the last can have
	// changed the host.
	harmless bool

	// endless is whether the last trigger may take effect at any time, because the driver has not ended its call.
	endless bool

	earlier     []restart.Attempt // those that this delivery knows not to have led to the outcome
	triggeredAt time.Time
	sound       time.Time // when the host was last known to run in the epoch for life
	to          restart.Epoch
	checks      []restart.Check
}

func (p *passage) key() journal.Key {
	r := &p.job.Request
	return journal.Key{Group: r.Group, ID: r.ID, Host: r.Host}
}

// lookBack reads what earlier deliveries have left. It returns the outcome if one is on record.
func (p *passage) lookBack(ctx context.Context) (Outcome, error) {
	if err := p.read(ctx); err != nil {
		if errors.Is(err, journal.ErrIDReused) {
			return Outcome{}, nil // the fence will say so again
		}
		return Outcome{}, err
	}
	if p.last.IsZero() && !p.job.Request.Repeatable() {
		return Outcome{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	standing, err := p.record().standing(ctx)
	if err != nil && p.last.IsZero() {
		return Outcome{}, p.later(err) // the journal may have forgotten what the database remembers
	}
	if err != nil {
		// The journal alone is enough to go on safely.
		p.job.Log(zerolog.WarnLevel).Err(err).Msg("cannot look for an outcome, going by the journal")
		return Outcome{}, nil
	}
	return standing, nil
}

func (p *passage) read(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	p.last, err = p.cfg.Journal.Last(ctx, p.key())
	return err
}

// unchanged returns nil if what this delivery knows still stands last in the journal, and ErrConflict if not.
func (p *passage) unchanged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	last, err := p.cfg.Journal.Last(ctx, p.key())
	if err == nil && last.Sequence != p.last.Sequence {
		err = journal.ErrConflict
	}
	return err
}

// restart goes the way to the outcome, or up to where the host is to be watched. An error says that there is no outcome
// yet; verdict knows what it means.
func (p *passage) restart(ctx context.Context) (*Outcome, error) {
	for {
		var o *Outcome
		var err error
		idle := p.last.IsZero() || p.last.Kind == journal.Failed
		switch {
		case idle:
			o, err = p.attempt(ctx)
		case p.last.Kind == journal.Restarting:
			return p.takeOver(ctx)
		default:
			return p.complete(), nil
		}
		if !errors.Is(err, journal.ErrConflict) || p.last.Kind == journal.Restarting {
			return o, err
		}
		// The fence was refused: somebody was here before. Nothing of ours is open, so read, and go on by the table.
		err = p.read(ctx)
		if errors.Is(err, journal.ErrIDReused) {
			o := p.outcome(restart.Dead, restart.ReasonIDReused, err.Error())
			o.ID = p.job.fallback // the outcome of the id is the other request's
			return o, nil
		}
		if err != nil {
			return nil, err
		}
		p.job.progress.observer.Happened(EventFenced)
		p.job.Log(zerolog.DebugLevel).Str("event", string(p.last.Kind)).Msg("fence refused, going by the journal")
	}
}

// complete makes the outcome of the terminal event that stands.
func (p *passage) complete() *Outcome {
	o := p.outcome(restart.Kind(p.last.Kind), p.last.Reason, p.last.Detail)
	o.At, o.Receipt.Worker, o.Receipt.To = p.last.At, p.last.Worker, p.last.To
	return o
}

// attempt goes from the gates to a trigger, while none is open.
func (p *passage) attempt(ctx context.Context) (*Outcome, error) {
	intake, done := p.job.life.open(p.job.Intake())
	defer done()

	if refusal := p.gate(); refusal != nil {
		return p.end(ctx, *refusal)
	}
	if answer := p.ask(nil); answer.Verdict != policy.Probe {
		return p.no(ctx, answer)
	}
	slot, err := p.acquire(intake)
	if err != nil {
		return nil, context.Cause(intake)
	}
	defer slot.Release()
	state, err := slot.Probe(intake, p.job.Request.Host)
	switch {
	case intake.Err() != nil:
		return nil, context.Cause(intake)
	case err != nil:
		return nil, p.later(fmt.Errorf("cannot probe host: %w", err))
	}
	from := state.Epoch
	if p.last.Kind == journal.Failed {
		if from != p.last.From {
			slot.Release()
			// A trigger of ours may have been given since the journal was read. Its event would have been there before
			// the boot that was seen, so what stands now proves whose boot it is.
			if err := p.unchanged(ctx); err != nil {
				return nil, err
			}
			p.job.Log(zerolog.InfoLevel).Msg("host was restarted elsewhere")
			return nil, p.watchHost(time.Now(), true)
		}
		from = p.last.From
	}
	p.harmless = true
	return p.trigger(ctx, intake, slot, from, &state)
}

// trigger asks the gates, appends the fence, asks again, because time has passed, and gives the trigger, in the slot.
// Until the fence is appended, the message can be handed back.
func (p *passage) trigger(ctx, intake context.Context, slot *bounded.Slot, from restart.Epoch, state *restart.State) (*Outcome, error) {
	if answer := p.ask(state); answer.Verdict != policy.Go {
		return p.no(ctx, answer)
	}
	if err := p.job.Lease.Renew(intake); err != nil {
		return nil, err
	}
	err := p.append(intake, journal.Event{
		Kind: journal.Restarting, From: from, Attempt: p.last.NextAttempt(), Settled: true,
	})
	if err != nil {
		return nil, err
	}
	within := p.job.Lease.Left()
	if within == 0 {
		return nil, ErrLeaseLost
	}
	holds, left, leave, err := p.cfg.Control.Enter(p.job.Request.Campaign, p.job.AckWait())
	if answer := p.judge(state, holds, err); answer.Verdict != policy.Go {
		leave()
		return p.takeBack(ctx, answer)
	}
	p.triggeredAt = time.Now().UTC()
	p.sound = p.triggeredAt
	p.job.progress.attempted(p.last.Attempt)
	p.job.progress.observer.Happened(EventTrigger)
	err = slot.Restart(ctx, restart.Trigger{
		Host: p.job.Request.Host, From: from, Within: min(within, left), ID: p.job.Request.ID, Attempt: p.last.Attempt,
	})
	leave()
	returned := time.Now()
	p.job.progress.observer.Took(StepRestart, returned.Sub(p.triggeredAt))
	slot.Release()
	p.endless = errors.Is(err, bounded.ErrAbandoned)
	log := func(level zerolog.Level) *zerolog.Event {
		return p.job.Log(level).Int("attempt", p.last.Attempt).Str("from", string(from))
	}
	switch {
	case err == nil:
		log(zerolog.DebugLevel).Msg("triggered")
	case errors.Is(err, restart.ErrChanged):
		log(zerolog.InfoLevel).Msg("not triggered, another boot is running")
		return nil, p.watchHost(returned, p.harmless)
	case errors.Is(err, restart.ErrRefused):
		return p.refused(ctx, err)
	case errors.Is(err, restart.ErrPermanent):
		return p.end(ctx, policy.Refusal{Kind: restart.Dead, Reason: restart.ReasonPermanent, Detail: err.Error()})
	default:
		logPanic(p.job, err)
		log(zerolog.WarnLevel).Err(err).Msg("no word whether the restart was taken, watching the host")
	}
	err = p.watchHost(returned, false)
	p.watch.ours = true
	if p.prober.slow() {
		p.watch.pause, err = p.pauseAfter(0), errWait
	}
	return nil, err
}

// refused records that the last trigger was refused, and ends the request if that was its last attempt.
func (p *passage) refused(ctx context.Context, err error) (*Outcome, error) {
	if p.last.Attempt >= p.cfg.MaxAttempts {
		return p.end(ctx, p.exhausted(err.Error()))
	}
	appendErr := p.append(ctx, journal.Event{
		Kind: journal.Failed, From: p.last.From, Attempt: p.last.Attempt, Detail: err.Error(),
	})
	if appendErr != nil {
		return nil, appendErr
	}
	p.did(p.triggeredAt, time.Now(), err.Error())
	delay := p.cfg.Retry.Delay(p.last.Attempt)
	if refused, ok := errors.AsType[*restart.RefusedError](err); ok {
		delay = max(delay, refused.After)
	}
	return nil, &laterError{delay, err}
}

// takeBack records that the trigger which the fence stands for was not given, because a gate has said no since.
func (p *passage) takeBack(ctx context.Context, answer policy.Answer) (*Outcome, error) {
	if answer.Verdict == policy.Never {
		return p.end(ctx, answer.Refusal)
	}
	err := p.append(ctx, journal.Event{
		Kind: journal.Failed, From: p.last.From, Attempt: p.last.Attempt, Detail: "not triggered: " + answer.Wait.Detail,
	})
	if err != nil {
		return nil, err
	}
	return p.no(ctx, answer)
}

// takeOver makes the open trigger ours to watch. From now on the one who gave it can append nothing.
func (p *passage) takeOver(ctx context.Context) (*Outcome, error) {
	if p.job.Intake().Err() != nil {
		return nil, errHandBack
	}
	before := p.last
	err := p.append(ctx, journal.Event{
		Kind: journal.Restarting, Takeover: true, From: p.last.From, Attempt: p.last.Attempt,
	})
	if err != nil {
		return nil, err
	}
	p.earlier = append(p.earlier, restart.Attempt{
		Request: p.job.Request.ID, Number: before.Attempt, Worker: before.Worker, StartedAt: before.At, From: before.From,
		Error: "left open, and taken over by " + p.cfg.Worker,
	})
	p.sound = time.Now()
	p.job.progress.attempted(p.last.Attempt)
	p.job.progress.observer.Happened(EventTakeover)
	p.job.Log(zerolog.InfoLevel).Int("attempt", p.last.Attempt).Str("from", string(p.last.From)).Msg("took over")
	return nil, p.watchHost(time.Now(), false)
}

// repeat gives the trigger once more from the epoch for life, or gives up, now that no earlier one can take effect.
func (p *passage) repeat(ctx context.Context, state *restart.State) (*Outcome, error) {
	if p.last.NextAttempt() > p.cfg.MaxAttempts {
		return p.end(ctx, p.exhausted("no trigger took effect"))
	}
	if refusal := p.gate(); refusal != nil {
		return p.end(ctx, *refusal)
	}
	intake, done := p.job.life.open(p.job.Intake())
	defer done()
	slot, err := p.acquire(intake)
	if err != nil {
		return nil, context.Cause(intake)
	}
	defer slot.Release()
	p.harmless = false
	p.did(p.last.At, time.Now(), "did not take effect")
	return p.trigger(ctx, intake, slot, p.last.From, state)
}

// acquire takes a slot of the driver, for a probe and a trigger.
func (p *passage) acquire(intake context.Context) (*bounded.Slot, error) {
	p.job.enter(PhaseSlot)
	slot, err := p.cfg.Driver.Acquire(intake)
	if err == nil {
		p.job.enter(PhaseRestart)
	}
	return slot, err
}

// gate asks what only this delivery can answer.
func (p *passage) gate() *policy.Refusal {
	switch {
	case p.last.IsZero() && !p.cfg.Journal.Covers(p.job.stored):
		return &policy.Refusal{
			Kind: restart.Dead, Reason: restart.ReasonJournalHorizon,
			Detail: "the message is older than what the journal can vouch for",
		}
	case p.job.Deliveries() > p.cfg.MaxDeliveries:
		return &policy.Refusal{
			Kind: restart.Dead, Reason: restart.ReasonPoison,
			Detail: fmt.Sprintf("delivered %d times", p.job.Deliveries()),
		}
	}
	return nil
}

// ask asks the gates of the group. state is the host's, if it was probed.
func (p *passage) ask(state *restart.State) policy.Answer {
	holds, _, err := p.cfg.Control.Holds(p.job.Request.Campaign, p.job.AckWait())
	return p.judge(state, holds, err)
}

// judge asks the gates about what holds the group or the request back; err is why nobody can tell.
func (p *passage) judge(state *restart.State, holds []policy.Hold, err error) policy.Answer {
	answer := p.cfg.Rules.Ask(policy.Asked{Request: p.job.Request, State: state, Paused: holds, Now: time.Now()})
	if err != nil && answer.Verdict != policy.Never {
		answer = policy.Answer{Verdict: policy.Later, Wait: policy.Wait{Gate: policy.GatePause, Detail: err.Error()}}
	}
	return answer
}

// no does what a gate wants that does not let a trigger pass, while none is open.
func (p *passage) no(ctx context.Context, answer policy.Answer) (*Outcome, error) {
	if answer.Verdict == policy.Never {
		return p.end(ctx, answer.Refusal)
	}
	return nil, p.later(&heldError{answer.Wait})
}

// A heldError says that a gate does not let a trigger pass now.
type heldError struct{ policy.Wait }

func (e *heldError) Error() string { return fmt.Sprintf("held back by %s: %s", e.Gate, e.Detail) }

func (p *passage) exhausted(detail string) policy.Refusal {
	return policy.Refusal{
		Kind: restart.Dead, Reason: restart.ReasonAttempts,
		Detail: fmt.Sprintf("%d attempts used up: %s", p.last.Attempt, detail),
	}
}

// end appends the terminal event and returns its outcome. Its caller knows that no trigger can take effect any more.
func (p *passage) end(ctx context.Context, why policy.Refusal) (*Outcome, error) {
	return p.endWith(ctx, why, true)
}

func (p *passage) endWith(ctx context.Context, why policy.Refusal, settled bool) (*Outcome, error) {
	err := p.append(ctx, journal.Event{
		Kind: journal.Kind(why.Kind), From: p.last.From, Attempt: p.last.Attempt, Settled: settled,
		Reason: why.Reason, Detail: why.Detail, To: p.to,
	})
	if err != nil {
		return nil, err
	}
	return p.complete(), nil
}

// did notes that the attempt which stands last, and is ours, led to nothing.
func (p *passage) did(started, ended time.Time, why string) {
	p.earlier = append(p.earlier, restart.Attempt{
		Request: p.job.Request.ID, Number: p.last.Attempt, Worker: p.cfg.Worker, StartedAt: started, EndedAt: ended.UTC(),
		From: p.last.From, Error: why,
	})
}

func (p *passage) append(ctx context.Context, next journal.Event) error {
	next.Worker, next.At = p.cfg.Worker, time.Now().UTC()
	appended, err := p.cfg.Journal.Append(ctx, p.key(), p.last, next)
	if err != nil {
		return fmt.Errorf("cannot append %s to journal: %w", next.Kind, err)
	}
	p.last = appended
	return nil
}

// later returns the error that has the message tried again, after what says nothing of the host.
func (p *passage) later(err error) error {
	return &laterError{p.cfg.Retry.Delay(p.job.Deliveries()), err}
}

// outcome makes the outcome of this delivery's request.
func (p *passage) outcome(kind restart.Kind, reason restart.Reason, detail string) *Outcome {
	r := &p.job.Request
	return &Outcome{
		ID: r.ID, Host: r.Host, Group: r.Group, Kind: kind, Reason: reason, Detail: detail, At: time.Now().UTC(),
		Receipt: restart.Receipt{
			RequestedBy: r.RequestedBy, RequestedAt: r.RequestedAt, Worker: p.cfg.Worker, Attempt: p.last.Attempt, From: p.last.From,
			To: p.to, TriggeredAt: p.triggeredAt, Checks: p.checks,
		},
	}
}
