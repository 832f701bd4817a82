package handler

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestProbePause(t *testing.T) {
	const ms = time.Millisecond
	minute := bootTime{time.Minute, 2 * time.Second}
	second := bootTime{time.Second, 10 * ms}
	for _, tt := range []struct {
		name             string
		elapsed, longest time.Duration
		usual            bootTime
		waiting          int
		scout            bool
		want             time.Duration
	}{
		{"AtOnceSoonAgain", 0, time.Second, bootTime{}, 1, false, 10 * ms},
		{"InProportionToTheWait", 800 * ms, time.Second, bootTime{}, 1, false, 100 * ms},
		{"NeverLongerThanProbeInterval", time.Hour, time.Second, bootTime{}, 1, false, time.Second},
		{"WhereManyAreWaitedForAllWaitLonger", 0, time.Second, bootTime{}, 100_000, false, 5 * time.Second},
		{"AndMoreSoIfNothingIsExpectedSoon", 2 * time.Second, time.Second, second, 100_000, false, 20 * time.Second},
		{"UpToTheUsualTime", 900 * ms, 10 * time.Second, second, 1, false, 80 * ms},
		{"AScoutUpToJustBefore", 900 * ms, 10 * time.Second, second, 1, true, 80*ms - second.mean/64},
		{"AtTheUsualTimeOften", time.Second, 10 * time.Second, second, 1, false, second.mean / 64},
		{"AtTheUsualTimeOftenThoughManyAreWaitedFor", time.Second, 10 * time.Second, second, 5000, false, second.mean / 64},
		{"AfterTheUsualTimeAsBefore", 2 * time.Second, 10 * time.Second, second, 1, false, 250 * ms},
		{"LongBeforeTheUsualTimeAsEver", time.Second, 10 * time.Second, minute, 1, false, 125 * ms},
		{"NotPastTheBeginOfTheUsualTime", 10 * time.Second, time.Minute, minute, 1_000_000, false, 46 * time.Second},
		{"SlowHostsNotMoreOftenThanProbeInterval", time.Minute, 500 * ms, minute, 1, false, 500 * ms},
		{"FastHostsNotMoreOftenThanAnybody", 5 * ms, time.Second, bootTime{ms, ms}, 1, false, 10 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := probePause(tt.elapsed, tt.longest, tt.usual, tt.waiting, tt.scout); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Whatever is thought of the hosts, one that is unlike the others is seen as soon as if nothing was.
func TestProbePause_AWrongGuessCostsNoTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.Int64Range(0, int64(10*time.Minute))
		took := time.Duration(lengths.Draw(t, "took"))
		longest := time.Duration(rapid.Int64Range(int64(minProbePause), int64(time.Minute)).Draw(t, "probe interval"))
		usual := bootTime{time.Duration(lengths.Draw(t, "mean")), time.Duration(lengths.Draw(t, "spread"))}
		waiting := rapid.IntRange(0, 10_000).Draw(t, "waiting")
		scout := rapid.Bool().Draw(t, "scout")
		probes, at := 0, time.Duration(0)
		for at < took {
			pause := probePause(at, longest, usual, waiting, scout)
			if pause < minProbePause {
				t.Fatalf("a pause of %s", pause)
			}
			at += pause
			probes++
		}
		late := at - took
		if most := max(min(at/8, longest), minProbePause, time.Duration(waiting)*probeShare); late > most {
			t.Errorf("seen %s late, want at most %s", late, most)
		}
		geometric := 8 + 8*10 + int(took/longest) // 10 ms grow by an eighth each time to less than 10 min
		if fine := 64 * 8; probes > geometric+fine+int(6*usual.spread/minProbePause) {
			t.Errorf("%d probes", probes)
		}
	})
}

// A host that takes as long as the others is seen when it is back.
func TestProber_LearnsHowLongHostsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down = 10 * time.Second
		w := newWorld(t, func(w *world) { w.host.down = down })
		var late time.Duration
		for range 30 {
			d := newDelivery(newRequest(t))
			began := time.Now()
			handle(w.handler, t.Context(), d)
			late = time.Since(began) - down
			if got := d.settled(); got != "ack" {
				t.Fatalf("got %q, want an ack", got)
			}
		}
		if most := down/64 + minProbePause; late > most {
			t.Errorf("the last of many alike was seen %s late, want at most %s", late, most)
		}
	})
}

