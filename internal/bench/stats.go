package bench

import (
	"slices"
	"time"
)

// Median returns the median; of an even number, the mean of the two in the middle; of none, zero.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Ratio returns a/b, or zero where there is nothing to divide by.
func Ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Quantiles are what is told of many durations, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// QuantilesOf returns the quantiles of the durations, which it sorts: of each, the least duration that so many are not
// longer than.
func QuantilesOf(durations []time.Duration) Quantiles {
	if len(durations) == 0 {
		return Quantiles{}
	}
	slices.Sort(durations)
	at := func(percent int) float64 {
		rank := (len(durations)*percent + 99) / 100
		return float64(durations[max(rank, 1)-1]) / float64(time.Millisecond)
	}
	return Quantiles{P50: at(50), P99: at(99), Max: at(100)}
}

// Turns returns the order of n things in each of so many runs: each run begins with another one, so that none is always
// the first on a warm machine, or the last on a hot one.
func Turns(n, runs int) [][]int {
	turns := make([][]int, runs)
	for run := range turns {
		for i := range n {
			turns[run] = append(turns[run], (run+i)%n)
		}
	}
	return turns
}
