package handler

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// A crowd is many messages under way with a database that is away, which has room for two writes at once.
type crowd struct {
	*world
	all            []*fakeDelivery
	goroutines     int // before
	stop, stopLast context.CancelFunc
	back           time.Time // when the database is
}

const crowdSize = 200

func newCrowd(t *testing.T, change func(*world)) *crowd {
	t.Helper()
	c := &crowd{back: time.Now().Add(30 * time.Minute)}
	c.world = newWorld(t, func(w *world) {
		w.log = zerolog.Nop()
		w.driver.Driver = perHost(newHost)
		w.store.Before = func(ctx context.Context, _ storetest.Call) error {
			select {
			case <-time.After(time.Until(c.back)):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if change != nil {
			change(w)
		}
	})
	c.writes().free = 2
	c.goroutines = runtime.NumGoroutine()
	var ctx, last context.Context
	ctx, c.stop = context.WithCancel(t.Context())
	last, c.stopLast = context.WithCancel(ctx)
	for i := range crowdSize {
		r := newRequest(t)
		r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", i))
		d := newDelivery(r)
		c.all = append(c.all, d)
		under := ctx
		if i == crowdSize-1 {
			under = last
		}
		c.handler.Begin(under, d, func() {})
	}
	return c
}

func (c *crowd) writes() *room { return &c.handler.cfg.Work.(*Restarter).writes }

// wants wants all but the last to be settled so, and the last.
func (c *crowd) wants(t *testing.T, settled, last string) {
	t.Helper()
	synctest.Wait()
	got := map[string]int{}
	for _, d := range c.all[:crowdSize-1] {
		got[d.settled()]++
	}
	if got[settled] != crowdSize-1 {
		t.Errorf("got %v, want %d times %q", got, crowdSize-1, settled)
	}
	if got := c.all[crowdSize-1].settled(); got != last {
		t.Errorf("the last: got %q, want %q", got, last)
	}
}

// end ends what still goes on, and wants the room to be as free as before.
func (c *crowd) end(t *testing.T) {
	t.Helper()
	c.stop()
	time.Sleep(time.Hour)
	synctest.Wait()
	if got := c.writes().free; got != 2 {
		t.Errorf("in the end there is room for %d writes, want 2", got)
	}
}

// Fear: the database is away for a while, each message waits for it with a goroutine, and the worker dies of them.
func TestRoom_WhoWaitsForTheDatabaseHasNoGoroutine(t *testing.T) {
	for name, change := range map[string]func(*world){
		"TheSave": nil,
		"TheOutcome": func(w *world) {
			before := w.store.Before
			w.store.Before = func(ctx context.Context, c storetest.Call) error {
				if c.Method == storetest.Save {
					return nil
				}
				return before(ctx, c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, change)
				time.Sleep(20 * time.Minute)
				c.wants(t, "left", "left")
				if more := runtime.NumGoroutine() - c.goroutines; more > 20 {
					t.Errorf("%d goroutines wait with %d messages, of which 2 may write", more, crowdSize)
				}
				time.Sleep(time.Hour)
				c.wants(t, "ack", "ack")
				if n := c.saved(); n != crowdSize {
					t.Errorf("%d requests are saved, want %d", n, crowdSize)
				}
				c.end(t)
			})
		})
	}
}

// Fear: what waits for room does not hear that its work has ended, and is kept from the other workers.
func TestRoom_WhatWaitsBeforeItEndsWithItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, nil)
		time.Sleep(10 * time.Minute)
		c.stopLast()
		time.Sleep(settleTimeout)
		c.wants(t, "left", "nak")
		c.stop()
		time.Sleep(settleTimeout)
		c.wants(t, "nak", "nak")
		c.end(t)
	})
}

// Fear: what was not triggered waits for a database that is away before the next worker gets it.
func TestRoom_WhatWaitsBeforeItIsHandedBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool // the hosts
		c := newCrowd(t, func(w *world) {
			w.driver.ProbeTimeout = time.Hour
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.onProbe = func(ctx context.Context) error {
					if silent.Load() {
						<-ctx.Done()
					}
					return ctx.Err()
				}
				return h
			})
		})
		synctest.Wait()
		silent.Store(true)
		intake, stopIntake := context.WithCancel(t.Context())
		late := beginAll(t, c.world, intake, 20)
		time.Sleep(time.Second)
		stopIntake()
		c.wants(t, "left", "left")
		for i, d := range late {
			if got := d.settled(); got != "nak" {
				t.Errorf("message %d, which was not triggered: got %q, want a nak", i, got)
			}
		}
		c.end(t)
	})
}

// Fear: messages that nobody can read wait for a database that is away, and keep all others from being restarted.
func TestRoom_WhatCannotBeReadWaitsThereToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Minute)
		w := newWorld(t, func(w *world) {
			w.store.Before = func(context.Context, storetest.Call) error {
				time.Sleep(time.Until(back))
				return nil
			}
		})
		w.handler.entrance.free = 1
		var unreadable []*fakeDelivery
		for range 10 {
			d := newDelivery(newRequest(t))
			d.data = []byte("{")
			unreadable = append(unreadable, d)
			w.handler.Begin(t.Context(), d, func() {})
		}
		w.handler.Begin(t.Context(), newDelivery(newRequest(t)), func() {})
		synctest.Wait()
		if w.host.boots != 1 {
			t.Errorf("a host was restarted %d times behind what cannot be read, want once", w.host.boots)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, d := range unreadable {
			if got := d.settled(); got != "term malformed" {
				t.Errorf("got %q, want it dead", got)
			}
		}
	})
}
