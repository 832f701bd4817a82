package control_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const ackWait = 10 * time.Second

var settings = stream.Settings{Replicas: 1, AckWait: ackWait, Budget: 100}

// A fleet is a server with what workers need of it.
type fleet struct {
	server *natsdtest.Server
	js     jetstream.JetStream
	kv     jetstream.KeyValue
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{server: natsdtest.Start(t)}
	f.js = f.server.JetStream(t)
	f.kv = bucket(t, f.js)
	if _, err := stream.Ensure(t.Context(), f.js, settings); err != nil {
		t.Fatal(err)
	}
	return f
}

// A worker steers the group, and knows what the bucket says whenever it is asked to look.
type worker struct {
	*control.Group
	*control.Watcher
	clock time.Duration // ahead of the real one
}

func (f *fleet) worker(t *testing.T, name string, rules policy.Rules) *worker {
	t.Helper()
	w := &worker{}
	var err error
	w.Watcher, err = control.NewWatcher(control.WatcherConfig{
		Conn: f.server.Connect(t), KV: f.kv, Every: 100 * time.Millisecond, Logger: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Group, err = control.NewGroup(control.GroupConfig{
		Watcher: w.Watcher, JS: f.js, KV: f.kv, Group: group, Rules: rules, StopAfter: 3, Worker: name,
		Now: func() time.Time { return time.Now().Add(w.clock) }, Logger: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.look(t)
	return w
}

func (w *worker) look(t *testing.T) {
	t.Helper()
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// run runs the worker until the test, or the returned function, ends it.
func (w *worker) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Watcher.Run(ctx) })
	running.Go(func() {
		if err := w.Group.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func (f *fleet) put(t *testing.T, p control.Pause) {
	t.Helper()
	p.Group, p.Since, p.By = group, time.Now().UTC(), "ann"
	if _, err := control.Put(t.Context(), f.kv, p); err != nil {
		t.Fatal(err)
	}
}

// consumer returns the group's consumer as the server has it.
func (f *fleet) consumer(t *testing.T) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := f.js.Consumer(t.Context(), stream.Work, stream.ConsumerName(group))
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo()
}

func (f *fleet) ensureConsumer(t *testing.T, s stream.Settings) {
	t.Helper()
	if _, err := stream.EnsureConsumer(t.Context(), f.js, group, s); err != nil {
		t.Fatal(err)
	}
}

// holds returns the reasons that hold the group back, as the worker knows.
func (w *worker) holds(t *testing.T) []string {
	t.Helper()
	holds, _, err := w.Holds("", ackWait)
	if err != nil {
		t.Fatal(err)
	}
	reasons := []string{}
	for _, h := range holds {
		reasons = append(reasons, h.Reason)
	}
	return reasons
}

func wantHolds(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("what holds the group back (-want +got):\n%s", diff)
	}
}

// eventually waits for what another goroutine is to bring about.
func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// Fear: a worker that cannot hear that its group was paused goes on restarting.
func TestWatcher_WhatItKnowsIsGoodForALeaseAndNoLonger(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	if _, left, err := w.Holds("", ackWait); err != nil || left <= 0 || left > ackWait {
		t.Fatalf("Holds: got %s, %v, want most of %s", left, err, ackWait)
	}
	w.clock = ackWait
	if _, left, err := w.Holds("", ackWait); err == nil || left != 0 {
		t.Errorf("Holds a lease later: got %s, %v, want an error", left, err)
	}
	w.look(t)
	w.clock = 0
	wantHolds(t, w.holds(t))

	f.server.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.Refresh(ctx); err == nil {
		t.Error("Refresh without a server: got nil")
	}
}

// Fear: pause returns, and a trigger that was on its way boots a host after that.
func TestGroup_ConfirmsAPauseOnlyOnceEveryTriggerThatDidNotHearOfItHasEnded(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	holds, _, leave, err := w.Enter("", ackWait)
	if err != nil || len(holds) != 0 {
		t.Fatalf("Enter: got %+v, %v, want nothing in the way", holds, err)
	}
	revision, err := control.Put(t.Context(), f.kv, control.Pause{Group: group, Cause: control.ByHand})
	if err != nil {
		t.Fatal(err)
	}
	w.look(t)
	holds, _, leaveToo, err := w.Enter("", ackWait)
	if err != nil || len(holds) != 1 {
		t.Fatalf("Enter: got %+v, %v, want the pause", holds, err)
	}
	if got := w.Confirmed(); got >= revision {
		t.Errorf("confirmed revision %d while a trigger from before %d is being given", got, revision)
	}
	leave()
	if got := w.Confirmed(); got < revision {
		t.Errorf("confirmed revision %d, want %d: the trigger from before has ended", got, revision)
	}
	leaveToo()
	if got := w.Confirmed(); got < revision {
		t.Errorf("confirmed revision %d, want %d", got, revision)
	}
}

// Fear: a campaign was aborted, and a worker that has confirmed that triggers what it had asked for.
func TestGroup_HoldsTheRequestsOfAnAbortedCampaignAndNoOthers(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	for key, mark := range map[string]string{"one": `{"by":"ann","why":"wrong image"}`, "two": "not a mark"} {
		if _, err := f.kv.PutString(t.Context(), stream.AbortPrefix+key, mark); err != nil {
			t.Fatal(err)
		}
	}
	w.look(t)
	for campaign, want := range map[string]string{"one": "aborted ann: wrong image", "two": "aborted somebody: ", "three": "", "": ""} {
		holds, _, leave, err := w.Enter(campaign, ackWait)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		got := ""
		for _, h := range holds {
			if got += h.Reason + " " + h.By + ": " + h.Why; !h.Aborts {
				t.Errorf("campaign %q: %+v does not abort it", campaign, h)
			}
		}
		if got != want && (campaign != "two" || !strings.HasPrefix(got, want)) {
			t.Errorf("campaign %q is held by %q, want %q", campaign, got, want)
		}
	}
}

func TestWatcher_ThatHasNeverLookedHoldsEverythingBack(t *testing.T) {
	f := newFleet(t)
	watcher, err := control.NewWatcher(control.WatcherConfig{Conn: f.server.Connect(t), KV: f.kv, Every: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g, err := control.NewGroup(control.GroupConfig{Watcher: watcher, JS: f.js, KV: f.kv, Group: group, StopAfter: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Holds("", ackWait); err == nil {
		t.Error("Holds: got nil, want an error")
	}
}

func TestWatcher_HearsOfAChangeAtOnceAndOfOneThatWasMadeWhileTheServerWasAway(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	w.run(t)
	f.put(t, control.Pause{Cause: control.ByHand})
	eventually(t, "pause by hand", func() bool { return len(w.holds(t)) == 1 })
	f.server.Restart(t)
	eventually(t, "reconnected", func() bool { return control.Lift(t.Context(), f.kv, group, control.ByHand) == nil })
	eventually(t, "resumed", func() bool { return len(w.holds(t)) == 0 })
}

// Fear: somebody tidies the bucket up, and no worker ever restarts anything again, or forgets what holds it back.
func TestWatcher_BucketThatWasPurgedIsEmpty(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	f.put(t, control.Pause{Cause: control.ByHand})
	w.look(t)
	wantHolds(t, w.holds(t), "manual")
	s, err := f.js.Stream(t.Context(), stream.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.put(t, control.Pause{Cause: control.ByBreaker})
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.look(t)
	wantHolds(t, w.holds(t))
}

func TestWatcher_EntryThatCannotBeReadHoldsItsGroupAndNoOther(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	for _, key := range []string{"pause.default.manual", "pause.other.manual", "budget.default", "row.default"} {
		if _, err := f.kv.PutString(t.Context(), key, "[1"); err != nil {
			t.Fatal(err)
		}
	}
	w.look(t)
	wantHolds(t, w.holds(t), "manual")
	if _, err := control.Resume(t.Context(), f.kv, group); err != nil {
		t.Fatal(err)
	}
	w.look(t)
	wantHolds(t, w.holds(t))
}

func TestResume_LeavesTheWindowAndWhatHoldsAllGroups(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	for _, cause := range []control.Cause{control.ByHand, control.ByBreaker, control.ByWindow, "monitor-api"} {
		f.put(t, control.Pause{Cause: cause})
	}
	if _, err := control.Put(t.Context(), f.kv, control.Pause{Group: control.AllGroups, Cause: control.ByHand}); err != nil {
		t.Fatal(err)
	}
	lifted, err := control.Resume(t.Context(), f.kv, group)
	if err != nil {
		t.Fatal(err)
	}
	if len(lifted) != 3 || lifted[0].By != "ann" {
		t.Errorf("lifted: got %+v, want what hand, breaker and monitor put there", lifted)
	}
	w.look(t)
	wantHolds(t, w.holds(t), "manual", "window")
}

// closedFor returns rules whose window opens in about an hour, and when that is.
func closedFor(t *testing.T) (policy.Rules, time.Time) {
	t.Helper()
	opens := time.Now().UTC().Truncate(time.Minute).Add(time.Hour)
	text := fmt.Sprintf("%s-%s", opens.Format("15:04"), opens.Add(time.Hour).Format("15:04"))
	windows, err := policy.ParseWindows([]string{text}, nil, "UTC")
	if err != nil {
		t.Fatal(err)
	}
	return policy.Rules{Windows: windows, Takes: 10 * time.Minute}, opens
}

func TestGroup_WindowHoldsUntilItOpensAndItsOpeningEndsNoPauseByHand(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	rules, opens := closedFor(t)
	w := f.worker(t, "worker-1", rules)
	stop := w.run(t)
	eventually(t, "window holds", func() bool { return f.consumer(t).Paused })
	wantHolds(t, w.holds(t), "window")
	if until := f.consumer(t).Config.PauseUntil; !until.Equal(opens) {
		t.Errorf("paused until %s, want %s", until, opens)
	}
	f.put(t, control.Pause{Cause: control.ByHand})
	eventually(t, "both hold", func() bool { return len(w.holds(t)) == 2 })
	stop()

	w.clock = time.Until(opens) + time.Minute
	state, _ := w.State(group)
	if in := state.InForce(opens.Add(time.Minute)); len(in) != 1 || in[0].Cause != control.ByHand {
		t.Errorf("in force after it has opened: %+v, want the pause by hand alone", in)
	}
	w.run(t)
	eventually(t, "paused by hand alone", func() bool { return f.consumer(t).Config.PauseUntil.After(opens) })
}

// Fear: a window was mended in the configuration, and the group waits for the old one all the same.
func TestGroup_WorkerThatStartsInItsWindowOpensItAndOneThatRunsDoesNotOpenAnothers(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	rules, _ := closedFor(t)
	f.worker(t, "old file", rules).run(t)
	eventually(t, "window holds", func() bool { return f.consumer(t).Paused })
	// The old file is still in force somewhere, so what the new one opens is closed again, and stays so.
	w := f.worker(t, "new file", policy.Rules{})
	w.run(t)
	eventually(t, "window holds again", func() bool { return len(w.holds(t)) == 1 && f.consumer(t).Paused })
}

func TestGroup_WorkerThatStartsWithoutWindowTakesAStaleEntryAway(t *testing.T) {
	f := newFleet(t)
	f.put(t, control.Pause{Cause: control.ByWindow})
	f.ensureConsumer(t, settings)
	w := f.worker(t, "worker-1", policy.Rules{})
	wantHolds(t, w.holds(t), "window")
	w.run(t)
	eventually(t, "nothing holds", func() bool { return len(w.holds(t)) == 0 && !f.consumer(t).Paused })
}

func TestGroup_ConsumerThatIsCreatedAnewIsPausedFromTheFirstMoment(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	f.put(t, control.Pause{Cause: control.ByHand})
	w.look(t)
	f.ensureConsumer(t, w.Settings(settings))
	if info := f.consumer(t); !info.Paused {
		t.Error("the consumer hands messages out")
	}
	if err := f.js.DeleteConsumer(t.Context(), stream.Work, stream.ConsumerName(group)); err != nil {
		t.Fatal(err)
	}
	f.ensureConsumer(t, w.Settings(settings))
	if info := f.consumer(t); !info.Paused {
		t.Error("the consumer that was created again hands messages out")
	}
}

func TestGroup_BudgetOfTheBucketStandsWhateverAWorkersFileSays(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	if err := control.PutBudget(t.Context(), f.kv, group, control.Budget{Messages: 5, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	if err := control.Derive(t.Context(), f.js, f.kv, group); err != nil {
		t.Fatal(err)
	}
	if got := f.consumer(t).Config.MaxAckPending; got != 5 {
		t.Fatalf("budget: got %d, want 5", got)
	}
	w := f.worker(t, "old file", policy.Rules{})
	f.ensureConsumer(t, w.Settings(settings))
	w.run(t)
	// Somebody, an older version say, writes its own settings over it.
	cfg := f.consumer(t).Config
	cfg.MaxAckPending = 100
	if _, err := f.js.UpdateConsumer(t.Context(), stream.Work, cfg); err != nil {
		t.Fatal(err)
	}
	f.put(t, control.Pause{Cause: control.ByHand}) // any change, so that the test need not wait for the next look
	eventually(t, "budget is back", func() bool { return f.consumer(t).Config.MaxAckPending == 5 })
	if got := w.Settings(settings).Budget; got != 5 {
		t.Errorf("settings of a new consumer: got budget %d, want 5", got)
	}
}

func fallen(n int) restart.Outcome {
	return restart.Outcome{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), Host: restart.Host(fmt.Sprintf("cattle-%d.example.net", n)),
		Reason: restart.ReasonNotReady, At: time.Now().UTC(),
	}
}

func mustFall(t *testing.T, w *worker, n int) {
	t.Helper()
	if err := w.Fell(t.Context(), fallen(n)); err != nil {
		t.Fatal(err)
	}
}

// Fear: a bad image takes a fleet down, one budget at a time.
func TestGroup_TooManyHostsInARowThatDoNotComeBackPauseItUntilItIsResumed(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	one, two := f.worker(t, "worker-1", policy.Rules{}), f.worker(t, "worker-2", policy.Rules{})
	mustFall(t, one, 1)
	mustFall(t, two, 2)
	mustFall(t, two, 2) // told again after a crash
	if f.consumer(t).Paused {
		t.Fatal("paused after two")
	}
	mustFall(t, one, 3)
	// The consumer is paused when Fell returns: what the settlement makes room for is not handed out.
	if !f.consumer(t).Paused {
		t.Error("not paused after three")
	}
	wantHolds(t, one.holds(t), "breaker")
	lifted, err := control.Resume(t.Context(), f.kv, group)
	if err != nil || len(lifted) != 1 {
		t.Fatalf("Resume: got %+v, %v, want the breaker's pause", lifted, err)
	}
	if err := control.Derive(t.Context(), f.js, f.kv, group); err != nil {
		t.Fatal(err)
	}
	if f.consumer(t).Paused {
		t.Error("paused after it was resumed")
	}
	one.look(t)
	mustFall(t, one, 4)
	if f.consumer(t).Paused {
		t.Error("the row that was resumed still counts")
	}
}

func TestGroup_HostThatComesBackEndsTheRow(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	w := f.worker(t, "worker-1", policy.Rules{})
	for n := range 10 {
		mustFall(t, w, 2*n)
		mustFall(t, w, 2*n+1)
		w.look(t)
		if err := w.Rose(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.look(t)
	wantHolds(t, w.holds(t))
}

func TestGroup_WorkersThatCountAtOncePauseOnceAndKeepNoMoreThanThePauseNames(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	var counting sync.WaitGroup
	for i := range 3 {
		w := f.worker(t, fmt.Sprintf("worker-%d", i), policy.Rules{})
		for n := range 4 {
			counting.Go(func() {
				if err := w.Fell(t.Context(), fallen(4*i+n)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	counting.Wait()
	state, err := control.Read(t.Context(), f.kv, group)
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Row) != 3 || len(state.Pauses) != 1 || state.Pauses[0].Cause != control.ByBreaker {
		t.Errorf("got %d hosts in the row and pauses %+v, want 3 and the breaker's", len(state.Row), state.Pauses)
	}
}

// A lateJetStream lets something happen just before a consumer is looked at.
type lateJetStream struct {
	jetstream.JetStream
	before func()
}

func (l *lateJetStream) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	l.before()
	return l.JetStream.Consumer(ctx, stream, name)
}

// Fear: of two workers, one pauses the group, and the other, which is a step behind, lets it go on.
func TestDerive_DoesNotEndAPauseThatWasPutMeanwhile(t *testing.T) {
	f := newFleet(t)
	f.ensureConsumer(t, settings)
	js := &lateJetStream{f.js, func() {
		f.put(t, control.Pause{Cause: control.ByBreaker})
		if err := control.Derive(t.Context(), f.js, f.kv, group); err != nil {
			t.Error(err)
		}
	}}
	if err := control.Derive(t.Context(), js, f.kv, group); err != nil {
		t.Fatal(err)
	}
	if !f.consumer(t).Paused {
		t.Error("the consumer hands messages out under a pause")
	}
}

// A viewer that saw less than a worker would say that nothing holds a group back which waits.
func TestLook_SeesWhatReadSees(t *testing.T) {
	f := newFleet(t)
	f.put(t, control.Pause{Cause: control.ByBreaker})
	f.put(t, control.Pause{Cause: control.ByHand})
	if err := control.Lift(t.Context(), f.kv, group, control.ByHand); err != nil {
		t.Fatal(err)
	}
	for _, g := range []restart.Group{control.AllGroups, group + "-2"} { // the name of one begins like another's
		if _, err := control.Put(t.Context(), f.kv, control.Pause{Group: g, Cause: control.ByHand}); err != nil {
			t.Fatal(err)
		}
	}
	if err := control.PutBudget(t.Context(), f.kv, group, control.Budget{Messages: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.kv.Put(t.Context(), stream.AbortPrefix+uuid.NewString(), []byte(`{"by":"ann"}`)); err != nil {
		t.Fatal(err)
	}
	want, err := control.Read(t.Context(), f.kv, group)
	if err != nil {
		t.Fatal(err)
	}
	got, err := control.Look(t.Context(), f.js, f.kv, group)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got.Pauses) != 2 || len(got.Aborted) != 1 {
		t.Errorf("(-Read +Look):\n%s", diff)
	}
}
