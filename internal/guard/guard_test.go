package guard_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/guard"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	group = restart.Group("web")
	key   = "pause.web.monitor-api"
	every = 10 * time.Second // from one result to the next
)

// A monitored is a monitor that fails by one bad result, and is good after so many good ones.
type monitored struct {
	name      string
	state     monitor.State
	good      int // in a row
	successes int
}

func (m *monitored) result(v monitor.Verdict, seen string) monitor.Observation {
	o := monitor.Observation{Name: m.name, Before: m.state, At: time.Now(), Result: monitor.Result{Verdict: v, Seen: seen}}
	if v == monitor.Good {
		m.good++
	} else {
		m.good = 0
	}
	if v == monitor.Bad {
		m.state = monitor.StateFailed
	} else if m.good >= max(1, m.successes) {
		m.state = monitor.StateGood
	}
	o.After = m.state
	return o
}

// A worker has one monitor, which guards one group.
type worker struct {
	*guard.Guard
	name    string
	monitor monitored
	log     *lines
	stop    func()
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func config(b *bucket, name string, resumeAfter int) guard.Config {
	return guard.Config{
		Monitors: []guard.Monitor{{Name: "api", Groups: []restart.Group{group}, ResumeAfter: resumeAfter}},
		KV:       b, Watcher: &view{bucket: b}, Worker: name,
		Derive: func(ctx context.Context, group restart.Group) error {
			if err := b.reach(ctx); err != nil {
				return err
			}
			b.set(func() { b.derived = append(b.derived, group) })
			return nil
		},
	}
}

// start starts a worker, which stops with the test at the latest.
func start(t testing.TB, cfg guard.Config) *worker {
	t.Helper()
	w := &worker{name: cfg.Worker, monitor: monitored{name: "api"}, log: &lines{}}
	cfg.Logger = zerolog.New(w.log)
	var err error
	if w.Guard, err = guard.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.stop = func() { cancel(); running.Wait() }
	t.Cleanup(w.stop)
	return w
}

// sees has the worker see a result, and what follows from it happen.
func (w *worker) sees(verdicts ...monitor.Verdict) {
	for _, v := range verdicts {
		w.Observe(w.monitor.result(v, "seen by "+w.name))
		synctest.Wait()
	}
}

const (
	good    = monitor.Good
	bad     = monitor.Bad
	unknown = monitor.Unknown
)

func wantHeld(t *testing.T, w *worker, want ...policy.Hold) {
	t.Helper()
	if diff := cmp.Diff(want, w.Holds(group)); diff != "" {
		t.Errorf("what %s holds by itself (-want +got):\n%s", w.name, diff)
	}
}

func wantPaused(t *testing.T, b *bucket, want bool) {
	t.Helper()
	if got := b.has(key); got != want {
		t.Errorf("paused: got %t, want %t", got, want)
	}
}

func heldBy(w *worker) policy.Hold {
	return policy.Hold{Reason: "monitor-api", Why: "seen by " + w.name, By: w.name}
}

func TestGuard_FailedMonitorPausesItsGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		cfg := config(b, "worker-1", 0)
		cfg.Monitors[0].Groups = append(cfg.Monitors[0].Groups, "db")
		w := start(t, cfg)
		w.sees(good)
		if got := b.standing(); len(got) > 0 {
			t.Errorf("paused while the monitor is good: %v", got)
		}
		failed := time.Now().UTC()
		w.sees(bad)
		for _, key := range []string{key, "pause.db.monitor-api"} {
			want := control.Pause{Since: failed, By: "worker-1", Why: "seen by worker-1"}
			if diff := cmp.Diff(want, b.standing()[key].Pause); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
		if len(b.derived) != 2 {
			t.Errorf("consumers brought into line: got %v, want both", b.derived)
		}
		wantHeld(t, w)
		if got := w.log.count("group paused"); got != 2 {
			t.Errorf("told %d times, want once for each group", got)
		}
		if diff := cmp.Diff([]string{"api"}, w.Failing()); diff != "" {
			t.Errorf("failing (-want +got):\n%s", diff)
		}
	})
}

