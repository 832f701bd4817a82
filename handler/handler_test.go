package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestHandler_savesAndRestartsSideBySideAndAcksAfterBoth(t *testing.T) { // M24, M26
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.host.down = 10 * time.Second
			w.store.Before = func(_ context.Context, c storetest.Call) error {
				if c.Method == storetest.Save {
					time.Sleep(8 * time.Second)
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		began := time.Now()
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("took %s, want the longer of the two and not their sum", took)
		}
	})
}

// M27: the original acks up to two seconds late.
func TestHandler_acksAtOnceAfterFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finished time.Time
		w := newWorld(t, func(w *world) {
			w.host.down = 7 * time.Second
			w.store.After = func(_ context.Context, c storetest.Call) error {
				if c.Method == storetest.Finish {
					finished = time.Now()
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		if finished.IsZero() || !d.settledAt.Equal(finished) {
			t.Errorf("acked %s after Finish, want at once", d.settledAt.Sub(finished))
		}
	})
}

// M54: in the original a message is acked whatever became of its work.
func TestHandler_neverAcksWithoutBothResultsOnRecord(t *testing.T) {
	for name, method := range map[string]string{"SaveFails": storetest.Save, "FinishFails": storetest.Finish} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) {
					w.store.Before = func(_ context.Context, c storetest.Call) error {
						if c.Method == method {
							return errors.New("no space left on device")
						}
						return nil
					}
				})
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				w.expect(d, "nak", "none", 1) // given back when max_lease was over

				w.store.Before = nil
				d = d.again()
				handle(w.handler, t.Context(), d)
				w.expect(d, "ack", "restarted verified", 1)
				if w.saved() != 1 {
					t.Errorf("got %d requests on record, want 1", w.saved())
				}
			})
		})
	}
}

func TestHandler_waitsForAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(t, func(w *world) {
			w.store.Before = func(context.Context, storetest.Call) error {
				if time.Since(began) < 3*time.Minute {
					return errors.New("connection refused")
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if len(d.extensions()) < 10 {
			t.Errorf("got %d extensions, want the message kept alive meanwhile", len(d.extensions()))
		}
	})
}

func TestHandler_settlesByTheOutcomeThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		r := newRequest(t)
		w.mustFinish(Outcome{ID: r.ID, Host: r.Host, Group: r.Group, Kind: restart.Dead, Reason: restart.ReasonNotReady})
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "term not_ready", "dead not_ready", 1)
		if len(w.told) != 1 || w.told[0].Reason != restart.ReasonNotReady {
			t.Errorf("got %+v told, want the one that stands", w.told)
		}
	})
}

// M04, M05, M31: what became of a message can be read in its log lines, under its names.
func TestHandler_logsEachStepAndASummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		w := newWorld(t, func(w *world) {
			w.host.down = 15 * time.Second
			w.log = zerolog.New(zerolog.SyncWriter(&lines))
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)

		var steps []string
		for line := range strings.Lines(lines.String()) {
			var event struct {
				Message, ID, Instance, Host, Group, Outcome, Reason, Fate string
				Extended, Deliveries, Attempt                             int
				Saved                                                     bool
			}
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatal(err)
			}
			if event.ID != d.request.ID.String() || event.Instance != d.request.Instance ||
				event.Host != string(d.request.Host) || event.Group != string(d.request.Group) {
				t.Errorf("got %s, want the message's names in it", line)
			}
			if steps = append(steps, event.Message); event.Message != "settled" {
				continue
			}
			if event.Outcome != "restarted" || event.Reason != "verified" || event.Fate != "acked" ||
				event.Extended != len(d.extensions()) || event.Deliveries != 1 || event.Attempt != 1 || !event.Saved {
				t.Errorf("got summary %s", line)
			}
		}
		for _, step := range []string{"consumed", "extended", "saved", "restarted", "acked", "settled"} {
			if !slices.Contains(steps, step) {
				t.Errorf("got steps %q, want %q among them", steps, step)
			}
		}
		if n := len(steps); steps[0] != "consumed" || steps[n-2] != "acked" || steps[n-1] != "settled" {
			t.Errorf("got steps %q, want them to begin with consumed, and to end with acked and settled", steps)
		}
	})
}

