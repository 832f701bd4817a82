package bounded_test

import (
	"context"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// What the bounds cost a call: a probe alone, and in a slot of its own.
func BenchmarkProbe(b *testing.B) {
	f := &fake{probe: func(context.Context) (restart.State, error) { return restart.State{Epoch: "1", Ready: true}, nil }}
	b.Run("Bare", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := f.Probe(b.Context(), host); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Bounded", func(b *testing.B) {
		d := newDriver(b, config(f, 2000))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s, err := d.Acquire(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := s.Probe(b.Context(), host); err != nil {
					b.Error(err)
				}
				s.Release()
			}
		})
	})
}
