package simulated

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var (
	errDown  = errors.New("it is down")
	errLost  = errors.New("the answer was lost")
	errHangs = errors.New("there is no answer")
)

// A Fleet is all hosts that were ever named.
type Fleet struct {
	cfg  Config
	born time.Time

	mu           sync.Mutex // guards what follows, and the hosts themselves
	hosts        map[restart.Host]*host
	forcedCalls  forced[Fate]
	forcedBoots  forced[Lapse]
	forcedProbes forced[ProbeFault]
}

var _ restart.Driver = (*Fleet)(nil)

// New returns a fleet, in which no host has been named yet. An error names the field that is wrong.
func New(cfg Config) (*Fleet, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Fleet{
		cfg:          cfg,
		born:         time.Now(),
		hosts:        make(map[restart.Host]*host),
		forcedCalls:  make(forced[Fate]),
		forcedBoots:  make(forced[Lapse]),
		forcedProbes: make(forced[ProbeFault]),
	}, nil
}

// never is later than anything that happens.
const never = time.Duration(math.MaxInt64)

// A host is one simulated host. Its times count from the birth of the fleet, so that they are monotonic and small. There
// may be a million of them beside whatever is measured in this process: it holds no pointers, so that the garbage
// collector need not look at it.
type host struct {
	hash   uint64 // of its name
	slow   bool
	boots  int           // since the fleet was made
	since  time.Duration // when the running boot began
	up     time.Duration // from when it answers
	lapse  Lapse         // when it answers and does not do its work
	probes int
	counts Counts

	// due is when the running boot ends, or never. One time stands for all requests that wait to take effect: all of them
	// name the running boot, so the earliest ends it, and at that moment the compare of every other one fails.
	due time.Duration
}

// Counts are restart calls as one host saw them.
type Counts struct {
	Calls   int // all of them
	Changed int // named a boot that was not the running one
	Refused int // were refused, for now or for good
}

// Traits promises a compare at the moment of effect. MaxDelay is left open because it is for drivers that cannot keep
// to the time that a call allows; here no request takes effect later than that.
func (f *Fleet) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtEffect}
}

// Probe implements [restart.Driver]. A host that is down cannot be probed.
func (f *Fleet) Probe(ctx context.Context, name restart.Host) (restart.State, error) {
	err := check(ctx, name)
	if err == nil {
		var state restart.State
		if state, err = f.observe(name); err == nil {
			return state, nil
		}
		if errors.Is(err, errHangs) {
			<-ctx.Done()
			err = context.Cause(ctx)
		}
	}
	return restart.State{}, fmt.Errorf("cannot probe host %q: %w", name, err)
}

// observe is the part of Probe that happens at the host.
func (f *Fleet) observe(name restart.Host) (restart.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, now := f.look(name)
	h.probes++
	switch fault := f.nextProbeFault(h); {
	case fault == ProbeHangs:
		return restart.State{}, errHangs
	case fault == ProbeFails:
		return restart.State{}, errLost
	case now < h.up:
		return restart.State{}, errDown
	}
	return restart.State{Epoch: h.epoch(), Since: f.born.Add(h.since), Ready: !h.lapse.covers(now - h.up)}, nil
}

