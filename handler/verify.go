package handler

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

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
	settle, certain := p.cfg.Driver.Traits().Settle(p.job.AckWait())
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
			if certain && now.Sub(open) >= settle {
				return p.repeat(ctx)
			}
		case !state.Ready:
			p.to, readySince = state.Epoch, time.Time{}
		default:
			if state.Epoch != p.to || readySince.IsZero() {
				p.to, readySince = state.Epoch, now
			}
			if now.Sub(readySince) >= p.cfg.StableFor {
				return p.verified(elsewhere), nil
			}
		}
		if now.Sub(began) >= p.cfg.VerifyTimeout {
			return p.endWith(ctx, p.unverified(err), false)
		}
		// Pausing in proportion to the wait bounds both the number of probes and how late the end is seen.
		pause(ctx, min(max(now.Sub(began)/8, minProbePause), p.cfg.ProbeInterval))
	}
}

func (p *passage) verified(elsewhere bool) Outcome {
	p.verifiedAt = time.Now().UTC()
	p.job.Log.Debug().Str("from", string(p.last.From)).Str("to", string(p.to)).Msg("restarted")
	if elsewhere {
		return p.outcome(restart.Restarted, restart.ReasonChangedElsewhere, "another boot is running, which is not ours")
	}
	return p.outcome(restart.Restarted, restart.ReasonVerified, "another boot is running, and ready")
}

// unverified says why VerifyTimeout ends the request. Neither is a reason to restart again.
func (p *passage) unverified(probeErr error) policy.Refusal {
	if p.to != "" {
		return policy.Refusal{
			Kind: restart.Dead, Reason: restart.ReasonNotReady,
			Detail: fmt.Sprintf("restarted, and not ready within %s", p.cfg.VerifyTimeout),
		}
	}
	detail := fmt.Sprintf("triggered, and no other boot seen within %s", p.cfg.VerifyTimeout)
	if probeErr != nil {
		detail += ": " + probeErr.Error()
	}
	return policy.Refusal{Kind: restart.Dead, Reason: restart.ReasonUnconfirmed, Detail: detail}
}

func (p *passage) probeInSlot(ctx context.Context) (restart.State, error) {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return restart.State{}, err
	}
	defer p.slots.Release(1)
	return p.probe(ctx)
}

func (p *passage) probe(ctx context.Context) (restart.State, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ProbeTimeout)
	defer cancel()
	return contain(func() (restart.State, error) { return p.cfg.Driver.Probe(ctx, p.job.Request.Host) })
}

// callRestart calls the driver. A panic says nothing of what it has done.
func (p *passage) callRestart(ctx context.Context, t restart.Trigger) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.RestartTimeout)
	defer cancel()
	_, err := contain(func() (struct{}, error) {
		return struct{}{}, p.cfg.Driver.Restart(ctx, t)
	})
	return err
}

// A slot is the right to one call of the driver. It can be let go more than once.
type slot struct {
	of *semaphore.Weighted
}

func (s *slot) release() {
	if s.of != nil {
		s.of.Release(1)
		s.of = nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
