package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory_KeepsTheContract(t *testing.T) {
	Run(t, func(t *testing.T) Database {
		var mu sync.Mutex
		passable := make(chan struct{})
		close(passable)
		gate := passable // what writes wait for
		var broken atomic.Bool
		m := &Memory{Before: func(ctx context.Context, _ Call) error {
			mu.Lock()
			gate := gate
			mu.Unlock()
			if broken.Load() && rand.IntN(2) == 0 {
				return errors.New("broken")
			}
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}, After: func(context.Context, Call) error {
			if broken.Load() {
				return errors.New("broken afterwards")
			}
			return nil
		}}
		return Database{
			Open: func(*testing.T) store.Store {
				m = m.Reopen()
				return m
			},
			Stall: func(*testing.T) (release func()) {
				mu.Lock()
				defer mu.Unlock()
				stalled := make(chan struct{})
				gate = stalled
				return func() { close(stalled) }
			},
			Break: func(*testing.T) (mend func()) {
				broken.Store(true)
				return func() { broken.Store(false) }
			},
		}
	})
}

func TestMemory_RefusedByBeforeWritesNothing(t *testing.T) {
	full := errors.New("disk full")
	m := &Memory{Before: func(_ context.Context, c Call) error {
		if c.Method == Save || c.Method == Finish {
			return full
		}
		return nil
	}}
	r := NewRequest("a.example.net")
	if err := m.Save(t.Context(), r); !errors.Is(err, full) {
		t.Errorf("Save: got error %v, want %v", err, full)
	}
	if _, err := m.Finish(t.Context(), NewOutcome(r.ID, r.Host)); !errors.Is(err, full) {
		t.Errorf("Finish: got error %v, want %v", err, full)
	}
	for r, err := range m.History(t.Context(), store.Filter{}) {
		t.Errorf("got request %v, error %v, want none", r, err)
	}
	if _, err := m.Outcome(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Outcome: got error %v, want %v", err, store.ErrNotFound)
	}
	want := []Call{{Save, r.ID}, {Finish, r.ID}, {Method: History}, {Outcome, r.ID}}
	if diff := cmp.Diff(want, m.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestMemory_AnswerLostByAfterLeavesWhatWasWritten(t *testing.T) {
	lost := errors.New("connection lost")
	m := &Memory{After: func(_ context.Context, c Call) error {
		if c.Method == Finish {
			return lost
		}
		return nil
	}}
	want := NewOutcome(NewRequest("a.example.net").ID, "a.example.net")
	if _, err := m.Finish(t.Context(), want); !errors.Is(err, lost) {
		t.Errorf("Finish: got error %v, want %v", err, lost)
	}
	got, err := m.Outcome(t.Context(), want.ID)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("Outcome: got %v, error %v, want %v", got, err, want)
	}
}

func TestMemory_WaitsInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Memory{Before: func(ctx context.Context, _ Call) error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Hour):
				return nil
			}
		}}
		began := time.Now()
		var saving sync.WaitGroup
		saving.Go(func() {
			if err := m.Save(t.Context(), NewRequest("a.example.net")); err != nil {
				t.Errorf("Save: %v", err)
			}
		})
		synctest.Wait()
		if err := m.Close(); err != nil { // waits for the Save
			t.Errorf("Close: %v", err)
		}
		if waited := time.Since(began); waited != time.Hour {
			t.Errorf("waited %s, want 1h", waited)
		}
		saving.Wait()
	})
}
