package handler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var storeFilter store.Filter

// TestRestarter_afterDeath is the table of what a delivery finds when the one before it died between two steps.
func TestRestarter_afterDeath(t *testing.T) {
	restarting := journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1}
	failed := journal.Event{Kind: journal.Failed, From: "1", Attempt: 1}
	tests := []struct {
		name    string
		died    func(w *world, r Request) // what the dead worker left behind
		settled string
		outcome string
		boots   int
		events  string // in the journal at the end
	}{
		{
			"AfterPull", func(*world, Request) {},
			"ack", "restarted verified", 1, "restarting",
		},
		{
			"AfterSave", func(w *world, r Request) { w.mustSave(r) },
			"ack", "restarted verified", 1, "restarting",
		},
		{
			"AfterFenceBeforeTrigger", func(w *world, r Request) { w.mustAppend(r, restarting) },
			"ack", "restarted verified", 1, "restarting takeover restarting",
		},
		{
			"AfterTriggerHostDown", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.host.down = 2 * time.Minute
				w.host.mustRestart("1")
			},
			"ack", "restarted verified", 1, "restarting takeover",
		},
		{
			"HostBack", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.host.mustRestart("1")
			},
			"ack", "restarted verified", 1, "restarting takeover",
		},
		{
			"AfterRefusal", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.mustAppend(r, failed)
			},
			"ack", "restarted verified", 1, "restarting failed restarting",
		},
		{
			"AfterRefusalHostRestartedByHand", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.mustAppend(r, failed)
				w.host.reboot()
			},
			"ack", "restarted changed_elsewhere", 0, "restarting failed",
		},
		{
			"AfterTerminalEvent", func(w *world, r Request) {
				w.mustAppend(r, journal.Event{
					Kind: journal.Cancelled, Reason: restart.ReasonByHand, Detail: "by ada", Worker: "worker-0",
				})
			},
			"ack", "cancelled by_hand", 0, "cancelled",
		},
		{
			"AfterDead", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.mustAppend(r, journal.Event{
					Kind: journal.Dead, From: "1", Attempt: 1, Settled: true, Reason: restart.ReasonPermanent,
				})
			},
			"term permanent", "dead permanent", 0, "restarting dead",
		},
		{
			"AfterFinish", func(w *world, r Request) {
				w.mustAppend(r, restarting)
				w.host.mustRestart("1")
				w.mustSave(r)
				w.mustFinish(Outcome{ID: r.ID, Host: r.Host, Group: r.Group, Kind: restart.Restarted, Reason: restart.ReasonVerified})
				w.host.unready = -1 // what the host does afterwards is not this request's concern
			},
			"ack", "restarted verified", 1, "restarting",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				r := newRequest(t)
				test.died(w, r)
				d := newDelivery(r).again()
				handle(w.handler, t.Context(), d)
				w.expect(d, test.settled, test.outcome, test.boots)
				if got := w.events(r); got != test.events {
					t.Errorf("journal: got %q, want %q", got, test.events)
				}
				if w.saved() != 1 {
					t.Error("the request is not saved")
				}
				if len(w.told) != 1 {
					t.Errorf("got %d outcomes told, want 1", len(w.told))
				}
			})
		})
	}
}

// An outage between fence and trigger leaves a trigger that was never given. However many there are, an operator whose
// network is bad must not find the request dead for "attempts".
func TestRestarter_outagesDoNotUseAttemptsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outages := 0
		w := newWorld(t, func(w *world) {
			w.journal.BeforeAppend = func(_ journal.Key, next journal.Event) (stored bool, err error) {
				if next.Takeover || outages == 7 {
					return false, nil
				}
				outages++
				return true, errors.New("disconnected")
			}
		})
		d := newDelivery(newRequest(t))
		for handle(w.handler, t.Context(), d); d.settled() == "nak"; handle(w.handler, t.Context(), d) {
			time.Sleep(d.delay)
			d = d.again()
		}
		w.expect(d, "ack", "restarted verified", 1)
		if outages != 7 || w.host.calls != 1 {
			t.Errorf("got %d outages and %d calls of Restart, want 7 and 1", outages, w.host.calls)
		}
	})
}

