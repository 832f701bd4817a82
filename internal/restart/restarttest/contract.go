package restarttest

import (
	"context"
	"errors"
	"sync"
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

func testCancelDuring(t *testing.T, s *subject) {
	needs(t, s.HangNext != nil, "make a call hang")
	epoch := s.ready(t, "").Epoch
	s.HangNext()
	ctx, cancel := context.WithTimeout(t.Context(), s.Late)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- s.Driver.Restart(ctx, s.trigger(epoch, s.Patience)) }()
	select {
	case err := <-answer:
		wantUnknown(t, err)
		if ctx.Err() == nil {
			t.Errorf("Restart: got %v before its context ended, want it to hang", err)
		}
	case <-time.After(s.Late + s.Patience):
		t.Fatalf("Restart: no answer %s after its context ended", s.Patience)
	}
	s.wantUnharmed(t, epoch)
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
	wantUnknown(t, s.restart(t, from))
	s.ready(t, from)
	wantClass(t, s.restart(t, from), restart.ErrChanged)
	s.wantBoots(t, 1)
}

func testLate(t *testing.T, s *subject) {
	needs(t, s.DelayNext != nil, "delay an effect")
	from := s.ready(t, "").Epoch
	s.DelayNext(s.Late)
	called := time.Now()
	s.mustTake(t, from)
	s.ready(t, from)
	if took := time.Since(called); took < s.Late {
		t.Errorf("the harness delayed the effect by less than %s, %s", s.Late, took)
	}
	s.wantBoots(t, 1)
}

func testLateRepeated(t *testing.T, s *subject) {
	s.needsCompareAtEffect(t)
	needs(t, s.DelayNext != nil, "delay an effect")
	from := s.ready(t, "").Epoch
	s.DelayNext(s.Late)
	called := time.Now()
	s.mustTake(t, from)
	if err := s.restart(t, from); err != nil && !errors.Is(err, restart.ErrChanged) {
		t.Fatalf("Restart again: got %v, want it taken, or changed", err)
	}
	s.ready(t, from)
	sleep(time.Until(called.Add(2 * s.Late)))
	s.ready(t, from)
	s.wantBoots(t, 1)
}

func testLateAfterReboot(t *testing.T, s *subject) {
	s.needsCompareAtEffect(t)
	needs(t, s.DelayNext != nil, "delay an effect")
	needs(t, s.Reboot != nil, "boot the host by another hand")
	from := s.ready(t, "").Epoch
	s.DelayNext(s.Late)
	called := time.Now()
	s.mustTake(t, from)
	s.Reboot()
	if took := time.Since(called); took >= s.Late {
		t.Fatalf("the harness took %s to boot the host by another hand, which proves nothing: Late, %s, must be longer", took, s.Late)
	}
	sleep(time.Until(called.Add(2 * s.Late)))
	s.ready(t, from)
	s.wantBoots(t, 1)
}

func testWithin(t *testing.T, s *subject) {
	s.needsCompareAtEffect(t)
	if d := s.Driver.Traits().MaxDelay; d > 0 {
		t.Skipf("the driver cannot keep to the time that it is given, only to %s", d)
	}
	needs(t, s.DelayNext != nil, "delay an effect")
	from := s.ready(t, "").Epoch
	within := s.Late
	s.DelayNext(2 * within)
	called := time.Now()
	if err := s.Driver.Restart(t.Context(), s.trigger(from, within)); err != nil {
		t.Fatalf("Restart: got %v, want it taken", err)
	}
	sleep(time.Until(called.Add(within)))
	inTime := s.Boots()
	sleep(time.Until(called.Add(3 * within)))
	s.ready(t, "")
	if late := s.Boots() - inTime; late != 0 {
		t.Fatalf("boots later than %s after the call: got %d, want none", within, late)
	}
}
