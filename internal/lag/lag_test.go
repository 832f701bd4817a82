package lag

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func newMeter(tb testing.TB, cfg Config) *Meter {
	tb.Helper()
	m, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// start runs the meter, and returns what stops it and waits for its end.
func start(tb testing.TB, m *Meter) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			tb.Errorf("Run: got %v, want nil", err)
		}
	})
	return func() { cancel(); running.Wait() }
}

func TestNew_RefusesWhatCannotBeAndNamesTheField(t *testing.T) {
	for field, cfg := range map[string]Config{
		"every: -1s":               {Every: -time.Second, Threshold: ms},
		"threshold: is missing":    {},
		"threshold: -1ms is":       {Threshold: -ms},
		"threshold: -2ms is negat": {Every: time.Second, Threshold: -2 * ms},
	} {
		if m, err := New(cfg); err == nil || m != nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("New(%+v): got %v, %v, want an error that begins with %q", cfg, m, err, field)
		}
	}
}

func TestRun_ReadsEveryQuarterOfASecondUnlessToldOtherwise(t *testing.T) {
	for name, cfg := range map[string]Config{"Default": {}, "Configured": {Every: 40 * ms}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := cfg.Every
				if want == 0 {
					want = 250 * ms
				}
				began, readings := time.Now(), 0
				cfg.Threshold = time.Second
				cfg.Observe = func(lag time.Duration) {
					readings++
					if at := time.Since(began); at != time.Duration(readings)*want || lag != 0 {
						t.Errorf("reading %d: got lag %s at %s, want 0s at %s", readings, lag, at, time.Duration(readings)*want)
					}
				}
				stop := start(t, newMeter(t, cfg))
				time.Sleep(1000*want + want/2)
				stop()
				if readings != 1000 {
					t.Errorf("got %d readings, want 1000", readings)
				}
			})
		})
	}
}

// A meter that pushes its own beats back measures less and less often under load, which is when it is needed.
func TestRun_SlowReadersNeitherMoveTheBeatNorCountAsLagNorHaveBeatsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := []time.Duration{0, 30 * ms, 99 * ms, 250 * ms, 0, 100 * ms, 0}
		began := time.Now()
		var at, lags []time.Duration
		m := newMeter(t, Config{Every: 100 * ms, Threshold: ms, Observe: func(lag time.Duration) {
			at, lags = append(at, time.Since(began)), append(lags, lag)
			time.Sleep(takes[(len(at)-1)%len(takes)])
		}})
		stop := start(t, m)
		time.Sleep(1050 * ms)
		stop()
		want := []time.Duration{100 * ms, 200 * ms, 300 * ms, 400 * ms, 700 * ms, 800 * ms, 1000 * ms}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("readings (-want +got):\n%s", diff)
		}
		if slices.Max(lags) != 0 || m.Overloaded() {
			t.Errorf("got lags %v, overloaded %t, want none", lags, m.Overloaded())
		}
	})
}

func TestNextBeat_IsTheFirstAfterNowOnTheSameGrid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "every"))
		late := time.Duration(rapid.Int64Range(-int64(every)+1, int64(48*time.Hour)).Draw(t, "late"))
		last := time.Now()
		now := last.Add(late)
		next := nextBeat(last, now, every)
		if d := next.Sub(last); d <= 0 || d%every != 0 {
			t.Fatalf("got a beat %s after the last one, which is not a multiple of %s", d, every)
		}
		if wait := next.Sub(now); wait <= 0 || late >= 0 && wait > every {
			t.Fatalf("got a beat in %s, want one within %s", wait, every)
		}
	})
}