// Fear: the worker that is restarted, or comes late, overwrites who has seen it first, and when.
func TestGuard_KeepsAnEntryThatIsThere(t *testing.T) {
	for _, resumeAfter := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			b := newBucket()
			first := start(t, config(b, "worker-1", resumeAfter))
			first.sees(bad)
			stands := b.standing()[key].Pause
			time.Sleep(every)
			second := start(t, config(b, "worker-2", resumeAfter))
			second.sees(bad)
			first.stop()
			start(t, config(b, "worker-1", resumeAfter)).sees(bad, bad)
			if diff := cmp.Diff(stands, b.standing()[key].Pause); diff != "" {
				t.Errorf("with resume_after %d (-first +now):\n%s", resumeAfter, diff)
			}
			wantHeld(t, second)
			if got := second.log.count("is paused already"); got != 1 {
				t.Errorf("told %d times that it is paused already, want once", got)
			}
		})
	}
}

// Fear: a worker starts hosts again before it knows whether they are wanted down.
func TestGuard_HoldsUntilEachMonitorHasComeToAVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 0))
		w.monitor.successes = 2
		want := policy.Hold{Reason: "monitor-api", Why: "it has come to no verdict on this worker yet", By: "worker-1"}
		wantHeld(t, w, want)
		w.sees(unknown, good)
		wantHeld(t, w, want)
		w.sees(good)
		wantHeld(t, w)
		if got := w.Holds("db"); got != nil {
			t.Errorf("a group that no monitor guards is held: %v", got)
		}
		wantPaused(t, b, false)
	})
}

// Fear: the check fails because the network does, and the worker that sees it restarts hosts as soon as it is back.
func TestGuard_HoldsByItselfWhileItCannotStoreThePause(t *testing.T) {
	for name, trouble := range map[string]func(*bucket){
		"Refused": func(b *bucket) { b.away = errAway },
		"Silent":  func(b *bucket) { b.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket()
				w := start(t, config(b, "worker-1", 0))
				w.sees(good)
				b.set(func() { trouble(b) })
				w.sees(bad)
				time.Sleep(time.Hour)
				w.sees(good, bad) // whatever it sees meanwhile: it was never said that it may go on by itself
				wantHeld(t, w, heldBy(w))
				w.sees(good)
				wantHeld(t, w, heldBy(w))
				if got := w.log.count("cannot store what the monitors say"); got != 1 {
					t.Errorf("told %d times in an hour that it cannot be stored, want once", got)
				}
				b.set(func() { b.away, b.hangs = nil, false })
				time.Sleep(every)
				wantPaused(t, b, true)
				wantHeld(t, w)
			})
		})
	}
}

// Fear: the pause is in the bucket, what the worker knows of it is a step behind, and something is triggered in between.
func TestGuard_HoldsUntilTheWatcherKnowsOfTheEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 0))
		w.sees(good)
		b.set(func() { b.deaf = true })
		w.sees(bad)
		wantPaused(t, b, true)
		if len(b.derived) != 1 {
			t.Error("the consumer waits for the watcher")
		}
		wantHeld(t, w, heldBy(w))
		time.Sleep(every)
		b.resume(key) // by a person, before the worker saw that it was there
		b.set(func() { b.deaf = false })
		time.Sleep(every)
		wantHeld(t, w)
		wantPaused(t, b, false)
	})
}

// Fear: somebody has looked, knows better, resumes the group, and the check pauses it again and again.
func TestGuard_ObeysAPersonAlthoughTheCheckFailsUntilItFailsAnew(t *testing.T) {
	for _, resumeAfter := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			b := newBucket()
			one, two := start(t, config(b, "worker-1", resumeAfter)), start(t, config(b, "worker-2", resumeAfter))
			one.sees(bad)
			two.sees(bad)
			b.resume(key)
			for range 10 {
				time.Sleep(every)
				one.sees(bad)
				two.sees(unknown)
			}
			wantPaused(t, b, false)
			wantHeld(t, one)
			wantHeld(t, two)
			one.sees(good, bad)
			wantPaused(t, b, true)
		})
	}
}

// Fear: an alarm that ends by itself is seen by nobody.
func TestGuard_WithoutResumeAfterOnlyAPersonResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 0))
		w.sees(bad, bad)
		for range 100 {
			time.Sleep(every)
			w.sees(good)
		}
		wantPaused(t, b, true)
		if b.written != 1 {
			t.Errorf("wrote %d times, want once", b.written)
		}
	})
}