// Restart implements [restart.Driver]. A call that allows no time is refused.
func (f *Fleet) Restart(ctx context.Context, t restart.Trigger) error {
	err := check(ctx, t.Host)
	if err == nil {
		var answered bool
		if answered, err = f.Deliver(t.Host, t.From, t.Within); !answered {
			<-ctx.Done()
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

// check returns why a call cannot be made at all.
func check(ctx context.Context, name restart.Host) error {
	if err := name.Check(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Deliver is the part of Restart that happens at the host, once a call has arrived there: nothing that becomes of the
// caller can stop it any more. It never blocks; without an answer the caller may wait for one as long as it likes.
func (f *Fleet) Deliver(name restart.Host, from restart.Epoch, within time.Duration) (answered bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, now := f.look(name)
	h.counts.Calls++
	fate := f.nextFate(h)
	if within <= 0 {
		fate = Fate{Answer: Refused}
	}
	changed := from != h.epoch()
	if !changed && fate.takesEffect(within) {
		h.due = min(h.due, now+fate.Late)
		f.catchUp(h, now)
	}
	switch fate.Answer {
	case Refused, Permanent:
		h.counts.Refused++
	default:
		if changed {
			h.counts.Changed++
		}
	}
	return fate.hear(changed)
}

// Reboot ends the running boot of a host by somebody else's hand.
func (f *Fleet) Reboot(name restart.Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, now := f.look(name)
	f.boot(h, now)
}

// Force decides what becomes of the next restart calls of a host, one call each. Calls after that are drawn again.
func (f *Fleet) Force(name restart.Host, fates ...Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, _ := f.look(name)
	f.forcedCalls[h] = append(f.forcedCalls[h], fates...)
}

// ForceProbes decides what becomes of the next probes of a host, one probe each.
func (f *Fleet) ForceProbes(name restart.Host, faults ...ProbeFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, _ := f.look(name)
	f.forcedProbes[h] = append(f.forcedProbes[h], faults...)
}

// ForceBoots decides when a host is not ready after its next boots, by whatever hand, one boot each.
func (f *Fleet) ForceBoots(name restart.Host, lapses ...Lapse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, _ := f.look(name)
	f.forcedBoots[h] = append(f.forcedBoots[h], lapses...)
}

// Boots returns how often all hosts have booted since the fleet was made, by whatever hand. It looks at every host.
func (f *Fleet) Boots() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Since(f.born)
	sum := 0
	for _, h := range f.hosts {
		f.catchUp(h, now)
		sum += h.boots
	}
	return sum
}

// BootsOf returns how often a host has booted since the fleet was made, by whatever hand.
func (f *Fleet) BootsOf(name restart.Host) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, _ := f.look(name)
	return h.boots
}

// CountsOf returns the restart calls of a host.
func (f *Fleet) CountsOf(name restart.Host) Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, _ := f.look(name)
	return h.counts
}

// look returns the host as it is now. The clock is read under the fleet's lock, because a host's time must not go
// backwards from one caller to the next.
func (f *Fleet) look(name restart.Host) (*host, time.Duration) {
	h, ok := f.hosts[name]
	if !ok {
		h = f.newHost(name)
		f.hosts[restart.Host(strings.Clone(string(name)))] = h // and not what the name is a part of
	}
	now := time.Since(f.born)
	f.catchUp(h, now)
	return h, now
}

func (f *Fleet) newHost(name restart.Host) *host {
	sum := fnv.New64a()
	sum.Write([]byte(name))
	h := &host{hash: sum.Sum64(), since: -f.cfg.Uptime, due: never}
	h.slow = f.draw(h, drawHost, 0).Float64() < f.cfg.SlowRate
	return h
}

// catchUp lets happen what was due by now.
func (f *Fleet) catchUp(h *host, now time.Duration) {
	if h.due <= now {
		f.boot(h, h.due)
	}
}

// boot ends the running boot and begins another. Nothing that waited to take effect names the new one.
func (f *Fleet) boot(h *host, at time.Duration) {
	h.boots++
	r := f.draw(h, drawBoot, h.boots)
	down, flaps, unready := f.drawDown(r, h), r.Float64() < f.cfg.FlapRate, f.drawDown(r, h)
	h.since, h.up, h.due = at, at+down, never
	lapse, decided := f.forcedBoots.next(h)
	if !decided && flaps {
		lapse = Lapse{For: unready}
	}
	h.lapse = lapse
}

func (f *Fleet) nextFate(h *host) Fate {
	if fate, decided := f.forcedCalls.next(h); decided {
		return fate
	}
	return f.drawFate(h, h.counts.Calls)
}

// nextProbeFault returns what keeps the host's next probe from being answered, or zero.
func (f *Fleet) nextProbeFault(h *host) ProbeFault {
	if fault, decided := f.forcedProbes.next(h); decided {
		return fault
	}
	// A host is probed a few times each restart, so nothing is drawn for nothing.
	if f.cfg.ProbeFailureRate > 0 && f.draw(h, drawProbe, h.probes).Float64() < f.cfg.ProbeFailureRate {
		return ProbeFails
	}
	return 0
}

func (h *host) epoch() restart.Epoch { return restart.Epoch(strconv.Itoa(h.boots + 1)) }
