package simulated_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A step is one thing that happens to a host.
type step struct {
	Kind   string        // "restart", "reboot" or "wait"
	From   int           // restart: which of the epochs seen so far
	Within time.Duration // restart
	Wait   time.Duration
}

// Whatever happens, and with whatever faults: of the requests that name one epoch, at most one boots the host, and
// every boot that was not by another hand happens in the time that such a request allowed.
func TestFleet_EveryBootAnswersARequestInTimeAndNoneIsMadeTwice(t *testing.T) {
	drawStep := rapid.Custom(func(rt *rapid.T) step {
		return step{
			Kind:   rapid.SampledFrom([]string{"restart", "restart", "restart", "wait", "wait", "reboot"}).Draw(rt, "kind"),
			From:   rapid.IntRange(0, 3).Draw(rt, "from"),
			Within: time.Duration(rapid.IntRange(0, 40).Draw(rt, "within")) * time.Second,
			Wait:   time.Duration(rapid.IntRange(1, 20).Draw(rt, "wait")) * time.Second,
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom([]float64{0, 0.3, 1})
		cfg := simulated.Config{
			Seed:        rapid.Uint64().Draw(rt, "seed"),
			FailureRate: rapid.SampledFrom([]float64{0, 0.3}).Draw(rt, "failure"),
			HangRate:    rate.Draw(rt, "hang"),
			LostRate:    rate.Draw(rt, "lost"),
			LateRate:    rate.Draw(rt, "late"),
			LateMax:     30 * time.Second,
		}
		steps := rapid.SliceOfN(drawStep, 1, 40).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(t *testing.T) { err = replay(t.Context(), cfg, steps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// replay takes the steps against a new fleet, and returns an error for the first boot that must not be.
func replay(ctx context.Context, cfg simulated.Config, steps []step) error {
	f, err := simulated.New(cfg)
	if err != nil {
		return err
	}
	type call struct {
		from   restart.Epoch
		at, by time.Time
	}
	var calls []call
	seen := []restart.Epoch{"1"}
	reboots := 0
	for i, s := range steps {
		before, boots := time.Now(), f.BootsOf(host)
		switch s.Kind {
		case "wait":
			time.Sleep(s.Wait)
		case "reboot":
			f.Reboot(host)
			reboots++
		case "restart":
			from := seen[max(0, len(seen)-1-s.From)]
			calls = append(calls, call{from, before, before.Add(s.Within)})
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond) // ends those that hang
			_ = f.Restart(ctx, restart.Trigger{Host: host, From: from, Within: s.Within})
			cancel()
		}
		made := f.BootsOf(host) - boots
		if made > 1 {
			return fmt.Errorf("step %d, %+v: %d boots", i, s, made)
		}
		if made == 1 && s.Kind != "reboot" {
			ended := restart.Epoch(fmt.Sprint(boots + 1))
			asked := false
			for _, c := range calls {
				asked = asked || c.from == ended && !c.by.Before(before)
			}
			if !asked {
				return fmt.Errorf("step %d, %+v: epoch %q ended, and no call in %v asked for that in time", i, s, ended, calls)
			}
		}
		if state, err := f.Probe(ctx, host); err == nil && state.Epoch != seen[len(seen)-1] {
			seen = append(seen, state.Epoch)
		}
	}
	named := make(map[restart.Epoch]bool)
	for _, c := range calls {
		named[c.from] = true
	}
	if made := f.BootsOf(host) - reboots; made > len(named) {
		return fmt.Errorf("%d boots by requests that name %d epochs", made, len(named))
	}
	return nil
}

// M50: a run can be repeated by its seed, although goroutines never run in the same order twice.
func TestFleet_SameSeedBringsTheSameWhateverTheOrderOfHosts(t *testing.T) {
	const hosts = 30
	cfg := simulated.Config{
		Seed: 7, FailureRate: 0.2, HangRate: 0.2, LostRate: 0.2, LateRate: 0.3, SlowRate: 0.3, FlapRate: 0.3,
	}
	one := func(f *simulated.Fleet, h restart.Host) []string {
		var trace []string
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			epoch := restart.Epoch(fmt.Sprint(f.BootsOf(h) + 1))
			err := f.Restart(ctx, restart.Trigger{Host: h, From: epoch, Within: 3 * time.Second})
			cancel()
			// Probes in between must not change what comes after.
			for range rand.IntN(3) {
				_, _ = f.Probe(context.Background(), h)
			}
			time.Sleep(3 * time.Second)
			state, probeErr := f.Probe(context.Background(), h)
			trace = append(trace, fmt.Sprint(err, state.Epoch, state.Ready, probeErr))
		}
		return trace
	}
	atOnce := func(t *testing.T, cfg simulated.Config) (traces [hosts][]string) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, cfg)
			var wg sync.WaitGroup
			for i := range hosts {
				wg.Go(func() { traces[i] = one(f, hostNumber(i)) })
			}
			wg.Wait()
		})
		return traces
	}
	backwards := func(t *testing.T, cfg simulated.Config) (traces [hosts][]string) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, cfg)
			for i := hosts - 1; i >= 0; i-- {
				traces[i] = one(f, hostNumber(i))
			}
		})
		return traces
	}
	first := atOnce(t, cfg)
	if diff := cmp.Diff(first, backwards(t, cfg)); diff != "" {
		t.Errorf("same seed (-at once +one host after the other):\n%s", diff)
	}
	cfg.Seed++
	if cmp.Equal(first, atOnce(t, cfg)) {
		t.Error("another seed brings the same")
	}
}
