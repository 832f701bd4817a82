package restarttest

import (
	"errors"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

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
