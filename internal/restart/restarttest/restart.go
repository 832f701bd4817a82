package restarttest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func testRestart(t *testing.T, s *subject) {
	seen := make(map[restart.Epoch]bool)
	for n := 1; n <= 3; n++ {
		state := s.ready(t, "")
		seen[state.Epoch] = true
		s.mustTake(t, state.Epoch)

		next := s.ready(t, state.Epoch)
		if seen[next.Epoch] {
			t.Fatalf("epoch %q names two boots", next.Epoch)
		}
		if !next.Since.IsZero() && !next.Since.After(state.Since) {
			t.Errorf("Since: got %s, want it after the former boot's, %s", next.Since, state.Since)
		}
		s.wantBoots(t, n)
	}
}

func testFormerEpoch(t *testing.T, s *subject) {
	former := s.ready(t, "").Epoch
	s.mustTake(t, former)
	now := s.ready(t, former).Epoch

	for range 2 {
		wantClass(t, s.restart(t, former), restart.ErrChanged)
	}
	if got := s.ready(t, "").Epoch; got != now {
		t.Errorf("epoch: got %q, want %q as before", got, now)
	}
	s.wantBoots(t, 1)
}

// An empty epoch is what a bug upstream would send; to a driver that makes a condition of it, it must not mean
// "whatever is running".
func testUnknownEpoch(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	wantClass(t, s.restart(t, epoch+"-of-another-life"), restart.ErrChanged)
	if err := s.restart(t, ""); err == nil {
		t.Error("Restart from an empty epoch: got nil, want an error")
	}
	s.wantUnharmed(t, epoch)
}

func testNoTimeLeft(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	for _, within := range []time.Duration{0, -time.Second} {
		if err := s.Driver.Restart(t.Context(), s.trigger(epoch, within)); err == nil {
			t.Errorf("Restart within %s: got nil, want an error", within)
		}
	}
	s.wantUnharmed(t, epoch)
}

func testManyAtOnce(t *testing.T, s *subject) {
	s.needsCompareAtEffect(t)
	from := s.ready(t, "").Epoch
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = s.restart(t, from) })
	}
	wg.Wait()
	s.ready(t, from)
	s.wantBoots(t, 1)

	taken := 0
	for _, err := range errs {
		if err == nil {
			taken++
		}
	}
	if taken == 0 {
		t.Errorf("Restart: got %v, want one of them taken", errs)
	}
	wantClass(t, s.restart(t, from), restart.ErrChanged)
	s.wantBoots(t, 1)
}

func testRefused(t *testing.T, s *subject) {
	needs(t, s.RefuseNext != nil, "refuse a call")
	epoch := s.ready(t, "").Epoch
	s.RefuseNext()
	wantClass(t, s.restart(t, epoch), restart.ErrRefused)
	s.wantUnharmed(t, epoch)

	s.mustTake(t, epoch)
	s.ready(t, epoch)
	s.wantBoots(t, 1)
}

func testPermanent(t *testing.T, s *subject) {
	needs(t, s.ForbidNext != nil, "refuse a call for good")
	epoch := s.ready(t, "").Epoch
	s.ForbidNext()
	err := s.restart(t, epoch)
	wantClass(t, err, restart.ErrPermanent)
	if errors.Is(err, restart.ErrRefused) {
		t.Errorf("Restart: got %v, which may be asked again and may not", err)
	}
	s.wantUnharmed(t, epoch)
}

func testLostAnswer(t *testing.T, s *subject) {
	needs(t, s.LoseNext != nil, "lose an answer")
	from := s.ready(t, "").Epoch
	s.LoseNext()
	wantUnknown(t, "Restart", s.restart(t, from))
	s.ready(t, from)
	wantClass(t, s.restart(t, from), restart.ErrChanged)
	s.wantBoots(t, 1)
}

// A trigger that was taken is not a restart: whoever believes the answer reports a boot that never was.
func testIgnored(t *testing.T, s *subject) {
	needs(t, s.IgnoreNext != nil, "take a restart and forget it")
	epoch := s.ready(t, "").Epoch
	s.IgnoreNext()
	s.mustTake(t, epoch)
	sleep(s.Late)
	s.wantUnharmed(t, epoch)

	s.mustTake(t, epoch)
	s.ready(t, epoch)
	sleep(s.Late)
	s.wantBoots(t, 1)
}
