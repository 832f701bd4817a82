package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// GroupConfig says how one worker steers one group, together with all others that serve it.
type GroupConfig struct {
	Watcher *Watcher
	JS      jetstream.JetStream
	KV      jetstream.KeyValue
	Group   restart.Group
	Rules   policy.Rules // its windows
	// StopAfter is how many hosts in a row may not come back until the group is paused. It must be positive.
	StopAfter int
	Worker    string
	Now       func() time.Time // nil means time.Now
	Logger    zerolog.Logger
}

// A Group is one group as a worker steers it. Its methods are called from many goroutines at once.
type Group struct {
	cfg GroupConfig
	// windowSeen is whether Run has taken away what an earlier configuration said of the window.
	windowSeen bool

	mu      sync.Mutex
	entered map[uint64]int // triggers that are being given, by the revision of what they were told
}

// NewGroup returns a group.
func NewGroup(cfg GroupConfig) (*Group, error) {
	switch {
	case cfg.Watcher == nil:
		return nil, errors.New("control: Watcher is missing")
	case cfg.JS == nil, cfg.KV == nil:
		return nil, errors.New("control: JS or KV is missing")
	case cfg.StopAfter <= 0:
		return nil, errors.New("control: StopAfter is not positive")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cfg.Logger.With().Str("group", string(cfg.Group)).Logger()
	return &Group{cfg: cfg, entered: map[uint64]int{}}, nil
}

// Holds returns what holds the group back now, or only the requests of a campaign, and for how long from now on nothing
// else can be true, for a lease of ackWait. An error means that nobody can tell.
func (g *Group) Holds(campaign string, ackWait time.Duration) (holds []policy.Hold, left time.Duration, err error) {
	state, confirmed := g.cfg.Watcher.State(g.cfg.Group)
	return g.holds(state, campaign, confirmed, ackWait)
}

// Enter is Holds for a trigger that follows at once. Until leave is called, the group does not confirm that it knows
// anything newer than the trigger was told.
func (g *Group) Enter(campaign string, ackWait time.Duration) (holds []policy.Hold, left time.Duration, leave func(), err error) {
	g.mu.Lock() // for no longer than it takes: all triggers pass here
	state, confirmed, revision := g.cfg.Watcher.revisionOf(g.cfg.Group)
	g.entered[revision]++
	g.mu.Unlock()
	holds, left, err = g.holds(state, campaign, confirmed, ackWait)
	return holds, left, func() { g.leave(revision) }, err
}

func (g *Group) leave(revision uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.entered[revision]--; g.entered[revision] == 0 {
		delete(g.entered, revision)
	}
}

// Confirmed returns the bucket's revision that the group has heard of, and whose pauses and aborts nothing that it triggers passes
// by any more: what it triggered before has been given to the driver, and answered or given up.
func (g *Group) Confirmed() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _, confirmed := g.cfg.Watcher.revisionOf(g.cfg.Group)
	for revision := range g.entered {
		confirmed = min(confirmed, revision)
	}
	return confirmed
}

func (g *Group) holds(state State, campaign string, confirmed time.Time, ackWait time.Duration) (holds []policy.Hold, left time.Duration, err error) {
	now := g.cfg.Now()
	// The monotonic clock stands still while a machine sleeps, the wall clock may be set.
	age := max(now.Sub(confirmed), now.Round(0).Sub(confirmed.Round(0)))
	left = ackWait - ackWait/10 - age
	if confirmed.IsZero() || left <= 0 {
		return nil, 0, fmt.Errorf("cannot tell what holds group %q back: bucket %q has not answered for %s", g.cfg.Group, stream.Control, ackWait-ackWait/10)
	}
	return HoldsOf(state, campaign, now), left, nil
}

