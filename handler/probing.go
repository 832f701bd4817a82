package handler

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How often are hosts probed that are waited for? The end of a restart is to be seen soon after it came, where a few
// hosts boot for minutes and where thousands take a second each; and the probes of a hundred thousand that are waited
// for at once must not keep their leases from being extended.
const (
	// minProbePause is the shortest pause between two probes of one host.
	minProbePause = 10 * time.Millisecond

	// probeShare is the part of the processor's time, as the time between two probes, that hosts get from which nothing
	// is expected soon; probeGap is the time between two probes of any host, on average over probeBurst, and all that hosts
	// get before the first is back.
	probeShare = 200 * time.Microsecond
	probeGap   = 50 * time.Microsecond
	probeBurst = 100 * time.Millisecond

	// scouts is about how many of the hosts that are waited for are looked at a little before they usually are back, so that
	// it is noticed when they have become faster.
	scouts = 100
)

// A bootTime is how long the hosts of a group usually take: a moving mean, and the mean deviation from it, as TCP
// estimates the time of a round trip (RFC 6298, section 2). The zero bootTime is not known.
type bootTime struct{ mean, spread time.Duration }

// after returns the estimate after another host, which came back at some time between two looks at it. What says no
// more than what is thought already does not change it: else hosts that were seen late would have others seen late.
func (b bootTime) after(from, to time.Duration) bootTime {
	if b == (bootTime{}) {
		return bootTime{to, to / 2}
	}
	took := min(max(b.mean, from), to)
	return bootTime{b.mean + (took-b.mean)/8, b.spread + ((took-b.mean).Abs()-b.spread)/4}
}

// probePause returns the time until the next probe of a host that was triggered so long ago, where so many are waited
// for. Pausing in proportion to the wait bounds both the number of probes and how late the end is seen; that is all, if
// nothing is known of the hosts, or this one is unlike the others. Around the time when hosts usually come back, the
// pause is short; and a probe is due when that time begins, or just before if the host is a scout.
func probePause(elapsed, longest time.Duration, usual bootTime, waiting int, scout bool) time.Duration {
	pause := min(max(elapsed/8, minProbePause), longest)
	if usual == (bootTime{}) {
		return max(pause, time.Duration(waiting)*probeGap)
	}
	pause = max(pause, time.Duration(waiting)*probeShare)
	fine := max(usual.mean/64, minProbePause)
	from, to := usual.mean-2*usual.spread, usual.mean+4*usual.spread+fine
	if scout {
		from -= fine
	}
	switch {
	case elapsed >= to:
		return pause
	case elapsed >= from:
		return min(pause, fine)
	default:
		return min(pause, max(from-elapsed, minProbePause))
	}
}

// A prober knows what the probes of a group's hosts have in common.
type prober struct {
	waiting atomic.Int64 // hosts

	mu    sync.Mutex // guards what follows
	usual bootTime
	free  time.Time // when another probe may be made
}

func (p *prober) estimate() bootTime {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.usual
}

// watch counts a host among those that are waited for, and reports whether it is a scout.
func (p *prober) watch() (scout bool) { return rand.Int64N(p.waiting.Add(1)) < scouts }

// pause is probePause for one of the hosts that are waited for now.
func (p *prober) pause(elapsed, longest time.Duration, scout bool) time.Duration {
	return probePause(elapsed, longest, p.estimate(), int(p.waiting.Load()), scout)
}

// slow reports whether hosts are known not to be back at once.
func (p *prober) slow() bool { return p.estimate().mean > minProbePause }

// learn is told that a host came back between two looks, so long after its trigger.
func (p *prober) learn(from, to time.Duration) {
	if !p.mu.TryLock() {
		return // many do, and one less does not matter
	}
	defer p.mu.Unlock()
	p.usual = p.usual.after(from, to)
}

// turn makes room for a probe, and returns how long that has to wait: all take their turns where too many are due.
func (p *prober) turn(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-probeBurst); p.free.Before(earliest) {
		p.free = earliest
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(probeGap)
	return max(wait, 0)
}
