package handler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// Fear: an operator is shown a message that is gone, or not shown one that hangs.
func TestInFlight_SaysWhereAMessageIsAndForgetsItWhenItIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.host.down = time.Minute
			w.host.onRestart = func(context.Context, int) error { time.Sleep(10 * time.Second); return nil }
			w.store.Before = func(_ context.Context, c storetest.Call) error {
				if c.Method == storetest.Finish {
					time.Sleep(20 * time.Second)
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		began := time.Now()
		go handle(w.handler, t.Context(), d)
		for _, want := range []struct {
			at      time.Duration
			phase   Phase
			attempt int
		}{
			{5 * time.Second, PhaseRestart, 1},
			{30 * time.Second, PhaseVerify, 1},
			{85 * time.Second, PhaseFinish, 1},
		} {
			time.Sleep(time.Until(began.Add(want.at)))
			held := w.handler.InFlight()
			if len(held) != 1 {
				t.Fatalf("after %s: got %+v, want one message", want.at, held)
			}
			if h := held[0]; h.Phase != want.phase || h.Attempt != want.attempt || h.ID != d.request.ID || h.Host != d.request.Host || h.Since.After(time.Now()) {
				t.Errorf("after %s: got %+v, want it in phase %s, attempt %d", want.at, h, want.phase, want.attempt)
			}
		}
		time.Sleep(time.Minute)
		w.expect(d, "ack", "restarted verified", 1)
		if held := w.handler.InFlight(); len(held) != 0 {
			t.Errorf("got %+v after it was settled, want none", held)
		}
		if got, want := strings.Join(w.observer.moves, " "), "gate slot restart verify save finish settle "; got != want {
			t.Errorf("phases: got %q, want %q", got, want)
		}
		for step, want := range map[Step]time.Duration{
			StepRestart: 10 * time.Second, StepVerify: time.Minute, StepFinish: 20 * time.Second, StepSave: 0, StepQueueWait: 0,
		} {
			took := w.observer.took[step]
			if len(took) != 1 || took[0] < want || took[0] > want+time.Second {
				t.Errorf("%s: got %v, want about %s, once", step, took, want)
			}
		}
		if w.observer.events[EventTrigger] != 1 {
			t.Errorf("got events %v, want one trigger", w.observer.events)
		}
	})
}

// However a delivery ends, it leaves nothing behind in any phase.
func TestObserver_EveryMessageThatCameInGoesOutAgain(t *testing.T) {
	for name, change := range map[string]func(*world){
		"Restarted": func(*world) {},
		"Refused":   func(w *world) { w.host.onRestart = refuse(99) },
		"Held":      func(w *world) { w.control.holds = byHand },
		"Panic":     func(w *world) { w.host.onProbe = func(context.Context) error { panic("boom") } },
		"Permanent": func(w *world) {
			w.host.onRestart = func(context.Context, int) error { return restart.ErrPermanent }
		},
		"StoreAway": func(w *world) {
			w.store.Before = func(context.Context, storetest.Call) error { return errors.New("connection refused") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, change)
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				for phase, n := range w.observer.now {
					if n != 0 && phase != "" {
						t.Errorf("%d messages are left in phase %q", n, phase)
					}
				}
				if held := w.handler.InFlight(); len(held) != 0 || w.observer.now[""] != 0 {
					t.Errorf("got %+v in flight, %d outside", held, w.observer.now[""])
				}
			})
		})
	}
}

func TestObserver_CountsDuplicatesTakeoversAndWhatTheFenceRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		handle(w.handler, t.Context(), d.again())
		if n := w.observer.events[EventSuppressed]; n != 1 {
			t.Errorf("got %d duplicates suppressed, want 1", n)
		}
	})
}
