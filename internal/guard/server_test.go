package guard_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/guard"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const patience = 30 * time.Second

// A fleet is a server with what guards need of it.
type fleet struct {
	server *natsdtest.Server
	js     jetstream.JetStream
	kv     jetstream.KeyValue
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{server: natsdtest.Start(t)}
	f.js = f.server.JetStream(t)
	var err error
	settings := stream.Settings{Replicas: 1, AckWait: 10 * time.Second, Budget: 100}
	if f.kv, err = stream.EnsureControl(t.Context(), f.js, settings); err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Ensure(t.Context(), f.js, settings); err != nil {
		t.Fatal(err)
	}
	if _, err = stream.EnsureConsumer(t.Context(), f.js, group, settings); err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts a worker with a watcher of its own.
func (f *fleet) start(t *testing.T, name string, resumeAfter int) *worker {
	t.Helper()
	watcher, err := control.NewWatcher(control.WatcherConfig{
		Conn: f.server.Connect(t), KV: f.kv, Every: 100 * time.Millisecond, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { watcher.Run(ctx) })
	t.Cleanup(func() { cancel(); watching.Wait() })
	return start(t, guard.Config{
		Monitors: []guard.Monitor{{Name: "api", Groups: []restart.Group{group}, ResumeAfter: resumeAfter}},
		KV:       f.kv, Watcher: watcher, Worker: name,
		Derive: func(ctx context.Context, group restart.Group) error { return control.Derive(ctx, f.js, f.kv, group) },
	})
}

func (w *worker) tells(v monitor.Verdict) { w.Observe(w.monitor.result(v, "seen by "+w.name)) }

func (f *fleet) pauses(t *testing.T) []control.Pause {
	t.Helper()
	state, err := control.Read(t.Context(), f.kv, group)
	if err != nil {
		t.Fatal(err)
	}
	return state.Pauses
}

func (f *fleet) consumerPaused(t *testing.T) bool {
	t.Helper()
	c, err := f.js.Consumer(t.Context(), stream.Work, stream.ConsumerName(group))
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Paused
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

func TestServer_PauseHoldsTheFleetUntilAPersonResumesIt(t *testing.T) {
	f := newFleet(t)
	one, two := f.start(t, "worker-1", 0), f.start(t, "worker-2", 0)
	one.tells(bad)
	eventually(t, "paused", func() bool { return f.consumerPaused(t) && len(one.Holds(group)) == 0 })
	pauses := f.pauses(t)
	if len(pauses) != 1 || pauses[0].Cause != control.ByMonitor("api") || pauses[0].By != "worker-1" || pauses[0].Why != "seen by worker-1" {
		t.Fatalf("got %+v, want the pause by worker-1", pauses)
	}
	two.tells(bad)
	eventually(t, "known to the other", func() bool { return len(two.Holds(group)) == 0 })
	if got := f.pauses(t); len(got) != 1 || got[0] != pauses[0] {
		t.Errorf("got %+v, want the first entry untouched, %+v", got, pauses)
	}

	if _, err := control.Resume(t.Context(), f.kv, group); err != nil {
		t.Fatal(err)
	}
	if err := control.Derive(t.Context(), f.js, f.kv, group); err != nil {
		t.Fatal(err)
	}
	one.tells(bad)
	two.tells(bad)
	one.stop()
	two.stop()
	if got := f.pauses(t); len(got) > 0 || f.consumerPaused(t) {
		t.Errorf("got %+v, want nothing: a person has resumed it", got)
	}
}

func TestServer_WorkersThatFailAtOnceMakeOneEntry(t *testing.T) {
	for _, resumeAfter := range []int{0, 3} {
		f := newFleet(t)
		var workers []*worker
		for _, name := range []string{"worker-1", "worker-2", "worker-3", "worker-4"} {
			workers = append(workers, f.start(t, name, resumeAfter))
		}
		for _, w := range workers {
			w.tells(bad)
		}
		for _, w := range workers {
			eventually(t, "held by the bucket", func() bool { return len(w.Holds(group)) == 0 })
		}
		history, err := f.kv.History(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if resumeAfter == 0 && len(history) != 1 {
			t.Errorf("written %d times, want once", len(history))
		}
		for _, e := range history {
			if string(e.Value()) != string(history[0].Value()) {
				t.Errorf("got entry %s, want the first, %s", e.Value(), history[0].Value())
			}
		}
	}
}

func TestServer_ThatIsAwayAtTheFailureIsToldWhenItIsBack(t *testing.T) {
	f := newFleet(t)
	w := f.start(t, "worker-1", 0)
	w.tells(good)
	f.server.Stop(t)
	w.tells(bad)
	if holds := w.Holds(group); len(holds) != 1 {
		t.Errorf("got %v, want the hold of the monitor that has failed", holds)
	}
	f.server.StartAgain(t)
	eventually(t, "held by the bucket", func() bool { return len(w.Holds(group)) == 0 })
	if got := f.pauses(t); len(got) != 1 {
		t.Errorf("got %+v, want the pause", got)
	}
}

func TestServer_GroupIsResumedOnceNoWorkerSeesItFail(t *testing.T) {
	f := newFleet(t)
	one, two := f.start(t, "worker-1", 3), f.start(t, "worker-2", 3)
	one.tells(bad)
	two.tells(bad)
	eventually(t, "held by the bucket", func() bool { return len(one.Holds(group))+len(two.Holds(group)) == 0 })
	for range 10 {
		before := f.pauses(t)
		one.tells(good)
		eventually(t, "said that it fails", func() bool {
			two.tells(bad)
			return f.pauses(t)[0].Revision > before[0].Revision
		})
	}
	two.stop()
	two = f.start(t, "worker-2", 3)
	eventually(t, "resumed", func() bool {
		one.tells(good)
		two.tells(good)
		return len(f.pauses(t)) == 0 && !f.consumerPaused(t)
	})
}

func TestServer_WorkerThatStartsLiftsWhatADeadOneLeft(t *testing.T) {
	f := newFleet(t)
	dead := f.start(t, "worker-1", 2)
	dead.tells(bad)
	eventually(t, "paused", func() bool { return f.consumerPaused(t) })
	dead.stop()
	w := f.start(t, "worker-1", 2)
	eventually(t, "resumed", func() bool {
		w.tells(good)
		return len(f.pauses(t)) == 0 && !f.consumerPaused(t)
	})
}