// M60: drivers may block, and cost what they cost; no more of their calls run at once than there are slots.
func TestHandler_callsTheDriverNoMoreOftenAtOnceThanThereAreSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		slow := func() {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
		}
		w := newWorld(t, func(w *world) {
			w.driver.Slots = 3
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.onProbe = func(context.Context) error { slow(); return nil }
				h.onRestart = func(context.Context, int) error { slow(); return nil }
				return h
			})
			w.log = zerolog.Nop()
		})
		var handled sync.WaitGroup
		for i := range 20 {
			r := newRequest(t)
			r.Host = restart.Host(fmt.Sprintf("host-%d", i))
			handled.Go(func() {
				d := newDelivery(r)
				handle(w.handler, t.Context(), d)
				if got := d.settled(); got != "ack" {
					t.Errorf("%s: got %q", r.Host, got)
				}
			})
		}
		handled.Wait()
		if most.Load() != 3 {
			t.Errorf("got %d calls at once, want 3", most.Load())
		}
	})
}

func TestHandler_keepsAMessageAliveForAsLongAsItsHostTakes(t *testing.T) { // M28
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.host.down = 8 * time.Minute })
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		last := time.Now().Add(-8 * time.Minute)
		for _, at := range append(d.extensions(), d.settledAt) {
			if at.Sub(last) > ackWait*9/10 {
				t.Errorf("nothing was sent for %s", at.Sub(last))
			}
			last = at
		}
	})
}

func TestHandler_lostLease(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"WhileTheHostIsDown": func(w *world) { w.host.down = 5 * time.Minute },
		"WhileTheDriverHangs": func(w *world) {
			w.host.onRestart = func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
		},
		"WhileTheStoreIsAway": func(w *world) {
			w.store.Before = func(context.Context, storetest.Call) error { return errors.New("connection refused") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, change)
				d := newDelivery(newRequest(t))
				d.onExtend = func(context.Context) error {
					if len(d.extended) > 1 {
						return errors.New("disconnected")
					}
					return nil
				}
				began := time.Now()
				handle(w.handler, t.Context(), d)
				w.expect(d, "left", "none", w.host.boots)
				if took := time.Since(began); took > 2*ackWait {
					t.Errorf("the work was stopped after %s", took)
				}
				if !w.reports[0].LeaseLost() {
					t.Errorf("got report %+v, want a lost lease", w.reports[0])
				}
			})
		})
	}
}

// A message that was asked for long ago may be somebody else's by now, whatever the broker answers: it prolongs a lease
// for whoever asks.
func TestHandler_triggersNothingThatWasAskedForTooLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		d.asked = time.Now()
		time.Sleep(ackWait - ackWait/10)
		handle(w.handler, t.Context(), d)
		w.expect(d, "left", "none", 0)
		if got := w.events(d.request); got != "" {
			t.Errorf("journal: got %q, want nothing", got)
		}
	})
}

// A driver that is told to take effect within the rest of a lease may be killed by it, half way.
func TestHandler_triggersWithMostOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		d.asked = time.Now()
		time.Sleep(ackWait / 4)
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if got := w.host.within[0]; got < ackWait*4/5 {
			t.Errorf("got %s for the trigger, want most of %s", got, ackWait)
		}
	})
}

func TestHandler_doesNotTriggerWhenTheFenceCameTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.journal.BeforeAppend = func(journal.Key, journal.Event) (bool, error) {
			time.Sleep(ackWait) // the answer; what the extender sends meanwhile gets none
			return false, nil
		}
		d := newDelivery(newRequest(t))
		d.onExtend = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		handle(w.handler, t.Context(), d)
		w.expect(d, "left", "none", 0)
		if w.host.calls != 0 {
			t.Error("a trigger was given without a lease")
		}
	})
}