func TestMeter_IsOverloadedAfterThreeLateReadingsUntilTwelveCalmOnes(t *testing.T) {
	const threshold = 100 * ms
	late, edge, half := threshold+1, threshold, threshold/2
	repeat := func(lag time.Duration, n int) []time.Duration { return slices.Repeat([]time.Duration{lag}, n) }
	for name, test := range map[string]struct {
		lags    []time.Duration
		changes []bool
	}{
		"AtTheThresholdItIsNot":      {repeat(edge, 100), nil},
		"TwoHiccupsAreNothing":       {slices.Repeat([]time.Duration{late, late, 0}, 50), nil},
		"OneLongStandstillIsNothing": {[]time.Duration{time.Minute, 0, time.Minute, 0}, nil},
		"ThreeInARow":                {repeat(late, 3), []bool{true}},
		"OnceToldIsEnough":           {repeat(late, 1000), []bool{true}},
		"ElevenCalmOnesAreTooFew":    {slices.Concat(repeat(late, 3), repeat(half, 11), repeat(half+1, 1), repeat(half, 11)), []bool{true}},
		"TwelveCalmOnesEndIt":        {slices.Concat(repeat(late, 3), repeat(half, 12)), []bool{true, false}},
		"BelowTheThresholdIsNotCalm": {slices.Concat(repeat(late, 3), repeat(half+1, 1000)), []bool{true}},
		"ItComesBack":                {slices.Concat(repeat(late, 3), repeat(0, 12), repeat(late, 3)), []bool{true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var observed []time.Duration
			var changes []bool
			m := newMeter(t, Config{
				Threshold: threshold,
				Observe:   func(lag time.Duration) { observed = append(observed, lag) },
			})
			m.cfg.Changed = func(overloaded bool) {
				changes = append(changes, overloaded)
				if m.Overloaded() != overloaded {
					t.Errorf("Overloaded: got %t while told of %t", m.Overloaded(), overloaded)
				}
			}
			for _, lag := range test.lags {
				m.read(lag)
				if m.Last() != lag {
					t.Errorf("Last: got %s, want %s", m.Last(), lag)
				}
			}
			if diff := cmp.Diff(test.changes, changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.lags, observed); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRun_NobodyNeedListen(t *testing.T) {
	m := newMeter(t, Config{Threshold: ms})
	for range hotReadings {
		m.read(time.Second)
	}
	if !m.Overloaded() || m.Last() != time.Second {
		t.Errorf("got overloaded %t, last %s, want true, 1s", m.Overloaded(), m.Last())
	}
}

func TestRun_RunsOnceAtATimeAndAgainAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(t, Config{Threshold: ms})
		for range 3 {
			stop := start(t, m)
			synctest.Wait()
			if err := m.Run(t.Context()); err != ErrRunning {
				t.Errorf("second Run: got %v, want %v", err, ErrRunning)
			}
			stop()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run when stopped already: got %v, want nil", err)
		}
	})
}

// A meter that is itself starved together with what it measures, and does not say so, warns nobody.
func TestRun_SeesAStarvedScheduler(t *testing.T) {
	// On one processor, goroutines that never yield leave each other, and the meter, waiting for their time slices.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	idle := median(t, 40)

	spinning, stop := context.WithCancel(t.Context())
	var spinners sync.WaitGroup
	for range 4 {
		spinners.Go(func() {
			for spinning.Err() == nil {
				spin()
			}
		})
	}
	starved := median(t, 40)
	stop()
	spinners.Wait()

	t.Logf("median lag: idle %s, starved %s", idle, starved)
	if starved < 3*idle {
		t.Errorf("got a median lag of %s starved and %s idle, want at least three times as much", starved, idle)
	}
}

// spin keeps a processor busy for a while.
func spin() {
	x := 1
	for range 10_000_000 {
		x = x*31 + 7
	}
	runtime.KeepAlive(x)
}

// median returns the median of n real readings.
func median(t *testing.T, n int) time.Duration {
	t.Helper()
	readings := make(chan time.Duration, n)
	stop := start(t, newMeter(t, Config{Every: 7 * ms, Threshold: time.Hour, Observe: func(lag time.Duration) {
		select {
		case readings <- lag:
		default: // there are enough
		}
	}}))
	defer stop()
	lags := make([]time.Duration, n)
	for i := range lags {
		lags[i] = <-readings
	}
	slices.Sort(lags)
	return lags[n/2]
}

// The lag of a process that does nothing else: what the scheduler, the timers and the machine cost by themselves.
func BenchmarkLagIdle(b *testing.B) {
	readings := make(chan time.Duration)
	ctx, cancel := context.WithCancel(b.Context())
	stop := start(b, newMeter(b, Config{Every: 10 * ms, Threshold: time.Hour, Observe: func(lag time.Duration) {
		select {
		case readings <- lag:
		case <-ctx.Done():
		}
	}}))
	var lags []time.Duration
	for b.Loop() {
		lags = append(lags, <-readings)
	}
	cancel()
	stop()
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(lags[len(lags)-1].Microseconds())/1000, "max-ms")
}