// Fear: hosts become faster, and each is waited for as long as before, because nobody looks earlier.
func TestProber_NoticesThatHostsHaveBecomeFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Int64
		w := newWorld(t, func(w *world) {
			w.log = zerolog.Nop()
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.down = time.Duration(down.Load())
				return h
			})
		})
		// Of the 1,000 that are waited for, nobody but scouts looks before the usual time.
		const hosts, every = 8000, 100 * time.Microsecond
		var all sync.WaitGroup
		var took atomic.Int64 // by the last one
		for i := range 2 * hosts {
			takes := 100 * time.Millisecond
			if i >= hosts {
				takes = 50 * time.Millisecond
			}
			down.Store(int64(takes))
			r := newRequest(t)
			r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", i))
			began := time.Now()
			all.Go(func() {
				handle(w.handler, t.Context(), newDelivery(r))
				took.Store(int64(time.Since(began)))
			})
			time.Sleep(every)
			if got, most := time.Duration(took.Load()), takes+3*minProbePause; i%hosts == hosts-1 && got > most {
				t.Errorf("a host that takes %s was seen after %s, want at most %s", takes, got, most)
			}
		}
		all.Wait()
	})
}

// Fear: the hosts answer slowly, and each of those that are due has a goroutine that waits for a slot, until the worker
// dies of them; or whoever waits so is not heard when the work has to end.
func TestProber_LooksThatWaitForRoomHaveNoGoroutine(t *testing.T) {
	const n = 200
	for name, want := range map[string]string{"AndAllAreMadeInTheEnd": "ack", "AndEndAtOnceWithTheWork": "nak", "AndOneEndsAlone": "left"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) {
					w.log = zerolog.Nop()
					w.cfg.VerifyTimeout, w.driver.Slots, w.driver.ProbeTimeout = 12*time.Hour, 1, time.Minute
					w.driver.Driver = perHost(func() *fakeHost {
						h := newHost()
						h.down = time.Minute
						if want == "left" { // or the last may be among those that are seen first
							h.down = time.Hour
						}
						h.onProbe = func(ctx context.Context) error {
							if h.calls == 0 {
								return nil
							}
							select {
							case <-time.After(10 * time.Second):
								return nil
							case <-ctx.Done():
								return ctx.Err()
							}
						}
						return h
					})
				})
				restarter := w.handler.cfg.Work.(*Restarter)
				restarter.looks.free = 2
				restarter.prober.usual = bootTime{time.Minute, time.Second}
				before := runtime.NumGoroutine()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				last, stopLast := context.WithCancel(ctx)
				defer stopLast()
				var all []*fakeDelivery
				for i := range n {
					r := newRequest(t)
					r.Host = restart.Host(fmt.Sprintf("host-%d.example.net", i))
					all = append(all, newDelivery(r))
					under := ctx
					if i == n-1 {
						under = last
					}
					w.handler.Begin(under, all[i], func() {})
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if more := runtime.NumGoroutine() - before; more > 10 {
					t.Errorf("%d goroutines look at %d hosts, of which 2 may", more, n)
				}
				switch want {
				case "ack":
					time.Sleep(2 * time.Hour)
				case "nak":
					stop()
				case "left":
					stopLast()
				}
				synctest.Wait()
				if got := all[n-1].settled(); want == "left" && got != "nak" {
					t.Errorf("the last: got %q, want a nak", got)
				}
				settled := map[string]int{}
				for _, d := range all {
					settled[d.settled()]++
				}
				if few := n / 10; settled[want] < n-few || settled["left"] > 0 && want != "left" { // a few were seen before
					t.Errorf("got %v of %d messages, want %q", settled, n, want)
				}
				stop()
				synctest.Wait()
				if got := restarter.looks.free; got != 2 {
					t.Errorf("in the end there is room for %d looks, want 2", got)
				}
			})
		})
	}
}

// A look that can see nothing costs as much as one that can.
func TestProber_LooksAtOnceOnlyWhereAHostMayBeBack(t *testing.T) {
	for _, tt := range []struct{ down, want time.Duration }{
		{0, 0},
		{time.Second, minProbePause},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.host.down = tt.down })
			handle(w.handler, t.Context(), newDelivery(newRequest(t)))
			var triggered time.Time
			var looks []time.Duration
			w.host.onRestart = func(context.Context, int) error { triggered = time.Now(); return nil }
			w.host.onProbe = func(context.Context) error {
				if !triggered.IsZero() {
					looks = append(looks, time.Since(triggered))
				}
				return nil
			}
			handle(w.handler, t.Context(), newDelivery(newRequest(t)))
			if len(looks) == 0 || looks[0] != tt.want {
				t.Errorf("a host of those that take %s was looked at after %s, want the first after %s", tt.down, looks, tt.want)
			}
		})
	}
}

// The time in which a host stays ready is over when it is over, and not an eighth of the wait later.
func TestProber_SeesTheEndOfStableForWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.host.down, w.cfg.StableFor, w.cfg.ProbeInterval = 10*time.Minute, time.Minute, 40*time.Second
			w.cfg.VerifyTimeout = time.Hour
		})
		d := newDelivery(newRequest(t))
		handle(w.handler, t.Context(), d)
		o, err := w.store.Outcome(t.Context(), d.request.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(o.Receipt.Checks[2]), "{stable_for 1m0s}"; got != want {
			t.Errorf("got check %s, want %s", got, want)
		}
	})
}