func TestHandler_stop(t *testing.T) {
	graceOver := errors.New("grace is over")
	type stop struct {
		intake, work time.Duration // after the delivery
	}
	tests := []struct {
		name       string
		stop       stop
		change     func(w *world)
		settled    string
		within     time.Duration // of the stop of the intake
		handedBack bool
		unknown    bool
		boots      int
	}{
		{
			"HandsBackAtOnceWhatIsNotTriggered",
			stop{time.Second, time.Minute},
			func(w *world) {
				w.host.onProbe = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			},
			"nak", 0, true, false, 0,
		},
		{
			"HandsBackAtOnceThoughTheStoreHangs",
			stop{time.Second, time.Minute},
			func(w *world) {
				w.host.onProbe = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				w.store.Before = func(ctx context.Context, _ storetest.Call) error { <-ctx.Done(); return ctx.Err() }
			},
			"nak", 0, true, false, 0,
		},
		{
			"LetsEndWhatIsTriggered",
			stop{time.Second, time.Minute}, // M44
			func(w *world) { w.host.down = 30 * time.Second },
			"ack", 35 * time.Second, false, false, 1,
		},
		{
			"GivesBackWhatCouldNotEndInTime",
			stop{time.Second, 26 * time.Second},
			func(w *world) { w.host.down = 5 * time.Minute },
			"nak", 25 * time.Second, false, true, 1,
		},
		{
			"FinishesWhatWasVerifiedThoughGraceIsOver",
			stop{time.Second, 2 * time.Second},
			func(w *world) {
				w.store.Before = func(_ context.Context, c storetest.Call) error {
					if c.Method == storetest.Finish {
						time.Sleep(4 * time.Second)
					}
					return nil
				}
			},
			"ack", 4 * time.Second, false, false, 1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.change)
				d := newDelivery(newRequest(t))
				intake, stopIntake := context.WithCancel(t.Context())
				work, stopWork := context.WithCancelCause(t.Context())
				d.intake = intake
				stopped := time.Now().Add(test.stop.intake)
				timers := []*time.Timer{
					time.AfterFunc(test.stop.intake, stopIntake),
					time.AfterFunc(test.stop.work, func() { stopWork(graceOver) }),
				}
				handle(w.handler, work, d)
				for _, timer := range timers {
					timer.Stop()
				}
				stopIntake()
				stopWork(nil)
				if got := d.settled(); got != test.settled {
					t.Errorf("got %q, want %q", got, test.settled)
				}
				if after := d.settledAt.Sub(stopped); after > test.within {
					t.Errorf("settled %s after the stop, want within %s", after, test.within)
				}
				if d.delay >= time.Second {
					t.Errorf("given back for %s: another worker must hold it within a second", d.delay)
				}
				if r := w.reports[0]; r.HandedBack != test.handedBack || r.Unknown != test.unknown {
					t.Errorf("got report %+v", r)
				}
				if w.host.boots != test.boots {
					t.Errorf("got %d boots, want %d", w.host.boots, test.boots)
				}
			})
		})
	}
}

func TestHandler_givesBackWhatItHeldForMaxLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.cfg.VerifyTimeout = 3 * time.Hour
			w.host.down = 2 * time.Hour
		})
		d := newDelivery(newRequest(t))
		began := time.Now()
		handle(w.handler, t.Context(), d)
		w.expect(d, "nak", "none", 1)
		if held := d.settledAt.Sub(began); held != time.Hour {
			t.Errorf("held for %s, want max_lease", held)
		}
		time.Sleep(time.Hour)
		d = d.again()
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

func TestHandler_malformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		d.data = []byte("{\"host\": \"some\x00thing\"")
		handle(w.handler, t.Context(), d)
		if got := d.settled(); got != "term malformed" {
			t.Errorf("got %q, want it terminated", got)
		}
		if w.host.calls != 0 {
			t.Error("a trigger was given")
		}
		if len(w.letters.buried) != 1 {
			t.Fatalf("got %d dead letters, want 1", len(w.letters.buried))
		}
		letter := w.letters.buried[0]
		if !slices.Equal(letter.Data, d.data) || letter.Outcome.Detail == "" || letter.WorkSequence != d.sequence {
			t.Errorf("got letter %+v, want the bytes as they came, where from, and why", letter)
		}
		envelope, _ := d.Envelope()
		if o, err := w.store.Outcome(t.Context(), envelope.FallbackID); err != nil || o.Reason != restart.ReasonMalformed {
			t.Errorf("got outcome %+v, %v, want it on record", o, err)
		}
		if r, err := w.store.Request(t.Context(), envelope.FallbackID); err != nil || !slices.Equal(r.Raw, d.data) || !r.RequestedAt.Equal(envelope.Stored) {
			t.Errorf("got request %+v, %v, want what came on record", r, err)
		}
	})
}

// What the server has kept though it was settled may be removed only where its end is on record.
func TestHandler_Recorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		good, bad := newDelivery(newRequest(t)), newDelivery(newRequest(t))
		bad.data, bad.sequence = []byte("?"), 8
		thief := newDelivery(good.request)
		thief.request.Host, thief.sequence = "cattle-zzzz.example.net", 9
		for _, d := range []*fakeDelivery{good, bad, thief} {
			if is, err := w.handler.Recorded(t.Context(), d); is || err != nil {
				t.Errorf("before: got %t, %v", is, err)
			}
			handle(w.handler, t.Context(), d)
			if is, err := w.handler.Recorded(t.Context(), d); !is || err != nil {
				t.Errorf("after %s: got %t, %v", d.settled(), is, err)
			}
		}
		w.store.Before = func(context.Context, storetest.Call) error { return errors.New("connection refused") }
		if is, err := w.handler.Recorded(t.Context(), good); is || err == nil {
			t.Errorf("store away: got %t, %v, want nothing known", is, err)
		}
	})
}

