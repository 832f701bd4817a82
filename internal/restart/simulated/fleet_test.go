package simulated_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

func TestNew_RefusesWhatCannotBeAndNamesTheField(t *testing.T) {
	for _, tt := range []struct {
		field string
		cfg   simulated.Config
	}{
		{"failure_rate", simulated.Config{FailureRate: 1.1}},
		{"hang_rate", simulated.Config{HangRate: -0.1}},
		{"lost_rate", simulated.Config{LostRate: math.NaN()}},
		{"late_rate", simulated.Config{LateRate: 2}},
		{"slow_rate", simulated.Config{SlowRate: math.Inf(1)}},
		{"flap_rate", simulated.Config{FlapRate: 20}},
		{"probe_failure_rate", simulated.Config{ProbeFailureRate: -1}},
		{"restart_min", simulated.Config{RestartMin: -1}},
		{"restart_max", simulated.Config{RestartMin: 2, RestartMax: 1}},
		{"restart_max", simulated.Config{RestartMax: -1}},
		{"uptime", simulated.Config{Uptime: -1}},
		{"late_max", simulated.Config{LateMax: -1}},
		{"slow_factor", simulated.Config{SlowFactor: 0.5}},
		{"slow_factor", simulated.Config{SlowFactor: math.NaN()}},
	} {
		t.Run(tt.field, func(t *testing.T) {
			if _, err := simulated.New(tt.cfg); err == nil || !strings.HasPrefix(err.Error(), tt.field+": ") {
				t.Errorf("New(%+v): got %v, want an error for %s", tt.cfg, err, tt.field)
			}
		})
	}
}

func TestFleet_HostIsUpForLongWhenFirstNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, simulated.Config{})
		born := time.Now()
		time.Sleep(time.Hour)
		want := restart.State{Epoch: "1", Since: born.Add(-30 * 24 * time.Hour), Ready: true}
		if diff := cmp.Diff(want, mustProbe(t, f, host)); diff != "" {
			t.Errorf("State (-want +got):\n%s", diff)
		}
	})
}

// M22: a restart lasts a random 0–1 s, or what is asked for.
func TestFleet_HostIsDownForAsLongAsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		name     string
		cfg      simulated.Config
		min, max time.Duration
	}{
		{"ByDefault", simulated.Config{}, 0, time.Second},
		{"InARange", simulated.Config{RestartMin: time.Second, RestartMax: 20 * time.Second}, time.Second, 20 * time.Second},
		{"FromLongerThanTheDefault", simulated.Config{RestartMin: time.Minute}, time.Minute, time.Minute},
		{"Slow", simulated.Config{SlowRate: 1}, 0, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, tt.cfg)
				shortest, longest := time.Duration(math.MaxInt64), time.Duration(0)
				for i := range 200 {
					h := hostNumber(i)
					mustRestart(t, f, h)
					down := untilUp(t, f, h, tt.max/100)
					shortest, longest = min(shortest, down), max(longest, down)
				}
				// A tenth at either end is what 200 draws miss by less than once in a million times.
				if slack := tt.max / 10; shortest < tt.min || shortest > tt.min+slack ||
					longest > tt.max+tt.max/100 || longest < tt.max-slack {
					t.Errorf("hosts were down for %s to %s, want %s to %s", shortest, longest, tt.min, tt.max)
				}
			})
		})
	}
}

func TestFleet_IsWithoutFaultsUnlessAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, simulated.Config{})
		for i := range 1000 {
			mustRestart(t, f, hostNumber(i))
		}
		time.Sleep(time.Second)
		for i := range 1000 {
			if state := mustProbe(t, f, hostNumber(i)); state.Epoch != "2" || !state.Ready {
				t.Fatalf("host %d after a restart: got %+v, want it ready in epoch 2", i, state)
			}
		}
		if got := f.Boots(); got != 1000 {
			t.Errorf("Boots: got %d, want 1000", got)
		}
	})
}

