package consumer

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const forMore = 3 * time.Second // a patience

func TestTake_TakesAllThatAreFreeUpToTheMost(t *testing.T) {
	for _, test := range []struct{ size, most, want int }{
		{1, 10, 1},
		{10, 10, 10},
		{10, 4, 4},
		{2000, 2000, 2000},
		{5000, 2000, 2000},
	} {
		s := newSlots(test.size)
		if got := s.take(t.Context(), test.most, forMore); got != test.want || s.free != test.size-got {
			t.Errorf("%d slots, at most %d: got %d and left %d, want %d", test.size, test.most, got, s.free, test.want)
		}
	}
}

func TestTake_WithAFairPartFreeDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newSlots(80), time.Now()
		s.take(t.Context(), 70, forMore)
		if got := s.take(t.Context(), 80, forMore); got != 10 || time.Since(began) != 0 {
			t.Errorf("got %d after %s, want 10 at once", got, time.Since(began))
		}
	})
}

func TestTake_WithLessThanAFairPartFreeWaitsForMore(t *testing.T) {
	t.Run("ThatBecomeFreeInTime", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, began := newSlots(80), time.Now()
			s.take(t.Context(), 77, forMore)
			for second := 1; second <= 2; second++ {
				time.AfterFunc(time.Duration(second)*time.Second, func() { s.put(4) })
			}
			if got := s.take(t.Context(), 80, forMore); got != 11 || time.Since(began) != 2*time.Second {
				t.Errorf("got %d after %s, want 11 after 2s", got, time.Since(began))
			}
		})
	})
	t.Run("ButNoLongerThanItsPatience", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, began := newSlots(80), time.Now()
			s.take(t.Context(), 77, forMore)
			if got := s.take(t.Context(), 80, forMore); got != 3 || time.Since(began) != forMore {
				t.Errorf("got %d after %s, want 3 after %s", got, time.Since(began), forMore)
			}
		})
	})
}

// Patience begins with the first free slot: that one has waited for nobody before.
func TestTake_WithNoneFreeWaitsForTheFirstAndThenForItsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newSlots(80), time.Now()
		s.take(t.Context(), 80, forMore)
		time.AfterFunc(time.Hour, func() { s.put(1) })
		if got := s.take(t.Context(), 80, forMore); got != 1 || time.Since(began) != time.Hour+forMore {
			t.Errorf("got %d after %s, want 1 after %s", got, time.Since(began), time.Hour+forMore)
		}
	})
}

func TestTake_OfFewSlotsIsPatientForNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newSlots(8), time.Now()
		s.take(t.Context(), 7, forMore)
		if got := s.take(t.Context(), 8, forMore); got != 1 || time.Since(began) != 0 {
			t.Errorf("got %d after %s, want 1 at once", got, time.Since(began))
		}
	})
}

func TestTake_EndsWithItsContextAndTakesNothing(t *testing.T) {
	for name, taken := range map[string]int{"NoneFree": 80, "TooFewFree": 77} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := newSlots(80), time.Now()
				s.take(t.Context(), taken, forMore)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				got := s.take(ctx, 80, forMore)
				if got != 0 || s.free != 80-taken || time.Since(began) != time.Second {
					t.Errorf("got %d and left %d after %s, want 0 and %d after 1s", got, s.free, time.Since(began), 80-taken)
				}
			})
		})
	}
}

// However takes and puts interleave, every slot is free or taken, and a take that can be served does not wait for ever.
func TestSlots_AreNeverMoreThanTheirSizeNorFewerThanNone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 100).Draw(rt, "size")
		most := rapid.IntRange(1, 120).Draw(rt, "most")
		rounds := rapid.IntRange(1, 200).Draw(rt, "rounds")
		s := newSlots(size)
		var held atomic.Int64
		var work sync.WaitGroup
		for range rounds {
			n := s.take(t.Context(), most, 50*time.Microsecond)
			if now := held.Add(int64(n)); n < 1 || n > most || now > int64(size) {
				rt.Fatalf("took %d, holding %d, of %d slots, at most %d", n, now, size, most)
			}
			for range n {
				work.Go(func() {
					for range rand.IntN(20) {
						s.mu.Lock()
						free := s.free
						s.mu.Unlock()
						if free < 0 || free > size {
							t.Errorf("free: got %d of %d", free, size)
						}
					}
					held.Add(-1)
					s.put(1)
				})
			}
		}
		work.Wait()
		if s.free != size {
			rt.Fatalf("free in the end: got %d, want %d", s.free, size)
		}
	})
}
