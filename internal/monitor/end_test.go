package monitor_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// N03, N05, N09: what ends a run, and how the ways are told apart.
func TestRun_StopModes(t *testing.T) {
	failing := func(name string, at int) monitor.Spec {
		verdicts := append(slices.Repeat([]monitor.Verdict{monitor.Good}, at), monitor.Bad)
		return spec(name, time.Second, answers(verdicts...))
	}
	recovering := spec("recovering", time.Second, answers(monitor.Bad, monitor.Bad, monitor.Bad, monitor.Good, monitor.Good, monitor.Good, monitor.Bad))
	for _, tt := range []struct {
		name     string
		stopOn   monitor.StopOn
		monitors []monitor.Spec
		want     string
	}{
		{"FirstFailure", monitor.FirstFailure, []monitor.Spec{failing("a", 7), failing("b", 3), failing("c", 5)}, "failure after 3s by b: [b]"},
		{"FirstFailureAtOnce", monitor.FirstFailure, []monitor.Spec{failing("a", 0)}, "failure after 0s by a: [a]"},
		{"NoFailure", monitor.FirstFailure, []monitor.Spec{failing("a", 20)}, "deadline after 10s by : []"},
		{"FailureAtTheDeadlineIsNotSeen", monitor.FirstFailure, []monitor.Spec{failing("a", 10)}, "deadline after 10s by : []"},
		{"AllFailed", monitor.AllFailed, []monitor.Spec{failing("a", 7), failing("b", 3), failing("c", 5)}, "all_failed after 7s by b: [b c a]"},
		{"AllFailedButNotAtTheSameTime", monitor.AllFailed, []monitor.Spec{recovering, failing("b", 4)}, "all_failed after 6s by b: [b recovering]"},
		{"NotAllFailed", monitor.AllFailed, []monitor.Spec{failing("a", 7), failing("b", 20)}, "deadline after 10s by : [a]"},
		{"Never", monitor.Never, []monitor.Spec{failing("a", 0)}, "deadline after 10s by : [a]"},
		{"NeverIsTheDefault", "", []monitor.Spec{failing("a", 0)}, "deadline after 10s by : [a]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _ := run(t, t.Context(), monitor.Config{Monitors: tt.monitors, StopOn: tt.stopOn, For: 10 * time.Second})
				if got := describe(e); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func describe(e monitor.Ending) string {
	cause := ""
	if e.Cause != nil {
		cause = e.Cause.Name
	}
	names := []string{}
	for _, o := range e.Failed {
		names = append(names, o.Name)
	}
	return fmt.Sprintf("%s after %s by %s: %v", e.Reason, e.Lasted, cause, names)
}

// N06: what the stop action is told.
func TestRun_TheCauseIsTheFailingResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := spec("web", 3*time.Second, checkFunc(func(ctx context.Context) monitor.Result {
			if time.Since(began) < 6*time.Second {
				return monitor.Result{Verdict: monitor.Good}
			}
			time.Sleep(time.Second)
			return monitor.Result{Verdict: monitor.Bad, Seen: "500", Facts: []monitor.Fact{{Name: "code", Value: 500}}}
		}))
		s.Failures = 2
		e, _ := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{s}, StopOn: monitor.FirstFailure})
		want := monitor.Observation{
			Name: "web", Seq: 3, Offset: 9 * time.Second, At: began.Add(10 * time.Second),
			Result: monitor.Result{Verdict: monitor.Bad, Seen: "500", Facts: []monitor.Fact{{Name: "code", Value: 500}}, Took: time.Second},
			Before: monitor.StateGood, After: monitor.StateFailed,
		}
		if e.Cause == nil {
			t.Fatal("got no cause")
		}
		if diff := cmp.Diff(want, *e.Cause); diff != "" {
			t.Errorf("Cause (-want +got):\n%s", diff)
		}
	})
}

// N08. Several checks fail at the same time, or while another's failure is dealt with.
func TestRun_ReportsAllThatArrivedAndTakesTheEarliestForTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 500 * time.Millisecond
		for range 50 { // in whatever order they are run
			cfg := monitor.Config{StopOn: monitor.FirstFailure, Monitors: []monitor.Spec{
				spec("later", time.Minute, takes(at+1, monitor.Bad)),
				spec("b", time.Minute, takes(at, monitor.Bad)),
				spec("a", time.Minute, takes(at, monitor.Bad)),
				spec("good", time.Minute, takes(at, monitor.Good)),
				spec("cancelled", time.Minute, takes(time.Second, monitor.Bad)),
			}}
			e, rec := run(t, t.Context(), cfg)
			if got, want := describe(e), "failure after 500ms by b: [b a]"; got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			var names []string
			for _, o := range rec.observations {
				names = append(names, o.Name)
			}
			slices.Sort(names)
			if diff := cmp.Diff([]string{"a", "b", "good"}, names); diff != "" {
				t.Fatalf("observed (-want +got):\n%s", diff)
			}
		}
	})
}

// The earlier of two, although it is heard of later: the observer of another result holds everything up meanwhile.
func TestRun_TheEarliestIsTheCauseWhateverIsHeardOfFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := monitor.Config{StopOn: monitor.FirstFailure, Monitors: []monitor.Spec{
			spec("first", time.Minute, takes(time.Second, monitor.Good)),
			spec("late", time.Minute, takes(3*time.Second, monitor.Bad)),
			spec("early", time.Minute, takes(2*time.Second, monitor.Bad)),
		}}
		cfg.Observe = func(o monitor.Observation) {
			if o.Name == "first" {
				time.Sleep(5 * time.Second)
			}
		}
		e, err := newRunner(t, cfg).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describe(e), "failure after 6s by early: [early late]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A failure at the very end is not left out by chance.