// HoldsOf returns what holds a group in the state back at the time, and the requests of a campaign, if it is not empty,
// as the gates want to hear it.
func HoldsOf(s State, campaign string, now time.Time) []policy.Hold {
	var holds []policy.Hold
	if hold, ok := s.Aborted[campaign]; ok {
		holds = append(holds, hold)
	}
	for _, p := range s.InForce(now) {
		holds = append(holds, policy.Hold{Reason: string(p.Cause), Why: p.Why, By: p.By, Until: p.Until})
	}
	return holds
}

// Fell counts a host that was restarted and did not come back, as the outcome says. When it returns nil, that is stored
// and, if it is one too many, the group is paused and its consumer hands nothing out any more. Told of the same request
// again, it changes nothing.
func (g *Group) Fell(ctx context.Context, o restart.Outcome) error {
	row, err := extend(ctx, g.cfg.KV, g.cfg.Group, Fallen{ID: o.ID, Host: o.Host, Reason: o.Reason, At: o.At}, g.cfg.StopAfter)
	if err != nil || len(row) < g.cfg.StopAfter {
		return err
	}
	if err := g.cfg.Watcher.Refresh(ctx); err != nil {
		return err
	}
	state, _ := g.cfg.Watcher.State(g.cfg.Group)
	for _, p := range state.Pauses {
		if p.Group == g.cfg.Group && p.Cause == ByBreaker {
			return g.derive(ctx) // it has held since an earlier one
		}
	}
	p := Pause{
		Group: g.cfg.Group, Cause: ByBreaker, Since: g.cfg.Now().UTC(), By: g.cfg.Worker,
		Why: fmt.Sprintf("%d hosts in a row did not come back: %s", len(row), row),
	}
	if _, err := Put(ctx, g.cfg.KV, p); err != nil {
		return err
	}
	g.cfg.Logger.Error().Str("why", p.Why).Msg("group paused: look at these hosts, then resume it")
	return g.derive(ctx)
}

// Rose ends the row of hosts that did not come back, if there is one, because another did.
func (g *Group) Rose(ctx context.Context) error {
	if state, _ := g.cfg.Watcher.State(g.cfg.Group); len(state.Row) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deriveTimeout)
	defer cancel()
	_, err := changeRow(ctx, g.cfg.KV, g.cfg.Group, func(Row) Row { return nil })
	return err
}

// String returns the hosts, the last ones first, for people.
func (r Row) String() string {
	const most = 10
	var names []string
	for i := len(r) - 1; i >= 0 && len(names) < most; i-- {
		names = append(names, fmt.Sprintf("%s (%s)", r[i].Host, r[i].Reason))
	}
	return strings.Join(names, ", ")
}

// Settings returns the settings with which a consumer of the group is to be created: those given, with what the bucket
// says in their place.
func (g *Group) Settings(s stream.Settings) stream.Settings {
	state, _ := g.cfg.Watcher.State(g.cfg.Group)
	if n := state.Budget.Messages; n > 0 {
		s.Budget = n
	}
	s.PausedUntil = state.heldUntil(g.cfg.Now())
	return s
}

// deriveEvery is how often the consumer is compared with the bucket when neither is known to have changed.
const deriveEvery = 10 * time.Second