// A server that was killed hands out again, as a first delivery, what somebody still works on: only the fence tells.
func TestRestarter_firstDeliveryOfWhatIsInWorkElsewhereDoesNotRestartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		r := newRequest(t)
		w.mustAppend(r, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1})
		w.host.mustRestart("1")
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if slices.Contains(w.host.asked, "2") {
			t.Error("a trigger took a fresh epoch")
		}
	})
}

func TestRestarter_trigger(t *testing.T) {
	tests := []struct {
		name     string
		change   func(w *world)
		settled  []string // delivery by delivery
		outcome  string
		boots    int
		attempts int // calls of Restart
	}{
		{"Taken", nil, []string{"ack"}, "restarted verified", 1, 1},
		{"RefusedOnce", func(w *world) {
			w.host.onRestart = refuse(1)
		}, []string{"nak", "ack"}, "restarted verified", 1, 2},
		{"RefusedUntilAttemptsAreUsedUp", func(w *world) {
			w.host.onRestart = refuse(9)
		}, []string{"nak", "nak", "term attempts"}, "dead attempts", 0, 3},
		{"Permanent", func(w *world) {
			w.host.onRestart = func(context.Context, int) error { return restart.ErrPermanent }
		}, []string{"term permanent"}, "dead permanent", 0, 1},
		{"AnswerLostEffectSeen", func(w *world) {
			w.host.onRestart = func(context.Context, int) error { return errors.New("connection reset") }
			w.host.takeEffect = true
		}, []string{"ack"}, "restarted verified", 1, 1},
		{"AnswerLostNoEffectIsRepeatedFromTheSameEpoch", func(w *world) {
			w.host.onRestart = func(_ context.Context, n int) error {
				if n == 1 {
					return errors.New("connection reset")
				}
				return nil
			}
		}, []string{"ack"}, "restarted verified", 1, 2},
		{"NeverTakesEffect", func(w *world) {
			w.host.onRestart = func(context.Context, int) error { return errors.New("connection reset") }
		}, []string{"term attempts"}, "dead attempts", 0, 3},
		{"HangsIsCutOff", func(w *world) {
			w.host.onRestart = func(ctx context.Context, n int) error {
				if n == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}, []string{"ack"}, "restarted verified", 1, 2},
		{"PanicIsUnknown", func(w *world) {
			w.host.onRestart = func(_ context.Context, n int) error {
				if n == 1 {
					panic("driver bug")
				}
				return nil
			}
		}, []string{"ack"}, "restarted verified", 1, 2},
		{"UnknownDelayIsNeverRepeated", func(w *world) {
			w.host.traits = restart.Traits{Compare: restart.CompareAtAcceptance}
			w.host.onRestart = func(context.Context, int) error { return errors.New("connection reset") }
		}, []string{"term unconfirmed"}, "dead unconfirmed", 0, 1},
		{"SomebodyElseWasFaster", func(w *world) {
			w.host.onRestart = func(context.Context, int) error { w.host.reboot(); return nil }
		}, []string{"ack"}, "restarted changed_elsewhere", 0, 1},
		{"NeverReadyIsNotRestartedAgain", func(w *world) {
			w.host.unready = -1
		}, []string{"term not_ready"}, "dead not_ready", 1, 1},
		{"SlowButReadyInTime", func(w *world) {
			w.host.down, w.host.unready = 5*time.Minute, 4*time.Minute
		}, []string{"ack"}, "restarted verified", 1, 1},
		{"DownForEverIsUnconfirmed", func(w *world) {
			w.host.down = 24 * time.Hour
		}, []string{"term unconfirmed"}, "dead unconfirmed", 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.change)
				d := newDelivery(newRequest(t))
				for i, settled := range test.settled {
					if i > 0 {
						time.Sleep(d.delay)
						d = d.again()
					}
					handle(w.handler, t.Context(), d)
					if got := d.settled(); got != settled {
						t.Fatalf("delivery %d: got %q, want %q", i+1, got, settled)
					}
				}
				w.expect(d, test.settled[len(test.settled)-1], test.outcome, test.boots)
				if w.host.calls != test.attempts {
					t.Errorf("got %d calls of Restart, want %d", w.host.calls, test.attempts)
				}
				for _, from := range w.host.asked {
					if from != "1" {
						t.Errorf("a trigger carried epoch %q, and the epoch for life is 1", from)
					}
				}
				wantLetters := 0
				if strings.HasPrefix(test.outcome, "dead") {
					wantLetters = 1
				}
				if got := len(w.letters.buried); got != wantLetters {
					t.Errorf("got %d dead letters, want %d", got, wantLetters)
				}
			})
		})
	}
}

