package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var (
	errKilled = errors.New("killed")
	errLost   = errors.New("no answer")
)

// world is all that a campaign's runners meet: documents, a queue of which workers trigger what is queued a while
// later, and hosts that count their boots. It notes what must never happen.
type world struct {
	spec *Spec

	mu       sync.Mutex
	stored   []byte
	revision uint64
	wish     Wish
	queue    map[uuid.UUID]*item
	outcomes map[uuid.UUID]restart.Outcome
	others   map[restart.Host]uuid.UUID // queued before the campaign
	fails    map[restart.Host]bool
	boots    map[restart.Host]int
	paused   func(time.Time) bool
	closed   func(time.Time) bool
	good     func(time.Time) time.Time
	asked    []string // by time, for people
	wrong    []string
	calls    int
}

// item is one queued request.
type item struct {
	host      restart.Host
	triggerAt time.Time
	endAt     time.Time
	triggered bool
}

const (
	triggerDelay = time.Second
	bootTime     = 9 * time.Second
)

func newWorld(s *Spec) *world {
	never := func(time.Time) bool { return false }
	return &world{
		spec: s, queue: map[uuid.UUID]*item{}, outcomes: map[uuid.UUID]restart.Outcome{}, others: map[restart.Host]uuid.UUID{},
		fails: map[restart.Host]bool{}, boots: map[restart.Host]int{}, paused: never, closed: never,
		good: func(now time.Time) time.Time { return now.Add(-time.Hour) },
	}
}

// advance lets the workers do what is due: the gate is asked right before each trigger.
func (w *world) advance() {
	now := time.Now()
	for id, it := range w.queue {
		if !it.triggered && !now.Before(it.triggerAt) {
			_, known := w.outcomes[id]
			// A mark stops what comes after it; this is only looked at now.
			mark := w.wish.Aborted
			switch {
			case known: // the journal knows it
				delete(w.queue, id)
				continue
			case mark != nil && mark.At.Before(it.triggerAt):
				w.end(id, it, restart.Cancelled, restart.ReasonAborted)
				continue
			}
			it.triggered = true
			w.boots[it.host]++
		}
		if it.triggered && !now.Before(it.endAt) {
			if w.fails[it.host] {
				w.end(id, it, restart.Dead, restart.ReasonNotReady)
			} else {
				w.end(id, it, restart.Restarted, restart.ReasonVerified)
			}
		}
	}
}

func (w *world) end(id uuid.UUID, it *item, kind restart.Kind, reason restart.Reason) {
	delete(w.queue, id)
	w.outcomes[id] = restart.Outcome{ID: id, Host: it.host, Kind: kind, Reason: reason, At: time.Now()}
}

func (w *world) add(id uuid.UUID, host restart.Host) {
	at := time.Now().Add(triggerDelay)
	w.queue[id] = &item{host: host, triggerAt: at, endAt: at.Add(bootTime)}
}

func (w *world) progress() (p Progress) {
	if w.stored != nil {
		if err := json.Unmarshal(w.stored, &p); err != nil {
			w.wrong = append(w.wrong, err.Error())
		}
		p.Revision = w.revision
	}
	return p
}

// seat is the world as one runner reaches it. The runner dies in one of its calls, before or after its effect; a call
// may also fail, or be done and its answer lost.
type seat struct {
	*world
	kill   context.CancelCauseFunc
	dieAt  int // its n-th call; 0: never
	after  bool
	faults *rand.Rand // nil: none
	stall  <-chan struct{}
	calls  int
	dead   bool
}

// call does one call's effect, or not.
func (s *seat) call(effect func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	s.world.calls++
	s.calls++
	if s.calls == s.dieAt {
		if s.after {
			s.advance()
			effect()
		}
		s.dead = true
		s.kill(ErrLeaseLost) // after which a runner does nothing
		return errKilled
	}
	fault := 99
	if s.faults != nil {
		fault = s.faults.IntN(10)
	}
	if fault == 0 {
		return errLost
	}
	s.advance()
	effect()
	if fault == 1 {
		return errLost
	}
	return nil
}

func (s *seat) Spec(context.Context, uuid.UUID) (spec Spec, err error) {
	err = s.call(func() { spec = *s.spec })
	return spec, err
}

func (s *seat) Progress(context.Context, uuid.UUID) (p Progress, err error) {
	err = s.call(func() { p = s.progress() })
	return p, err
}

