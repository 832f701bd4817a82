package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const patience = 30 * time.Second

// A recorder does nothing, and remembers what was asked of it.
type recorder struct {
	fired chan schedule.Firing
	fail  func(schedule.Firing) error
}

func newRecorder() *recorder { return &recorder{fired: make(chan schedule.Firing, 1000)} }

func (r *recorder) do(_ context.Context, f schedule.Firing) (schedule.Result, error) {
	r.fired <- f
	if r.fail != nil {
		if err := r.fail(f); err != nil {
			return schedule.Result{}, err
		}
	}
	return schedule.Result{Outcome: schedule.Started, Made: "something"}, nil
}

func (r *recorder) next(t *testing.T) schedule.Firing {
	t.Helper()
	select {
	case f := <-r.fired:
		return f
	case <-time.After(patience):
		t.Fatalf("no firing within %s", patience)
		panic("unreachable")
	}
}

func ensure(t *testing.T, js jetstream.JetStream) *schedule.Store {
	t.Helper()
	s, err := stream.EnsureSchedules(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := schedule.NewStore(js, s)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// serve runs a server until the test ends, or the function is called.
func serve(t *testing.T, cfg schedule.ServerConfig) (stop func()) {
	t.Helper()
	cfg.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	if cfg.SweepAfter == 0 {
		cfg.SweepAfter = time.Hour
	}
	server, err := schedule.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func add(t *testing.T, store *schedule.Store, d schedule.Definition) {
	t.Helper()
	if err := store.Add(t.Context(), d, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// runNow adds a schedule and runs it.
func runNow(t *testing.T, store *schedule.Store, name string) {
	t.Helper()
	add(t, store, definition(t, name, "24h"))
	if _, err := store.RunNow(t.Context(), name, "ann"); err != nil {
		t.Fatal(err)
	}
}

// results polls until there are n, which has no event.
func results(t *testing.T, store *schedule.Store, name string, n int) []schedule.Result {
	t.Helper()
	var got []schedule.Result
	eventually(t, fmt.Sprintf("%d results", n), func() bool {
		var err error
		got, err = store.Results(t.Context(), name)
		return err == nil && len(got) >= n
	})
	return got
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func at(t *testing.T, name string, when time.Time) schedule.Definition {
	t.Helper()
	d := definition(t, name, "24h")
	spec, err := schedule.ParseAt(when.Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	d.Spec = spec
	return d
}

func TestServer_RunsOnce(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	server, err := schedule.NewServer(schedule.ServerConfig{Store: ensure(t, natsdtest.Start(t).JetStream(t)), Do: rec.do})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for range 2 {
		go func() { ended <- server.Run(ctx) }()
	}
	if err := <-ended; !errors.Is(err, schedule.ErrRunning) {
		t.Errorf("the second call: got %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the first call: got %v", err)
	}
}

func TestServer_TenFiringsHaveTenIDsWhoeverTakesThem(t *testing.T) {
	t.Parallel()
	nats := natsdtest.Start(t)
	store, rec := ensure(t, nats.JetStream(t)), newRecorder()
	for range 2 {
		serve(t, schedule.ServerConfig{Store: ensure(t, nats.JetStream(t)), Do: rec.do})
	}
	add(t, store, definition(t, "often", "1s"))
	seen := map[uuid.UUID]bool{}
	var first time.Time
	for i := range 10 {
		f := rec.next(t)
		if i == 0 {
			first = f.Planned
		}
		if want := first.Add(time.Duration(i) * time.Second); !f.Planned.Equal(want) || f.ID != schedule.FiringID("often", want) || seen[f.ID] {
			t.Errorf("firing %d is %s at %s", i, f.ID, f.Planned)
		}
		seen[f.ID] = true
		if f.Restart == nil || f.Restart.Reason != "often" || !f.NotAfter.Equal(f.Planned.Add(time.Hour)) {
			t.Errorf("got %+v", f)
		}
		t.Logf("the stream took it %s after its time", f.Fired.Sub(f.Planned))
	}
	all := results(t, store, "often", 10)
	for i, r := range all {
		if r.ID != schedule.FiringID("often", first.Add(time.Duration(i)*time.Second)) || r.Outcome != schedule.Started || r.Made != "something" {
			t.Errorf("result %d is %+v", i, r)
		}
	}
}

// lateness are two schedules that differ in what they do about it.
var lateness = map[string]schedule.Outcome{"skips": schedule.Missed, "catches-up": schedule.Started}

// lateSchedule returns a schedule that takes a second's delay for lateness.
func lateSchedule(d schedule.Definition, name string) schedule.Definition {
	d.Name, d.CatchUp, d.ValidFor = name, lateness[strings.TrimPrefix(name, "once-")] == schedule.Started, restart.Duration(time.Second)
	return d
}

func TestServer_BrokerAwayWhenDue(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	store, rec := ensure(t, broker.JetStream(t)), newRecorder()
	often := definition(t, "", "5s")
	due := soon(often)
	for name := range lateness {
		add(t, store, lateSchedule(often, name))
		add(t, store, lateSchedule(at(t, "", due), "once-"+name))
	}
	broker.Stop(t)
	time.Sleep(time.Until(due.Add(1500 * time.Millisecond))) // an outage takes its time
	broker.StartAgain(t)
	serve(t, schedule.ServerConfig{Store: ensure(t, broker.JetStream(t)), Do: rec.do})
	for name, outcome := range lateness {
		for _, name := range []string{name, "once-" + name} {
			r := results(t, store, name, 1)[0]
			if r.Outcome != outcome || !r.Planned.Equal(due) || r.ID != schedule.FiringID(name, due) {
				t.Errorf("%s: got %+v, planned was %s", name, r, due)
			}
		}
		if all := results(t, store, name, 2); all[1].Outcome != schedule.Started || !all[1].Planned.Equal(due.Add(5*time.Second)) {
			t.Errorf("%s: the next is %+v", name, all[1])
		}
		if all := results(t, store, "once-"+name, 1); len(all) != 1 {
			t.Errorf("%s: it was done again: %+v", name, all)
		}
		if _, err := store.Get(t.Context(), "once-"+name); !errors.Is(err, schedule.ErrNotFound) {
			t.Errorf("%s: the schedule is over: got %v", name, err)
		}
	}
	for range 2 { // the first that were done are those that were late
		if f := rec.next(t); !f.Planned.Equal(due) || !f.NotAfter.Equal(f.Fired.Add(time.Second)) {
			t.Errorf("it was done as %+v", f)
		}
	}
}

// The server fires once, however many times have passed while it was away.
func TestServer_SaysOfEveryTimeWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	store, rec := ensure(t, broker.JetStream(t)), newRecorder()
	serve(t, schedule.ServerConfig{Store: ensure(t, broker.JetStream(t)), Do: rec.do, SweepAfter: time.Second})
	d := definition(t, "often", "1s")
	d.ValidFor = restart.Duration(time.Second)
	add(t, store, d)
	rec.next(t)
	broker.Stop(t)
	time.Sleep(4500 * time.Millisecond) // an outage takes its time
	broker.StartAgain(t)
	var all []schedule.Result
	eventually(t, "no time is unaccounted for", func() bool {
		var err error
		all, err = store.Results(t.Context(), "often")
		for i, r := range all {
			if want := all[0].Planned.Add(time.Duration(i) * time.Second); !r.Planned.Equal(want) {
				return false
			}
		}
		return err == nil && len(all) > 8
	})
	missed := 0
	for _, r := range all {
		if r.Outcome == schedule.Missed && r.Fired.IsZero() && r.Why != "" {
			missed++
		}
	}
	if missed < 2 || missed > 5 {
		t.Errorf("%d were missed in an outage of four seconds: %+v", missed, all)
	}
}

func TestServer_FiringThatWaitsForAWorkerIsNotSaidToBeMissed(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	js := broker.JetStream(t)
	store, rec := ensure(t, js), newRecorder()
	add(t, store, definition(t, "often", "1s"))
	eventually(t, "firings wait", func() bool { return len(fired(t, js, "often")) >= 4 })
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do, SweepAfter: time.Nanosecond}) // which is before the first is taken
	for i, r := range results(t, store, "often", 5) {
		if r.Outcome != schedule.Started {
			t.Errorf("result %d is %+v", i, r)
		}
	}
}

// soon waits until the next time of a schedule is not so near that a test could miss it, and returns that.
func soon(d schedule.Definition) time.Time {
	for time.Until(d.Spec.Next(time.Now())) < time.Second {
		time.Sleep(50 * time.Millisecond)
	}
	return d.Spec.Next(time.Now())
}

// killed starts a server on what another has on its disk at this moment, which is what a kill leaves, and stops the other.
func killed(t *testing.T, s *natsdtest.Server, away func()) jetstream.JetStream {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir+"/copy", os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	away()
	again, err := natsd.Start(t.Context(), natsd.Config{Dir: dir + "/copy", SyncInterval: time.Minute, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	nc, err := nats.Connect(again.URL(), nats.MaxReconnects(-1), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// fired returns the times after those for which the server wrote its firings.
func fired(t *testing.T, js jetstream.JetStream, name string) (next []string) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream.Schedules)
	if err != nil {
		t.Fatal(err)
	}
	for msg, err := range stream.Scan(t.Context(), s, stream.ScheduleFire(name), false) {
		if err != nil {
			t.Fatal(err)
		}
		next = append(next, msg.Headers().Get("Nats-Schedule-Next"))
	}
	return next
}

// The server keeps when a schedule is due in a file that it writes every two minutes and when it stops. Killed, it takes a
// definition that is younger than the file for one whose time has not come.
func TestServer_MakesUpForTheFiringThatAKilledBrokerForgets(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	store, rec := ensure(t, broker.JetStream(t)), newRecorder()
	often := definition(t, "", "5s")
	due := soon(often)
	for name := range lateness {
		add(t, store, lateSchedule(often, name))
	}
	js := killed(t, broker, func() { time.Sleep(time.Until(due.Add(1500 * time.Millisecond))) })
	store = ensure(t, js)
	for range 2 {
		serve(t, schedule.ServerConfig{Store: ensure(t, js), Do: rec.do, SweepAfter: time.Second})
	}
	for name, outcome := range lateness {
		r := results(t, store, name, 1)[0]
		if r.Outcome != outcome || !r.Planned.Equal(due) || r.ID != schedule.FiringID(name, due) {
			t.Errorf("%s: got %+v, planned was %s", name, r, due)
		}
		if all := fired(t, js, name); all[0] != "" {
			t.Errorf("%s: the server fired it itself: %q", name, all)
		}
	}
}

// Killed after a firing, the server fires it again.
func TestServer_SecondFiringOfATimeChangesNothing(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	store, rec := ensure(t, broker.JetStream(t)), newRecorder()
	add(t, store, definition(t, "twice", "5s"))
	broker.Restart(t) // which writes the file
	stop := serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	first := rec.next(t)
	results(t, store, "twice", 1)
	stop()
	js := killed(t, broker, func() {})
	eventually(t, "fired again", func() bool { return len(fired(t, js, "twice")) == 2 })
	if all := fired(t, js, "twice"); all[0] != all[1] {
		t.Fatalf("not the same time was fired again: %q", all)
	}
	store = ensure(t, js)
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	second := rec.next(t)
	if !second.Planned.Equal(first.Planned.Add(5 * time.Second)) {
		t.Errorf("after %s, %s was done", first.Planned, second.Planned)
	}
	if all := results(t, store, "twice", 2); len(all) != 2 || all[0].ID != first.ID || all[1].ID != second.ID {
		t.Errorf("got %+v", all)
	}
}

// Two workers have the same time's two firings in their hands at once: both do it, under one id, and one is recorded.
func TestServer_RaceForATimeHasOneResult(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	js := broker.JetStream(t)
	store := ensure(t, js)
	var both sync.WaitGroup
	both.Add(2)
	ids := make(chan uuid.UUID, 2)
	for range 2 {
		serve(t, schedule.ServerConfig{Store: ensure(t, broker.JetStream(t)), Do: func(_ context.Context, f schedule.Firing) (schedule.Result, error) {
			both.Done()
			both.Wait()
			ids <- f.ID
			return schedule.Result{Outcome: schedule.Started, Made: f.ID.String()}, nil
		}})
	}
	d := definition(t, "daily", "24h")
	d.CatchUp = true
	if err := store.Add(t.Context(), d, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		msg := nats.NewMsg(stream.ScheduleFire("daily"))
		msg.Header.Set(schedule.PlannedHeader, d.Spec.Planned(time.Now()).Format(time.RFC3339))
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-ids, <-ids; a != b {
		t.Errorf("done as %s and as %s", a, b)
	}
	eventually(t, "both are acknowledged", func() bool {
		c, err := js.Consumer(t.Context(), stream.Schedules, stream.ScheduleConsumer)
		return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().AckFloor.Consumer >= 2
	})
	if all := results(t, store, "daily", 1); len(all) != 1 {
		t.Errorf("got %+v", all)
	}
}

func TestServer_TriesAgainUnderTheSameID(t *testing.T) {
	t.Parallel()
	store, rec := ensure(t, natsdtest.Start(t).JetStream(t)), newRecorder()
	var once sync.Once
	rec.fail = func(schedule.Firing) (err error) {
		once.Do(func() { err = errors.New("the answer was lost") })
		return err
	}
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	runNow(t, store, "once")
	if a, b := rec.next(t), rec.next(t); a.ID != b.ID {
		t.Errorf("tried as %s, and again as %s", a.ID, b.ID)
	}
	if all := results(t, store, "once", 1); len(all) != 1 || all[0].Outcome != schedule.Started {
		t.Errorf("got %+v", all)
	}
}

// The fear: a run is said to be missed, or skipped, somebody does it by hand, and it was done twice: the worker that had begun
// it died before it could say so.
func TestServer_SaysOfWhatWasBegunThatItWas(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(t *testing.T, store *schedule.Store){
		"its-time-is-over": func(*testing.T, *schedule.Store) {},
		"it-is-paused": func(t *testing.T, store *schedule.Store) {
			if _, err := store.Pause(t.Context(), "nightly"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, rec := ensure(t, natsdtest.Start(t).JetStream(t)), newRecorder()
			var begun sync.Map
			rec.fail = func(f schedule.Firing) error {
				begun.Store(f.ID, true)
				meanwhile(t, store)
				return errors.New("the worker died")
			}
			serve(t, schedule.ServerConfig{Store: store, Do: rec.do, Begun: func(_ context.Context, f schedule.Firing) (schedule.Result, bool, error) {
				_, ok := begun.Load(f.ID)
				return schedule.Result{Outcome: schedule.Started, Made: f.ID.String()}, ok, nil
			}})
			d := definition(t, "nightly", "1s")
			d.ValidFor = restart.Duration(time.Second)
			add(t, store, d)
			f := rec.next(t)
			eventually(t, "a result of the first run", func() bool {
				all, err := store.Results(t.Context(), "nightly")
				i := slices.IndexFunc(all, func(r schedule.Result) bool { return r.ID == f.ID })
				if err != nil || i < 0 {
					return false
				}
				if r := all[i]; r.Outcome != schedule.Started || r.Made != f.ID.String() {
					t.Errorf("got %+v, want it started", r)
				}
				return true
			})
		})
	}
}

func TestServer_GivesAPoisonousFiringUp(t *testing.T) {
	t.Parallel()
	store, rec := ensure(t, natsdtest.Start(t).JetStream(t)), newRecorder()
	rec.fail = func(schedule.Firing) error { return errors.New("no such file") }
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do, MaxDeliveries: 2})
	runNow(t, store, "once")
	if r := results(t, store, "once", 1)[0]; r.Outcome != schedule.Failed || r.Why != "no such file" {
		t.Errorf("got %+v", r)
	}
}

// A worker that stops while it does something hands it back, and another has it in a moment.
func TestServer_HandsBackWhatAStopInterrupts(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	store, rec := ensure(t, broker.JetStream(t)), newRecorder()
	begun := make(chan uuid.UUID, 1)
	stop := serve(t, schedule.ServerConfig{Store: store, Do: func(ctx context.Context, f schedule.Firing) (schedule.Result, error) {
		begun <- f.ID
		<-ctx.Done()
		return schedule.Result{}, context.Cause(ctx)
	}})
	add(t, store, at(t, "once", time.Now().Add(time.Second)))
	id := <-begun
	stop()
	serve(t, schedule.ServerConfig{Store: ensure(t, broker.JetStream(t)), Do: rec.do})
	start := time.Now()
	if f := rec.next(t); f.ID != id {
		t.Errorf("got %s, want %s", f.ID, id)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestServer_FiringOfAScheduleThatIsGoneOrPausedIsNotDone(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	js := broker.JetStream(t)
	store, rec := ensure(t, js), newRecorder()
	for _, name := range []string{"replaced", "paused", "removed"} {
		add(t, store, definition(t, name, "1s"))
	}
	for _, name := range []string{"replaced", "paused", "removed"} {
		eventually(t, name+" fires", func() bool { return len(fired(t, js, name)) >= 2 })
	}
	if _, err := store.Pause(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	waiting := len(fired(t, js, "paused"))
	for _, name := range []string{"replaced", "removed"} {
		if err := store.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	other := at(t, "replaced", time.Now().Add(2*time.Second))
	other.Restart.Reason = "other"
	add(t, store, other)
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	if f := rec.next(t); f.Restart.Reason != "other" {
		t.Errorf("%+v was done", f)
	}
	for _, r := range results(t, store, "paused", waiting) {
		if r.Outcome != schedule.Skipped || r.Why != "the schedule is paused" {
			t.Errorf("got %+v", r)
		}
	}
	if now := len(fired(t, js, "paused")); now != waiting {
		t.Errorf("it fired %d times, and %d times since it is paused", waiting, now-waiting)
	}
	if all, err := store.Results(t.Context(), "removed"); err != nil || len(all) != 0 || len(rec.fired) != 0 {
		t.Errorf("what is removed was done: %+v, %v", all, err)
	}
}

func TestServer_RunNowHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	store, rec := ensure(t, natsdtest.Start(t).JetStream(t)), newRecorder()
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	add(t, store, definition(t, "daily", "24h"))
	if _, err := store.Pause(t.Context(), "daily"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		id, err := store.RunNow(t.Context(), "daily", "bob")
		if err != nil {
			t.Fatal(err)
		}
		if f := rec.next(t); f.ID != id || !f.Manual || f.ManBy != "bob" || time.Since(f.Planned) > patience {
			t.Errorf("got %+v", f)
		}
	}
	if all := results(t, store, "daily", 2); !all[0].Manual || all[0].By != "bob" {
		t.Errorf("got %+v", all)
	}
	if _, err := store.RunNow(t.Context(), "nightly", "bob"); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestServer_WhatCannotBeReadHasFailed(t *testing.T) {
	t.Parallel()
	broker := natsdtest.Start(t)
	js := broker.JetStream(t)
	store, rec := ensure(t, js), newRecorder()
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	if _, err := js.Publish(t.Context(), stream.ScheduleDef("odd"), []byte(`{"name":"odd","spec":{"kind":"cron","expr":"0 25 * * *"}}`),
		jetstream.WithScheduleCron("* * * * * *"), jetstream.WithScheduleTarget(stream.ScheduleFire("odd"))); err != nil {
		t.Fatal(err)
	}
	if r := results(t, store, "odd", 1)[0]; r.Outcome != schedule.Failed || !strings.HasPrefix(r.Why, `cron: field 2 ("25")`) {
		t.Errorf("got %+v", r)
	}
	if _, err := store.List(t.Context()); err == nil {
		t.Error("the list hides it")
	}
	if err := store.Remove(t.Context(), "odd"); err != nil {
		t.Error(err)
	}
}

func TestServer_ClusterLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := natsdtest.StartCluster(t, 3)
	store, rec := ensure(t, c.JetStream(t)), newRecorder()
	for range 2 {
		serve(t, schedule.ServerConfig{Store: ensure(t, c.JetStream(t)), Do: rec.do, SweepAfter: time.Second})
	}
	add(t, store, definition(t, "often", "1s"))
	rec.next(t)
	leader := c.Node(leaderOf(t, c.JetStream(t)))
	leader.Stop(t)
	rec.next(t)
	leader.StartAgain(t)
	rec.next(t)
	for i := range 3 { // all at once
		c.Node(i).Stop(t)
	}
	for i := range 3 {
		c.Node(i).StartAgain(t)
	}
	for len(rec.fired) > 0 {
		rec.next(t)
	}
	for range 3 {
		rec.next(t)
	}
	var all []schedule.Result
	eventually(t, "the results", func() bool {
		var err error
		all, err = store.Results(t.Context(), "often")
		return err == nil && len(all) > 8
	})
	seen := map[time.Time]bool{}
	for _, r := range all {
		away := r.Outcome == schedule.Missed && r.Fired.IsZero()
		if seen[r.Planned] || r.Outcome != schedule.Started && !away {
			t.Errorf("%s is there again, or was not done: %+v", r.Planned, r)
		}
		seen[r.Planned] = true
	}
}

// leaderOf returns the number of the node that leads the stream of schedules.
func leaderOf(t *testing.T, js jetstream.JetStream) (node int) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		s, err := js.Stream(t.Context(), stream.Schedules)
		if err != nil {
			return false
		}
		_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "node%d", &node)
		return err == nil
	})
	return node
}
