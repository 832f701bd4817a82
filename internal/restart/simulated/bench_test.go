package simulated_test

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

const benchHosts = 100_000

func benchNames() []restart.Host {
	names := make([]restart.Host, benchHosts)
	for i := range names {
		names[i] = hostNumber(i)
	}
	return names
}

func BenchmarkFleet_Probe(b *testing.B) {
	f, names := newFleet(b, simulated.Config{}), benchNames()
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.Probe(b.Context(), names[next.Add(1)%benchHosts]); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkFleet_Restart(b *testing.B) {
	f, names := newFleet(b, simulated.Config{}), benchNames()
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := next.Add(1) - 1
			// A host's boots are as many as the rounds that have been over it.
			from := restart.Epoch(strconv.FormatInt(1+n/benchHosts, 10))
			if err := f.Restart(b.Context(), restart.Trigger{Host: names[n%benchHosts], From: from, Within: time.Minute}); err != nil {
				b.Error(err)
			}
		}
	})
}

// What one host costs that was named once, and what it costs to count the boots of all.
func BenchmarkFleet_Boots(b *testing.B) {
	f, names := newFleet(b, simulated.Config{}), benchNames()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, name := range names {
		f.Reboot(name)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		if f.Boots() != benchHosts {
			b.Fatal("boots were lost")
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/benchHosts, "B/host")
}
