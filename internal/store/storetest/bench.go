package storetest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// BenchmarkSave shows what it is worth to share a commit: every row is durable with one saver and with a thousand. open
// opens an empty database.
func BenchmarkSave(b *testing.B, open func(b *testing.B) store.Store) {
	for _, bm := range []struct {
		name   string
		savers int
	}{
		{"OneSaver", 1},
		{"ThousandSavers", 1000},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s := open(b)
			template := NewRequest("a.example.net")
			var next atomic.Uint64
			var savers sync.WaitGroup
			b.ResetTimer()
			for range bm.savers {
				savers.Go(func() {
					r := template
					for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
						binary.BigEndian.PutUint64(r.ID[8:], n) // in order, as those of real requests are
						if err := s.Save(b.Context(), r); err != nil {
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
