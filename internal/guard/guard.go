// Package guard pauses groups while what they serve is ill: beside a worker that runs health checks, it turns what they
// see into pauses in the control bucket, which hold the whole fleet.
//
// It fails closed. A monitor that has not come to a verdict yet holds its groups back on this worker. So does one that
// has failed, from the moment that the guard is told until the bucket holds them: a server that is away makes the pause
// late for others, never for this worker. A stop does not make it forget what it has not stored, as being killed does.
// An entry that is there already is kept, so that it says who saw it first.
//
// People have the last word. What is stored is held by the bucket alone: where somebody resumes the group, it goes on
// although the check still fails, until the monitor has been good and fails again.
//
// A group is resumed by itself only where ResumeAfter says so, and only while no worker says otherwise. A worker whose
// monitor is failed writes the entry again at each result, so that its revision is another one, unless another worker
// has done so since its result before. A good result counts if it comes after the revision was seen; after so many in a
// row the entry is taken away, if it still has that revision. No clocks are compared, any worker may do it, and one
// that has died is not waited for.
//
// What remains possible. A worker that cannot reach the bucket while another lifts the entry cannot say that its check
// still fails; it takes the missing entry for resumed by a person. Where all see the check fail, two intervals may pass
// between two writings, and a check that takes long makes them longer: with a ResumeAfter of one or two a worker may
// lift an entry in between. And where the answer of the server is lost, a pause that was stored, and resumed at once,
// is put a second time.
package guard

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// DefaultGrace is what a Grace of zero means.
const DefaultGrace = 5 * time.Second

// Config says which monitors guard which groups.
type Config struct {
	Monitors []Monitor
	KV       jetstream.KeyValue // the control bucket
	Watcher  Watcher            // of it
	// Derive makes a group's consumer what the bucket says. It is called after each pause and each resumption.
	Derive func(ctx context.Context, group restart.Group) error
	Worker string // who pauses
	// Grace bounds the time in which Run, when it is to end, tries to store what it has not. Zero means DefaultGrace.
	Grace  time.Duration
	Logger zerolog.Logger
}

// A Monitor is a monitor as the guard sees it.
type Monitor struct {
	Name   string          // which stands in a key of the bucket: letters, digits, '-' and '_'
	Groups []restart.Group // which it guards; none is allowed
	// ResumeAfter is how many good results in a row resume its groups again, counted from when it is good, and from
	// when a worker has last said that it is failed. Zero: only a person resumes them.
	ResumeAfter int
}

// A Watcher knows what the bucket says.
type Watcher interface {
	// Refresh looks at the bucket. When it returns nil, State is not older than the call.
	Refresh(ctx context.Context) error
	State(group restart.Group) (state control.State, confirmed time.Time)
}

var _ Watcher = (*control.Watcher)(nil)

// A Guard pauses groups. Its methods may be called from many goroutines at once.
type Guard struct {
	cfg     Config
	wake    chan struct{} // holds one token if there may be something to do
	running atomic.Bool
	holds   atomic.Pointer[map[restart.Group][]policy.Hold] // as of the last change

	mu       sync.Mutex
	monitors []*guarding
	posts    []*post

	// What follows belongs to Run.
	behind map[restart.Group]bool // groups whose consumers are to be derived
	silent bool                   // it was told that something cannot be done
}

// New returns a guard that has paused nothing yet.
func New(cfg Config) (*Guard, error) {
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Logger = cfg.Logger.With().Str("component", "guard").Logger()
	g := &Guard{cfg: cfg, wake: make(chan struct{}, 1), behind: map[restart.Group]bool{}}
	for _, spec := range cfg.Monitors {
		m := &guarding{Monitor: spec}
		g.monitors = append(g.monitors, m)
		for _, group := range spec.Groups {
			g.posts = append(g.posts, &post{monitor: m, group: group})
		}
	}
	g.judge()
	return g, nil
}

var monitorName = regexp.MustCompile(`^[-_A-Za-z0-9]+$`)

func (c Config) validate() error {
	switch {
	case c.KV == nil:
		return errors.New("guard: KV is missing")
	case c.Watcher == nil:
		return errors.New("guard: Watcher is missing")
	case c.Derive == nil:
		return errors.New("guard: Derive is missing")
	case c.Grace < 0:
		return fmt.Errorf("guard: Grace: %s is negative", c.Grace)
	}
	names := map[string]bool{}
	for i, m := range c.Monitors {
		at := fmt.Sprintf("monitors[%d].", i)
		switch {
		case !monitorName.MatchString(m.Name):
			return fmt.Errorf("%sname: %q is not made of letters, digits, '-' and '_'", at, m.Name)
		case names[m.Name]:
			return fmt.Errorf("%sname: %q is another monitor's already", at, m.Name)
		case m.ResumeAfter < 0:
			return fmt.Errorf("%sresume_after: %d is negative", at, m.ResumeAfter)
		}
		names[m.Name] = true
		groups := map[restart.Group]bool{}
		for _, group := range m.Groups {
			if _, err := restart.ParseGroup(string(group)); err != nil {
				return fmt.Errorf("%sgroups: %w", at, err)
			}
			if groups[group] {
				return fmt.Errorf("%sgroups: %q is there twice", at, group)
			}
			groups[group] = true
		}
	}
	return nil
}

// Observe takes a result of a monitor, as a monitor.Runner tells it, and returns at once. A result of a monitor that
// the guard was not given changes nothing.
func (g *Guard) Observe(o monitor.Observation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.monitors {
		if m.Name == o.Name {
			m.observe(o)
			for _, p := range g.posts {
				if p.monitor == m && m.recovered(m.row) {
					p.stored = m.failures // it is too late to pause anybody
				}
			}
			g.judge()
		}
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// judge brings what Holds returns up to date. The caller holds the lock.
func (g *Guard) judge() {
	holds := map[restart.Group][]policy.Hold{}
	for _, p := range g.posts {
		hold := policy.Hold{Reason: string(control.ByMonitor(p.monitor.Name)), By: g.cfg.Worker}
		switch {
		case p.wanted():
			hold.Why = p.monitor.seen
		case p.monitor.state == monitor.StateUnknown:
			hold.Why = "it has come to no verdict on this worker yet"
		default:
			continue
		}
		holds[p.group] = append(holds[p.group], hold)
	}
	g.holds.Store(&holds)
}

// Holds returns what holds the group back on this worker and is not in the bucket, or not yet. Whoever asks must ask
// this first, and then what the bucket says: a hold ends here when the watcher knows of the entry.
//
// The caller must not change what it gets.
func (g *Guard) Holds(group restart.Group) []policy.Hold { return (*g.holds.Load())[group] }

// GoodSince returns since when the results of all monitors of the group have been good without a break, on this worker,
// and false if those of one are not. Where no monitor guards the group, they have been so always: since the zero time.
func (g *Guard) GoodSince(group restart.Group) (since time.Time, good bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.posts {
		switch m := p.monitor; {
		case p.group != group:
		case m.row == 0:
			return time.Time{}, false
		case m.good.After(since):
			since = m.good
		}
	}
	return since, true
}

// Failing returns the names of the monitors that are failed now, in the order of the configuration.
func (g *Guard) Failing() (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.monitors {
		if m.state == monitor.StateFailed {
			names = append(names, m.Name)
		}
	}
	return names
}
