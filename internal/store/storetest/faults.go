package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var faultTests = []test{
	{"NobodyIsToldOfASuccessThatWasNone", faultTellsNoLie},
	{"ThoseWhoAskAgainGetItDoneOnceAndNothingElseIsLost", faultAcross},
}

const (
	// patience bounds how long a broken database keeps a caller, and how long one that was mended takes to work again.
	patience = 30 * time.Second

	betweenTries = 5 * time.Millisecond
)

// persist calls do until it succeeds, as long as patience lasts.
func persist(t *testing.T, what string, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(betweenTries):
		case <-ctx.Done():
			t.Errorf("%s: still %v after %s", what, err, patience)
			return
		}
	}
}

func newBulkyRequest() restart.Request {
	r := NewRequest("a.example.net")
	r.Raw = make([]byte, 8<<10)
	return r
}

func faultTellsNoLie(t *testing.T, f *fixture) {
	if f.db.Break == nil {
		return
	}
	before := newBulkyRequest()
	f.mustSave(t, before)
	requests := make([]restart.Request, 200)
	saved, finished, attempted := make([]error, len(requests)), make([]error, len(requests)), make([]error, len(requests))
	for i := range requests {
		requests[i] = newBulkyRequest()
	}
	attempt := func(r restart.Request) restart.Attempt { return newAttempt(r.ID, 1, "worker-1", noon) }

	mend := f.db.Break(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	together(len(requests), func(i int) {
		r := requests[i]
		saved[i] = f.Save(ctx, r)
		_, finished[i] = f.Finish(ctx, NewOutcome(r.ID, r.Host))
		attempted[i] = f.Attempted(ctx, attempt(r))
	})
	mend()

	if errors.Join(saved...) == nil {
		t.Error("every Save succeeded on a broken database")
	}
	persist(t, "History", func(ctx context.Context) error {
		_, err := entriesOf(ctx, f, store.Filter{})
		return err
	})
	for i, r := range requests {
		if _, err := f.Request(t.Context(), r.ID); saved[i] == nil && err != nil {
			t.Errorf("request %d: %v, though its Save succeeded", i, err)
		}
		if _, err := f.Outcome(t.Context(), r.ID); finished[i] == nil && err != nil {
			t.Errorf("request %d: %v, though its Finish succeeded", i, err)
		}
		if len(f.mustAttempts(t, r.ID)) == 0 && (attempted[i] == nil || finished[i] == nil) {
			t.Errorf("request %d has no attempts, though they were saved", i)
		}
	}
	want := map[uuid.UUID]bool{before.ID: true}
	for _, r := range requests {
		want[r.ID] = true
		persist(t, "Save", func(ctx context.Context) error { return f.Save(ctx, r) })
	}
	f.mustHold(t, want)
	f.reopen(t)
	f.mustHold(t, want)
}

// faultAcross has workers go through their lives while the database breaks and is mended again and again.
func faultAcross(t *testing.T, f *fixture) {
	if f.db.Break == nil {
		return
	}
	const workers, each = 20, 15
	var mu sync.Mutex
	told := make(map[uuid.UUID]restart.Outcome)
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for range each {
				r := newBulkyRequest()
				persist(t, "Save", func(ctx context.Context) error { return f.Save(ctx, r) })
				o := NewOutcome(r.ID, r.Host)
				var stands restart.Outcome
				persist(t, "Finish", func(ctx context.Context) (err error) {
					o.Receipt.Worker = fmt.Sprintf("worker-%d-%d", worker, rand.Int()) // the first that was done stands
					stands, err = f.Finish(ctx, o)
					return err
				})
				mu.Lock()
				told[r.ID] = stands
				mu.Unlock()
			}
		})
	}
	for range 3 {
		mend := f.db.Break(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_ = f.Save(ctx, newBulkyRequest()) // which takes as long as the others have to notice
		cancel()
		mend()
	}
	all.Wait()
	persist(t, "History", func(ctx context.Context) error {
		_, err := entriesOf(ctx, f, store.Filter{})
		return err
	})
	checkTold(t, f, told)
	f.reopen(t)
	checkTold(t, f, told)
}

// checkTold checks that every outcome which a Finish returned is the one that stands, in one entry.
func checkTold(t *testing.T, f *fixture, told map[uuid.UUID]restart.Outcome) {
	t.Helper()
	seen := make(map[uuid.UUID]int)
	for _, e := range f.mustEntries(t, store.Filter{}) {
		seen[e.Request.ID]++
		if stands, ok := told[e.Request.ID]; ok && !cmp.Equal(stands, e.Outcome) {
			t.Errorf("request %s: Finish returned %+v, but %+v stands", e.Request.ID, stands, e.Outcome)
		}
	}
	for id := range told {
		if seen[id] != 1 {
			t.Errorf("request %s is stored %d times, want once", id, seen[id])
		}
	}
}

// Stubborn is a store whose writes are tried again for as long as they fail for a reason that passes, as the handler
// does it. So the suite that is written for success can be run where writes fail. It also takes some of the successes
// for failures, as one does whose answer was lost.
type Stubborn struct {
	store.Store
	Passes func(error) bool // reports whether what was tried may succeed when it is tried again
}

// Save implements store.Store.
func (s Stubborn) Save(ctx context.Context, r restart.Request) error {
	return s.insist(func() error { return s.Store.Save(ctx, r) })
}

// Finish implements store.Store.
func (s Stubborn) Finish(ctx context.Context, o restart.Outcome) (stands restart.Outcome, err error) {
	err = s.insist(func() error {
		stands, err = s.Store.Finish(ctx, o)
		return err
	})
	return stands, err
}

// Attempted implements store.Store.
func (s Stubborn) Attempted(ctx context.Context, a restart.Attempt) error {
	return s.insist(func() error { return s.Store.Attempted(ctx, a) })
}

// Forget implements store.Store. Its answer is never taken for lost, because the next one would count others.
func (s Stubborn) Forget(ctx context.Context, before time.Time, n int) (forgotten int, err error) {
	for {
		forgotten, err = s.Store.Forget(ctx, before, n)
		if err == nil || !s.Passes(err) {
			return forgotten, err
		}
	}
}

func (s Stubborn) insist(do func() error) error {
	for {
		err := do()
		lost := err == nil && rand.IntN(4) == 0
		if !lost && (err == nil || !s.Passes(err)) {
			return err
		}
	}
}
