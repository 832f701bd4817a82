package monitor_test

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// BenchmarkRun runs ten thousand monitors at one second for a few real seconds, and tells what one costs and how late its
// beats are.
func BenchmarkRun(b *testing.B) {
	const n = 10_000
	for _, spread := range []bool{true, false} {
		name := "AllAtOnce"
		if spread {
			name = "Spread"
		}
		b.Run(name, func(b *testing.B) {
			before := inUse()
			specs := make([]monitor.Spec, n)
			for i := range specs {
				specs[i] = spec(strconv.Itoa(i), time.Second, always(monitor.Good))
				if spread {
					specs[i].InitialDelay = time.Duration(i) * time.Second / n
				}
			}
			var late []time.Duration
			var missed, peak int64
			cfg := monitor.Config{Monitors: specs, For: 4500 * time.Millisecond}
			cfg.Observe = func(o monitor.Observation) {
				i, _ := strconv.Atoi(o.Name)
				late = append(late, o.Offset-specs[i].InitialDelay-time.Duration(o.Seq)*time.Second)
				missed += o.Missed
			}
			late = make([]time.Duration, 0, 6*n*b.N)
			before += 8 * int64(cap(late))
			r := newRunner(b, cfg)
			for range b.N {
				var wg sync.WaitGroup
				// Between beats, where nothing but waiting costs anything.
				wg.Go(func() {
					time.Sleep(2900 * time.Millisecond)
					peak = max(peak, inUse()-before)
				})
				if _, err := r.Run(context.Background()); err != nil {
					b.Fatal(err)
				}
				wg.Wait()
			}
			slices.Sort(late)
			b.ReportMetric(float64(peak)/n, "B/monitor")
			b.ReportMetric(float64(missed), "missed")
			b.ReportMetric(float64(late[len(late)/2].Microseconds())/1000, "late-p50-ms")
			b.ReportMetric(float64(late[len(late)*99/100].Microseconds())/1000, "late-p99-ms")
			b.ReportMetric(float64(len(late))/float64(b.N*n), "beats/monitor")
		})
	}
}

// inUse returns the bytes that heap and stacks take.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