// M50: failures, slow hosts, hangs, late effects at about the rate asked for, and nothing else.
func TestFleet_FaultsComeAtTheirRate(t *testing.T) {
	const hosts, within = 2000, time.Minute
	call := func(f *simulated.Fleet, h restart.Host) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return f.Restart(ctx, restart.Trigger{Host: h, From: "1", Within: within})
	}
	for _, tt := range []struct {
		name  string
		cfg   simulated.Config
		share float64
		// hit reports whether the fault struck, and fails the test if it did more than it may.
		hit func(t *testing.T, f *simulated.Fleet, h restart.Host) bool
	}{
		{"Failure", simulated.Config{FailureRate: 0.2}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			if errors.Is(call(f, h), restart.ErrRefused) {
				wantBoots(t, f, h, 0)
				return true
			}
			wantBoots(t, f, h, 1)
			return false
		}},
		{"Lost", simulated.Config{LostRate: 0.2}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			lost := isUnknown(call(f, h))
			wantBoots(t, f, h, 1)
			return lost
		}},
		{"Hang", simulated.Config{HangRate: 0.2}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			called := time.Now()
			err := call(f, h)
			hung := time.Since(called) == time.Second
			if hung != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Restart: got %v after %s", err, time.Since(called))
			}
			return hung
		}},
		{"HangThatIsTaken", simulated.Config{HangRate: 1}, 0.5, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			return isUnknown(call(f, h)) && f.BootsOf(h) == 1
		}},
		{"Late", simulated.Config{LateRate: 0.2, LateMax: within}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			if err := call(f, h); err != nil {
				t.Errorf("Restart: got %v, want it taken", err)
			}
			return f.BootsOf(h) == 0
		}},
		{"LaterThanAllowed", simulated.Config{LateRate: 1, LateMax: 2 * within}, 0.5, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			if err := call(f, h); err != nil {
				t.Errorf("Restart: got %v, want it taken", err)
			}
			time.Sleep(2 * within)
			return f.BootsOf(h) == 0
		}},
		{"Slow", simulated.Config{SlowRate: 0.2, RestartMin: time.Second}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			mustRestart(t, f, h)
			first := untilUp(t, f, h, time.Second)
			mustRestart(t, f, h)
			if again := untilUp(t, f, h, time.Second); again != first {
				t.Errorf("host %q was down for %s, then for %s; want the same hosts slow always", h, first, again)
			}
			return first > 9*time.Second
		}},
		{"Flap", simulated.Config{FlapRate: 0.2, RestartMin: time.Second}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			mustRestart(t, f, h)
			untilUp(t, f, h, time.Second)
			flaps := !mustProbe(t, f, h).Ready
			time.Sleep(time.Second)
			if !mustProbe(t, f, h).Ready {
				t.Errorf("host %q is not ready a second after it came up", h)
			}
			return flaps
		}},
		{"ProbeFailure", simulated.Config{ProbeFailureRate: 0.2}, 0.2, func(t *testing.T, f *simulated.Fleet, h restart.Host) bool {
			_, err := f.Probe(t.Context(), h)
			return err != nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, tt.cfg)
				hits := 0
				for i := range hosts {
					if tt.hit(t, f, hostNumber(i)) {
						hits++
					}
				}
				sigma := math.Sqrt(hosts * tt.share * (1 - tt.share))
				if off := math.Abs(float64(hits) - hosts*tt.share); off > 4*sigma {
					t.Errorf("struck %d of %d times, want about %.0f", hits, hosts, hosts*tt.share)
				}
			})
		})
	}
}

func TestFleet_FaultsOfOneHostComeAtTheirRate(t *testing.T) {
	f := newFleet(t, simulated.Config{FailureRate: 0.2})
	const calls = 10_000
	for range calls {
		_ = f.Restart(t.Context(), restart.Trigger{Host: host, From: "former", Within: time.Minute})
	}
	counts := f.CountsOf(host)
	if counts.Calls != calls || counts.Refused+counts.Changed != calls {
		t.Errorf("CountsOf: got %+v, want %d calls, each refused or changed", counts, calls)
	}
	if off := math.Abs(float64(counts.Refused) - 0.2*calls); off > 4*math.Sqrt(calls*0.2*0.8) {
		t.Errorf("refused: got %d of %d, want about a fifth", counts.Refused, calls)
	}
}

