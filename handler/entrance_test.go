package handler

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// beginAll begins n messages of a host each.
func beginAll(t *testing.T, w *world, intake context.Context, n int) (deliveries []*fakeDelivery) {
	t.Helper()
	for i := range n {
		r := newRequest(t)
		r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", i))
		d := newDelivery(r)
		d.intake = intake
		deliveries = append(deliveries, d)
		w.handler.Begin(t.Context(), d, func() {})
	}
	return deliveries
}

// Fear: whoever waits for the database, or for a host, keeps all others from being restarted.
func TestEntrance_WhoWaitsForDatabaseOrHostHasLeft(t *testing.T) {
	for name, down := range map[string]time.Duration{"Database": 0, "Both": time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { databaseAway(t, down) })
		})
	}
}

func databaseAway(t *testing.T, down time.Duration) {
	const n = 50
	var fleet *hosts
	back := time.Now().Add(30 * time.Minute)
	w := newWorld(t, func(w *world) {
		fleet = perHost(func() *fakeHost {
			h := newHost()
			h.down = down
			return h
		}).(*hosts)
		w.driver.Driver = fleet
		w.store.Before = func(context.Context, storetest.Call) error {
			time.Sleep(time.Until(back))
			return nil
		}
	})
	w.handler.entrance.free = 1
	all := beginAll(t, w, t.Context(), n)
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	boots := 0
	fleet.all.Range(func(_, h any) bool {
		boots += h.(*fakeHost).boots
		return true
	})
	if boots != n {
		t.Errorf("%d hosts were restarted while the database was away, want all %d", boots, n)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	for _, d := range all {
		if got := d.settled(); got != "ack" {
			t.Errorf("got %q, want an ack", got)
		}
	}
	if free := w.handler.entrance.free; free != 1 {
		t.Errorf("in the end %d may enter, want 1", free)
	}
}

// Fear: what has not even begun holds up the stop, or is kept from the other workers.
func TestEntrance_WhatWaitsBeforeItIsHandedBackAtOnceAndKeptUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.onRestart = func(context.Context, int) error { time.Sleep(26 * time.Second); return nil }
				return h
			})
		})
		w.handler.entrance.free = 1
		intake, stop := context.WithCancel(t.Context())
		all := beginAll(t, w, intake, 20)
		time.Sleep(25 * time.Second)
		stop()
		synctest.Wait()
		all = append(all, beginAll(t, w, intake, 1)...)
		synctest.Wait()
		for i, d := range all {
			want := "nak"
			if i == 0 {
				want = "left" // it is being triggered
			}
			if got := d.settled(); got != want {
				t.Errorf("message %d: got %q, want %q", i, got, want)
			}
			if len(d.extensions()) < 2 && i < 20 {
				t.Errorf("message %d: its lease was extended %d times in 25 s", i, len(d.extensions()))
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := all[0].settled(); got != "ack" {
			t.Errorf("the first: got %q, want an ack", got)
		}
	})
}