func TestGuard_ResumesAfterSoManyGoodResultsInARow(t *testing.T) {
	for name, tt := range map[string]struct {
		successes int
		sees      []monitor.Verdict // all but the last leave it paused
	}{
		"AtOnce":               {1, []monitor.Verdict{bad, good, good, good}},
		"BadOnesEndTheRow":     {1, []monitor.Verdict{bad, good, good, bad, good, good, good}},
		"UnknownOnesEndTheRow": {1, []monitor.Verdict{bad, good, good, unknown, good, good, good}},
		"CountedFromWhenGood":  {2, []monitor.Verdict{bad, good, good, good, good}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket()
				w := start(t, config(b, "worker-1", 3))
				w.monitor.successes = tt.successes
				for _, v := range tt.sees {
					if v != bad && !b.has(key) {
						t.Fatal("resumed too early")
					}
					w.sees(v)
					time.Sleep(every)
				}
				wantPaused(t, b, false)
				wantHeld(t, w)
				if len(b.derived) != 2 {
					t.Errorf("consumer brought into line %d times, want twice", len(b.derived))
				}
				if got := w.log.count("group resumed"); got != 1 {
					t.Errorf("told %d times that it is resumed, want once", got)
				}
			})
		})
	}
}

func TestGuard_LeavesWhatPeopleAndOtherMonitorsPausedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		for _, cause := range []control.Cause{control.ByHand, "monitor-other"} {
			if _, err := control.Put(t.Context(), putter{b}, control.Pause{Group: group, Cause: cause}); err != nil {
				t.Fatal(err)
			}
		}
		w := start(t, config(b, "worker-1", 1))
		w.sees(bad, good, good)
		wantPaused(t, b, false)
		if got := len(b.standing()); got != 2 {
			t.Errorf("got %d other pauses, want both", got)
		}
	})
}

// A putter is a bucket that people write to.
type putter struct{ *bucket }

func (p putter) Put(ctx context.Context, key string, data []byte) (uint64, error) {
	return p.write(ctx, key, data, func(entry) bool { return true })
}

// Fear: one worker sees the service well, and lets hosts be restarted that another one sees burning.
func TestGuard_StaysPausedWhileAnyWorkerSeesItFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one, two := start(t, config(b, "worker-1", 3)), start(t, config(b, "worker-2", 3))
		one.sees(bad)
		two.sees(bad)
		for range 20 {
			time.Sleep(every / 2)
			one.sees(good)
			time.Sleep(every / 2)
			two.sees(bad)
			wantPaused(t, b, true)
		}
		for range 3 {
			wantPaused(t, b, true)
			one.sees(good)
			two.sees(good)
		}
		wantPaused(t, b, false)
	})
}

// Fear: the entry tells that others see it fail, and lets them end that, while this worker's word is still to come.
func TestGuard_FailureAnewIsWrittenAtOnceThoughAnotherHasJustWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one, two := start(t, config(b, "worker-1", 3)), start(t, config(b, "worker-2", 3))
		one.sees(bad)
		two.sees(bad, good)
		one.sees(bad, bad)
		before := b.standing()[key].revision
		two.sees(bad)
		if b.standing()[key].revision == before {
			t.Error("not written")
		}
		wantHeld(t, two)
	})
}

// Fear: the service goes down for a hundred workers at once, and each has to say so before it believes it.
func TestGuard_IsContentWithWhatAnotherWritesAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one := start(t, config(b, "worker-1", 3))
		start(t, config(b, "worker-2", 3)).sees(bad)
		var other entry
		b.renewing = func() {
			b.set(func() {
				b.revision++
				other = b.entries[key]
				other.revision = b.revision
				b.entries[key] = other
			})
			b.renewing = func() {}
		}
		one.sees(bad)
		time.Sleep(every)
		wantHeld(t, one)
		if got := b.standing()[key]; got != other {
			t.Errorf("got %+v, want what the other has written, %+v", got, other)
		}
		one.sees(bad)
		if got := b.standing()[key]; got == other {
			t.Error("not written a result later")
		}
	})
}

// Fear: one that was told to go on although its check fails is not heard when another worker sees it fail anew.
func TestGuard_OneThatWasResumedKeepsWhatAnotherPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one, two := start(t, config(b, "worker-1", 3)), start(t, config(b, "worker-2", 3))
		one.sees(bad, bad)
		b.resume(key)
		one.sees(bad)
		two.sees(bad)
		before := b.standing()[key].revision
		one.sees(bad)
		if b.standing()[key].revision == before {
			t.Error("not written")
		}
	})
}

