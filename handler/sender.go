package handler

import "sync"

// A sender sends the extensions that are due, one after the other, on the goroutine of whose timer found nobody doing so.
// If each were sent on its own, those of a million leases would be a million goroutines that wait for the connection when
// the broker is behind, with their stacks: ten times what all the messages take.
type sender struct {
	mu   sync.Mutex // guards what follows
	due  []*Lease
	busy bool // somebody sends
}

// send has the extension of a lease sent.
func (s *sender) send(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = append(s.due, l)
	if s.busy {
		return
	}
	s.busy = true
	for len(s.due) > 0 {
		due := s.due
		s.due = nil
		s.mu.Unlock()
		for _, l := range due {
			l.send()
		}
		s.mu.Lock()
	}
	s.busy = false
}