func (s *seat) CompareAndSet(_ context.Context, p Progress) (revision uint64, err error) {
	var verdict error
	err = s.call(func() {
		stands := s.progress()
		switch {
		case stands.Revision == p.Revision:
			s.stored, _ = json.Marshal(p)
			s.revision++
			revision = s.revision
		case stands.Driver == p.Driver && stands.Write == p.Write:
			revision = s.revision
		default:
			verdict = ErrConflict
		}
	})
	return revision, errors.Join(err, verdict)
}

func (s *seat) Wish(context.Context, uuid.UUID) (w Wish, err error) {
	err = s.call(func() { w = s.wish })
	return w, err
}

func (s *seat) Abort(_ context.Context, _ uuid.UUID, m Mark) (uint64, error) {
	return 1, s.call(func() { s.abort(m) })
}

func (w *world) abort(m Mark) {
	if w.wish.Aborted == nil {
		w.wish.Aborted = &m
	}
}

func (s *seat) Publish(_ context.Context, requests []restart.Request) []Sent {
	if s.stall != nil {
		<-s.stall
	}
	results := make([]Sent, len(requests))
	for i, r := range requests {
		results[i].Err = s.call(func() { results[i].Other = s.publish(r, s.stall != nil) })
	}
	return results
}

// publish is the work stream's: one request for a host, and the same id twice is one.
func (w *world) publish(r restart.Request, late bool) (other uuid.UUID) {
	w.asked = append(w.asked, fmt.Sprintf("%s %s", time.Now().Format(time.TimeOnly), r.Host))
	now := time.Now()
	if err := r.Validate(); err != nil || r.ID != restart.CampaignID(w.spec.ID, r.Host) || r.Campaign != w.spec.ID.String() {
		w.wrong = append(w.wrong, fmt.Sprintf("request %+v: %v", r, err))
	}
	p := w.progress()
	if !late {
		if p.State == Aborting || p.State.Final() {
			w.wrong = append(w.wrong, fmt.Sprintf("%s is asked for after the abort was confirmed", r.Host))
		}
		if w.paused(now) || w.closed(now) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s is asked for while nothing may be", r.Host))
		}
	}
	if theirs, ok := w.others[r.Host]; ok && w.queue[theirs] != nil {
		return theirs
	}
	if w.queue[r.ID] != nil {
		return uuid.Nil
	}
	w.add(r.ID, r.Host)
	unavailable := 0
	for id := range w.queue {
		if _, ended := w.outcomes[id]; !ended {
			unavailable++
		}
	}
	for _, o := range w.outcomes {
		if o.Kind == restart.Dead {
			unavailable++
		}
	}
	for _, theirs := range w.others {
		if w.queue[theirs] != nil {
			unavailable-- // somebody else's, of which the campaign need not know
		}
	}
	if unavailable > w.spec.maxUnavailable() {
		w.wrong = append(w.wrong, fmt.Sprintf("%d are unavailable once %s is asked for", unavailable, r.Host))
	}
	return uuid.Nil
}

func (s *seat) Look(_ context.Context, targets []Target) (sights []Sight, err error) {
	err = s.call(func() {
		for _, t := range targets {
			o := s.outcomes[t.ID]
			sights = append(sights, Sight{Queued: s.queue[t.ID] != nil && o.Kind == "", Kind: o.Kind, Reason: o.Reason})
		}
	})
	return sights, err
}

