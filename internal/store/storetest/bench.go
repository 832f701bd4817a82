package storetest

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// BenchmarkSave shows what it is worth to share a commit: every row is durable with one saver and with a thousand. open
// opens an empty database.
func BenchmarkSave(b *testing.B, open func(b *testing.B) store.Store) {
	r := NewRequest("a.example.net")
	benchmarkWrites(b, open, func(ctx context.Context, s store.Store, id uuid.UUID) error {
		r := r
		r.ID = id
		return s.Save(ctx, r)
	})
}

// BenchmarkFinish is BenchmarkSave for outcomes.
func BenchmarkFinish(b *testing.B, open func(b *testing.B) store.Store) {
	o := NewOutcome(uuid.Nil, "a.example.net")
	benchmarkWrites(b, open, func(ctx context.Context, s store.Store, id uuid.UUID) error {
		o := o
		o.ID = id
		_, err := s.Finish(ctx, o)
		return err
	})
}

func benchmarkWrites(b *testing.B, open func(b *testing.B) store.Store, write func(context.Context, store.Store, uuid.UUID) error) {
	for _, bm := range []struct {
		name    string
		writers int
	}{
		{"One", 1},
		{"Thousand", 1000},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s := open(b)
			var next atomic.Uint64
			var writers sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range bm.writers {
				writers.Go(func() {
					for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
						id := uuid.UUID{6: 0x70, 8: 0x80}
						binary.BigEndian.PutUint32(id[9:], uint32(n)) // in order, as those of real requests are
						if err := write(b.Context(), s, id); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
