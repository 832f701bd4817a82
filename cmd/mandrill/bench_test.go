package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestPipelineResult_RatiosAreThoseOfTheMedians(t *testing.T) {
	t.Parallel()
	r := pipelineResult{
		Raw:    pipelineRate{Runs: []float64{50, 100, 1000}},
		Serial: pipelineRate{Runs: []float64{5}},
		Bare:   pipelineRate{Runs: []float64{90, 1, 95}},
		Full:   pipelineRate{Runs: []float64{30, 40}},
	}
	r.fill()
	var got []float64
	for _, rate := range []pipelineRate{r.Raw, r.Serial, r.Bare, r.Full} {
		got = append(got, rate.MessagesPerSecond, rate.RatioToRaw)
	}
	if diff := cmp.Diff([]float64{100, 1, 5, 0.05, 90, 0.9, 35, 0.35}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRestartResult_IdealIsInFlightOverLatency(t *testing.T) {
	t.Parallel()
	r := restartResult{InFlight: 100}
	r.N = 1000
	r.fill(benchReport{Elapsed: 2500 * time.Millisecond, Processor: time.Second}, 200*time.Millisecond)
	if r.HostsPerSecond != 400 || r.RatioToIdeal != 0.8 || r.ProcessorMicrosecondsPer != 1000 {
		t.Errorf("got %+v", r)
	}
}

func TestCostSizes_GrowTenfoldUpToTheLast(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]int{
		7: {7}, 1000: {1000}, 1001: {1000, 1001}, 1_000_000: {1000, 10_000, 100_000, 1_000_000},
	} {
		if got := costSizes(n); !slices.Equal(got, want) {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
}

// A figure of messages that were lost, or done twice, must not be told.
func TestBenchReport_MessagesThatAreMissingOrDoneTwiceAreAnError(t *testing.T) {
	t.Parallel()
	whole := benchReport{Done: 10, Restarted: 10, Recorded: 10}
	if err := whole.check(benchOrder{Part: partFull, N: 10}); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*benchReport){
		"lost":            func(r *benchReport) { r.Done = 9 },
		"restarted twice": func(r *benchReport) { r.Restarted = 11 },
		"not recorded":    func(r *benchReport) { r.Recorded = 9 },
	} {
		r := whole
		spoil(&r)
		if err := r.check(benchOrder{Part: partFull, N: 10}); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestHeldHosts_ComeBackWhenAllMayAndGoDownOnce(t *testing.T) {
	t.Parallel()
	h := newHeldHosts(100)
	host := func(i int) restart.Host { return restart.Host(benchInstance(i) + ".example.net") }
	if s, err := h.Probe(t.Context(), host(64)); err != nil || s.Epoch != "1" || !s.Ready {
		t.Errorf("before: got %+v, %v", s, err)
	}
	trigger := restart.Trigger{Host: host(64), From: "1"}
	if err := h.Restart(t.Context(), trigger); err != nil {
		t.Error(err)
	}
	if err := h.Restart(t.Context(), trigger); err == nil {
		t.Error("a second restart was taken")
	}
	if _, err := h.Probe(t.Context(), host(64)); err == nil {
		t.Error("it is not down")
	}
	if s, err := h.Probe(t.Context(), host(63)); err != nil || s.Epoch != "1" {
		t.Errorf("its neighbour: got %+v, %v", s, err)
	}
	h.up.Store(true)
	if s, err := h.Probe(t.Context(), host(64)); err != nil || s.Epoch != "2" || !s.Ready {
		t.Errorf("after: got %+v, %v", s, err)
	}
	if got := h.Boots(); got != 1 {
		t.Errorf("got %d boots, want 1", got)
	}
}

func TestMarks_ALagBeginsWithTheLaterEnd(t *testing.T) {
	t.Parallel()
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	m := newMarks(3)
	m.of[0] = mark{saved: ms(5), restarted: ms(3), finishing: ms(6), finished: ms(8), acknowledged: ms(9), answered: ms(12)}
	m.of[1] = mark{saved: ms(5), restarted: ms(7), finishing: ms(10), finished: ms(14), acknowledged: ms(16)}
	got := m.lags()
	if got.EndsToFinish.Max != 3 || got.EndsToFinish.P50 != 1 || got.Finish.Max != 4 || got.AckSent.Max != 2 || got.AckConfirmed.Max != 4 {
		t.Errorf("got %+v", got)
	}
}