// Fear: the probes of all that is waited for take the whole processor, no lease is extended, and every message is
// delivered again.
func TestProber_ManyHostsShareTheProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, down = 200, 10 * time.Second
		var fleet *hosts
		w := newWorld(t, func(w *world) {
			fleet = perHost(func() *fakeHost {
				h := newHost()
				h.down = down
				return h
			}).(*hosts)
			w.driver.Driver, w.driver.Slots = fleet, n
			w.cfg.ProbeInterval = minProbePause
		})
		before := 0
		for _, share := range []time.Duration{probeGap, probeShare} { // before anything is known of them, and after
			began := time.Now()
			handleAll(t, w, n)
			probes := -before
			fleet.all.Range(func(_, h any) bool {
				probes += h.(*fakeHost).probes
				return true
			})
			before += probes
			if most := int(time.Since(began)/share) + 10*n; probes > most {
				t.Errorf("got %d probes in %s, want at most %d", probes, time.Since(began), most)
			}
			if took := time.Since(began); took > down+2*n*probeShare {
				t.Errorf("the last host was seen after %s, want soon after %s", took, time.Duration(down))
			}
		}
	})
}

func TestProber_NoMoreProbesThanTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p prober
		now := time.Now()
		const n = 100_000
		free := int(probeBurst / probeGap)
		for i := range n {
			want := max(0, time.Duration(i-free)*probeGap)
			if got := p.turn(now); got != want {
				t.Fatalf("turn %d: got %s, want %s", i, got, want)
			}
		}
		if got := p.turn(now.Add(n * probeGap)); got != 0 {
			t.Errorf("when all had their turn: got %s, want none", got)
		}
	})
}

func TestBootTime_FollowsTheHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOfN(rapid.Int64Range(int64(50*time.Second), int64(70*time.Second)), 50, 100).Draw(t, "took")
		b := bootTime{time.Second, time.Second} // an image before
		for _, d := range took {
			b = b.after(time.Duration(d), time.Duration(d))
		}
		if b.mean < 49*time.Second || b.mean > 71*time.Second || b.spread > 20*time.Second || b.spread < 0 {
			t.Errorf("got %s ± %s of hosts that take a minute ± 10 s", b.mean, b.spread)
		}
	})
}

// Fear: the first hosts are seen late, so that a long time is expected, and looked for, and all that follow are seen late.
func TestBootTime_IsNotMovedByLateLooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const took = time.Second
		b := bootTime{}
		for range 100 {
			from := time.Duration(rapid.Int64Range(0, int64(took)).Draw(t, "last seen down"))
			to := took + time.Duration(rapid.Int64Range(0, int64(took)).Draw(t, "late"))
			b = b.after(from, to)
		}
		if at := b.after(took, took+minProbePause); at.mean < took || at.mean > b.mean {
			t.Errorf("got %s after %s, of hosts that take %s", at.mean, b.mean, took)
		}
		for range 50 {
			b = b.after(took, took+minProbePause)
		}
		if b.mean < took || b.mean > took+2*minProbePause || b.spread > minProbePause {
			t.Errorf("got %s ± %s, of hosts that take %s", b.mean, b.spread, took)
		}
	})
}

// Fear: a worker that has just started sees its first hosts as late as it can, and those after them too.
func TestProber_ManyThatBeginTogetherAreSeenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, down = 1500, time.Second // more goroutines than the race detector bears would be alive with thousands
		w := newWorld(t, func(w *world) {
			w.driver.Driver = perHost(func() *fakeHost {
				h := newHost()
				h.down = down
				return h
			})
			w.driver.Slots, w.log = n, zerolog.Nop()
		})
		for round := range 2 {
			began := time.Now()
			handleAll(t, w, n)
			if took, most := time.Since(began), down+down/8; took > most {
				t.Errorf("round %d: the last host was seen after %s, want at most %s", round, took, most)
			}
		}
	})
}

// What is learned is learned of our own triggers: how long after its takeover a host is back says nothing of others.
func TestProber_LearnsNothingFromWhatOthersTriggered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.host.down = time.Minute })
		r := newRequest(t)
		w.mustAppend(r, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1, Settled: true, Worker: "worker-0"})
		w.host.mustRestart("1")
		time.Sleep(50 * time.Second)
		handle(w.handler, t.Context(), newDelivery(r).again())
		if got := w.handler.cfg.Work.(*Restarter).prober.usual; got != (bootTime{}) {
			t.Errorf("got %+v, want nothing", got)
		}
	})
}
