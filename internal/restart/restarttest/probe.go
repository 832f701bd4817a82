package restarttest

import (
	"context"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func testProbe(t *testing.T, s *subject) {
	first := s.ready(t, "")
	if first.Epoch == "" {
		t.Fatal("Probe: the running boot has no epoch")
	}
	if first.Since.After(time.Now().Add(s.Patience)) {
		t.Errorf("Probe: the running boot began at %s, which is yet to come", first.Since)
	}
	for range 3 {
		if again := s.ready(t, ""); again.Epoch != first.Epoch {
			t.Fatalf("Probe: got epoch %q, then %q, without a boot between", first.Epoch, again.Epoch)
		}
	}
	s.wantBoots(t, 0)
}

// Whoever takes a host that does not answer for one that has changed, or is gone, reports a restart that never was.
func testProbeFails(t *testing.T, s *subject) {
	needs(t, s.FailProbes != nil, "let probes fail")
	epoch := s.ready(t, "").Epoch
	const failing = 3
	s.FailProbes(failing)
	for range failing {
		wantUnknown(t, "Probe", s.probe(t, s.Host))
	}
	s.wantUnharmed(t, epoch)
}

func testUnready(t *testing.T, s *subject) {
	needs(t, s.UnreadyNext != nil, "bring a host back not ready")
	former := s.ready(t, "").Epoch
	s.UnreadyNext(s.Late)
	s.mustTake(t, former)
	boot := s.another(t, former)
	if boot.Ready {
		t.Errorf("Probe: got %+v first, want another boot than %q, not ready", boot, former)
	}
	s.awaitReady(t, boot.Epoch, true)
	s.wantBoots(t, 1)
}

func testFlap(t *testing.T, s *subject) {
	needs(t, s.FlapNext != nil, "let a host flap")
	former := s.ready(t, "").Epoch
	s.FlapNext(s.Late)
	s.mustTake(t, former)
	boot := s.another(t, former)
	for _, ready := range []bool{true, false, true} {
		s.awaitReady(t, boot.Epoch, ready)
	}
	s.wantBoots(t, 1)
}

// another returns the first state that is seen of another boot than the one named.
func (s *subject) another(t *testing.T, not restart.Epoch) restart.State {
	t.Helper()
	return s.await(t, "up in another boot", func(state restart.State) bool { return state.Epoch != not })
}

// awaitReady waits until the host is ready, or is not, and fails if it is seen in another boot than the one named.
func (s *subject) awaitReady(t *testing.T, epoch restart.Epoch, ready bool) {
	t.Helper()
	what := map[bool]string{true: "ready", false: "not ready"}[ready]
	s.await(t, what, func(state restart.State) bool {
		if state.Epoch != epoch {
			t.Fatalf("Probe: got epoch %q, want %q until the host is %s", state.Epoch, epoch, what)
		}
		return state.Ready == ready
	})
}

// probe returns the error of one probe.
func (s *subject) probe(t *testing.T, host restart.Host) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.Patience)
	defer cancel()
	_, err := s.Driver.Probe(ctx, host)
	return err
}
