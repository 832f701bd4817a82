package sqlite_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// BenchmarkSave shows what it is worth to share a commit: every row is durable in both.
func BenchmarkSave(b *testing.B) {
	for _, bm := range []struct {
		name   string
		savers int
	}{
		{"OneSaver", 1},
		{"ThousandSavers", 1000},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s := mustOpen(b, filepath.Join(b.TempDir(), "mandrill.db"))
			var next atomic.Int64
			var savers sync.WaitGroup
			for range bm.savers {
				savers.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if err := s.Save(b.Context(), storetest.NewRequest("a.example.net")); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			savers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
