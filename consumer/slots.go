package consumer

import (
	"context"
	"sync"
	"time"
)

// slots are the places for messages in work.
type slots struct {
	size int

	mu    sync.Mutex
	free  int
	freed chan struct{} // has room for one: somebody gave a slot back
}

func newSlots(size int) *slots {
	return &slots{size: size, free: size, freed: make(chan struct{}, 1)}
}

// take waits for free slots and takes all, at most most. It waits until a fair part is free or, once any is, for
// patience: messages that are fetched together cost a fraction of those fetched one by one. It returns 0 when ctx ends.
func (s *slots) take(ctx context.Context, most int, patience time.Duration) int {
	fair := max(1, min(s.size/8, most))
	var patient <-chan time.Time
	for {
		s.mu.Lock()
		if s.free >= fair {
			n := min(s.free, most)
			s.free -= n
			s.mu.Unlock()
			return n
		}
		if s.free > 0 && patient == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			patient = timer.C
		}
		s.mu.Unlock()
		select {
		case <-s.freed:
		case <-patient:
			fair = 1
		case <-ctx.Done():
			return 0
		}
	}
}

// put gives n slots back.
func (s *slots) put(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.free += n
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}
