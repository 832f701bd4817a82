package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	testPatience = 20 * time.Second
	testAckWait  = time.Second
)

// bench is a real server with what campaigns stand on.
type bench struct {
	*natsdtest.Server
	js       jetstream.JetStream
	docs     *Documents
	consumer jetstream.Consumer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{Server: natsdtest.Start(t)}
	b.js = b.JetStream(t)
	kv, err := stream.EnsureCampaigns(t.Context(), b.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	b.consumer = ensureConsumer(t, b.js)
	control, err := stream.EnsureControl(t.Context(), b.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if b.docs, err = NewDocuments(b.js, kv, control); err != nil {
		t.Fatal(err)
	}
	return b
}

func ensureConsumer(t *testing.T, js jetstream.JetStream) jetstream.Consumer {
	t.Helper()
	consumer, err := stream.EnsureCampaignConsumer(t.Context(), js, "default", stream.Settings{AckWait: testAckWait})
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}

// liveSpec is a campaign that begins now.
func liveSpec(n int, batches, maxUnavailable string) *Spec {
	return newSpec(n, batches, maxUnavailable, func(s *Spec) {
		s.Created = time.Now().UTC().Truncate(time.Second)
		s.NotAfter = s.Created.Add(time.Hour)
	})
}

// hosts are what is restarted: each request ends a little after it was published, once.
type hosts struct {
	mu    sync.Mutex
	asked map[uuid.UUID]time.Time
	boots int
	stuck atomic.Bool // nothing ends any more
}

func (h *hosts) Publish(_ context.Context, requests []restart.Request) []Sent {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range requests {
		if _, again := h.asked[r.ID]; !again {
			h.asked[r.ID] = time.Now()
			h.boots++
		}
	}
	return make([]Sent, len(requests))
}

func (h *hosts) Look(_ context.Context, targets []Target) ([]Sight, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sights := make([]Sight, len(targets))
	for i, t := range targets {
		at, asked := h.asked[t.ID]
		if sights[i].Queued = asked; asked && !h.stuck.Load() && time.Since(at) > 20*time.Millisecond {
			sights[i] = Sight{Kind: restart.Restarted, Reason: restart.ReasonVerified}
		}
	}
	return sights, nil
}

func (h *hosts) Cancel(_ context.Context, targets []Target, _ Mark) ([]bool, error) {
	return slices.Repeat([]bool{true}, len(targets)), nil
}

// worker serves campaigns over a connection of its own.
type worker struct {
	nc   *nats.Conn
	stop context.CancelFunc
	done chan struct{}
}

func startWorker(t *testing.T, b *bench, name string, h *hosts, announce func(*Spec, Progress)) *worker {
	t.Helper()
	nc := b.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.CampaignBucket)
	if err != nil {
		t.Fatal(err)
	}
	control, err := js.KeyValue(t.Context(), stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := NewDocuments(js, kv, control)
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(zerolog.NewTestWriter(t)).With().Str("worker", name).Logger()
	runner, err := NewRunner(RunnerConfig{
		Worker: name, Group: "default", Store: docs, Steering: docs, Requests: h, Announce: announce, Every: 10 * time.Millisecond, Logger: log,
		Conditions: func(context.Context, *Spec) (Conditions, error) { return Conditions{Good: began}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := NewServer(ServerConfig{Conn: nc, Consumer: ensureConsumer(t, js), Run: runner.Run, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &worker{nc, cancel, make(chan struct{})}
	go func() {
		defer close(w.done)
		if err := server.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *worker) end() {
	w.stop()
	<-w.done
}

// await polls until the campaign is as it should be.
func (b *bench) await(t *testing.T, id uuid.UUID, ready func(Campaign) bool) Campaign {
	t.Helper()
	for end := time.Now().Add(testPatience); ; time.Sleep(5 * time.Millisecond) {
		c, err := b.docs.Load(t.Context(), id)
		if err == nil && ready(c) {
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("campaign is %+v, %v", c.Progress, err)
		}
	}
}

func over(c Campaign) bool { return c.Progress.State.Final() }

func (b *bench) messages(t *testing.T) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream.Campaigns)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// awaitSettled waits until no campaign's message is there any more.
func (b *bench) awaitSettled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(testPatience); b.messages(t) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the message was not settled")
		}
	}
}

// The worker that drives is cut off in the middle, with nothing handed back; another goes on.
func TestServer_GoesOnWhereAWorkerThatIsGoneHasStopped(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	s := liveSpec(40, "2", "2")
	driver := make(chan string, 1000)
	announce := func(_ *Spec, p Progress) { driver <- p.Driver }
	first := startWorker(t, b, "first", h, announce)
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	b.await(t, s.ID, func(c Campaign) bool { return c.Progress.Counts().Ended[restart.Restarted] >= 4 })
	first.nc.Close()
	startWorker(t, b, "second", h, announce)
	c := b.await(t, s.ID, over)
	if got := c.Progress.Counts().Ended[restart.Restarted]; c.Progress.State != Ended || got != 40 || h.boots != 40 {
		t.Errorf("got state %s, %d restarted and %d boots, want 40", c.Progress.State, got, h.boots)
	}
	b.awaitSettled(t)
	drivers := map[string]bool{}
	for len(driver) > 0 {
		drivers[<-driver] = true
	}
	if len(drivers) != 2 {
		t.Errorf("got drivers %v, want two", drivers)
	}
}

// A stop hands the campaign back: the next worker has it at once, and not only when a lease is over.
func TestServer_HandsBackWhenItIsStopped(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	h.stuck.Store(true)
	s := liveSpec(3, "1", "1")
	first := startWorker(t, b, "first", h, nil)
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	b.await(t, s.ID, func(c Campaign) bool { return c.Progress.Counts().Open == 1 })
	first.end()
	if c, err := b.docs.Load(t.Context(), s.ID); err != nil || c.Progress.Taken != 0 {
		t.Errorf("got %+v, %v; want it to be noted that nothing went wrong", c.Progress, err)
	}
	h.stuck.Store(false)
	startWorker(t, b, "second", h, nil)
	if c := b.await(t, s.ID, over); c.Progress.State != Ended || h.boots != 3 {
		t.Errorf("got state %s and %d boots", c.Progress.State, h.boots)
	}
}

// A campaign lasts longer than a lease by far.
func TestServer_HoldsACampaignForMuchLongerThanALease(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	h.stuck.Store(true)
	s := liveSpec(2, "1", "1")
	takes := atomic.Int64{}
	for _, name := range []string{"first", "second"} {
		startWorker(t, b, name, h, func(_ *Spec, p Progress) {
			if p.Taken > 0 {
				takes.Add(1)
			}
		})
	}
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	b.await(t, s.ID, func(c Campaign) bool { return c.Progress.Counts().Open == 1 })
	// The server's own clock decides: a message that is not extended is handed out again.
	info, err := b.consumer.Info(t.Context())
	for end := time.Now().Add(3 * testAckWait); err == nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		info, err = b.consumer.Info(t.Context())
	}
	if err != nil || info.NumRedelivered > 0 || info.NumAckPending != 1 {
		t.Errorf("got %+v, %v; want it held, and handed out once", info, err)
	}
	h.stuck.Store(false)
	b.await(t, s.ID, over)
	b.awaitSettled(t)
	if takes.Load() != 1 {
		t.Errorf("it was taken up %d times, want once", takes.Load())
	}
}

func TestServer_SteersARunningCampaignByMarks(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	s := liveSpec(50, "1", "1")
	startWorker(t, b, "first", h, nil)
	if _, err := b.docs.Pause(t.Context(), s.ID, Mark{By: "ops", Why: "lunch"}); err != nil {
		t.Fatal(err)
	}
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	c := b.await(t, s.ID, func(c Campaign) bool { return c.Progress.State == Paused })
	if c.Progress.Waits != "paused by ops: lunch" || h.boots != 0 {
		t.Errorf("paused: got %q and %d boots", c.Progress.Waits, h.boots)
	}
	for i, want := range []bool{true, false} {
		if was, err := b.docs.Resume(t.Context(), s.ID); err != nil || was != want {
			t.Errorf("resume %d: got %v, %v; want %v", i, was, err, want)
		}
	}
	b.await(t, s.ID, func(c Campaign) bool { return c.Progress.Counts().Ended[restart.Restarted] >= 3 })
	for i, mark := range []Mark{{By: "ops", Why: "wrong image", At: time.Now()}, {By: "another", At: time.Now()}} {
		if revision, err := b.docs.Abort(t.Context(), s.ID, mark); err != nil || revision != 1 {
			t.Fatalf("abort %d: got revision %d, %v; want that of the first mark", i, revision, err)
		}
	}
	c = b.await(t, s.ID, over)
	if c.Progress.State != Aborted || c.Progress.Why != "by ops: wrong image" || c.Progress.Counts().Pending == 0 {
		t.Errorf("aborted: got %+v", c.Progress)
	}
	b.awaitSettled(t)
	boots := h.boots
	// Handed to the workers once more, it stays over.
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	b.awaitSettled(t)
	if h.boots != boots {
		t.Errorf("%d boots after it was over", h.boots-boots)
	}
}

// Who may hand in campaigns of one group could write a document that names another.
func TestServer_DrivesNoCampaignThatIsOfAnotherGroupThanItsSubject(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	s := liveSpec(1, "1", "1")
	s.Group = "other"
	startWorker(t, b, "first", h, nil)
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(t.Context(), stream.CampaignSubject("default", s.ID), nil); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(testPatience); b.messages(t) > 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the message under the wrong group is still there")
		}
	}
	if c, err := b.docs.Load(t.Context(), s.ID); err != nil || c.Progress.State != Submitted || h.boots != 0 {
		t.Errorf("got %+v, %v and %d boots; want it to wait for a worker of its group", c.Progress, err, h.boots)
	}
}

// A read of a cluster's bucket may be answered by a node that is behind. A campaign that was handed in a moment ago must
// not be thrown away for that.
func TestServer_WaitsForTheDocumentOfACampaignThatWasJustHandedIn(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	s := liveSpec(1, "1", "1")
	subject := stream.CampaignSubject(s.Group, s.ID)
	if _, err := b.js.Publish(t.Context(), subject, nil); err != nil {
		t.Fatal(err)
	}
	startWorker(t, b, "first", h, nil)
	b.awaitDelivery(t)
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.docs.campaigns.Create(t.Context(), specPrefix+s.ID.String(), data); err != nil {
		t.Fatal(err)
	}
	if c := b.await(t, s.ID, over); c.Progress.State != Ended || h.boots != 1 {
		t.Errorf("got state %s and %d boots, want it done", c.Progress.State, h.boots)
	}
}

// A campaign whose document somebody has deleted must not be handed out for ever.
func TestServer_ThrowsAwayACampaignThatHasNoDocumentInTheEnd(t *testing.T) {
	b := newBench(t)
	server, err := NewServer(ServerConfig{
		Conn: b.Connect(t), Consumer: b.consumer, Run: func(context.Context, uuid.UUID) error { return ErrNotFound },
	})
	if err != nil {
		t.Fatal(err)
	}
	server.missingTries = 2
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if _, err := b.js.Publish(t.Context(), stream.CampaignSubject("default", uuid.New()), nil); err != nil {
		t.Fatal(err)
	}
	b.awaitSettled(t)
}

// awaitDelivery waits until a worker has been handed a campaign.
func (b *bench) awaitDelivery(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(testPatience); ; time.Sleep(5 * time.Millisecond) {
		if info, err := b.consumer.Info(t.Context()); err == nil && info.Delivered.Consumer > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no worker has taken the campaign")
		}
	}
}

