package monitor_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// N02. A service that does not answer is bad, not unknown: nobody would hear of it otherwise.
func TestRun_CutsACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec("a", 10*time.Second, takes(time.Hour, monitor.Good))
		s.Timeout = 4 * time.Second
		ending, rec := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{s}, For: 35 * time.Second})
		if len(rec.observations) != 4 {
			t.Fatalf("got %d results, want 4", len(rec.observations))
		}
		for i, o := range rec.observations {
			if o.Result.Verdict != monitor.Bad || o.Result.Seen != "no answer within 4s" || o.Result.Took != s.Timeout || o.Missed != 0 {
				t.Errorf("beat %d: got %+v", i, o)
			}
		}
		if len(ending.Strays) != 0 {
			t.Errorf("got strays %v, want none", ending.Strays)
		}
	})
}

func TestRun_CutsACheckWithoutTimeoutBeforeItsNextBeat(t *testing.T) {
	for every, want := range map[time.Duration]time.Duration{
		time.Second: 900 * time.Millisecond, time.Minute: 10 * time.Second, 1: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := spec("a", every, takes(time.Hour, monitor.Good))
			_, rec := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{s}, StopOn: monitor.FirstFailure})
			if got := rec.observations[0].Result.Took; got != want {
				t.Errorf("every %s: got it cut after %s, want %s", every, got, want)
			}
		})
	}
}

// The fear: a good answer that took too long hides a service that is as good as dead.
func TestRun_AnAnswerAfterTheTimeoutIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := checkFunc(func(context.Context) monitor.Result {
			time.Sleep(1500 * time.Millisecond)
			return monitor.Result{Verdict: monitor.Good, Seen: "200 OK"}
		})
		_, rec := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{spec("a", time.Second, check)}, For: 3 * time.Second})
		if got := rec.observations[0].Result; got.Verdict != monitor.Bad || got.Seen != "no answer within 900ms: 200 OK" {
			t.Errorf("got %+v", got)
		}
	})
}

// The fear: a check that never returns piles up goroutines, or its monitor falls silent and looks good for ever.
func TestRun_ContainsACheckThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		calls := 0
		check := checkFunc(func(ctx context.Context) monitor.Result {
			if calls++; calls == 1 {
				return deaf(letGo).Check(ctx)
			}
			return monitor.Result{Verdict: monitor.Good}
		})
		log, told := counting()
		s := spec("a", 2*time.Second, check)
		s.Timeout, s.Failures = time.Second, 3
		var r *monitor.Runner
		var got []string
		cfg := monitor.Config{Monitors: []monitor.Spec{s}, For: 13 * time.Second, Logger: log}
		cfg.Observe = func(o monitor.Observation) {
			got = append(got, fmt.Sprintf("%d @%s %s missed %d, %d stray, %s", o.Seq, o.Offset, o.Result.Verdict, o.Missed, r.Strays(), o.After))
		}
		r = newRunner(t, cfg)
		time.AfterFunc(9*time.Second, func() { close(letGo) })
		ending, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"0 @0s bad missed 0, 1 stray, unknown", // given up at 3 s, after its second beat
			"2 @4s bad missed 1, 1 stray, unknown",
			"3 @6s bad missed 0, 1 stray, failed",
			"4 @8s bad missed 0, 1 stray, failed",
			"5 @10s good missed 0, 0 stray, good", // it has returned
			"6 @12s good missed 0, 0 stray, good",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if calls != 3 {
			t.Errorf("got %d calls, want 3", calls)
		}
		if len(ending.Strays) != 0 || told("check ignores its context") != 1 || told("check returned long after its time") != 1 {
			t.Errorf("got strays %v, want none, told of once", ending.Strays)
		}
	})
}

// The fear: a check that cannot be cancelled keeps the process from ending, or its late answer blocks for ever.
func TestRun_DoesNotWaitForEverForACheckThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		r := newRunner(t, monitor.Config{For: 5 * time.Second, Monitors: []monitor.Spec{
			spec("deaf at once", 20*time.Second, deaf(letGo)),
			spec("deaf for long", time.Second, deaf(letGo)),
			spec("good", time.Second, always(monitor.Good)),
		}})
		began := time.Now()
		ending, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Run took %s", took)
		}
		if diff := cmp.Diff([]string{"deaf at once", "deaf for long"}, ending.Strays); diff != "" {
			t.Errorf("Strays (-want +got):\n%s", diff)
		}
		if ending.Reason != monitor.ReasonDeadline || ending.Lasted != 5*time.Second || r.Strays() != 2 {
			t.Errorf("got %+v, and %d strays", ending, r.Strays())
		}
		if _, err := r.Run(t.Context()); err == nil {
			t.Error("got no error of another Run, in which they would run beside themselves")
		}
		close(letGo)
		synctest.Wait()
		if r.Strays() != 0 {
			t.Errorf("got %d strays after they have returned", r.Strays())
		}
	})
}

// D04. The fear: one bad check takes the process, or the schedule, down with it.
func TestRun_ContainsPanics(t *testing.T) {
	for name, tt := range map[string]struct {
		sabotage func()
		want     string
	}{
		"Panic":          {func() { panic("sabotage") }, "the check panicked: sabotage"},
		"NilPointer":     {func() { _ = *(*int)(nil) }, "the check panicked: runtime error: invalid memory address"},
		"EndOfGoroutine": {runtime.Goexit, "the check ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				check := checkFunc(func(context.Context) monitor.Result {
					if n++; n <= 2 {
						tt.sabotage()
					}
					return monitor.Result{Verdict: monitor.Good}
				})
				log, told := counting()
				_, rec := run(t, t.Context(), monitor.Config{
					Monitors: []monitor.Spec{spec("a", time.Second, check)}, For: 3 * time.Second, Logger: log,
				})
				if len(rec.observations) != 3 {
					t.Fatalf("got %d results, want 3", len(rec.observations))
				}
				for i, want := range []monitor.Verdict{monitor.Bad, monitor.Bad, monitor.Good} {
					if got := rec.observations[i].Result; got.Verdict != want || want == monitor.Bad && !strings.HasPrefix(got.Seen, tt.want) {
						t.Errorf("beat %d: got %+v, want %s, %q", i, got, want, tt.want)
					}
				}
				if got := told("check panicked"); strings.Contains(tt.want, "panic") && got != 2 {
					t.Errorf("got %d panics logged, want 2", got)
				}
			})
		})
	}
}