func (s *seat) Cancel(_ context.Context, targets []Target, _ Mark) (done []bool, err error) {
	err = s.call(func() {
		for _, t := range targets {
			it := s.queue[t.ID]
			cancelled := it != nil && !it.triggered
			if cancelled {
				s.end(t.ID, it, restart.Cancelled, restart.ReasonByHand)
			}
			done = append(done, cancelled)
		}
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

func (s *seat) conditions(context.Context, *Spec) (c Conditions, err error) {
	err = s.call(func() {
		now := time.Now()
		c = Conditions{Closed: s.closed(now), Good: s.good(now)}
		if s.paused(now) {
			c.Paused = "paused by hand"
		}
	})
	return c, err
}

// run has a runner drive the campaign in the seat, until it is over or dead.
func (s *seat) run(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s.kill = cancel
	return newTestRunner(t, s).Run(ctx, s.spec.ID)
}

func newTestRunner(t *testing.T, s *seat) *Runner {
	t.Helper()
	r, err := NewRunner(RunnerConfig{Worker: "w", Group: "default", Store: s, Steering: s, Requests: s, Conditions: s.conditions})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// crashSpec is a campaign with growing batches, the second larger than the room, and settling.
func crashSpec() *Spec {
	return newSpec(9, "1,4,50%", "3", func(s *Spec) {
		s.Settle = restart.Duration(10 * time.Second)
		s.Created, s.NotAfter = time.Now(), time.Now().Add(24*time.Hour)
	})
}

func (w *world) check(t *testing.T, boots int, state State) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	if p := w.progress(); p.State != state || p.Counts().Open > 0 {
		t.Errorf("got state %s with %s, want %s", p.State, p.Hosts, state)
	}
	total := 0
	for host, n := range w.boots {
		if total += n; n > 1 {
			t.Errorf("%s booted %d times", host, n)
		}
	}
	if boots >= 0 && total != boots {
		t.Errorf("got %d boots, want %d", total, boots)
	}
	if t.Failed() {
		t.Logf("asked: %v\nprogress: %s", w.asked, w.stored)
	}
}

// dieEverywhere plays a campaign once for each call of a run that is left alone, and for before and after the call's
// effect: its runner dies there, and another goes on.
func dieEverywhere(t *testing.T, play func(t *testing.T, first *seat) *world) {
	t.Helper()
	calls := 0
	synctest.Test(t, func(t *testing.T) { calls = play(t, &seat{}).calls })
	t.Logf("%d calls", calls)
	for dieAt := 1; dieAt <= calls && !t.Failed(); dieAt++ {
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { play(t, &seat{dieAt: dieAt, after: after}) })
			if t.Failed() {
				t.Logf("died at call %d, after its effect: %v", dieAt, after)
			}
		}
	}
}

// finish drives a campaign from one seat, and to its end from others if that one dies.
func finish(t *testing.T, w *world, first *seat) {
	t.Helper()
	first.world = w
	err := first.run(t)
	for n := 0; err != nil && n < 10; n++ {
		time.Sleep(3 * time.Second) // until the message is handed out again
		err = (&seat{world: w}).run(t)
	}
	if err != nil {
		t.Errorf("the last runner: %v", err)
	}
}

func TestRunner_BootsEveryHostOnceWhereverARunnerDies(t *testing.T) {
	dieEverywhere(t, func(t *testing.T, first *seat) *world {
		w := newWorld(crashSpec())
		finish(t, w, first)
		w.check(t, 9, Ended)
		return w
	})
}

func TestRunner_AbortsExactlyWhereverARunnerDies(t *testing.T) {
	dieEverywhere(t, func(t *testing.T, first *seat) *world {
		w := newWorld(crashSpec())
		var abort sync.WaitGroup
		abort.Go(func() {
			time.Sleep(25 * time.Second) // in the second batch
			w.mu.Lock()
			defer w.mu.Unlock()
			w.abort(Mark{By: "ops", At: time.Now()})
		})
		finish(t, w, first)
		abort.Wait()
		w.check(t, -1, Aborted)
		// What the progress says is what the hosts know.
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, code := range w.progress().Hosts {
			restarted := w.boots[w.spec.Hosts[i]] == 1
			if restarted != (ending[code].kind == restart.Restarted) {
				t.Errorf("host %d: booted is %v, and the progress says %c", i, restarted, code)
			}
		}
		return w
	})
}

func TestRunner_StopsAfterFailuresWhereverARunnerDies(t *testing.T) {
	dieEverywhere(t, func(t *testing.T, first *seat) *world {
		s := crashSpec()
		s.StopAfter, s.MaxUnavailable = Amount{Count: 2}, Amount{Count: 9}
		w := newWorld(s)
		w.fails[s.Hosts[0]], w.fails[s.Hosts[1]] = true, true // so the second batch has one host again
		finish(t, w, first)
		w.check(t, 2, Aborted)
		p := w.progress()
		if got := p.Counts(); got.Pending != 7 || got.Ended[restart.Dead] != 2 {
			t.Errorf("got %+v, want 2 dead and 7 not asked for", got)
		}
		return w
	})
}

func TestRunner_CountsAHostAsTheRequestThatWasQueuedBeforeWhereverARunnerDies(t *testing.T) {
	dieEverywhere(t, func(t *testing.T, first *seat) *world {
		w := newWorld(crashSpec())
		theirs := uuid.New()
		w.others[w.spec.Hosts[2]] = theirs
		w.add(theirs, w.spec.Hosts[2])
		w.queue[theirs].triggerAt = time.Now().Add(40 * time.Second)
		w.queue[theirs].endAt = time.Now().Add(50 * time.Second)
		finish(t, w, first)
		w.check(t, 9, Ended)
		if p := w.progress(); p.Others[2] != theirs {
			t.Errorf("got others %v, want host 2 to count as %s", p.Others, theirs)
		}
		return w
	})
}

// One death after the other, answers that are lost, calls that fail.
func TestRunner_BootsEveryHostOnceAmongManyDeathsAndLostAnswers(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(crashSpec())
			for range 200 {
				s := &seat{world: w, faults: random, dieAt: 1 + random.IntN(60), after: random.IntN(2) == 0}
				if s.run(t) == nil {
					break
				}
				time.Sleep(time.Duration(random.IntN(20)) * time.Second)
			}
			w.check(t, 9, Ended)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// The driving worker is stopped between its write and its publishing; another takes over and the campaign is aborted;
// the first goes on, and publishes. Nothing may be triggered.
func TestRunner_NothingIsTriggeredByOneThatWasStoppedWhenItGoesOnAfterAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		goOn := make(chan struct{})
		stopped := make(chan error)
		go func() { stopped <- (&seat{world: w, stall: goOn}).run(t) }()
		synctest.Wait()
		w.mu.Lock()
		w.abort(Mark{By: "ops", At: time.Now()})
		w.mu.Unlock()
		if err := (&seat{world: w}).run(t); err != nil {
			t.Fatal(err)
		}
		if p := w.progress(); p.State != Aborted {
			t.Fatalf("got state %s, want aborted", p.State)
		}
		time.Sleep(time.Second)
		close(goOn)
		if err := <-stopped; !errors.Is(err, ErrConflict) {
			t.Errorf("the one that was stopped: got %v, want %v", err, ErrConflict)
		}
		time.Sleep(time.Minute)
		if len(w.asked) != 1 {
			t.Errorf("got asked %v, want the one host asked for late", w.asked)
		}
		w.check(t, 0, Aborted)
	})
}