func TestFleet_ForcedFatesComeInTurnAndThenNoMore(t *testing.T) {
	f := newFleet(t, simulated.Config{})
	f.Force(host, simulated.Fate{Answer: simulated.Refused}, simulated.Fate{Answer: simulated.Permanent})
	f.Force(host, simulated.Fate{Ignored: true})
	for i, want := range []error{restart.ErrRefused, restart.ErrPermanent, nil} {
		if err := f.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: time.Minute}); !errors.Is(err, want) {
			t.Errorf("call %d: got %v, want %v", i, err, want)
		}
		wantBoots(t, f, host, 0)
	}
	mustRestart(t, f, host)
	want := simulated.Counts{Calls: 4, Refused: 2}
	if diff := cmp.Diff(want, f.CountsOf(host)); diff != "" {
		t.Errorf("CountsOf (-want +got):\n%s", diff)
	}
	wantBoots(t, f, host, 1)
}

func TestFleet_SecondLateRequestDoesNotPutOffTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, simulated.Config{})
		f.Force(host, simulated.Fate{Late: 10 * time.Second}, simulated.Fate{Late: 20 * time.Second})
		mustRestart(t, f, host)
		mustRestart(t, f, host)
		time.Sleep(10*time.Second - 1)
		wantBoots(t, f, host, 0)
		time.Sleep(time.Nanosecond)
		wantBoots(t, f, host, 1)
		time.Sleep(time.Hour)
		wantBoots(t, f, host, 1)
	})
}

// A worker that was stopped between fence and trigger wakes and finds that another has done it.
func TestFleet_ManyWorkersOverManyEpochsMakeOneBootForEach(t *testing.T) {
	const epochs, workers = 50, 8
	f := newFleet(t, simulated.Config{RestartMax: time.Nanosecond, LostRate: 0.2, LateRate: 0.2, LateMax: time.Nanosecond})
	for n := 1; n <= epochs; n++ {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				_ = f.Restart(t.Context(), restart.Trigger{Host: host, From: restart.Epoch(fmt.Sprint(n)), Within: time.Minute})
			})
		}
		wg.Wait()
		wantBoots(t, f, host, n)
	}
}

func hostNumber(i int) restart.Host { return restart.Host(fmt.Sprintf("cattle-%04d.example.net", i)) }

func mustProbe(t *testing.T, f *simulated.Fleet, h restart.Host) restart.State {
	t.Helper()
	state, err := f.Probe(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func mustRestart(t *testing.T, f *simulated.Fleet, h restart.Host) {
	t.Helper()
	if err := f.Restart(t.Context(), restart.Trigger{Host: h, From: mustProbe(t, f, h).Epoch, Within: time.Minute}); err != nil {
		t.Fatal(err)
	}
}

// untilUp waits, under fake time, until the host answers, and returns how long that took, to the next whole step.
func untilUp(t *testing.T, f *simulated.Fleet, h restart.Host, step time.Duration) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(step) {
		if _, err := f.Probe(t.Context(), h); err == nil {
			return time.Since(began)
		}
		if time.Since(began) > time.Hour {
			t.Fatalf("host %q does not come up", h)
		}
	}
}

func isUnknown(err error) bool {
	return err != nil && !errors.Is(err, restart.ErrRefused) && !errors.Is(err, restart.ErrChanged) &&
		!errors.Is(err, restart.ErrPermanent)
}

func wantBoots(t *testing.T, f *simulated.Fleet, h restart.Host, want int) {
	t.Helper()
	if got := f.BootsOf(h); got != want {
		t.Errorf("boots of %q: got %d, want %d", h, got, want)
	}
}
