package bounded

import (
	"context"
	"sync"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Slot is the right to make one call at a time, until it is released.
type Slot struct {
	d *Driver

	mu       sync.Mutex // guards what follows
	released bool
	running  bool // a call
	stray    bool // the running call was given up
}

// Probe is the driver's Probe, within ProbeTimeout. Unlike a driver's, its nil error promises an epoch: an empty one
// would be taken for another boot wherever it is compared.
//
// An error may also be an [ErrAbandoned] or a *[PanicError], which are of no class. After the first the slot makes no
// call until the stray has returned: release it and acquire another.
func (s *Slot) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	c := &call{slot: s, verb: probe, trigger: restart.Trigger{Host: host}}
	err := c.do(ctx, s.d.cfg.ProbeTimeout)
	switch {
	case err != nil:
		return restart.State{}, err
	case c.state.Epoch == "":
		return restart.State{}, c.failed(errNoEpoch)
	}
	return c.state, nil
}

// Restart is the driver's Restart, within RestartTimeout and within what the trigger allows. Its errors are the driver's,
// and those that Probe adds.
func (s *Slot) Restart(ctx context.Context, t restart.Trigger) error {
	c := &call{slot: s, verb: restarted, trigger: t}
	return c.do(ctx, min(s.d.cfg.RestartTimeout, t.Within))
}

// Release gives the slot back. While a stray of it runs, its place is not free before that returns. It may be called
// more than once.
func (s *Slot) Release() {
	s.mu.Lock()
	free := !s.released && !s.running
	s.released = true
	s.mu.Unlock()
	if free {
		<-s.d.places
	}
}

// begin takes the slot for a call.
func (s *Slot) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.released:
		return errReleased
	case s.running:
		return errBusy
	}
	s.running = true
	return nil
}

// giveUp makes the running call a stray. ok is false if there is none any more.
func (s *Slot) giveUp() (strays int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return 0, false
	}
	s.stray = true
	return s.d.strays.Add(1), true
}

// end makes the slot ready for its next call, or gives it back where it was released meanwhile.
func (s *Slot) end() (strays int64, stray bool) {
	s.mu.Lock()
	free, stray := s.released, s.stray
	s.running, s.stray = false, false
	s.mu.Unlock()
	if stray {
		strays = s.d.strays.Add(-1)
	}
	if free {
		<-s.d.places
	}
	return strays, stray
}
