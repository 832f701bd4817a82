package handler

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// A slowLine is a line of the log about slow phases.
type slowLine struct {
	Level, Message, Phase, ID, Host, Group string

	Took float64 // in milliseconds
	More int
}

// A slowLog is a log writer that keeps what is said of slow phases.
type slowLog struct {
	mu    sync.Mutex
	lines []slowLine
}

func (l *slowLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line slowLine
	if err := json.Unmarshal(text, &line); err != nil {
		return 0, err
	}
	if strings.HasPrefix(line.Message, "phase") {
		l.lines = append(l.lines, line)
	}
	return len(text), nil
}

// said returns what was said since the last call.
func (l *slowLog) said() []slowLine {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *slowLog) wantSilence(t *testing.T) {
	t.Helper()
	if said := l.said(); len(said) != 0 {
		t.Errorf("got %+v, want nothing said", said)
	}
}

// newSlowWorld returns a world whose handler is watched until the test ends.
func newSlowWorld(t *testing.T, slow time.Duration, change func(*world)) (*world, *slowLog) {
	t.Helper()
	log := &slowLog{}
	w := newWorld(t, func(w *world) {
		w.log, w.slow = zerolog.New(log), slow
		change(w)
	})
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { w.handler.WatchSlow(ctx) })
	t.Cleanup(func() {
		stop()
		watching.Wait()
	})
	return w, log
}

// Fear: a message hangs for an hour, and the log is as silent about it as about one that was never there.
func TestSlowPhase_IsToldOnceWhileItLastsAndOnceWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newSlowWorld(t, 10*time.Second, func(w *world) {
			w.host.onRestart = func(context.Context, int) error { time.Sleep(29 * time.Second); return nil }
			w.cfg.StoreTimeout = time.Hour
			w.store.Before = func(_ context.Context, c storetest.Call) error {
				if c.Method == storetest.Finish {
					time.Sleep(time.Minute)
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		go handle(w.handler, t.Context(), d)
		for _, want := range []struct {
			after, took           time.Duration
			phase, level, message string
		}{
			{after: 11 * time.Second},
			{16 * time.Second, 15 * time.Second, "restart", "warn", "phase is slow"},
			{after: 28 * time.Second},
			{30 * time.Second, 29 * time.Second, "restart", "info", "phase was slow"},
			{41 * time.Second, 11 * time.Second, "finish", "warn", "phase is slow"},
			{after: 88 * time.Second},
			{90 * time.Second, time.Minute, "finish", "info", "phase was slow"},
			{after: time.Hour},
		} {
			time.Sleep(time.Until(d.stored.Add(want.after)))
			var lines []slowLine
			if want.message != "" {
				lines = []slowLine{{
					want.level, want.message, want.phase, d.request.ID.String(), string(d.request.Host), string(d.request.Group),
					float64(want.took.Milliseconds()), 0,
				}}
			}
			if diff := cmp.Diff(lines, log.said()); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", want.after, diff)
			}
		}
		w.expect(d, "ack", "restarted verified", 1)
	})
}

// Fear: the log is full of hosts that boot as slowly as ever, and nobody reads it any more.
func TestSlowPhase_IsNeitherTheWaitForAHostNorForOtherMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newSlowWorld(t, 10*time.Second, func(w *world) {
			w.driver.Slots = 1
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.down = 5 * time.Minute
				h.onRestart = func(context.Context, int) error { time.Sleep(9 * time.Second); return nil }
				return h
			})
		})
		handleAll(t, w, 20)
		log.wantSilence(t)
	})
}

// Fear: the store is away, and what matters in the log is drowned by what everybody knows by then.
func TestSlowPhase_OfHundredsAtOnceIsToldOfAFewAndTheRestAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		back := make(chan struct{})
		w, log := newSlowWorld(t, 10*time.Second, func(w *world) {
			w.driver.Driver, w.driver.Slots = perHost(newHost), n
			w.store.Before = func(context.Context, storetest.Call) error { <-back; return nil }
		})
		handled := make(chan struct{})
		go func() { handleAll(t, w, n); close(handled) }()
		wantFew := func(level, message, rest string) {
			t.Helper()
			lines := log.said()
			if len(lines) != slowLines+1 {
				t.Fatalf("got %d lines, want %d that name a message and one that counts the rest", len(lines), slowLines)
			}
			for i, line := range lines {
				want := slowLine{Level: level, Message: message, Phase: "save"}
				if i == slowLines {
					want = slowLine{Level: level, Message: rest, More: n - slowLines}
				}
				if got := (slowLine{Level: line.Level, Message: line.Message, Phase: line.Phase, More: line.More}); got != want {
					t.Errorf("line %d: got %+v, want %+v", i, got, want)
				}
			}
		}

		time.Sleep(16 * time.Second)
		wantFew("warn", "phase is slow", "phases of more messages are slow")
		time.Sleep(time.Minute)
		log.wantSilence(t)
		close(back)
		<-handled
		time.Sleep(6 * time.Second)
		wantFew("info", "phase was slow", "phases of more messages were slow")
		time.Sleep(time.Minute)
		log.wantSilence(t)
	})
}

func TestSlowPhase_OfNoneIsNeverTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newSlowWorld(t, 0, func(w *world) {
			w.host.onRestart = func(context.Context, int) error { time.Sleep(time.Minute); return nil }
		})
		w.handler.WatchSlow(t.Context()) // it returns at once
		handle(w.handler, t.Context(), newDelivery(newRequest(t)))
		log.wantSilence(t)
	})
}
