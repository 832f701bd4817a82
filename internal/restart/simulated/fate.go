package simulated

import (
	"math/rand/v2"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// An Answer is what the caller of Restart hears.
type Answer int

const (
	Taken     Answer = iota // nil, or ErrChanged where the epoch is another one
	Refused                 // ErrRefused, and nothing is done
	Permanent               // ErrPermanent, and nothing is done
	Lost                    // an error that wraps no class, whatever was done
	Hangs                   // nothing until the context ends, then as Lost
)

// A Fate is what becomes of one call of Restart. The zero value is the good one: taken, at once, and answered.
type Fate struct {
	Answer  Answer
	Ignored bool          // nothing is done, whatever is answered
	Late    time.Duration // from the call to the effect; nothing is done if the call allows less
}

func (f Fate) takesEffect(within time.Duration) bool {
	return !f.Ignored && f.Answer != Refused && f.Answer != Permanent && f.Late <= within
}

// hear returns what the caller is answered, if anything.
func (f Fate) hear(changed bool) (answered bool, err error) {
	switch f.Answer {
	case Refused:
		return true, restart.ErrRefused
	case Permanent:
		return true, restart.ErrPermanent
	case Lost:
		return true, errLost
	case Hangs:
		return false, nil
	}
	if changed {
		return true, restart.ErrChanged
	}
	return true, nil
}

// A ProbeFault is what keeps a probe from being answered.
type ProbeFault int

const (
	ProbeFails ProbeFault = iota + 1 // an error
	ProbeHangs                       // nothing until the context ends, then an error
)

// A Lapse is when a host that has come up is not ready. The zero value is never.
type Lapse struct {
	After time.Duration // from its coming up
	For   time.Duration
}

// covers reports whether the host is not ready, that long after it came up.
func (l Lapse) covers(up time.Duration) bool { return up >= l.After && up-l.After < l.For }

// forced is what was decided for hosts instead of being drawn: each for the next thing of its kind.
type forced[T any] map[*host][]T

// next takes the first of what was decided for a host; ok is false if there is none.
func (q forced[T]) next(h *host) (first T, ok bool) {
	queue := q[h]
	if len(queue) == 0 {
		return first, false
	}
	q[h] = queue[1:]
	return queue[0], true
}

// What is drawn for: each has numbers of its own, so that, say, more probes do not change how restarts go.
const (
	drawHost = iota
	drawCall
	drawBoot
	drawProbe
)

// draw returns the source for the n-th thing of its kind that happens to a host. It is made anew each time instead of
// being kept, because hosts are many and draws are few.
func (f *Fleet) draw(h *host, kind, n int) *rand.Rand {
	return rand.New(rand.NewPCG(f.cfg.Seed^h.hash, uint64(kind)<<56|uint64(n)))
}

// drawFate returns the fate of the host's n-th restart call. Everything is drawn whether it is used or not, so that one
// rate can be changed without changing what the others bring.
func (f *Fleet) drawFate(h *host, n int) Fate {
	r := f.draw(h, drawCall, n)
	hit := func(rate float64) bool { return r.Float64() < rate }
	refused, hangs, ignored := hit(f.cfg.FailureRate), hit(f.cfg.HangRate), hit(0.5)
	lost, late, delay := hit(f.cfg.LostRate), hit(f.cfg.LateRate), r.Float64()

	var fate Fate
	switch {
	case refused:
		fate.Answer = Refused
	case hangs:
		fate.Answer, fate.Ignored = Hangs, ignored
	case lost:
		fate.Answer = Lost
	}
	if late {
		fate.Late = time.Duration(delay * float64(f.cfg.LateMax))
	}
	return fate
}

// drawDown returns how long a host is down, or not ready, once.
func (f *Fleet) drawDown(r *rand.Rand, h *host) time.Duration {
	down := float64(f.cfg.RestartMin) + r.Float64()*float64(f.cfg.RestartMax-f.cfg.RestartMin)
	if h.slow {
		down *= f.cfg.SlowFactor
	}
	return time.Duration(down)
}