// Settle time is counted from the takeover on the taker's own clock: the lease of whoever gave the trigger, and then the
// driver's delay.
func TestRestarter_takenOverTriggerIsRepeatedOnlyAfterItsSettleTime(t *testing.T) {
	for _, traits := range []restart.Traits{
		{Compare: restart.CompareAtEffect},
		{Compare: restart.CompareAtEffect, MaxDelay: 90 * time.Second},
		{Compare: restart.CompareAtAcceptance, MaxDelay: 90 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var at time.Time
			w := newWorld(t, func(w *world) {
				w.host.traits = traits
				w.host.onRestart = func(context.Context, int) error { at = time.Now(); return nil }
			})
			r := newRequest(t)
			w.mustAppend(r, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1})
			began := time.Now()
			handle(w.handler, t.Context(), newDelivery(r).again())
			want := ackWait + traits.MaxDelay
			if waited := at.Sub(began); waited < want || waited > want+2*time.Second {
				t.Errorf("%v: repeated after %s, want %s", traits, waited, want)
			}
		})
	}
}

func TestRestarter_stableFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stable = 10 * time.Second
		var flapped bool
		w := newWorld(t, func(w *world) {
			w.cfg.StableFor = stable
			w.host.down = time.Second
			w.host.onProbe = func(context.Context) error {
				w.host.mu.Lock()
				defer w.host.mu.Unlock()
				if !flapped && w.host.boots == 1 && time.Since(w.host.readyAt) > stable/2 {
					flapped = true
					w.host.readyAt = time.Now().Add(3 * time.Second)
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if held := d.settledAt.Sub(w.host.readyAt); !flapped || held < stable {
			t.Errorf("acked %s after the host was last made ready, want at least %s", held, stable)
		}
	})
}

func TestRestarter_gates(t *testing.T) {
	tests := []struct {
		name    string
		change  func(w *world, d *fakeDelivery)
		settled string
		outcome string
	}{
		{"Expired", func(_ *world, d *fakeDelivery) {
			d.request.RequestedAt = time.Now().Add(-2 * time.Hour)
			d.request.NotAfter = time.Now().Add(-time.Hour)
		}, "ack", "expired not_after"},
		{"BeyondTheJournalsHorizon", func(w *world, _ *fakeDelivery) {
			w.journal.Horizon = time.Minute
			time.Sleep(2 * time.Minute)
		}, "term journal_horizon", "dead journal_horizon"},
		{"DeliveredTooOften", func(_ *world, d *fakeDelivery) { d.deliveries = 51 }, "term poison", "dead poison"},
		{"UpForTooShort", func(w *world, d *fakeDelivery) { // M25
			w.host.downUntil = time.Now().Add(-time.Hour)
			d.request.MinUptime = restart.Duration(7 * 24 * time.Hour)
		}, "ack", "skipped min_uptime"},
		{"UptimeUnknown", func(_ *world, d *fakeDelivery) {
			d.request.MinUptime = restart.Duration(time.Hour)
		}, "nak", "none"},
		{"HostCannotBeProbed", func(w *world, _ *fakeDelivery) {
			w.host.onProbe = func(context.Context) error { return errors.New("no route to host") }
		}, "nak", "none"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				d := newDelivery(newRequest(t))
				test.change(w, d)
				handle(w.handler, t.Context(), d)
				w.expect(d, test.settled, test.outcome, 0)
				if w.host.calls != 0 {
					t.Error("a trigger was given")
				}
				if w.saved() != 1 {
					t.Error("the request is not saved") // M24
				}
			})
		})
	}
}

