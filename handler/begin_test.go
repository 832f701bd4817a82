package handler

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Fear: a hundred thousand messages whose hosts boot hold a hundred thousand stacks.
func TestBegin_AMessageThatIsWaitedForHasNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.host.down = time.Minute })
		d := newDelivery(newRequest(t))
		settled := make(chan string, 2)
		w.handler.Begin(t.Context(), d, func() { settled <- d.settled() })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		var profile bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
			t.Fatal(err)
		}
		for _, mine := range []string{"handler.(*Handler)", "handler.(*Job)", "handler.(*passage)", "handler.(*Lease)", "bounded."} {
			if strings.Contains(profile.String(), mine) {
				t.Errorf("a goroutine is in %s:\n%s", mine, profile.String())
			}
		}
		if held := w.handler.InFlight(); len(held) != 1 || held[0].Phase != PhaseVerify || len(settled) != 0 {
			t.Errorf("got %+v in flight, %d settled, want the message to be waited for", held, len(settled))
		}
		if got := <-settled; got != "ack" {
			t.Errorf("done was called when it was %q, want after the ack", got)
		}
		w.expect(d, "ack", "restarted verified", 1)
		time.Sleep(time.Minute)
		if len(settled) != 0 {
			t.Error("done was called twice")
		}
	})
}

// Fear: the worker is to stop, and what it waits for is told too late or never, and holds it up until it is killed.
func TestBegin_EveryMessageHearsOfTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.down = time.Hour
				return h
			})
		})
		work, stop := context.WithCancelCause(t.Context())
		other := context.WithValue(t.Context(), skewKey{}, time.Duration(0)) // another consumer's
		done := make(chan struct{}, 100)
		var mine []*fakeDelivery
		begin := func(ctx context.Context) *fakeDelivery {
			r := newRequest(t)
			r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", len(mine)))
			d := newDelivery(r)
			w.handler.Begin(ctx, d, func() { done <- struct{}{} })
			return d
		}
		for range 50 {
			mine = append(mine, begin(work))
		}
		apart, endApart := context.WithCancel(other)
		theirs := begin(apart)
		time.Sleep(time.Minute)
		stop(errGrace)
		synctest.Wait()
		mine = append(mine, begin(work)) // it came when all was over
		synctest.Wait()
		for _, d := range mine {
			if got := d.settled(); got != "nak" {
				t.Errorf("got %q, want it given back", got)
			}
		}
		if got := theirs.settled(); got != "left" || len(done) != len(mine) {
			t.Errorf("the other consumer's message: got %q, want it held; %d are done", got, len(done))
		}
		endApart()
		synctest.Wait()
		if got := theirs.settled(); got != "nak" {
			t.Errorf("the other consumer's message after its own stop: got %q, want it given back", got)
		}
	})
}
