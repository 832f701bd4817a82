package monitor_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// N10, D05. The fear: checks of varying length push every later one back, until nobody knows when anything is checked.
func TestRun_DoesNotDriftOverHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		check := checkFunc(func(context.Context) monitor.Result {
			n++
			time.Sleep(time.Duration(n%900) * time.Millisecond)
			return monitor.Result{Verdict: monitor.Good}
		})
		s := spec("a", time.Second, check)
		s.InitialDelay = 1234 * time.Microsecond
		_, rec := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{s}, For: 3 * time.Hour})
		if got, want := len(rec.observations), 3*3600; got != want {
			t.Fatalf("got %d results, want %d", got, want)
		}
		for i, o := range rec.observations {
			if want := s.InitialDelay + time.Duration(i)*time.Second; o.Offset != want || o.Seq != int64(i) || o.Missed != 0 {
				t.Fatalf("got beat %d at %s, %d missed, want %d at %s", o.Seq, o.Offset, o.Missed, i, want)
			}
		}
	})
}

// N10. The fear: a check that was slow for a while is repeated in a burst as soon as it is fast again.
func TestRun_SkipsAndCountsMissedBeats(t *testing.T) {
	for took, want := range map[time.Duration][]string{
		2999 * time.Millisecond: {"0 @0s missed 0", "1 @3s missed 0", "2 @6s missed 0", "3 @9s missed 0"},
		3 * time.Second:         {"0 @0s missed 0", "1 @3s missed 0", "2 @6s missed 0", "3 @9s missed 0"}, // is free just in time
		3001 * time.Millisecond: {"0 @0s missed 0", "2 @6s missed 1", "4 @12s missed 1", "6 @18s missed 1"},
		4500 * time.Millisecond: {"0 @0s missed 0", "2 @6s missed 1", "4 @12s missed 1", "6 @18s missed 1"},
	} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				check := checkFunc(func(context.Context) monitor.Result {
					time.Sleep(took) // whatever its context says
					return monitor.Result{Verdict: monitor.Good}
				})
				_, rec := run(t, t.Context(), monitor.Config{Monitors: []monitor.Spec{spec("a", 3*time.Second, check)}, For: 24 * time.Second})
				var got []string
				for _, o := range rec.observations[:len(want)] {
					got = append(got, fmt.Sprintf("%d @%s missed %d", o.Seq, o.Offset, o.Missed))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("beats (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// The fear: a process that was starved, or an observer that was slow, is followed by all the beats that it has slept
// through. Time passes in the observer, which holds everything up.
func TestRun_MakesUpForNoBeatAfterItWasHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		cfg := monitor.Config{Monitors: []monitor.Spec{spec("a", time.Second, always(monitor.Good))}, For: 14 * time.Second}
		cfg.Observe = func(o monitor.Observation) {
			got = append(got, fmt.Sprintf("%d @%s missed %d", o.Seq, o.Offset, o.Missed))
			if o.Seq == 1 {
				time.Sleep(9500 * time.Millisecond)
			}
		}
		if _, err := newRunner(t, cfg).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Beat 10 is late. It is run all the same: in a process that is late all the time nothing would be checked otherwise.
		want := []string{"0 @0s missed 0", "1 @1s missed 0", "10 @10.5s missed 8", "11 @11s missed 0", "12 @12s missed 0", "13 @13s missed 0"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("beats (-want +got):\n%s", diff)
		}
	})
}

// N02. The fear: one dead service delays the checks of all others.
func TestRun_ChecksDoNotBlockEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		defer close(letGo)
		_, rec := run(t, t.Context(), monitor.Config{For: 30 * time.Second, Monitors: []monitor.Spec{
			spec("deaf", time.Second, deaf(letGo)),
			spec("slow", time.Second, takes(time.Hour, monitor.Good)),
			spec("fast", time.Second, always(monitor.Good)),
		}})
		fast := rec.of("fast")
		if len(fast) != 30 {
			t.Errorf("got %d results, want 30", len(fast))
		}
		for i, o := range fast {
			if o.Offset != time.Duration(i)*time.Second || o.Missed != 0 {
				t.Errorf("got beat %d at %s, %d missed", i, o.Offset, o.Missed)
			}
		}
	})
}

// The fear: thousands of monitors with the same interval get in each other's way.
func TestRun_TenThousandMonitorsMissNoBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, seconds = 10_000, 3
		var running, most atomic.Int64
		check := checkFunc(func(context.Context) monitor.Result {
			defer running.Add(-1)
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(900 * time.Millisecond)
			return monitor.Result{Verdict: monitor.Good}
		})
		specs := make([]monitor.Spec, n)
		for i := range specs {
			specs[i] = spec(strconv.Itoa(i), time.Second, check)
			specs[i].InitialDelay = time.Duration(i%1000) * time.Millisecond
		}
		told := 0
		cfg := monitor.Config{Monitors: specs, For: seconds*time.Second + 900*time.Millisecond}
		cfg.Observe = func(o monitor.Observation) {
			i, _ := strconv.Atoi(o.Name)
			if due := specs[i].InitialDelay + time.Duration(o.Seq)*time.Second; o.Offset != due || o.Missed != 0 {
				t.Errorf("%s: got beat %d at %s, %d missed, want it at %s", o.Name, o.Seq, o.Offset, o.Missed, due)
			}
			told++
		}
		if _, err := newRunner(t, cfg).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := n * seconds; told < want {
			t.Errorf("got %d results, want at least %d", told, want)
		}
		if most.Load() > n {
			t.Errorf("got %d checks at once, want at most one of each monitor", most.Load())
		}
	})
}
