// Package restarttest is the contract of [restart.Driver] as tests, which every driver passes: that a host boots at
// most once for one epoch, and that a driver's answers say no more than what is known.
package restarttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	defaultPatience = 10 * time.Second
	defaultLate     = time.Second
	pollEvery       = 10 * time.Millisecond

	// soon is how long a call may take to come back once its context has ended: a driver that takes longer is given up
	// where it is used.
	soon = 5 * time.Second
)

// A Subject is a driver with one host of its own to restart, which is up and ready, and with what a test must be able
// to do behind the driver's back.
type Subject struct {
	Driver restart.Driver
	Host   restart.Host

	// Boots returns how often the host has booted, by whatever hand, counted at the host and not by the driver. A boot
	// that a probe has seen is counted.
	Boots func() int

	// Patience bounds each call and each wait for the host. Zero means 10 s.
	Patience time.Duration

	// Late is how long whatever comes late, hangs or does not last is given. It must be longer than Reboot takes, and
	// than a probe does. Zero means one second.
	Late time.Duration

	// What the harness can do to the host; tests that need what is nil are skipped. Those that are called Next concern
	// the next call of Restart alone.

	Reboot     func()                // ends the running boot by somebody else's hand, and returns when it has ended
	RefuseNext func()                // refused for now, nothing is done
	ForbidNext func()                // can never succeed, nothing is done
	LoseNext   func()                // taken, but the answer is lost
	HangNext   func()                // neither done nor answered
	DelayNext  func(d time.Duration) // taken and answered at once; takes effect after d, or not at all
	IgnoreNext func()                // taken and answered at once; never takes effect

	FailProbes  func(n int)           // the next n probes get no answer that says anything
	HangProbe   func()                // the next probe gets no answer
	UnreadyNext func(d time.Duration) // the next boot, by whatever hand, is up and not ready for d
	FlapNext    func(d time.Duration) // the next boot is up and ready, after d not ready, and after 2d ready for good
}

// Run tests the driver in real time. Each test opens a subject of its own; the opener cleans up with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	run(t, open, func(t *testing.T, f func(*testing.T)) { f(t) })
}

// RunInBubble is Run under fake time, each test with its opener in a [synctest.Test]: for drivers without sockets and
// processes.
func RunInBubble(t *testing.T, open func(t *testing.T) Subject) {
	run(t, open, func(t *testing.T, f func(*testing.T)) {
		skipped := false
		synctest.Test(t, func(t *testing.T) {
			defer func() { skipped = t.Skipped() }()
			f(t)
		})
		// A skip inside the bubble is not told outside, and a skip must be seen.
		if skipped {
			t.SkipNow()
		}
	})
}

func run(t *testing.T, open func(*testing.T) Subject, in func(*testing.T, func(*testing.T))) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"ProbeNamesTheRunningBoot", testProbe},
		{"RestartMakesAnotherBootThatBecomesReady", testRestart},
		{"FormerEpochIsChangedAndDoesNothing", testFormerEpoch},
		{"UnknownEpochDoesNothing", testUnknownEpoch},
		{"NoTimeLeftDoesNothing", testNoTimeLeft},
		{"ManyAtOnceMakeOneBoot", testManyAtOnce},
		{"ProbeThatFailsIsUnknownAndBootsNothing", testProbeFails},
		{"NotReadyIsAnotherBootAllTheSame", testUnready},
		{"FlappingHostStaysInOneBoot", testFlap},
		{"NastyHostNamesAreRefusedAndReachNothing", testNastyNames},
		{"CancelledBeforeTheCallDoesNothing", testCancelledBefore},
		{"CancelEndsAProbeThatHangs", testCancelProbe},
		{"CancelEndsARestartThatHangs", testCancelRestart},
		{"RefusedDoesNothingAndMayBeAskedAgain", testRefused},
		{"PermanentDoesNothing", testPermanent},
		{"LostAnswerIsUnknownAndMakesOneBoot", testLostAnswer},
		{"AnsweredAndNeverDoneIsUnharmedAndTheNextMakesOneBoot", testIgnored},
		{"LateEffectMakesOneBoot", testLate},
		{"RepeatedWhileTheFirstIsLateMakesOneBoot", testLateRepeated},
		{"LateEffectAfterAnotherHandMakesNoSecondBoot", testLateAfterReboot},
		{"NoEffectAfterTheTimeAllowed", testWithin},
		{"PanicIsUnknownAndTheNextCallWorks", testPanic},
		{"IgnoredContextIsGivenUpCountedAndTold", testIgnoredContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T) { c.test(t, newSubject(open(t))) })
		})
	}
}