// A panic is one campaign's, and the worker goes on.
func TestServer_OutlivesACampaignThatPanics(t *testing.T) {
	b := newBench(t)
	bad, good := liveSpec(1, "1", "1"), liveSpec(1, "1", "1")
	panicked, done := make(chan struct{}, 10), make(chan struct{})
	server, err := NewServer(ServerConfig{Conn: b.Connect(t), Consumer: b.consumer, Run: func(_ context.Context, id uuid.UUID) error {
		if id == bad.ID {
			panicked <- struct{}{}
			panic("bug")
		}
		close(done)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	defer running.Wait()
	defer cancel()
	for _, s := range []*Spec{bad, good} {
		if err := b.docs.Submit(t.Context(), *s); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]<-chan struct{}{"the bad one": panicked, "the good one": done} {
		select {
		case <-c:
		case <-time.After(testPatience):
			t.Fatalf("%s was not driven", what)
		}
	}
}

func TestDocuments_TakeACampaignOnceAndNoOtherUnderItsID(t *testing.T) {
	b := newBench(t)
	s := liveSpec(2, "1", "1")
	for range 3 {
		if err := b.docs.Submit(t.Context(), *s); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.messages(t); n != 1 {
		t.Errorf("got %d messages, want 1", n)
	}
	other := *s
	other.Batches = []Amount{{Count: 2}}
	if err := b.docs.Submit(t.Context(), other); !errors.Is(err, ErrOther) {
		t.Errorf("another under its id: got %v, want %v", err, ErrOther)
	}
	if c, err := b.docs.Load(t.Context(), s.ID); err != nil || c.Progress.State != Submitted || len(c.Progress.Hosts) != 2 {
		t.Errorf("got %+v, %v; want it submitted", c, err)
	}
	if _, err := b.docs.Load(t.Context(), uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a campaign that is not there: got %v, want %v", err, ErrNotFound)
	}
	later := liveSpec(1, "1", "1")
	if err := b.docs.Submit(t.Context(), *later); err != nil {
		t.Fatal(err)
	}
	if ids, err := b.docs.List(t.Context()); err != nil || !slices.Equal(ids, []uuid.UUID{later.ID, s.ID}) {
		t.Errorf("got %v, %v; want the latest first", ids, err)
	}
}

// Whoever could not hand a campaign in must be able to tell for certain that nothing comes of it.
func TestDocuments_WithdrawACampaignBeforeAWorkerHasIt(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	s := liveSpec(3, "1", "1")
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, as after a lost answer
		if done, err := b.docs.Withdraw(t.Context(), *s, Mark{By: "ops", Why: "no answer", At: time.Now()}); err != nil || !done {
			t.Fatalf("got %v, %v; want it withdrawn", done, err)
		}
	}
	startWorker(t, b, "first", h, nil)
	b.awaitSettled(t)
	c, err := b.docs.Load(t.Context(), s.ID)
	if err != nil || c.Progress.State != Aborted || c.Progress.Why != "by ops: no answer" || c.Progress.Over.IsZero() || h.boots != 0 {
		t.Errorf("got %+v, %v and %d boots; want it aborted, and nothing done", c.Progress, err, h.boots)
	}
}

func TestDocuments_DoNotWithdrawACampaignThatAWorkerHas(t *testing.T) {
	b := newBench(t)
	h := &hosts{asked: map[uuid.UUID]time.Time{}}
	h.stuck.Store(true)
	s := liveSpec(2, "1", "1")
	startWorker(t, b, "first", h, nil)
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	b.await(t, s.ID, func(c Campaign) bool { return c.Progress.Counts().Open == 1 })
	if done, err := b.docs.Withdraw(t.Context(), *s, Mark{By: "ops", At: time.Now()}); err != nil || done {
		t.Errorf("got %v, %v; want it left to the worker", done, err)
	}
	h.stuck.Store(false)
	if c := b.await(t, s.ID, over); c.Progress.State != Ended || h.boots != 2 {
		t.Errorf("got state %s and %d boots", c.Progress.State, h.boots)
	}
}

// laggard is a bucket whose first reads are answered by a node that is behind.
type laggard struct {
	jetstream.KeyValue
	behind atomic.Int64
}

func (l *laggard) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if l.behind.Add(-1) >= 0 {
		return nil, jetstream.ErrKeyNotFound
	}
	return l.KeyValue.Get(ctx, key)
}

// Whoever presses the button a moment after somebody else must not be told that it did not work.
func TestDocuments_AbortFindsTheMarkThatStandsAlsoOnANodeThatIsBehind(t *testing.T) {
	b := newBench(t)
	id := uuid.New()
	first, err := b.docs.Abort(t.Context(), id, Mark{By: "ops", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	control := &laggard{KeyValue: b.docs.control}
	control.behind.Store(2)
	behind, err := NewDocuments(b.js, b.docs.campaigns, control)
	if err != nil {
		t.Fatal(err)
	}
	if revision, err := behind.Abort(t.Context(), id, Mark{By: "another", At: time.Now()}); err != nil || revision != first {
		t.Errorf("got %d, %v; want %d", revision, err, first)
	}
}

// Two runs of one schedule begin at the same moment: one of them goes ahead.
func TestDocuments_OfManyWhoTakeATurnOneHasIt(t *testing.T) {
	b := newBench(t)
	before, err := b.docs.Turn(t.Context(), "nightly")
	if err != nil || before.Campaign != uuid.Nil {
		t.Fatalf("got %+v, %v; want none", before, err)
	}
	for round := range 3 { // the first has nothing before it
		ids := make([]uuid.UUID, 8)
		errs := make([]error, len(ids))
		var racing sync.WaitGroup
		for i := range ids {
			ids[i] = uuid.New()
			racing.Go(func() {
				errs[i] = b.docs.TakeTurn(t.Context(), "nightly", before, Turn{Campaign: ids[i], Until: time.Now()})
			})
		}
		racing.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Errorf("round %d: two have the turn", round)
			case err == nil:
				won = i
			case !errors.Is(err, ErrConflict):
				t.Errorf("round %d: got %v, want %v", round, err, ErrConflict)
			}
		}
		if before, err = b.docs.Turn(t.Context(), "nightly"); err != nil || won < 0 || before.Campaign != ids[won] {
			t.Fatalf("round %d: got %+v, %v; want that of number %d", round, before, err, won)
		}
	}
}

func TestDocuments_OfTwoThatWriteOneWinsAndEachKnowsItsOwn(t *testing.T) {
	b := newBench(t)
	s := liveSpec(2, "1", "1")
	mine := newProgress(s)
	mine.Driver, mine.Write = "mine", 1
	theirs := mine.clone()
	theirs.Driver = "theirs"
	revision, err := b.docs.CompareAndSet(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.docs.CompareAndSet(t.Context(), theirs); !errors.Is(err, ErrConflict) {
		t.Errorf("theirs: got %v, want %v", err, ErrConflict)
	}
	if again, err := b.docs.CompareAndSet(t.Context(), mine); err != nil || again != revision {
		t.Errorf("mine again, as after a lost answer: got %d, %v; want %d", again, err, revision)
	}
	mine.Revision, theirs.Revision = revision, revision
	mine.Write = 2
	if _, err := b.docs.CompareAndSet(t.Context(), theirs); err != nil {
		t.Errorf("theirs on mine: got %v", err)
	}
	if _, err := b.docs.CompareAndSet(t.Context(), mine); !errors.Is(err, ErrConflict) {
		t.Errorf("mine on what is no more: got %v, want %v", err, ErrConflict)
	}
}

// A campaign of ten thousand hosts goes through a real server.
func TestDocuments_HoldTenThousandHosts(t *testing.T) {
	b := newBench(t)
	s := liveSpec(10_000, "1", "100%")
	if err := b.docs.Submit(t.Context(), *s); err != nil {
		t.Fatal(err)
	}
	p := newProgress(s)
	p.Others = map[int]uuid.UUID{}
	for i := range s.Hosts {
		p.Hosts[i], p.Batches = open, append(p.Batches, i)
		p.Others[i] = uuid.New()
	}
	if _, err := b.docs.CompareAndSet(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func TestDocuments_KeepThePlanOfADryRunUnderWhatWasAskedFor(t *testing.T) {
	b := newBench(t)
	plan := NewPlan(*liveSpec(3, "1", "1"), time.Now().UTC(), nil)
	if err := b.docs.SavePlan(t.Context(), "roll --known default", plan); err != nil {
		t.Fatal(err)
	}
	got, err := b.docs.LoadPlan(t.Context(), "roll --known default")
	if err != nil || got.Hash != plan.Hash || len(got.Diff(plan.Spec)) > 0 || len(got.Batches) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := b.docs.LoadPlan(t.Context(), "roll --known blue"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing planned: got %v, want %v", err, ErrNotFound)
	}
}

func TestHold_EndsTheWorkBeforeTheBrokerHandsTheMessageToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		extensions := 0
		ctx, release := hold(t.Context(), start, 30*time.Second, func(context.Context) error {
			if extensions++; time.Since(start) > 5*time.Minute {
				return errLost
			}
			return nil
		})
		<-ctx.Done()
		lost := time.Since(start)
		if !errors.Is(context.Cause(ctx), ErrLeaseLost) || lost < 5*time.Minute || lost > 5*time.Minute+27*time.Second {
			t.Errorf("got %v after %s and %d extensions, want the lease lost within 27 s of the last", context.Cause(ctx), lost, extensions)
		}
		if release() {
			t.Error("it says that the message is still held")
		}
	})
}
