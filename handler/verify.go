package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// errWatch and errWait are no failures: the one says that the host is to be looked at from now on, the other that it is
// to be looked at again.
var (
	errWatch = errors.New("the host is to be watched")
	errWait  = errors.New("the host is to be watched further")
)

// A watch is what is known of a host that is waited for.
type watch struct {
	on         bool
	ours       bool // it was our trigger, so that the host's time says something of others
	elsewhere  bool
	scout      bool      // see prober
	turn       bool      // the next look has waited for its turn
	began      time.Time // when the trigger was given, or taken over
	notReady   time.Time // when the host was last found not to be back
	readySince time.Time
	pause      time.Duration // until the next look
}

// watchHost has the host watched until another boot than the epoch for life has been ready for StableFor, or until it is
// known that the trigger, open since then, can no longer take effect, or until VerifyTimeout. elsewhere is whether
// another boot can only be somebody else's doing.
func (p *passage) watchHost(open time.Time, elsewhere bool) error {
	p.watch = watch{on: true, began: open, notReady: open, elsewhere: elsewhere, scout: p.prober.watch()}
	p.job.enter(PhaseVerify)
	return errWatch
}

// look looks at the host once.
func (p *passage) look(ctx context.Context) (*Outcome, error) {
	state, err := p.probeInSlot(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w, now := &p.watch, time.Now()
	switch {
	case err != nil: // unknown: neither changed nor gone
		w.readySince = time.Time{}
	case state.Epoch == p.last.From:
		p.sound = now
		if p.ineffective(now) {
			p.endWatch()
			return p.repeat(ctx, &state)
		}
	case !state.Ready:
		p.to, w.readySince = state.Epoch, time.Time{}
	default:
		if state.Epoch != p.to || w.readySince.IsZero() {
			p.to, w.readySince = state.Epoch, now
		}
		if now.Sub(w.readySince) >= p.cfg.StableFor {
			if w.ours {
				p.prober.learn(w.notReady.Sub(w.began), w.readySince.Sub(w.began))
			}
			p.endWatch()
			return p.verified(w.elsewhere, w.readySince), nil
		}
	}
	elapsed := now.Sub(w.began)
	if elapsed >= p.cfg.VerifyTimeout {
		p.endWatch()
		return p.endWith(ctx, p.unverified(err), false)
	}
	w.pause = p.pauseAfter(elapsed)
	if w.readySince.IsZero() {
		w.notReady = now
	} else {
		w.pause = min(w.pause, p.cfg.StableFor-now.Sub(w.readySince))
	}
	w.pause = max(w.pause, minProbePause)
	return nil, errWait
}

// pauseAfter returns the time until the next look at a host that was triggered so long ago, which is in VerifyTimeout.
func (p *passage) pauseAfter(elapsed time.Duration) time.Duration {
	return min(p.prober.pause(elapsed, p.cfg.ProbeInterval, p.watch.scout), p.cfg.VerifyTimeout-elapsed)
}

// lookAgain is the timer's. The worker's stop does not wait for its turn.
func (p *passage) lookAgain() {
	w, life := &p.watch, &p.job.life
	if !w.turn && life.work.Err() == nil {
		w.turn = true
		if wait := p.prober.turn(time.Now()); wait > 0 {
			life.watchAfter(wait, p.lookAgain)
			return
		}
	}
	w.turn = false
	if life.enter(&life.next, &p.looks, p.lookNow) {
		p.lookNow()
	}
}

// lookNow looks at the host and goes on from there, on a goroutine of its own.
func (p *passage) lookNow() {
	grow()
	p.job.label(PhaseVerify)
	p.job.carryOn(func() *Verdict { return p.walk(p.job.life.work, p.look) })
}

// endWatch ends the watch, if it is on.
func (p *passage) endWatch() {
	if !p.watch.on {
		return
	}
	p.watch.on = false
	p.prober.waiting.Add(-1)
	p.job.progress.observer.Took(StepVerify, time.Since(p.watch.began))
}

// ineffective reports whether the open trigger can no longer take effect.
func (p *passage) ineffective(now time.Time) bool {
	traits := p.cfg.Driver.Traits()
	settle, certain := traits.Settle(p.job.AckWait())
	if p.endless && traits.Compare != restart.CompareAtEffect {
		certain = false
	}
	return certain && now.Sub(p.watch.began) >= settle
}

func (p *passage) verified(elsewhere bool, readySince time.Time) *Outcome {
	verifiedAt := time.Now().UTC()
	p.check("epoch", fmt.Sprintf("%s, was %s", p.to, p.last.From))
	p.check("ready", "yes")
	if p.cfg.StableFor > 0 {
		p.check("stable_for", verifiedAt.Sub(readySince).Round(time.Millisecond).String())
	}
	p.job.Log(zerolog.DebugLevel).Str("from", string(p.last.From)).Str("to", string(p.to)).Msg("restarted")
	o := p.outcome(restart.Restarted, restart.ReasonVerified, "another boot is running, and ready")
	if elsewhere {
		o.Reason, o.Detail = restart.ReasonChangedElsewhere, "another boot is running, which is not ours"
	} else if !p.sound.IsZero() {
		o.Receipt.Down = restart.Duration(readySince.Sub(p.sound))
	}
	o.Receipt.VerifiedAt = verifiedAt
	return o
}

func (p *passage) check(name, result string) {
	p.checks = append(p.checks, restart.Check{Name: name, Result: result})
}

// unverified says why VerifyTimeout ends the request. Neither is a reason to restart again.
func (p *passage) unverified(probeErr error) policy.Refusal {
	if p.to != "" {
		p.check("epoch", fmt.Sprintf("%s, was %s", p.to, p.last.From))
		p.check("ready", "no")
		return policy.Refusal{
			Kind: restart.Dead, Reason: restart.ReasonNotReady,
			Detail: fmt.Sprintf("restarted, and not ready within %s", p.cfg.VerifyTimeout),
		}
	}
	p.check("epoch", "still "+string(p.last.From)+", or no answer")
	detail := fmt.Sprintf("triggered, and no other boot seen within %s", p.cfg.VerifyTimeout)
	if probeErr != nil {
		detail += ": " + probeErr.Error()
	}
	return policy.Refusal{Kind: restart.Dead, Reason: restart.ReasonUnconfirmed, Detail: detail}
}

func (p *passage) probeInSlot(ctx context.Context) (restart.State, error) {
	defer p.job.life.leave(&p.job.life.next)
	slot, err := p.cfg.Driver.Acquire(ctx)
	if err != nil {
		return restart.State{}, err
	}
	defer slot.Release()
	return slot.Probe(ctx, p.job.Request.Host)
}
