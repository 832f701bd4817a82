package handler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// minProbePause is the shortest pause between two probes of one host.
const minProbePause = 10 * time.Millisecond

// verify watches the host until another boot than the epoch for life has been ready for StableFor, or until it is
// known that the trigger, open since then, can no longer take effect, or until VerifyTimeout. elsewhere is whether
// another boot can only be somebody else's doing.
func (p *passage) verify(ctx context.Context, open time.Time, elsewhere bool) (Outcome, error) {
	began := time.Now()
	p.job.enter(PhaseVerify)
	watched := sync.OnceFunc(func() { p.job.progress.observer.Took(StepVerify, time.Since(began)) })
	defer watched()
	traits := p.cfg.Driver.Traits()
	settle, certain := traits.Settle(p.job.AckWait())
	if p.endless && traits.Compare != restart.CompareAtEffect {
		certain = false
	}
	var readySince time.Time
	for {
		state, err := p.probeInSlot(ctx)
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		now := time.Now()
		switch {
		case err != nil: // unknown: neither changed nor gone
			readySince = time.Time{}
		case state.Epoch == p.last.From:
			p.sound = now
			if certain && now.Sub(open) >= settle {
				watched()
				return p.repeat(ctx, state)
			}
		case !state.Ready:
			p.to, readySince = state.Epoch, time.Time{}
		default:
			if state.Epoch != p.to || readySince.IsZero() {
				p.to, readySince = state.Epoch, now
			}
			if now.Sub(readySince) >= p.cfg.StableFor {
				return p.verified(elsewhere, readySince), nil
			}
		}
		if now.Sub(began) >= p.cfg.VerifyTimeout {
			return p.endWith(ctx, p.unverified(err), false)
		}
		// Pausing in proportion to the wait bounds both the number of probes and how late the end is seen.
		pause(ctx, min(max(now.Sub(began)/8, minProbePause), p.cfg.ProbeInterval))
	}
}

func (p *passage) verified(elsewhere bool, readySince time.Time) Outcome {
	p.verifiedAt = time.Now().UTC()
	p.check("epoch", fmt.Sprintf("%s, was %s", p.to, p.last.From))
	p.check("ready", "yes")
	if p.cfg.StableFor > 0 {
		p.check("stable_for", p.verifiedAt.Sub(readySince).Round(time.Millisecond).String())
	}
	if !elsewhere && !p.sound.IsZero() {
		p.down = readySince.Sub(p.sound)
	}
	p.job.Log.Debug().Str("from", string(p.last.From)).Str("to", string(p.to)).Msg("restarted")
	if elsewhere {
		return p.outcome(restart.Restarted, restart.ReasonChangedElsewhere, "another boot is running, which is not ours")
	}
	return p.outcome(restart.Restarted, restart.ReasonVerified, "another boot is running, and ready")
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
	slot, err := p.cfg.Driver.Acquire(ctx)
	if err != nil {
		return restart.State{}, err
	}
	defer slot.Release()
	return slot.Probe(ctx, p.job.Request.Host)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