// Fear: two that have both seen it fail take each other's word for their own, and the one that recovers for nobody's.
func TestGuard_StaysPausedWhileTheOneFailsThatWasQuietBecauseTheOtherSpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one, two := start(t, config(b, "worker-1", 3)), start(t, config(b, "worker-2", 3))
		one.monitor.successes = 3
		two.sees(bad)
		one.sees(bad)
		for range 20 {
			time.Sleep(every / 2)
			two.sees(bad)
			time.Sleep(every / 2)
			one.sees(good)
			wantPaused(t, b, true)
		}
	})
}

// Fear: where many monitors look at the bucket, a result counts for what was so for a moment only.
func TestGuard_GoodResultCountsForAWholeInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		cfg := config(b, "worker-1", 1)
		cfg.Monitors = append(cfg.Monitors, guard.Monitor{Name: "other", Groups: []restart.Group{group}})
		one, two := start(t, cfg), start(t, config(b, "worker-2", 1))
		other := monitored{name: "other"}
		two.sees(bad)
		for range 10 {
			one.sees(good)
			two.sees(bad)
			one.Observe(other.result(good, ""))
			synctest.Wait()
		}
		wantPaused(t, b, true)
	})
}

// Fear: the worker that has seen it fail is gone, and the group waits for it for ever.
func TestGuard_EntryOfADeadWorkerIsLiftedByAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		dead, other := start(t, config(b, "worker-1", 2)), start(t, config(b, "worker-2", 2))
		dead.sees(bad)
		dead.stop()
		other.sees(good, good)
		wantPaused(t, b, true)
		other.sees(good)
		wantPaused(t, b, false)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 2))
		w.sees(bad)
		w.stop()
		wantPaused(t, b, true)
		w = start(t, config(b, "worker-1", 2))
		w.sees(good, good)
		wantPaused(t, b, true)
		w.sees(good)
		wantPaused(t, b, false)
	})
}

// Fear: the service is down for all, and a hundred workers tell each other so at every result.
func TestGuard_WhereAllSeeItFailOneOfThemSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		workers := make([]*worker, 10)
		for i := range workers {
			workers[i] = start(t, config(b, "worker", 3))
			workers[i].sees(bad)
		}
		before, rounds := b.written, 20
		for range rounds {
			for _, w := range workers {
				time.Sleep(every / 10)
				w.sees(bad)
			}
		}
		if got := b.written - before; got < rounds/2 || got > rounds+len(workers) {
			t.Errorf("wrote %d times in %d rounds of %d workers, want about once a round", got, rounds, len(workers))
		}
	})
}

// Fear: nobody could say for an hour that the service is still down, and the first that can says that it is well.
func TestGuard_WhatWasGoodWhileTheServerWasAwayDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		one, two := start(t, config(b, "worker-1", 3)), start(t, config(b, "worker-2", 3))
		two.sees(bad)
		for range 20 { // which of them is the first to reach it again is up to chance
			one.sees(good)
			b.set(func() { b.away = errAway })
			for range 10 {
				one.sees(good)
				two.sees(bad)
				time.Sleep(every)
			}
			b.set(func() { b.away = nil })
			time.Sleep(every)
			wantPaused(t, b, true)
			two.sees(bad)
		}
	})
}

// Fear: the monitor failed while the server was away, has been good for hours, and pauses the group when it is back.
func TestGuard_PauseThatWouldHaveBeenLiftedByNowIsNotPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 2))
		w.monitor.successes = 3
		b.set(func() { b.away = errAway })
		w.sees(bad, good, good, good)
		wantHeld(t, w, heldBy(w))
		w.sees(good)
		wantHeld(t, w)
		b.set(func() { b.away = nil })
		time.Sleep(every)
		wantPaused(t, b, false)
	})
}

// Fear: the worker is stopped just when it has seen the service go down.
func TestGuard_StopStoresWhatIsNotStoredAndTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 1))
		b.set(func() { b.away = errAway })
		w.sees(bad)
		time.AfterFunc(3*time.Second, func() { b.set(func() { b.away = nil }) })
		w.stop()
		wantPaused(t, b, true)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 1))
		w.sees(bad)
		b.set(func() { b.away = errAway })
		w.sees(good)
		b.set(func() { b.away = nil })
		w.stop()
		wantPaused(t, b, true)
	})
}