// The same without an abort: the other has done all, and what is published late is known.
func TestRunner_OneThatWasStoppedAndGoesOnBootsNothingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		goOn := make(chan struct{})
		stopped := make(chan error)
		go func() { stopped <- (&seat{world: w, stall: goOn}).run(t) }()
		synctest.Wait()
		if err := (&seat{world: w}).run(t); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		if err := <-stopped; !errors.Is(err, ErrConflict) {
			t.Errorf("got %v, want %v", err, ErrConflict)
		}
		time.Sleep(time.Minute)
		w.check(t, 9, Ended)
	})
}

func TestRunner_WaitsWhileItsGroupIsPausedOrClosedAndGoesOn(t *testing.T) {
	during := func(from, to time.Duration) func(time.Time) bool {
		start := time.Now()
		return func(now time.Time) bool { d := now.Sub(start); return from <= d && d < to }
	}
	for name, set := range map[string]func(*world){
		"Paused": func(w *world) { w.paused = during(5*time.Second, time.Hour) },
		"Closed": func(w *world) { w.closed = during(5*time.Second, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(crashSpec())
				set(w)
				start := time.Now()
				go func() {
					time.Sleep(30 * time.Minute)
					p := w.progress()
					if p.State.Final() || p.Waits == "" || (name == "Paused") != (p.State == Paused) || len(w.boots) != 1 {
						t.Errorf("in the middle: got state %q, which waits for %q, and %d boots", p.State, p.Waits, len(w.boots))
					}
				}()
				finish(t, w, &seat{})
				if took := time.Since(start); took < time.Hour {
					t.Errorf("it took %s", took)
				}
				w.check(t, 9, Ended)
			})
		})
	}
}

// Checks that turn bad while a batch settles begin the settling again.
func TestRunner_BeginsNoBatchUntilChecksHaveBeenGoodForLongEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		start := time.Now()
		bad := start.Add(15 * time.Second) // the first batch has ended after 10 s
		good := start.Add(40 * time.Second)
		w.good = func(now time.Time) time.Time {
			switch {
			case now.Before(bad):
				return start
			case now.Before(good):
				return time.Time{}
			default:
				return good
			}
		}
		finish(t, w, &seat{})
		w.check(t, 9, Ended)
		if len(w.asked) < 2 || w.asked[1] < good.Add(10*time.Second).Format(time.TimeOnly) {
			t.Errorf("asked: %v, want the second batch 10 s after %s", w.asked, good.Format(time.TimeOnly))
		}
	})
}

