package handler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var byHand = []policy.Hold{{Reason: "manual", By: "ann", Why: "the service is burning"}}

func mustWindows(t *testing.T, zone string, open ...string) *policy.Windows {
	t.Helper()
	w, err := policy.ParseWindows(open, nil, zone)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustPatterns(t *testing.T, texts ...string) policy.Patterns {
	t.Helper()
	p, err := policy.ParsePatterns(texts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGate_GroupThatIsHeldBackIsNotEvenProbedAndGoesOnWhenItIsNot(t *testing.T) {
	for name, hold := range map[string]func(*fakeControl){
		"Paused":           func(c *fakeControl) { c.holds = byHand },
		"NobodyKnows":      func(c *fakeControl) { c.err = errors.New("bucket has not answered") },
		"PausedForATime":   func(c *fakeControl) { c.holds = []policy.Hold{{Reason: "window", Until: time.Now().Add(time.Hour)}} },
		"PausedAndUnknown": func(c *fakeControl) { c.holds, c.err = byHand, errors.New("bucket has not answered") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				hold(w.control)
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				w.expect(d, "nak", "none", 0)
				if w.host.probes != 0 || w.events(d.request) != "" {
					t.Errorf("got %d probes and events %q, want none", w.host.probes, w.events(d.request))
				}
				w.control.holds, w.control.err = nil, nil
				d = d.again()
				handle(w.handler, t.Context(), d)
				w.expect(d, "ack", "restarted verified", 1)
			})
		})
	}
}

// Fear: the pause comes in the moment between the look and the trigger.
func TestGate_PauseThatComesBeforeTheTriggerStopsItHoweverLate(t *testing.T) {
	for n, events := range map[int]string{
		1: "", // at intake
		2: "", // before the fence
		3: "restarting failed",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.control.onAsk = func(asked int) {
				if asked == n {
					w.control.holds = byHand
				}
			}
			d := newDelivery(newRequest(t))
			handle(w.handler, t.Context(), d)
			w.expect(d, "nak", "none", 0)
			if got := w.events(d.request); got != events {
				t.Errorf("pause at question %d: got events %q, want %q", n, got, events)
			}
			if w.host.calls != 0 {
				t.Errorf("pause at question %d: the driver was called", n)
			}
			w.control.onAsk, w.control.holds = nil, nil
			d = d.again()
			handle(w.handler, t.Context(), d)
			w.expect(d, "ack", "restarted verified", 1)
		})
	}
}

// Fear: a campaign was aborted, and what it had asked for goes on.
func TestGate_RequestOfAnAbortedCampaignEndsHoweverLateTheAbortComes(t *testing.T) {
	for n, events := range map[int]string{
		1: "cancelled", // at intake
		2: "cancelled", // before the fence
		3: "restarting cancelled",
	} {
		for _, campaign := range []string{"aborted", "another", ""} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.control.onAsk = func(asked int) {
					if asked == n {
						w.control.aborted = map[string]bool{"aborted": true}
					}
				}
				r := newRequest(t)
				r.Campaign = campaign
				d := newDelivery(r)
				handle(w.handler, t.Context(), d)
				if campaign != "aborted" {
					w.expect(d, "ack", "restarted verified", 1)
					return
				}
				w.expect(d, "ack", "cancelled aborted", 0)
				if got := w.events(d.request); got != events || w.host.calls != 0 {
					t.Errorf("abort at question %d: got events %q and %d calls of the driver, want %q and none", n, got, w.host.calls, events)
				}
			})
		}
	}
}

// The control bucket has not been heard of for a lease: then nobody can tell whether the campaign was aborted.
func TestGate_RequestOfACampaignWaitsWhileNobodyKnowsWhetherThatWasAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.control.err = errors.New("bucket has not answered")
		r := newRequest(t)
		r.Campaign = "aborted"
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "nak", "none", 0)
		w.control.err, w.control.aborted = nil, map[string]bool{"aborted": true}
		d = d.again()
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "cancelled aborted", 0)
	})
}

