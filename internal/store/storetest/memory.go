package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// The methods that a Call can name.
const (
	Save     = "Save"
	Finish   = "Finish"
	Requests = "Requests"
	Outcome  = "Outcome"
)

// A Call is one call of a method of Memory.
type Call struct {
	Method string
	ID     uuid.UUID // uuid.Nil for Requests
}

// Memory is a store that forgets everything with the process. It records how it was called, and can be told to fail
// and to wait. The zero value is an empty store. It starts no goroutine and waits only on what the hooks wait on, so
// it works under testing/synctest.
type Memory struct {
	// Before, if set, is called at the beginning of every call. Its error becomes the call's, which then does nothing;
	// it may wait as long as it likes, and minds ctx itself. After is the same at the end, when a write has taken
	// effect: its error is the answer that was lost. Both are set before the first call.
	Before, After func(ctx context.Context, c Call) error

	taken sync.WaitGroup // calls begun and not ended

	mu       sync.Mutex
	closed   bool
	requests map[uuid.UUID]restart.Request
	outcomes map[uuid.UUID]restart.Outcome
	calls    []Call
}

var _ store.Store = (*Memory)(nil)

// Calls returns the calls so far, in the order in which they began, refused ones included.
func (m *Memory) Calls() []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// Save implements store.Store.
func (m *Memory) Save(ctx context.Context, r restart.Request) error {
	return m.call(ctx, Call{Save, r.ID}, func() error {
		first, ok := m.requests[r.ID]
		if ok && (first.Host != r.Host || first.Group != r.Group) {
			return fmt.Errorf("cannot save request %q: %w", r.ID, store.ErrIDReused)
		}
		if ok {
			return nil
		}
		r.Raw = bytes.Clone(r.Raw)
		r.RequestedAt, r.NotAfter = kept(r.RequestedAt), kept(r.NotAfter)
		if m.requests == nil {
			m.requests = make(map[uuid.UUID]restart.Request)
		}
		m.requests[r.ID] = r
		return nil
	})
}

// Finish implements store.Store.
func (m *Memory) Finish(ctx context.Context, o restart.Outcome) (stands restart.Outcome, err error) {
	err = m.call(ctx, Call{Finish, o.ID}, func() error {
		first, ok := m.outcomes[o.ID]
		if ok {
			stands = first
			return nil
		}
		for _, t := range []*time.Time{&o.At, &o.Receipt.TriggeredAt, &o.Receipt.VerifiedAt} {
			*t = kept(*t)
		}
		if m.outcomes == nil {
			m.outcomes = make(map[uuid.UUID]restart.Outcome)
		}
		m.outcomes[o.ID] = o
		stands = o
		return nil
	})
	if err != nil {
		return restart.Outcome{}, err
	}
	return stands, nil
}

// Requests implements store.Store.
func (m *Memory) Requests(ctx context.Context, f store.Filter) iter.Seq2[restart.Request, error] {
	return func(yield func(restart.Request, error) bool) {
		var found []restart.Request
		err := m.call(ctx, Call{Method: Requests}, func() error {
			found = slices.DeleteFunc(slices.Collect(maps.Values(m.requests)), func(r restart.Request) bool {
				return !matches(f, r)
			})
			return nil
		})
		if err != nil {
			yield(restart.Request{}, err)
			return
		}
		slices.SortFunc(found, func(a, b restart.Request) int {
			return cmp.Or(b.RequestedAt.Compare(a.RequestedAt), bytes.Compare(b.ID[:], a.ID[:]))
		})
		if f.Limit > 0 {
			found = found[:min(f.Limit, len(found))]
		}
		for _, r := range found {
			r.Raw = bytes.Clone(r.Raw)
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Outcome implements store.Store.
func (m *Memory) Outcome(ctx context.Context, id uuid.UUID) (o restart.Outcome, err error) {
	err = m.call(ctx, Call{Outcome, id}, func() (err error) {
		var ok bool
		if o, ok = m.outcomes[id]; !ok {
			return fmt.Errorf("cannot read outcome of request %q: %w", id, store.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return restart.Outcome{}, err
	}
	return o, nil
}

// Close implements store.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.taken.Wait()
	return nil
}

// Reopen returns a store with the hooks and the contents of m, which must be closed, as a process finds them that
// opens the same database later. What is still called on m stays refused.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{Before: m.Before, After: m.After, requests: m.requests, outcomes: m.outcomes}
}

// call does what all calls have in common around do, which runs alone.
func (m *Memory) call(ctx context.Context, c Call, do func() error) error {
	if err := m.begin(c); err != nil {
		return err
	}
	defer m.taken.Done()
	if m.Before != nil {
		if err := m.Before(ctx, c); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := m.locked(do); err != nil {
		return err
	}
	if m.After != nil {
		return m.After(ctx, c)
	}
	return nil
}

func (m *Memory) begin(c Call) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, c)
	if m.closed {
		return errors.New("the store is closed")
	}
	m.taken.Add(1)
	return nil
}

func (m *Memory) locked(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return do()
}

func matches(f store.Filter, r restart.Request) bool {
	return (f.Group == "" || f.Group == r.Group) &&
		(f.Host == "" || f.Host == r.Host) &&
		(f.Since.IsZero() || !r.RequestedAt.Before(kept(f.Since))) &&
		(f.Until.IsZero() || r.RequestedAt.Before(kept(f.Until)))
}

// kept returns a time as a database keeps it: in UTC, to the microsecond. To keep more would hide from a test what
// real stores lose.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