// A worker that is stopped hands the campaign back, and that is no sign of poison.
func TestRunner_IsHandedBackByOneThatIsStoppedHoweverOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		w.paused = func(time.Time) bool { return true }
		for range 60 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := newTestRunner(t, &seat{world: w}).Run(ctx, w.spec.ID); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want that it was stopped", err)
			}
			cancel()
		}
		w.check(t, 0, Paused)
	})
}

// A campaign that waits for days on a bad network loses its lease again and again, and that is no sign of poison either.
func TestRunner_IsNotGivenUpWhileItWaitsHoweverOftenItsLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		w.paused = func(time.Time) bool { return true }
		for range 60 {
			ctx, lose := context.WithCancelCause(t.Context())
			time.AfterFunc(5*time.Minute, func() { lose(ErrLeaseLost) })
			if err := newTestRunner(t, &seat{world: w}).Run(ctx, w.spec.ID); !errors.Is(err, ErrLeaseLost) {
				t.Fatalf("got %v, want that the lease was lost", err)
			}
		}
		w.check(t, 0, Paused)
	})
}

// slowSeat takes a while to look at, or to cancel, each request.
type slowSeat struct{ *seat }

const slowly = 5 * time.Millisecond

func (s slowSeat) Look(ctx context.Context, targets []Target) ([]Sight, error) {
	if err := sleep(ctx, time.Duration(len(targets))*slowly); err != nil {
		return nil, err
	}
	return s.seat.Look(ctx, targets)
}

func (s slowSeat) Cancel(ctx context.Context, targets []Target, why Mark) ([]bool, error) {
	if err := sleep(ctx, time.Duration(len(targets))*slowly); err != nil {
		return nil, err
	}
	return s.seat.Cancel(ctx, targets, why)
}

// So many hosts at a time that one look at them takes longer than a call may.
func TestRunner_ComesToItsEndHoweverManyHostsItLooksAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 4000
		w := newWorld(newSpec(count, "100%", "100%", func(s *Spec) { s.Created, s.NotAfter = time.Now(), time.Now().Add(time.Hour) }))
		st := slowSeat{&seat{world: w}}
		r, err := NewRunner(RunnerConfig{Worker: "w", Group: "default", Store: st, Steering: st, Requests: st, Conditions: st.conditions})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.Run(ctx, w.spec.ID); err != nil {
			t.Errorf("got %v, want it over", err)
		}
		w.check(t, count, Ended)
	})
}

// deafSeat does not answer the first looks, as a cluster that elects a leader.
type deafSeat struct {
	*seat
	deaf int
}

func (s *deafSeat) Look(ctx context.Context, targets []Target) ([]Sight, error) {
	if s.deaf > 0 && len(targets) > 0 {
		s.deaf--
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return s.seat.Look(ctx, targets)
}

// A look that got no answer must not be followed by a rest from it: nobody hears an abort meanwhile.
func TestRunner_LooksAgainSoonAfterALookWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newSpec(1, "1", "1", func(s *Spec) { s.Created, s.NotAfter = time.Now(), time.Now().Add(time.Hour) }))
		st := &deafSeat{&seat{world: w}, 2}
		r, err := NewRunner(RunnerConfig{Worker: "w", Group: "default", Store: st, Steering: st, Requests: st, Conditions: st.conditions})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := r.Run(t.Context(), w.spec.ID); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*callTimeout+triggerDelay+bootTime+10*time.Second {
			t.Errorf("it was over after %s", took)
		}
		w.check(t, 1, Ended)
	})
}

// A campaign that kills whoever takes it up ends, and what it has queued is not triggered.
func TestRunner_GivesUpWhatKillsItsRunners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(crashSpec())
		var err error
		for range 60 {
			if err = (&seat{world: w, dieAt: 5}).run(t); err == nil {
				break
			}
		}
		if p := w.progress(); err != nil || p.State != Aborted || w.wish.Aborted == nil {
			t.Errorf("got %v, state %q and mark %v, want it aborted", err, p.State, w.wish.Aborted)
		}
		w.check(t, 0, Aborted)
	})
}

func TestRunner_AnnouncesEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpec(1, "1", "1", func(s *Spec) { s.Created, s.NotAfter = time.Now(), time.Now().Add(time.Hour) })
		st := &seat{world: newWorld(s)}
		var states []string
		r, err := NewRunner(RunnerConfig{
			Worker: "w", Group: "default", Store: st, Steering: st, Requests: st, Conditions: st.conditions,
			Announce: func(_ *Spec, p Progress) { states = append(states, fmt.Sprintf("%s %s", p.State, p.Hosts)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{" .", "running o", "ended v"}, slices.Compact(states)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