// A request whose time passes in the moment before its trigger ends, although its fence stands.
func TestGate_RequestThatExpiresBetweenFenceAndTriggerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.control.onAsk = func(asked int) {
			if asked == 3 {
				time.Sleep(10 * time.Second)
			}
		}
		r := newRequest(t)
		r.NotAfter = time.Now().Add(5 * time.Second)
		d := newDelivery(r)
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "expired not_after", 0)
	})
}

func TestGate_NeverHoldsBackTheVerificationOfWhatWasTriggered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.host.down = time.Hour / 12
		w.host.onRestart = func(context.Context, int) error {
			w.control.mu.Lock()
			defer w.control.mu.Unlock()
			w.control.holds, w.control.err = byHand, errors.New("bucket has not answered")
			return nil
		}
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

// Fear: a pause is said to be confirmed while a trigger that has not heard of it is on its way to its host.
func TestGate_TriggerIsToldToTheGroupFromItsLastLookUntilTheDriverHasAnswered(t *testing.T) {
	for name, answer := range map[string]error{"Taken": nil, "Refused": restart.ErrRefused, "Unknown": errors.New("connection reset")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				given := 0
				w.host.onRestart = func(context.Context, int) error {
					w.control.mu.Lock()
					defer w.control.mu.Unlock()
					given = w.control.entered
					return answer
				}
				handle(w.handler, t.Context(), newDelivery(newRequest(t)))
				if given != 1 || w.control.entered != 0 {
					t.Errorf("got %d triggers being given during the call and %d after it, want 1 and 0", given, w.control.entered)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.control.onAsk = func(asked int) {
			if asked == 3 {
				w.control.holds = byHand
			}
		}
		handle(w.handler, t.Context(), newDelivery(newRequest(t)))
		if w.control.entered != 0 {
			t.Errorf("got %d triggers being given after one that was held back, want none", w.control.entered)
		}
	})
}

func TestGate_TriggerIsGivenNoMoreTimeThanTheGroupsStateIsKnownFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.control.left = 3 * time.Second
		called := time.Now()
		w.host.onRestart = func(ctx context.Context, _ int) error {
			if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(called) != 3*time.Second {
				t.Errorf("Restart may take until %s after the call, want 3s", deadline.Sub(called))
			}
			return nil
		}
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

func TestGate_HostThatMustNotBeRestartedEndsSkipped(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rules  func(t *testing.T) policy.Rules
		want   string
		probes int
	}{
		{"Denied", func(t *testing.T) policy.Rules { return policy.Rules{Deny: mustPatterns(t, "cattle-*")} }, "skipped denied", 0},
		{"NotListed", func(t *testing.T) policy.Rules { return policy.Rules{Only: mustPatterns(t, "db-*")} }, "skipped not_listed", 0},
		{"Self", func(*testing.T) policy.Rules {
			return policy.Rules{Self: policy.Self{Names: []restart.Host{"cattle-a1b2"}}}
		}, "skipped self", 0},
		{"SelfByItsBoot", func(*testing.T) policy.Rules { return policy.Rules{Self: policy.Self{Boot: "1"}} }, "skipped self", 1},
		{"DryRun", func(*testing.T) policy.Rules { return policy.Rules{DryRun: true} }, "skipped dry_run", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.cfg.Rules = tt.rules(t) })
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				w.expect(d, "ack", tt.want, 0)
				if w.host.calls != 0 || w.host.probes != tt.probes {
					t.Errorf("got %d restarts and %d probes, want 0 and %d", w.host.calls, w.host.probes, tt.probes)
				}
			})
		})
	}
}

// until sleeps until the wall clock shows it, on the bubble's first day or a later one.
func until(t *testing.T, text string) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(at))
}