// Run keeps the group's consumer and its window's entry as they should be until ctx ends, and returns nil.
func (g *Group) Run(ctx context.Context) error {
	level := zerolog.WarnLevel
	for {
		changed := g.cfg.Watcher.Changed()
		wait := deriveEvery
		next, err := g.keepWindow(ctx, g.cfg.Now())
		if err == nil {
			err = g.derive(ctx)
		}
		if err != nil && ctx.Err() == nil {
			g.cfg.Logger.WithLevel(level).Err(err).Msg("cannot bring the consumer into line, trying until it is")
			level, wait = zerolog.DebugLevel, time.Second
		} else {
			level = zerolog.WarnLevel
		}
		if !next.IsZero() {
			wait = min(wait, max(next.Sub(g.cfg.Now()), time.Millisecond))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// keepWindow holds the group back while a restart that begins now would not end within the window, and returns when to
// look again. An entry ends by itself when the window opens; it is never shortened, because another worker may have put
// it there whose window is another. Only a worker that starts takes an entry away, so that a new configuration counts.
func (g *Group) keepWindow(ctx context.Context, now time.Time) (next time.Time, err error) {
	if err := g.cfg.Watcher.Refresh(ctx); err != nil {
		return time.Time{}, err
	}
	state, _ := g.cfg.Watcher.State(g.cfg.Group)
	var held *Pause
	for _, p := range state.InForce(now) {
		if p.Group == g.cfg.Group && p.Cause == ByWindow {
			held = &p
		}
	}
	fits, opens := g.cfg.Rules.Windows.Fits(now, g.cfg.Rules.Takes)
	first := !g.windowSeen
	switch {
	case fits && held != nil && first:
		err = Lift(ctx, g.cfg.KV, g.cfg.Group, ByWindow)
	case !fits && (held == nil || first && !held.Until.Equal(opens) || !held.Until.IsZero() && (opens.IsZero() || held.Until.Before(opens))):
		_, err = Put(ctx, g.cfg.KV, Pause{
			Group: g.cfg.Group, Cause: ByWindow, Since: now.UTC(), Until: opens.UTC(), By: g.cfg.Worker, Why: "outside its window " + g.cfg.Rules.Windows.String(),
		})
	}
	if err != nil {
		return time.Time{}, err
	}
	g.windowSeen = true
	if !fits {
		return opens, nil
	}
	if _, closes := g.cfg.Rules.Windows.Open(now); !closes.IsZero() {
		return closes.Add(-g.cfg.Rules.Takes).Add(time.Millisecond), nil
	}
	return time.Time{}, nil
}

// derive makes the group's consumer what the bucket says.
func (g *Group) derive(ctx context.Context) error {
	return derive(ctx, g.cfg.JS, g.cfg.Group, g.cfg.Now(), func(ctx context.Context) (State, error) {
		if err := g.cfg.Watcher.Refresh(ctx); err != nil {
			return State{}, err
		}
		state, _ := g.cfg.Watcher.State(g.cfg.Group)
		return state, nil
	})
}

// Derive makes a group's consumer what the bucket says.
func Derive(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue, group restart.Group) error {
	return derive(ctx, js, group, time.Now(), func(ctx context.Context) (State, error) { return Read(ctx, kv, group) })
}

// deriveTimeout bounds one comparison with the consumer, and one change of the row.
const deriveTimeout = 5 * time.Second

// derive looks at the consumer before the bucket: an entry is there before the consumer is paused for it, so a pause that
// another worker has just put is never taken for one that is over.
func derive(ctx context.Context, js jetstream.JetStream, group restart.Group, now time.Time, read func(context.Context) (State, error)) error {
	ctx, cancel := context.WithTimeout(ctx, deriveTimeout)
	defer cancel()
	name := stream.ConsumerName(group)
	consumer, err := js.Consumer(ctx, stream.Work, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil // it will be created as it should be
	case err != nil:
		return fmt.Errorf("cannot look at consumer %q: %w", name, err)
	}
	state, err := read(ctx)
	if err != nil {
		return err
	}
	cfg := consumer.CachedInfo().Config
	if n := state.Budget.Messages; n > 0 && n != cfg.MaxAckPending {
		cfg.MaxAckPending = n
		if _, err := js.UpdateConsumer(ctx, stream.Work, cfg); err != nil {
			return fmt.Errorf("cannot set the budget of consumer %q: %w", name, err)
		}
	}
	var paused time.Time
	if cfg.PauseUntil != nil && cfg.PauseUntil.After(now) {
		paused = *cfg.PauseUntil
	}
	until := state.heldUntil(now)
	switch {
	case until.Equal(paused):
		return nil
	case until.IsZero():
		_, err = js.ResumeConsumer(ctx, stream.Work, name)
	default:
		_, err = js.PauseConsumer(ctx, stream.Work, name, until)
	}
	if err != nil {
		return fmt.Errorf("cannot pause or resume consumer %q: %w", name, err)
	}
	return nil
}