// Gates guard a trigger, never a verification: what was triggered in time is verified, however late it is.
func TestRestarter_verifiesWhatHasExpiredSinceItsTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		r := newRequest(t)
		w.mustAppend(r, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1})
		w.host.mustRestart("1")
		d := newDelivery(r)
		d.deliveries = 99
		time.Sleep(25 * time.Hour)
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

// not_after passes while the driver's slot is waited for: the gate is asked again right before the trigger.
func TestRestarter_asksNotAfterAgainBeforeTheTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.host.onProbe = func(context.Context) error { time.Sleep(5 * time.Second); return nil }
		})
		r := newRequest(t)
		r.NotAfter = time.Now().Add(2 * time.Second)
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "expired not_after", 0)
	})
}

func TestRestarter_sameIDForAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		first := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), first)
		w.expect(first, "ack", "restarted verified", 1)

		thief := newDelivery(first.request)
		thief.request.Host, thief.request.Instance = "cattle-zzzz.example.net", "cattle-zzzz"
		handle(w.handler, t.Context(), thief)
		w.expect(thief, "term id_reused", "restarted verified", 1) // the outcome of the id is the first one's
		if w.host.calls != 1 {
			t.Error("a trigger was given under a used id")
		}
		envelope, _ := thief.Envelope()
		o, err := w.store.Outcome(t.Context(), envelope.FallbackID)
		if err != nil || o.Reason != restart.ReasonIDReused || o.Host != thief.request.Host {
			t.Errorf("got outcome %+v, %v of the second request, want one of its own", o, err)
		}
		if w.saved() != 2 {
			t.Errorf("got %d requests on record, want both", w.saved())
		}
	})
}

func TestRestarter_losesACompareAndSetQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		r := newRequest(t)
		w.host.onRestart = func(context.Context, int) error {
			// Somebody takes over while the driver is busy, and the driver then refuses.
			last, err := w.journal.Last(t.Context(), journal.KeyOf(r))
			if err != nil {
				t.Error(err)
			}
			w.mustAppend(r, journal.Event{Kind: journal.Restarting, Takeover: true, From: last.From, Attempt: 1})
			return restart.ErrRefused
		}
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "left", "none", 0)
	})
}

func (w *world) mustSave(r Request) {
	w.t.Helper()
	if err := w.store.Save(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustFinish(o Outcome) {
	w.t.Helper()
	if _, err := w.store.Finish(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustAppend(r Request, e journal.Event) {
	w.t.Helper()
	last, err := w.journal.Last(w.t.Context(), journal.KeyOf(r))
	if err == nil {
		_, err = w.journal.Append(w.t.Context(), journal.KeyOf(r), last, e)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (h *fakeHost) mustRestart(from restart.Epoch) {
	if err := h.Restart(context.Background(), restart.Trigger{From: from, Within: time.Minute}); err != nil {
		panic(err)
	}
	h.calls, h.asked = 0, nil
}

// events returns the kinds in the journal of a request, "takeover" for a takeover.
func (w *world) events(r Request) string {
	var kinds []string
	for _, e := range w.journal.Events(r.ID) {
		kind := string(e.Kind)
		if e.Takeover {
			kind = "takeover"
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(kinds, " ")
}

func refuse(n int) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call <= n {
			return restart.ErrRefused
		}
		return nil
	}
}