func TestWindow_RequestOfTheLastMinuteIsNotTriggeredWhenTheWindowIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.cfg.Rules = policy.Rules{Windows: mustWindows(t, "Europe/Berlin", "daily 22:00-24:00")}
			w.host.onProbe = func(context.Context) error { time.Sleep(5 * time.Second); return nil } // over midnight
		})
		until(t, "2000-03-01T22:59:57Z") // 23:59:57 there
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "nak", "none", 0)
		if w.host.probes != 1 || w.host.calls != 0 {
			t.Errorf("got %d probes and %d restarts, want it probed in time and not restarted", w.host.probes, w.host.calls)
		}
	})
}

func TestWindow_HostThatWasTriggeredInTheLastMinuteIsVerifiedAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.cfg.Rules = policy.Rules{Windows: mustWindows(t, "Europe/Berlin", "daily 22:00-24:00")}
			w.host.down = 2 * time.Minute
		})
		until(t, "2000-03-01T22:59:00Z")
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if got := d.settledAt.UTC().Format(time.TimeOnly); got < "23:01:00" || got > "23:02:00" {
			t.Errorf("verified at %s, want 23:01", got)
		}
	})
}

// Half an hour before a window closes, a restart that takes an hour is not begun.
func TestWindow_RestartThatDoesNotFitAnyMoreIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.cfg.Rules = policy.Rules{Windows: mustWindows(t, "UTC", "daily 22:00-24:00"), Takes: time.Hour}
		})
		until(t, "2000-03-01T23:30:00Z")
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "nak", "none", 0)
	})
}

// Both changes of the clock, in two zones: 02:30 is in the window or not as the clock on the wall says it.
func TestWindow_FollowsTheClockOnTheWallThroughBothChanges(t *testing.T) {
	for _, tt := range []struct {
		zone, open, at string
		want           string
	}{
		{"Europe/Berlin", "daily 02:00-04:00", "2000-03-26T00:59:59Z", "none"},                  // 01:59:59
		{"Europe/Berlin", "daily 02:00-04:00", "2000-03-26T01:00:00Z", "restarted verified"},    // 03:00, there is no 02:00
		{"Europe/Berlin", "daily 02:00-04:00", "2000-03-26T02:00:00Z", "none"},                  // 04:00
		{"Europe/Berlin", "daily 03:00-04:00", "2000-10-29T01:59:59Z", "none"},                  // 02:59:59, the second time
		{"Europe/Berlin", "daily 03:00-04:00", "2000-10-29T02:00:00Z", "restarted verified"},    // 03:00
		{"America/New_York", "daily 02:00-04:00", "2000-04-02T06:59:59Z", "none"},               // 01:59:59
		{"America/New_York", "daily 02:00-04:00", "2000-04-02T07:00:00Z", "restarted verified"}, // 03:00
		{"America/New_York", "daily 02:00-04:00", "2000-10-29T06:59:59Z", "none"},               // 01:59:59, the second time
		{"America/New_York", "daily 02:00-04:00", "2000-10-29T07:00:00Z", "restarted verified"}, // 02:00
	} {
		t.Run(tt.zone+" "+tt.at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) {
					w.cfg.Rules = policy.Rules{Windows: mustWindows(t, tt.zone, tt.open)}
				})
				until(t, tt.at)
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				if got := w.outcome(d.request); got != tt.want {
					t.Errorf("got outcome %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// Fear: the message of a host that is down is settled before the breaker knows, and the next host goes down.
func TestBreaker_HostThatDidNotComeBackIsCountedBeforeItsMessageIsSettled(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*fakeHost)
		boots  int
		want   string
	}{
		"NotReady":    {func(h *fakeHost) { h.unready = -1 }, 1, "dead not_ready"},
		"Unconfirmed": {func(h *fakeHost) { h.down = 24 * time.Hour }, 1, "dead unconfirmed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				tt.change(w.host)
				w.control.onFell = func() error { return errors.New("bucket has not answered") }
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				w.expect(d, "nak", "none", tt.boots)

				w.control.onFell = func() error {
					if d.settled() != "left" || w.outcome(d.request) != "none" {
						t.Errorf("counted after the message was %s", d.settled())
					}
					return nil
				}
				d = d.again()
				handle(w.handler, t.Context(), d)
				w.expect(d, "term "+strings.TrimPrefix(tt.want, "dead "), tt.want, tt.boots)
				if len(w.control.fallen) != 1 || w.control.fallen[0].ID != d.request.ID || w.control.fallen[0].Host != d.request.Host {
					t.Errorf("counted %+v, want this host once", w.control.fallen)
				}
			})
		})
	}
}