// subject is a Subject with its defaults, and the steps that the tests share.
type subject struct {
	Subject
	before  int       // boots when the test began
	request uuid.UUID // of every trigger
}

func newSubject(s Subject) *subject {
	if s.Patience == 0 {
		s.Patience = defaultPatience
	}
	if s.Late == 0 {
		s.Late = defaultLate
	}
	return &subject{Subject: s, before: s.Boots(), request: uuid.New()}
}

// ready returns the state of the host once it is ready in another boot than the one named; not "" means any.
func (s *subject) ready(t *testing.T, not restart.Epoch) restart.State {
	t.Helper()
	return s.await(t, fmt.Sprintf("ready in another boot than %q", not), func(state restart.State) bool {
		return state.Ready && state.Epoch != not
	})
}

// await returns the first state of the host that is as wanted.
func (s *subject) await(t *testing.T, what string, wanted func(restart.State) bool) restart.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.Patience)
	defer cancel()
	for {
		state, err := s.Driver.Probe(ctx, s.Host)
		if err == nil && wanted(state) {
			return state
		}
		select {
		case <-ctx.Done():
			t.Fatalf("host is not %s after %s; last probe: %+v, %v", what, s.Patience, state, err)
		case <-time.After(pollEvery):
		}
	}
}

// restart calls Restart with all the time there is.
func (s *subject) restart(t *testing.T, from restart.Epoch) error {
	t.Helper()
	return s.restartBy(t, s.trigger(from, s.Patience))
}

func (s *subject) restartBy(t *testing.T, trigger restart.Trigger) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.Patience)
	defer cancel()
	return s.Driver.Restart(ctx, trigger)
}

func (s *subject) trigger(from restart.Epoch, within time.Duration) restart.Trigger {
	return restart.Trigger{Host: s.Host, From: from, Within: within, ID: s.request, Attempt: 1}
}

func (s *subject) mustTake(t *testing.T, from restart.Epoch) {
	t.Helper()
	if err := s.restart(t, from); err != nil {
		t.Fatalf("Restart from the running boot: got %v, want it taken", err)
	}
}

// wantBoots fails unless the host has booted so often since the test began.
func (s *subject) wantBoots(t *testing.T, want int) {
	t.Helper()
	if got := s.Boots() - s.before; got != want {
		t.Fatalf("boots of the host: got %d, want %d", got, want)
	}
}

// wantUnharmed fails unless the host still runs the boot named, and never booted.
func (s *subject) wantUnharmed(t *testing.T, epoch restart.Epoch) {
	t.Helper()
	if got := s.ready(t, "").Epoch; got != epoch {
		t.Errorf("epoch: got %q, want %q as before", got, epoch)
	}
	s.wantBoots(t, 0)
}

// needs skips the test where the harness lacks what it takes.
func needs(t *testing.T, can bool, what string) {
	t.Helper()
	if !can {
		t.Skipf("the harness cannot %s", what)
	}
}

func (s *subject) needsCompareAtEffect(t *testing.T) {
	t.Helper()
	if s.Driver.Traits().Compare != restart.CompareAtEffect {
		t.Skip("the driver compares at acceptance, and promises nothing here")
	}
}

func wantClass(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("Restart: got %v, want an error that wraps %q", got, want)
	}
}

// wantUnknown fails unless the error says that a call has no answer, and no more than that.
func wantUnknown(t *testing.T, call string, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: got nil, want an error, because there was no answer", call)
	}
	for _, class := range []error{restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if errors.Is(err, class) {
			t.Fatalf("%s: got %v, which wraps %q; but there was no answer", call, err, class)
		}
	}
}

func sleep(d time.Duration) { <-time.After(d) }
