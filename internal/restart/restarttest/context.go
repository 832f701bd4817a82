package restarttest

import (
	"context"
	"testing"
	"time"
)

func testCancelledBefore(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if state, err := s.Driver.Probe(ctx, s.Host); err == nil {
		t.Errorf("Probe: got %+v, want an error", state)
	}
	if err := s.Driver.Restart(ctx, s.trigger(epoch, s.Patience)); err == nil {
		t.Error("Restart: got nil, want an error")
	}
	s.wantUnharmed(t, epoch)
}

func testCancelProbe(t *testing.T, s *subject) {
	needs(t, s.HangProbe != nil, "make a probe hang")
	epoch := s.ready(t, "").Epoch
	s.HangProbe()
	s.wantCancelled(t, "Probe", func(ctx context.Context) error {
		_, err := s.Driver.Probe(ctx, s.Host)
		return err
	})
	s.wantUnharmed(t, epoch)
}

func testCancelRestart(t *testing.T, s *subject) {
	needs(t, s.HangNext != nil, "make a restart hang")
	epoch := s.ready(t, "").Epoch
	s.HangNext()
	s.wantCancelled(t, "Restart", func(ctx context.Context) error {
		return s.Driver.Restart(ctx, s.trigger(epoch, s.Patience))
	})
	s.wantUnharmed(t, epoch)
}

// wantCancelled fails unless the call, which hangs, says that it does not know soon after its context has ended. The
// context has no deadline, so that nobody can know beforehand when it will end.
func (s *subject) wantCancelled(t *testing.T, name string, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- call(ctx) }()
	select {
	case err := <-answer:
		t.Fatalf("%s: got %v before its context ended, want it to hang", name, err)
	case <-time.After(s.Late):
	}
	cancel()
	select {
	case err := <-answer:
		wantUnknown(t, name, err)
	case <-time.After(soon):
		t.Fatalf("%s: no answer %s after its context ended", name, soon)
	}
}
