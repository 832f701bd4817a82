package monitor

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// never is later than any run lasts.
const never = time.Duration(1<<63 - 1)

var errRunning = errors.New("cannot run monitors: they run already")

// A Runner runs monitors.
type Runner struct {
	cfg     Config
	log     zerolog.Logger
	running atomic.Bool
	strays  atomic.Int64
}

// New returns a runner that has started nothing yet. An error names the field that is wrong.
func New(cfg Config) (*Runner, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Monitors = slices.Clone(cfg.Monitors)
	return &Runner{cfg: cfg, log: cfg.Logger.With().Str("component", "monitor").Logger()}, nil
}

// Strays returns how many checks were given up and still run.
func (r *Runner) Strays() int { return int(r.strays.Load()) }

// Run runs the monitors until ctx ends, or what the configuration says ends it. Then all checks are cancelled and
// joined, as far as they let themselves be, and it returns. It is an error to call it while it runs, or while strays of
// the run before do.
func (r *Runner) Run(ctx context.Context) (Ending, error) {
	if !r.running.CompareAndSwap(false, true) {
		return Ending{}, errRunning
	}
	defer r.running.Store(false)
	if n := r.strays.Load(); n > 0 {
		return Ending{}, fmt.Errorf("cannot run monitors: %d checks of the run before still run", n)
	}
	if len(r.cfg.Monitors) == 0 {
		r.log.Warn().Msg("nothing to do: no monitors are configured (monitors: is missing or empty)")
		return Ending{Reason: ReasonNoMonitors}, nil
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx)) // that all ends take the same way
	defer cancel()
	run := &run{
		Runner: r, work: work, cancel: cancel,
		ended: make(chan *call, len(r.cfg.Monitors)),
	}
	run.begin()
	return run.end(run.loop(ctx)), nil
}

// A run belongs to the goroutine that called Run. Times are offsets from its start.
type run struct {
	*Runner
	started  time.Time       // after all monitors were told of
	work     context.Context // of the checks
	cancel   context.CancelFunc
	monitors []monitor // as they are configured
	queue    queue
	ended    chan *call
	calls    int // that have not ended and were not given up
	failed   int // monitors
}

func (r *run) now() time.Duration { return time.Since(r.started) }

func (r *run) begin() {
	r.monitors = make([]monitor, len(r.cfg.Monitors))
	r.queue = make(queue, len(r.monitors))
	for i, spec := range r.cfg.Monitors {
		m := &r.monitors[i]
		*m = monitor{Spec: spec, beat: -1, told: -1, at: spec.InitialDelay, index: i}
		r.queue[i] = m
		r.log.Info().Str("monitor", m.Name).Stringer("every", m.Every).Stringer("timeout", m.timeout()).
			Stringer("initial_delay", m.InitialDelay).Msg("monitor started")
	}
	heap.Init(&r.queue)
	r.started = time.Now()
}

// loop returns when the run is to end, and why.
func (r *run) loop(ctx context.Context) Reason {
	end := never
	if r.cfg.For > 0 {
		end = r.cfg.For
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := r.now()
		switch reason := r.failure(); {
		case reason != "":
			return reason
		case ctx.Err() != nil:
			return ReasonStopped
		case now >= end:
			return ReasonDeadline
		}
		r.look(now)
		timer.Reset(min(r.queue[0].at, end) - r.now())
		select {
		case <-ctx.Done():
		case <-timer.C:
		case c := <-r.ended:
			r.take(c)
		}
	}
}

// failure returns the reason to end that lies in the monitors' states, if there is one.
func (r *run) failure() Reason {
	switch {
	case r.cfg.StopOn == FirstFailure && r.failed > 0:
		return ReasonFailure
	case r.cfg.StopOn == AllFailed && r.failed == len(r.monitors):
		return ReasonAllFailed
	}
	return ""
}

// look does what is due by now.
func (r *run) look(now time.Duration) {
	for r.queue[0].at <= now && r.failure() == "" {
		m := r.queue[0]
		switch {
		case m.stray:
			m.beat = m.last(now)
			r.observe(m, Observation{Seq: m.beat, Offset: now, At: r.started.Add(now), Result: Result{
				Verdict: Bad, Seen: "cannot check: the check before ignores its timeout and still runs",
			}})
			r.queue.put(m, m.due(m.beat+1))
		case m.call != nil:
			r.giveUp(m, now)
		default:
			m.beat = m.last(now)
			r.launch(m, now)
			r.queue.put(m, now+m.timeout()+overrun)
		}
	}
}

// giveUp leaves a check to itself that has ignored the end of its time, unless it has ended just now.
func (r *run) giveUp(m *monitor, now time.Duration) {
	if !r.abandon(m) {
		r.queue.put(m, never) // until the call is taken, at once
		return
	}
	r.observe(m, Observation{Seq: m.beat, Offset: m.call.begun, At: r.started.Add(now), Result: Result{
		Verdict: Bad, Took: now - m.call.begun,
		Seen: fmt.Sprintf("the check ignores its timeout of %s and still runs", m.timeout()),
	}})
	r.queue.put(m, m.due(m.last(now)+1))
}

func (r *run) abandon(m *monitor) bool {
	// It is counted first, because it counts itself off as soon as it knows.
	strays := r.strays.Add(1)
	if !m.call.giveUp() {
		r.strays.Add(-1)
		return false
	}
	m.stray = true
	r.calls--
	r.log.Error().Str("monitor", m.Name).Int64("strays", strays).Msg("check ignores its context")
	return true
}

// take takes a call that has ended.
func (r *run) take(c *call) {
	m := c.m
	m.call = nil
	if m.stray {
		m.stray = false // and its next beat runs as if nothing had been
		return
	}
	r.calls--
	r.observe(m, c.observation(r.started, m.beat))
	// Beats that came due while it ran are missed; one that comes due as it ends is not.
	next := m.beat + 1
	if m.due(next) < c.ended {
		next = m.last(c.ended-1) + 1
	}
	r.queue.put(m, m.due(next))
}