// Fear: a worker that cannot be stopped while the server is away.
func TestGuard_StopIsBounded(t *testing.T) {
	for name, trouble := range map[string]func(*bucket){
		"Refused": func(b *bucket) { b.away = errAway },
		"Silent":  func(b *bucket) { b.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket()
				trouble(b)
				cfg := config(b, "worker-1", 1)
				cfg.Grace = 7 * time.Second
				w := start(t, cfg)
				w.sees(bad)
				began := time.Now()
				w.stop()
				if took := time.Since(began); took != cfg.Grace {
					t.Errorf("took %s, want %s", took, cfg.Grace)
				}
				if got := w.log.count("stopped before every pause"); got != 1 {
					t.Errorf("told %d times, want once", got)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		w := start(t, config(b, "worker-1", 1))
		w.sees(bad)
		time.Sleep(2 * time.Second) // a try that somebody was faster than is repeated
		synctest.Wait()
		b.set(func() { b.away = errAway })
		began := time.Now()
		w.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s with nothing left to store", took)
		}
	})
}

// Fear: the server is slow, and all checks wait for it.
func TestGuard_ObserveReturnsAtOnceWhateverTheServerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		b.hangs = true
		w := start(t, config(b, "worker-1", 3))
		m := monitored{name: "api"}
		runner, err := monitor.New(monitor.Config{
			Monitors: []monitor.Spec{{Name: "api", Check: failing{}, Every: time.Second, Failures: 1, Successes: 1}},
			For:      time.Hour - time.Millisecond,
			Observe: func(o monitor.Observation) {
				if o.Missed > 0 {
					t.Errorf("beat %d: %d were missed", o.Seq, o.Missed)
				}
				w.Observe(o)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := runner.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Observe(m.result(good, ""))
		wantHeld(t, w, policy.Hold{Reason: "monitor-api", Why: "the service is down", By: "worker-1"})
	})
}

type failing struct{}

func (failing) Check(context.Context) monitor.Result {
	return monitor.Result{Verdict: monitor.Bad, Seen: "the service is down"}
}

// It is asked three times for each message.
func TestGuard_HoldsAllocatesNothing(t *testing.T) {
	w, err := guard.New(config(newBucket(), "worker-1", 0))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = w.Holds(group), w.Holds("db") }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestGuard_RunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, config(newBucket(), "worker-1", 0))
		synctest.Wait()
		if err := w.Run(t.Context()); err == nil {
			t.Error("Run while it runs: got nil, want an error")
		}
		w.stop()
	})
}

func TestNew_RefusesWhatItCannotStoreOrDo(t *testing.T) {
	for want, spoil := range map[string]func(*guard.Config){
		"guard: KV is missing":            func(c *guard.Config) { c.KV = nil },
		"guard: Watcher is missing":       func(c *guard.Config) { c.Watcher = nil },
		"guard: Derive is missing":        func(c *guard.Config) { c.Derive = nil },
		"guard: Grace: -1s is negative":   func(c *guard.Config) { c.Grace = -time.Second },
		"monitors[0].name: ":              func(c *guard.Config) { c.Monitors[0].Name = "the api" },
		"monitors[1].name: ":              func(c *guard.Config) { c.Monitors = append(c.Monitors, c.Monitors[0]) },
		"monitors[0].resume_after: ":      func(c *guard.Config) { c.Monitors[0].ResumeAfter = -1 },
		"monitors[0].groups: group: ":     func(c *guard.Config) { c.Monitors[0].Groups[0] = control.AllGroups },
		"monitors[0].groups: \"web\" is ": func(c *guard.Config) { c.Monitors[0].Groups = []restart.Group{group, group} },
	} {
		cfg := config(newBucket(), "worker-1", 0)
		spoil(&cfg)
		if _, err := guard.New(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s…", err, want)
		}
	}
}

// A campaign goes on after its group's checks have been good for a while: one result that was not begins that anew.
func TestGuard_GoodSinceIsTheFirstOfTheGoodResultsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, config(newBucket(), "worker-1", 0))
		want := func(since time.Time, good bool) {
			t.Helper()
			if got, ok := w.GoodSince(group); ok != good || !got.Equal(since) {
				t.Errorf("got %s, %v, want %s, %v", got, ok, since, good)
			}
		}
		want(time.Time{}, false)
		w.sees(good)
		first := time.Now()
		time.Sleep(time.Second)
		w.sees(good)
		want(first, true)
		w.sees(unknown) // which is not enough to be failed
		want(time.Time{}, false)
		time.Sleep(time.Second)
		w.sees(good)
		want(time.Now(), true)
		if since, ok := w.GoodSince("db"); !ok || !since.IsZero() {
			t.Errorf("a group that no monitor guards: got %s, %v, want always", since, ok)
		}
	})
}
