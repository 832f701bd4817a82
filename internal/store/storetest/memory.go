package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// The methods that a Call can name.
const (
	Save      = "Save"
	Finish    = "Finish"
	Attempted = "Attempted"
	History   = "History"
	Ended     = "Ended"
	Request   = "Request"
	Outcome   = "Outcome"
	Attempts  = "Attempts"
	Forget    = "Forget"
)

// A Call is one call of a method of Memory.
type Call struct {
	Method string
	ID     uuid.UUID // uuid.Nil for History and Forget
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
	identity uuid.UUID
	requests map[uuid.UUID]restart.Request
	outcomes map[uuid.UUID]restart.Outcome
	attempts map[uuid.UUID][]restart.Attempt
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
		store.CleanRequest(&r)
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
			stands = own(first)
			return nil
		}
		for _, t := range []*time.Time{&o.At, &o.Receipt.RequestedAt, &o.Receipt.TriggeredAt, &o.Receipt.VerifiedAt} {
			*t = kept(*t)
		}
		store.CleanOutcome(&o)
		if m.outcomes == nil {
			m.outcomes = make(map[uuid.UUID]restart.Outcome)
		}
		m.outcomes[o.ID] = o
		stands = own(o)
		return nil
	})
	if err != nil {
		return restart.Outcome{}, err
	}
	return stands, nil
}

// Attempted implements store.Store.
func (m *Memory) Attempted(ctx context.Context, a restart.Attempt) error {
	return m.call(ctx, Call{Attempted, a.Request}, func() error {
		same := func(b restart.Attempt) bool { return a.Number == b.Number && a.Worker == b.Worker }
		if slices.ContainsFunc(m.attempts[a.Request], same) {
			return nil
		}
		a.StartedAt, a.EndedAt = kept(a.StartedAt), kept(a.EndedAt)
		store.CleanAttempt(&a)
		if m.attempts == nil {
			m.attempts = make(map[uuid.UUID][]restart.Attempt)
		}
		m.attempts[a.Request] = append(m.attempts[a.Request], a)
		return nil
	})
}

// Attempts implements store.Store.
func (m *Memory) Attempts(ctx context.Context, id uuid.UUID) (all []restart.Attempt, err error) {
	err = m.call(ctx, Call{Attempts, id}, func() error {
		all = slices.Clone(m.attempts[id])
		slices.SortStableFunc(all, func(a, b restart.Attempt) int {
			return cmp.Or(cmp.Compare(a.Number, b.Number), a.StartedAt.Compare(b.StartedAt))
		})
		if o, ok := m.outcomes[id]; ok && o.Receipt.Attempt > 0 {
			all = append(all, lastAttempt(o))
		}
		return nil
	})
	return all, err
}

// History implements store.Store.
func (m *Memory) History(ctx context.Context, f store.Filter) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var found []store.Entry
		err := m.call(ctx, Call{Method: History}, func() error {
			for id, r := range m.requests {
				if e := (store.Entry{Request: r, Outcome: m.outcomes[id]}); matches(f, e) {
					found = append(found, e)
				}
			}
			return nil
		})
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		slices.SortFunc(found, func(a, b store.Entry) int {
			return cmp.Or(b.Request.RequestedAt.Compare(a.Request.RequestedAt), bytes.Compare(b.Request.ID[:], a.Request.ID[:]))
		})
		if f.Limit > 0 {
			found = found[:min(f.Limit, len(found))]
		}
		for _, e := range found {
			e.Request.Raw, e.Outcome = bytes.Clone(e.Request.Raw), own(e.Outcome)
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Ended implements store.Store.
func (m *Memory) Ended(ctx context.Context, since time.Time) (counts store.Counts, err error) {
	err = m.call(ctx, Call{Method: Ended}, func() error {
		counts = store.Counts{}
		for _, o := range m.outcomes {
			if !o.At.Before(kept(since)) {
				counts.Add(o.Group, o.Kind, 1)
			}
		}
		return nil
	})
	return counts, err
}

// Request implements store.Store.
func (m *Memory) Request(ctx context.Context, id uuid.UUID) (r restart.Request, err error) {
	err = m.call(ctx, Call{Request, id}, func() error {
		var ok bool
		if r, ok = m.requests[id]; !ok {
			return fmt.Errorf("cannot read request %q: %w", id, store.ErrNotFound)
		}
		r.Raw = bytes.Clone(r.Raw)
		return nil
	})
	if err != nil {
		return restart.Request{}, err
	}
	return r, nil
}

// Forget implements store.Store.
func (m *Memory) Forget(ctx context.Context, before time.Time, n int) (forgotten int, err error) {
	err = m.call(ctx, Call{Method: Forget}, func() error {
		for id, r := range m.requests {
			if forgotten < n && r.RequestedAt.Before(kept(before)) {
				delete(m.requests, id)
				delete(m.outcomes, id)
				delete(m.attempts, id)
				forgotten++
			}
		}
		return nil
	})
	return forgotten, err
}

// Identity implements store.Store.
func (m *Memory) Identity() uuid.UUID {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.identity == uuid.Nil {
		m.identity = uuid.New()
	}
	return m.identity
}

// Outcome implements store.Store.
func (m *Memory) Outcome(ctx context.Context, id uuid.UUID) (o restart.Outcome, err error) {
	err = m.call(ctx, Call{Outcome, id}, func() (err error) {
		var ok bool
		if o, ok = m.outcomes[id]; !ok {
			return fmt.Errorf("cannot read outcome of request %q: %w", id, store.ErrNotFound)
		}
		o = own(o)
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
	return &Memory{
		Before: m.Before, After: m.After,
		identity: m.identity, requests: m.requests, outcomes: m.outcomes, attempts: m.attempts,
	}
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

func matches(f store.Filter, e store.Entry) bool {
	return (f.Group == "" || f.Group == e.Request.Group) &&
		(f.Host == "" || f.Host == e.Request.Host) &&
		(f.Kind == "" || f.Kind == e.Outcome.Kind) &&
		(f.Since.IsZero() || !e.Request.RequestedAt.Before(kept(f.Since))) &&
		(f.Until.IsZero() || e.Request.RequestedAt.Before(kept(f.Until)))
}

// own returns an outcome that its caller may do with as they like.
func own(o restart.Outcome) restart.Outcome {
	o.Receipt.Checks = slices.Clone(o.Receipt.Checks)
	return o
}

// lastAttempt returns the attempt that led to an outcome, by its receipt. Its end is when the host was verified, or
// else when the outcome was known.
func lastAttempt(o restart.Outcome) restart.Attempt {
	a := restart.Attempt{
		Request: o.ID, Number: o.Receipt.Attempt, Worker: o.Receipt.Worker, StartedAt: o.Receipt.TriggeredAt,
		EndedAt: o.Receipt.VerifiedAt, From: o.Receipt.From, To: o.Receipt.To,
	}
	if a.EndedAt.IsZero() {
		a.EndedAt = o.At
	}
	if o.Kind != restart.Restarted {
		a.Error = o.Detail
	}
	return a
}

// kept returns a time as a database keeps it: in UTC, to the microsecond. To keep more would hide from a test what
// real stores lose.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
