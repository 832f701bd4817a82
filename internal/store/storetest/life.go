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

var lifeTests = []test{
	{"IdentityIsTheDatabasesForLifeAndNoOthers", identityIsForLife},
	{"CancelledCallerIsTurnedAway", cancelledBefore},
	{"CallerStopsWaitingWhenItsContextEnds", cancelledWhileWaiting},
	{"CallerThatStoppedWaitingHasItsBytesBack", cancelledRawIsCopied},
	{"CancellingSomeDoesNotHurtTheOthers", cancelledAmongOthers},
	{"CallsAfterCloseAreRefused", callsAfterClose},
	{"CloseMayBeCalledAgainAndAtOnce", closeTwice},
	{"CloseLosesNoWriteThatSucceededAndAllowsNoneAfterwards", closeWhileSaving},
	{"CloseWaitsForStalledWrites", closeWhileStalled},
}

// calls are all calls that take a context.
var calls = map[string]func(context.Context, store.Store) error{
	Save: func(ctx context.Context, s store.Store) error { return s.Save(ctx, NewRequest("a.example.net")) },
	Finish: func(ctx context.Context, s store.Store) error {
		_, err := s.Finish(ctx, NewOutcome(uuid.New(), "a.example.net"))
		return err
	},
	History: func(ctx context.Context, s store.Store) error {
		for _, err := range s.History(ctx, store.Filter{}) {
			return err
		}
		return nil
	},
	Ended: func(ctx context.Context, s store.Store) error {
		_, err := s.Ended(ctx, noon)
		return err
	},
	Outcome: func(ctx context.Context, s store.Store) error {
		_, err := s.Outcome(ctx, uuid.New())
		return err
	},
	Attempted: func(ctx context.Context, s store.Store) error {
		return s.Attempted(ctx, restart.Attempt{Request: uuid.New(), Number: 1, Worker: "worker-1"})
	},
	Request: func(ctx context.Context, s store.Store) error {
		_, err := s.Request(ctx, uuid.New())
		return err
	},
	Attempts: func(ctx context.Context, s store.Store) error {
		_, err := s.Attempts(ctx, uuid.New())
		return err
	},
	Forget: func(ctx context.Context, s store.Store) error {
		_, err := s.Forget(ctx, noon, 1)
		return err
	},
}

// identityIsForLife: a worker on another database than the group's is found out by it.
func identityIsForLife(t *testing.T, f *fixture) {
	first := f.Identity()
	if first == uuid.Nil {
		t.Error("got no identity")
	}
	f.reopen(t)
	if got := f.Identity(); got != first {
		t.Errorf("after reopening: got identity %s, want %s", got, first)
	}
	if other := newFixture(t, f.create); other.Identity() == first {
		t.Errorf("another database has the same identity %s", first)
	}
}

func cancelledBefore(t *testing.T, f *fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls {
		if err := call(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want %v", name, err, context.Canceled)
		}
	}
	f.mustHold(t, nil)
}

// cancelledWhileWaiting releases the writes only after all callers have returned: one that heeded only the database
// would never return, or not with its context's error.
func cancelledWhileWaiting(t *testing.T, f *fixture) {
	release := f.db.Stall(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	together(20, func(i int) {
		name := []string{Save, Finish}[i%2]
		if err := calls[name](ctx, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got error %v, want %v", name, err, context.DeadlineExceeded)
		}
	})
	release()
	for _, name := range []string{Save, Finish} {
		if err := calls[name](t.Context(), f); err != nil {
			t.Errorf("%s after the stall: %v", name, err)
		}
	}
}

// cancelledRawIsCopied: the write may go on when its caller has gone, and must not store what that does next.
func cancelledRawIsCopied(t *testing.T, f *fixture) {
	release := f.db.Stall(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := NewRequest("a.example.net")
	want := string(r.Raw)
	if err := f.Save(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
	clear(r.Raw)
	release()
	f.reopen(t)
	for _, got := range f.mustRequests(t, store.Filter{}) {
		if string(got.Raw) != want {
			t.Errorf("got raw %q, want %q", got.Raw, want)
		}
	}
}

func cancelledAmongOthers(t *testing.T, f *fixture) {
	release := f.db.Stall(t)
	ctx, cancel := context.WithCancel(t.Context())
	requests := make([]restart.Request, 400)
	for i := range requests {
		requests[i] = NewRequest("a.example.net")
	}
	errs := make([]error, len(requests))
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() {
			if i%2 == 0 {
				errs[i] = f.Save(ctx, r)
			} else {
				errs[i] = f.Save(t.Context(), r)
			}
		})
	}
	cancel()
	release()
	all.Wait()
	f.reopen(t)
	stored := make(map[uuid.UUID]bool)
	for _, r := range f.mustRequests(t, store.Filter{}) {
		stored[r.ID] = true
	}
	for i, r := range requests {
		if i%2 == 1 && errs[i] != nil {
			t.Errorf("saver %d: %v, though only others were cancelled", i, errs[i])
		}
		if errs[i] == nil && !stored[r.ID] {
			t.Errorf("saver %d: its request is lost, though its Save succeeded", i)
		}
	}
}

func callsAfterClose(t *testing.T, f *fixture) {
	f.mustClose(t)
	for name, call := range calls {
		if err := call(t.Context(), f); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got error %v, want a refusal", name, err)
		}
	}
	f.reopen(t)
	f.mustHold(t, nil)
}

func closeTwice(t *testing.T, f *fixture) {
	f.mustSave(t, NewRequest("a.example.net"))
	together(10, func(int) { f.mustClose(t) })
	f.mustClose(t)
}

// closeWhileSaving: after Close another process may own the database.
func closeWhileSaving(t *testing.T, f *fixture) {
	first := f.Store
	var mu sync.Mutex
	saved := make(map[uuid.UUID]bool)
	enough, closed := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for {
				late := false
				select {
				case <-closed:
					late = true
				default:
				}
				r := NewRequest("a.example.net")
				if first.Save(t.Context(), r) != nil {
					return // refused at last
				}
				if late {
					t.Error("Save after Close succeeded")
					return
				}
				mu.Lock()
				saved[r.ID] = true
				if len(saved) == 500 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	f.reopen(t)
	close(closed)
	before := len(f.mustRequests(t, store.Filter{}))
	all.Wait()
	if after := len(f.mustRequests(t, store.Filter{})); after != before {
		t.Errorf("%d requests came into the database after Close", after-before)
	}
	f.mustKeep(t, saved)
}

func closeWhileStalled(t *testing.T, f *fixture) {
	release := f.db.Stall(t)
	saved := make(map[uuid.UUID]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			r := NewRequest("a.example.net")
			if f.Save(t.Context(), r) == nil {
				mu.Lock()
				defer mu.Unlock()
				saved[r.ID] = true
			}
		})
	}
	var closing sync.WaitGroup
	closing.Go(func() { f.mustClose(t) })
	release()
	all.Wait()
	closing.Wait()
	f.reopen(t)
	f.mustKeep(t, saved)
}
