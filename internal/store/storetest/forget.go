package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var forgetTests = []test{
	{"TakesSoManyAndAllThatCameOfThem", forgetTakesAlong},
	{"LeavesWhatIsNotOlder", forgetLeavesYounger},
	{"OfNoneIsNone", forgetNone},
	{"WritersGoOnMeanwhile", forgetWhileSaving},
	{"WhatIsForgottenMayBeSavedAgain", forgetThenSave},
}

// old is when the requests were made that these tests have forgotten.
var old = noon.Add(-400 * 24 * time.Hour)

func (f *fixture) mustForget(t *testing.T, before time.Time, n int) int {
	t.Helper()
	forgotten, err := f.Forget(t.Context(), before, n)
	if err != nil {
		t.Fatalf("Forget: %v", err)
	}
	return forgotten
}

// mustLive saves a request of some time with an outcome and an earlier attempt.
func (f *fixture) mustLive(t *testing.T, requestedAt time.Time) uuid.UUID {
	t.Helper()
	r := NewRequest("a.example.net")
	r.RequestedAt = requestedAt
	f.mustSave(t, r)
	o := outcomeOf(r, restart.Restarted)
	o.Receipt.Attempt = 2
	f.mustFinish(t, o)
	f.mustAttempt(t, newAttempt(r.ID, 1, "worker-1", requestedAt))
	return r.ID
}

// lives reports whether a request is there with all that came of it, and complains if it is there in part.
func (f *fixture) lives(t *testing.T, id uuid.UUID) bool {
	t.Helper()
	_, errRequest := f.Request(t.Context(), id)
	_, errOutcome := f.Outcome(t.Context(), id)
	for _, err := range []error{errRequest, errOutcome} {
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	}
	attempts := len(f.mustAttempts(t, id))
	if errRequest == nil && errOutcome == nil && attempts == 2 {
		return true
	}
	if errRequest == nil || errOutcome == nil || attempts > 0 {
		t.Errorf("request: %v, outcome: %v, attempts: %d, want all of it or nothing", errRequest, errOutcome, attempts)
	}
	return false
}

func forgetTakesAlong(t *testing.T, f *fixture) {
	var all []uuid.UUID
	for i := range 10 {
		all = append(all, f.mustLive(t, old.Add(time.Duration(i%3)*time.Second)))
	}
	left := len(all)
	for _, want := range []int{4, 4, 2, 0} {
		if got := f.mustForget(t, noon, 4); got != want {
			t.Errorf("forgot %d, want %d", got, want)
		}
		left -= want
		f.reopen(t)
		living := 0
		for _, id := range all {
			if f.lives(t, id) {
				living++
			}
		}
		if living != left {
			t.Errorf("%d are left, want %d", living, left)
		}
	}
}

func forgetLeavesYounger(t *testing.T, f *fixture) {
	older := f.mustLive(t, old.Add(-time.Microsecond))
	same, younger := f.mustLive(t, old), f.mustLive(t, old.Add(time.Microsecond))
	if got := f.mustForget(t, old.In(time.FixedZone("", 3600)), 100); got != 1 {
		t.Errorf("forgot %d, want 1", got)
	}
	for id, want := range map[uuid.UUID]bool{older: false, same: true, younger: true} {
		if got := f.lives(t, id); got != want {
			t.Errorf("request %s lives: %t, want %t", id, got, want)
		}
	}
}

func forgetNone(t *testing.T, f *fixture) {
	id := f.mustLive(t, old)
	for _, n := range []int{0, -1} {
		if got := f.mustForget(t, noon, n); got != 0 || !f.lives(t, id) {
			t.Errorf("Forget of %d: got %d, want 0", n, got)
		}
	}
}

func forgetWhileSaving(t *testing.T, f *fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 60 {
		f.mustLive(t, old)
	}
	var mu sync.Mutex
	saved := make(map[uuid.UUID]bool)
	var savers sync.WaitGroup
	for range 20 {
		savers.Go(func() {
			for n := 0; n < 10 || ctx.Err() == nil; n++ {
				r := NewRequest("a.example.net")
				if err := f.Save(t.Context(), r); err != nil {
					t.Errorf("Save: %v", err)
					return
				}
				mu.Lock()
				saved[r.ID] = true
				mu.Unlock()
			}
		})
	}
	forgotten := 0
	for {
		n := f.mustForget(t, noon, 7)
		if n == 0 {
			break
		}
		forgotten += n
	}
	cancel()
	savers.Wait()
	if forgotten != 60 {
		t.Errorf("forgot %d, want 60", forgotten)
	}
	f.mustHold(t, saved)
}

func forgetThenSave(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	r.RequestedAt = old
	f.mustSave(t, r)
	f.mustForget(t, noon, 1)
	r.Host = "b.example.net"
	f.mustSave(t, r)
	f.mustHold(t, map[uuid.UUID]bool{r.ID: true})
}
