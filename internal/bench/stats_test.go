package bench_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

func TestMedian_IsTheMiddleOneHoweverTheyCome(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{100, 1, 2, 3}, 2.5},
	} {
		if got := bench.Median(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
}

// A figure that is shown before anything was measured must not be infinite: JSON has no such number.
func TestRatio_OfNothingIsZero(t *testing.T) {
	if got := bench.Ratio(3, 0); got != 0 || math.IsInf(got, 0) {
		t.Errorf("got %v", got)
	}
	if got := bench.Ratio(3, 4); got != 0.75 {
		t.Errorf("got %v, want 0.75", got)
	}
}

func TestQuantilesOf_AreThoseOfTheSortedDurations(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for _, c := range []struct {
		durations []time.Duration
		want      bench.Quantiles
	}{
		{nil, bench.Quantiles{}},
		{[]time.Duration{time.Millisecond}, bench.Quantiles{P50: 1, P99: 1, Max: 1}},
		{[]time.Duration{3 * time.Millisecond, time.Millisecond, 2 * time.Millisecond}, bench.Quantiles{P50: 2, P99: 3, Max: 3}},
		{hundred, bench.Quantiles{P50: 50, P99: 99, Max: 100}},
	} {
		if got := bench.QuantilesOf(c.durations); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func TestTurns_EachComesOnceARunAndFirstInTurn(t *testing.T) {
	if diff := cmp.Diff([][]int{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {0, 1, 2}}, bench.Turns(3, 4)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
