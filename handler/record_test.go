package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// A hundred messages that wait for one database are one thing to an operator, not a hundred.
func TestRestarter_saysOnceThatTheStoreIsAwayAndOnceThatItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		back := time.Now().Add(time.Minute)
		w := newWorld(t, func(w *world) {
			w.driver.Driver = perHost(newHost)
			w.cfg.Logger = zerolog.New(zerolog.SyncWriter(&log))
			w.store.Before = func(context.Context, storetest.Call) error {
				if time.Now().Before(back) {
					return errors.New("connection refused")
				}
				return nil
			}
		})
		handleAll(t, w, 100)
		if n := w.saved(); n != 100 {
			t.Errorf("%d requests are saved, want 100", n)
		}
		text := log.String()
		for _, want := range []string{"store away since 2000-01-01T00:00:00", "connection refused", "store is back", `"away_for":"1m`} {
			if strings.Count(text, want) != 1 {
				t.Errorf("want %q once in the log:\n%s", want, text)
			}
		}
	})
}

// A hundred messages that hear nothing from a cluster which elects a leader are one thing, too.
func TestHandler_saysOnceThatLeasesAreNotExtendedAndOnceThatTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWorld(t, func(w *world) {
			w.driver.Driver = perHost(func() *fakeHost { h := newHost(); h.down = 2 * time.Minute; return h })
			w.log = zerolog.New(zerolog.SyncWriter(&log)).Level(zerolog.InfoLevel)
		})
		from, until := time.Now().Add(30*time.Second), time.Now().Add(45*time.Second)
		handleAll(t, w, 100, func(d *fakeDelivery) {
			d.onExtend = func(context.Context) error {
				if now := time.Now(); now.After(from) && now.Before(until) {
					return errors.New("disconnected")
				}
				return nil
			}
		})
		text := log.String()
		for _, want := range []string{"leases are not extended", "disconnected", "leases are extended again", `"after":"1`} {
			if strings.Count(text, want) != 1 {
				t.Errorf("want %q once in the log:\n%s", want, text)
			}
		}
	})
}

// handleAll handles n requests for a host each, at once.
func handleAll(t *testing.T, w *world, n int, change ...func(*fakeDelivery)) {
	t.Helper()
	done := make(chan struct{})
	for i := range n {
		r := newRequest(t)
		r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", i))
		go func() {
			defer func() { done <- struct{}{} }()
			d := newDelivery(r)
			for _, f := range change {
				f(d)
			}
			handle(w.handler, t.Context(), d)
			if got := d.settled(); got != "ack" {
				t.Errorf("%s: got %q, want an ack", r.Host, got)
			}
		}()
	}
	for range n {
		<-done
	}
}

// A caller that goes away, as each does when the worker stops, says nothing of the store.
func TestRestarter_whoStopsWaitingDoesNotSayThatTheStoreIsAway(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(w *world) {
		w.cfg.Logger = zerolog.New(&log)
		w.store.Before = func(ctx context.Context, _ storetest.Call) error { <-ctx.Done(); return ctx.Err() }
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		handle(w.handler, ctx, newDelivery(newRequest(t)))
	})
	if strings.Contains(log.String(), "away") {
		t.Errorf("got log %s", log.String())
	}
}

func TestRestarter_recordsTheAttemptsThatLedToNothing(t *testing.T) {
	t.Run("Refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.host.onRestart = refuse(1)
			})
			r := newRequest(t)
			d := newDelivery(r)
			began := time.Now()
			handle(w.handler, t.Context(), d)
			handle(w.handler, t.Context(), d.again())
			w.wantAttempts(r, []restart.Attempt{
				{Request: r.ID, Number: 1, Worker: "worker-1", StartedAt: began.UTC(), EndedAt: began.UTC(), From: "1", Error: "refused for now"},
				{Request: r.ID, Number: 2, Worker: "worker-1", From: "1", To: "2"},
			})
		})
	})
	t.Run("TakenOver", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			r := newRequest(t)
			w.mustAppend(r, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1, Settled: true, Worker: "worker-0"})
			w.host.mustRestart("1")
			handle(w.handler, t.Context(), newDelivery(r).again())
			w.wantAttempts(r, []restart.Attempt{
				{Request: r.ID, Number: 1, Worker: "worker-0", From: "1", Error: "left open, and taken over by worker-1"},
				{Request: r.ID, Number: 1, Worker: "worker-1", From: "1", To: "2"},
			})
		})
	})
}

// wantAttempts compares what is on record; times count only where they are wanted.
func (w *world) wantAttempts(r Request, want []restart.Attempt) {
	w.t.Helper()
	got, err := w.store.Attempts(context.Background(), r.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range got {
		if i < len(want) && want[i].StartedAt.IsZero() {
			got[i].StartedAt, got[i].EndedAt = time.Time{}, time.Time{}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

// The database remembers for longer than the journal: who replays a request under the same name after a year must not
// have the host restarted a second time.
func TestRestarter_whatIsAskedAgainLaterThanTheJournalRemembersIsNotRestartedAgain(t *testing.T) {
	for name, mark := range map[string]func(*Request){
		"Replay":  func(r *Request) { r.ReplayOf = "9a3c8c39-0f4e-4b0e-8f1e-9f6c1a6b0000" },
		"Requeue": func(r *Request) { r.RequeuedFrom = "9a3c8c39-0f4e-4b0e-8f1e-9f6c1a6b0000" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				r := newRequest(t)
				mark(&r)
				w.mustSave(r)
				w.mustFinish(Outcome{ID: r.ID, Host: r.Host, Group: r.Group, Kind: restart.Restarted, Reason: restart.ReasonVerified})
				d := newDelivery(r)
				handle(w.handler, t.Context(), d)
				w.expect(d, "ack", "restarted verified", 0)
			})
		})
	}
	t.Run("StoreAway", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.store.Before = func(_ context.Context, c storetest.Call) error {
					if c.Method == storetest.Outcome {
						return errors.New("connection refused")
					}
					return nil
				}
			})
			r := newRequest(t)
			r.ReplayOf = "9a3c8c39-0f4e-4b0e-8f1e-9f6c1a6b0000"
			handle(w.handler, t.Context(), newDelivery(r))
			if w.host.boots != 0 {
				t.Errorf("the host was restarted, though nobody knows whether it was before")
			}
		})
	})
}
