package restarttest

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
)

func testPanic(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	b := s.within(t)
	slot := b.acquire(t)
	for _, call := range b.calls(slot, epoch) {
		b.saboteur.next = func() { panic("sabotage") }
		err := call.do(t.Context())
		wantUnknown(t, call.name, err)
		if panicked := (*bounded.PanicError)(nil); !errors.As(err, &panicked) {
			t.Errorf("%s: got %v, want a panic", call.name, err)
		}
		s.wantUnharmed(t, epoch)
	}
	// The same slot works on, and so does the driver.
	next := b.through(slot)
	next.mustTake(t, epoch)
	next.ready(t, epoch)
	s.wantBoots(t, 1)
}

func testIgnoredContext(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	for i := range 2 {
		b := s.within(t)
		slot := b.acquire(t)
		call := b.calls(slot, epoch)[i]
		called, letGo := make(chan struct{}), make(chan struct{})
		returns := sync.OnceFunc(func() { close(letGo) })
		defer returns() // also where the test has failed
		b.saboteur.next = func() {
			close(called)
			<-letGo
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answer := make(chan error, 1)
		go func() { answer <- call.do(ctx) }()
		<-called
		cancel()
		select {
		case err := <-answer:
			wantUnknown(t, call.name, err)
			if !errors.Is(err, bounded.ErrAbandoned) {
				t.Errorf("%s: got %v, want %v", call.name, err, bounded.ErrAbandoned)
			}
		case <-time.After(s.Patience):
			t.Fatalf("%s: no answer %s after its context ended", call.name, s.Patience)
		}
		if strays, told := b.driver.Strays(), b.told.Load(); strays != 1 || told != 1 {
			t.Errorf("%s: got %d strays, told %d times, want 1 and once", call.name, strays, told)
		}
		s.wantUnharmed(t, epoch)

		returns()
		b.awaitNoStrays(t)
		b.through(slot).wantUnharmed(t, epoch)
	}
}

// bounds are a driver within bounds, with a saboteur in between.
type bounds struct {
	*subject
	saboteur *saboteur
	driver   *bounded.Driver
	told     atomic.Int64 // errors that were logged
}

func (s *subject) within(t *testing.T) *bounds {
	t.Helper()
	b := &bounds{subject: s, saboteur: &saboteur{Driver: s.Driver}}
	count := zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, _ string) {
		if level == zerolog.ErrorLevel {
			b.told.Add(1)
		}
	})
	var err error
	b.driver, err = bounded.New(bounded.Config{
		Driver: b.saboteur, Slots: 1, ProbeTimeout: s.Patience, RestartTimeout: s.Patience, Overrun: pollEvery,
		Logger: zerolog.New(io.Discard).Hook(count),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bounds) acquire(t *testing.T) *bounded.Slot {
	t.Helper()
	slot, err := b.driver.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slot.Release)
	return slot
}

// through is the subject, seen through a slot.
func (b *bounds) through(slot *bounded.Slot) *subject {
	s := *b.subject
	s.Driver = struct {
		*bounded.Driver
		*bounded.Slot
	}{b.driver, slot}
	return &s
}

type boundedCall struct {
	name string
	do   func(context.Context) error
}

func (b *bounds) calls(slot *bounded.Slot, epoch restart.Epoch) []boundedCall {
	return []boundedCall{
		{"Probe", func(ctx context.Context) error {
			_, err := slot.Probe(ctx, b.Host)
			return err
		}},
		{"Restart", func(ctx context.Context) error { return slot.Restart(ctx, b.trigger(epoch, b.Patience)) }},
	}
}

func (b *bounds) awaitNoStrays(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(b.Patience); b.driver.Strays() > 0; sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("strays: got %d %s after they were let go, want none", b.driver.Strays(), b.Patience)
		}
	}
}

// A saboteur is a driver that, where told so, does what no driver may instead of its next call. Only one goroutine at a
// time tells it and calls it.
type saboteur struct {
	restart.Driver
	next func()
}

var errSabotage = errors.New("sabotage")

func (s *saboteur) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	if s.strikes() {
		return restart.State{}, errSabotage
	}
	return s.Driver.Probe(ctx, host)
}

func (s *saboteur) Restart(ctx context.Context, t restart.Trigger) error {
	if s.strikes() {
		return errSabotage
	}
	return s.Driver.Restart(ctx, t)
}

func (s *saboteur) strikes() bool {
	next := s.next
	s.next = nil
	if next != nil {
		next()
	}
	return next != nil
}