func TestHandler_settlesNothingBeforeItsDeadLetterIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.letters.err = errors.New("no responders") })
		d := newDelivery(newRequest(t))
		d.data = []byte("?")
		handle(w.handler, t.Context(), d)
		if got := d.settled(); got != "nak" {
			t.Errorf("got %q, want it to come again", got)
		}
		w.letters.err = nil
		d = d.again()
		handle(w.handler, t.Context(), d)
		if got := d.settled(); got != "term malformed" || len(w.letters.buried) != 1 {
			t.Errorf("got %q with %d letters, want it terminated with one", got, len(w.letters.buried))
		}
	})
}

// M51: one message's panic is that message's failure alone.
func TestHandler_containsAPanic(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"InTheJournal": func(w *world) {
			w.journal.BeforeAppend = func(journal.Key, journal.Event) (bool, error) { panic("journal bug") }
		},
		"InTheProbe": func(w *world) { w.host.onProbe = func(context.Context) error { panic("driver bug") } },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, change)
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				w.expect(d, "nak", "none", 0)
				if w.saved() != 1 {
					t.Error("the request is not saved")
				}
				w.journal.BeforeAppend, w.host.onProbe = nil, nil
				d = d.again()
				handle(w.handler, t.Context(), d)
				w.expect(d, "ack", "restarted verified", 1)
			})
		})
	}
}

func TestHandler_aSavePanicIsAFailedSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		w := newWorld(t, func(w *world) {
			w.store.Before = func(context.Context, storetest.Call) error {
				if calls++; calls == 1 {
					panic("store bug")
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

// M55: a failed settlement is seen, and harmless.
func TestHandler_aLostAckLeadsToAnotherDeliveryAndNoOtherRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		d.settleErr = errors.New("disconnected")
		handle(w.handler, t.Context(), d)
		if w.reports[0].SettleErr == nil {
			t.Error("the failed ack is not reported")
		}
		d = d.again()
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if w.host.calls != 1 {
			t.Errorf("got %d triggers, want 1", w.host.calls)
		}
	})
}

// M52, M53: both results are collected, and the retry waits with backoff and jitter.
func TestHandler_reportsBothFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.host.onRestart = refuse(1)
			w.store.Before = func(context.Context, storetest.Call) error { return errors.New("disk on fire") }
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		err := w.reports[0].Err
		if !errors.Is(err, restart.ErrRefused) {
			t.Errorf("got %v, want the driver's refusal in it", err)
		}
		if w.reports[0].Saved {
			t.Error("reported as saved")
		}
	})
}

func TestFuncWork(t *testing.T) {
	permanent := errors.Join(errors.New("no such host"), restart.ErrPermanent)
	tests := []struct {
		name    string
		err     error
		settled string
	}{
		{"OK", nil, "ack"},
		{"Error", errors.New("busy"), "nak"},
		{"ErrPermanent", permanent, "term permanent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				box := &letters{}
				retry := Backoff{Base: time.Second, Cap: time.Minute}
				work := FuncWork(func(context.Context, Request) error { return test.err }, retry)
				h, err := New(Config{Work: work, DeadLetters: box, MaxLease: time.Hour, Retry: retry})
				if err != nil {
					t.Fatal(err)
				}
				d := newDelivery(newRequest(t))
				handle(h, t.Context(), d)
				if got := d.settled(); got != test.settled {
					t.Errorf("got %q, want %q", got, test.settled)
				}
			})
		})
	}
}

func TestBackoff_staysBetweenZeroAndItsBound(t *testing.T) {
	b := Backoff{Base: time.Second, Cap: 5 * time.Minute}
	bound := b.Base
	for n := 1; n < 100; n++ {
		most := time.Duration(0)
		for range 200 {
			d := b.Delay(n)
			if d < 0 || d > bound {
				t.Fatalf("got %s after failure %d, want at most %s", d, n, bound)
			}
			most = max(most, d)
		}
		if most < bound/2 {
			t.Errorf("got at most %s in 200 draws after failure %d, want them spread up to %s", most, n, bound)
		}
		bound = min(2*bound, b.Cap)
	}
}

func TestNew_namesWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty Config was accepted")
	}
	if _, err := NewRestarter(RestarterConfig{}); err == nil {
		t.Error("an empty RestarterConfig was accepted")
	}
}