func TestRun_AFailureThatArrivesWithAnotherEndIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			e, _ := run(t, t.Context(), monitor.Config{
				Monitors: []monitor.Spec{spec("a", time.Minute, takes(time.Second, monitor.Bad))},
				StopOn:   monitor.FirstFailure, For: time.Second,
			})
			if got, want := describe(e), "failure after 1s by a: [a]"; got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
}

// N07. The fear: a cleanup runs while checks still do, and what they find then is mistaken for a failure.
func TestRun_CancelsAndJoinsAllBeforeItReturns(t *testing.T) {
	ends := map[monitor.Reason]func(*monitor.Config, context.CancelFunc){
		monitor.ReasonStopped: func(_ *monitor.Config, cancel context.CancelFunc) {
			time.AfterFunc(2500*time.Millisecond, cancel)
		},
		monitor.ReasonDeadline: func(c *monitor.Config, _ context.CancelFunc) { c.For = 2500 * time.Millisecond },
		monitor.ReasonFailure: func(c *monitor.Config, _ context.CancelFunc) {
			c.Monitors = append(c.Monitors, spec("failing", time.Minute, takes(2500*time.Millisecond, monitor.Bad)))
		},
	}
	for want, prepare := range ends {
		t.Run(string(want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, cleaned atomic.Int64
				slow := checkFunc(func(ctx context.Context) monitor.Result {
					defer running.Add(-1)
					running.Add(1)
					select {
					case <-time.After(800 * time.Millisecond):
						return monitor.Result{Verdict: monitor.Good}
					case <-ctx.Done():
						time.Sleep(time.Second) // it has something to put away
						cleaned.Add(1)
						return monitor.Result{Verdict: monitor.Bad, Seen: "it was cancelled"}
					}
				})
				cfg := monitor.Config{StopOn: monitor.FirstFailure}
				for i := range 100 {
					cfg.Monitors = append(cfg.Monitors, spec(fmt.Sprint(i), time.Second, slow))
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				prepare(&cfg, cancel)
				e, rec := run(t, ctx, cfg)
				if n := running.Load(); n != 0 {
					t.Errorf("got %d checks that run after Run has returned", n)
				}
				if cleaned.Load() != 100 {
					t.Errorf("got %d checks joined, want 100", cleaned.Load())
				}
				if e.Reason != want || e.Lasted != 2500*time.Millisecond {
					t.Errorf("got %s after %s, want %s after 2.5s", e.Reason, e.Lasted, want)
				}
				for _, o := range rec.observations {
					if o.Result.Verdict == monitor.Bad && o.Name != "failing" {
						t.Errorf("got a check that was cancelled counted as bad: %+v", o)
					}
				}
			})
		})
	}
}

// D06.
func TestRun_StopIsIdempotentAndEachMonitorsStartAndStopIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, told := counting()
		r := newRunner(t, monitor.Config{Logger: log, Monitors: []monitor.Spec{
			spec("a", time.Second, always(monitor.Good)), spec("b", time.Second, always(monitor.Bad)),
		}})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(); cancel() })
		e, err := r.Run(ctx)
		cancel()
		if err != nil || e.Reason != monitor.ReasonStopped || e.Cause != nil || len(e.Failed) != 1 {
			t.Errorf("got %+v, %v", e, err)
		}
		if told("monitor started") != 2 || told("monitor stopped") != 2 || told("checked") != 4 {
			t.Errorf("got %d starts, %d stops and %d results logged, want 2, 2 and 4",
				told("monitor started"), told("monitor stopped"), told("checked"))
		}

		// Stopped before it began: nothing is checked.
		e, err = r.Run(ctx)
		if err != nil || e.Reason != monitor.ReasonStopped || told("checked") != 4 || told("monitor stopped") != 4 {
			t.Errorf("got %+v, %v, and %d results", e, err, told("checked"))
		}
	})
}

// D07.
func TestRun_WithoutMonitorsReturnsAtOnceAndSaysWhy(t *testing.T) {
	log, told := counting()
	e, err := newRunner(t, monitor.Config{Logger: log, StopOn: monitor.AllFailed}).Run(t.Context())
	if err != nil || e.Reason != monitor.ReasonNoMonitors {
		t.Errorf("got %+v, %v", e, err)
	}
	if told("nothing to do: no monitors are configured (monitors: is missing or empty)") != 1 {
		t.Error("got no warning")
	}
}

func TestRun_IsAnErrorWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, monitor.Config{For: time.Second, Monitors: []monitor.Spec{spec("a", time.Second, always(monitor.Good))}})
		ended := make(chan error)
		go func() {
			_, err := r.Run(t.Context())
			ended <- err
		}()
		synctest.Wait()
		if _, err := r.Run(t.Context()); err == nil {
			t.Error("got no error of the second Run")
		}
		if err := <-ended; err != nil {
			t.Errorf("got %v of the first Run", err)
		}
		if _, err := r.Run(t.Context()); err != nil {
			t.Errorf("got %v of a Run after it", err)
		}
	})
}