func TestBreaker_HostThatCameBackEndsTheRowAndOneThatWasNotTriggeredDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		if w.control.risen != 1 || len(w.control.fallen) != 0 {
			t.Errorf("counted %d that came back and %d that did not, want 1 and 0", w.control.risen, len(w.control.fallen))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.cfg.Rules.DryRun = true })
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		if w.control.risen != 0 || len(w.control.fallen) != 0 {
			t.Errorf("counted %d that came back and %d that did not, want none", w.control.risen, len(w.control.fallen))
		}
	})
}

func TestRestart_RefusalThatSaysWhenIsNotAskedAgainBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.host.onRestart = func(_ context.Context, n int) error {
			if n == 1 {
				return &restart.RefusedError{After: 17 * time.Minute, Err: errors.New("busy")}
			}
			return nil
		}
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "nak", "none", 0)
		if d.delay < 17*time.Minute {
			t.Errorf("tried again after %s, want 17m at least", d.delay)
		}
	})
}

// Fear: a driver that panics takes the worker with it, or its host is restarted again because nobody knows.
func TestDriver_ThatPanicsCostsNothingButAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.host.takeEffect = true
		w.host.onRestart = func(context.Context, int) error { panic("index out of range") }
		// It panics before it has done anything.
		d := newDelivery(newRequest(t))
		go func() {
			time.Sleep(time.Minute)
			w.host.mu.Lock()
			defer w.host.mu.Unlock()
			w.host.onRestart = nil
		}()
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
	})
}

// A call that was given up may take effect at any time. Where the driver does not compare then, it is never repeated.
func TestDriver_ThatIgnoresItsDeadlineIsAskedAgainOnlyWhereItComparesAtEffect(t *testing.T) {
	for compare, want := range map[restart.Compare]string{
		restart.CompareAtEffect:     "restarted verified",
		restart.CompareAtAcceptance: "dead unconfirmed",
	} {
		t.Run(compare.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.host.traits = restart.Traits{Compare: compare, MaxDelay: time.Second}
				end := make(chan struct{})
				w.host.onRestart = func(_ context.Context, n int) error {
					if n == 1 {
						<-end
						return errors.New("nobody knows")
					}
					return nil
				}
				d := newDelivery(newRequest(t))
				handle(w.handler, t.Context(), d)
				if got := w.outcome(d.request); got != want {
					t.Errorf("got outcome %q, want %q", got, want)
				}
				if n := w.cfg.Driver.Strays(); n != 1 {
					t.Errorf("got %d strays, want the one", n)
				}
				close(end)
				synctest.Wait()
			})
		})
	}
}

func TestReceipt_SaysHowLongTheHostWasDownAndWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.cfg.StableFor = 10 * time.Second
			w.host.down = time.Minute
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		w.expect(d, "ack", "restarted verified", 1)
		o, err := w.store.Outcome(t.Context(), d.request.ID)
		if err != nil {
			t.Fatal(err)
		}
		if down := time.Duration(o.Receipt.Down); down < time.Minute || down > time.Minute+2*time.Second {
			t.Errorf("down for %s, want about a minute", down)
		}
		var names []string
		for _, c := range o.Receipt.Checks {
			names = append(names, c.Name+"="+c.Result)
		}
		if len(names) != 3 || names[0] != "epoch=2, was 1" || names[1] != "ready=yes" || !strings.HasPrefix(names[2], "stable_for=1") {
			t.Errorf("checks: got %q, want epoch, ready and stable_for", names)
		}
	})
}
