// Package journaltest has the contract that every journal keeps, and a journal in memory for tests of what stands on
// one.
package journaltest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
)

// Memory is a journal in memory. The zero value is empty, covers everything, and never fails.
type Memory struct {
	// BeforeAppend, if set, is called before each append, without a lock. An error of it is what the caller gets: with
	// nothing appended, or, if stored is true, with the event stored and only its answer lost.
	BeforeAppend func(key journal.Key, next journal.Event) (stored bool, err error)
	// Horizon, if set, is how old a work message may be for the journal to cover it.
	Horizon time.Duration

	mu       sync.Mutex
	events   map[uuid.UUID][]journal.Event
	keys     map[uuid.UUID]journal.Key
	sequence uint64
}

// Covers implements the journal.
func (m *Memory) Covers(stored time.Time) bool {
	return m.Horizon == 0 || time.Since(stored) < m.Horizon
}

// Last implements the journal.
func (m *Memory) Last(ctx context.Context, key journal.Key) (journal.Event, error) {
	if ctx.Err() != nil {
		return journal.Event{}, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.events[key.ID]
	if len(events) == 0 {
		return journal.Event{}, nil
	}
	if m.keys[key.ID] != key {
		return journal.Event{}, fmt.Errorf("%w: host %s", journal.ErrIDReused, m.keys[key.ID].Host)
	}
	return events[len(events)-1], nil
}

// Append implements the journal.
func (m *Memory) Append(ctx context.Context, key journal.Key, last, next journal.Event) (journal.Event, error) {
	if err := journal.MayFollow(last, next); err != nil {
		return journal.Event{}, err
	}
	if ctx.Err() != nil {
		return journal.Event{}, context.Cause(ctx)
	}
	var lost error
	if m.BeforeAppend != nil {
		stored, err := m.BeforeAppend(key, next)
		if err != nil && !stored {
			return journal.Event{}, err
		}
		lost = err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.events[key.ID]
	var stands uint64
	if len(events) > 0 {
		stands = events[len(events)-1].Sequence
	}
	if stands != last.Sequence || len(events) > 0 && m.keys[key.ID] != key {
		return journal.Event{}, journal.ErrConflict
	}
	if m.events == nil {
		m.events, m.keys = map[uuid.UUID][]journal.Event{}, map[uuid.UUID]journal.Key{}
	}
	m.sequence++
	next.ID, next.Sequence = uuid.New(), m.sequence
	m.events[key.ID], m.keys[key.ID] = append(events, next), key
	return next, lost
}

// Events returns what was appended under an id, in order.
func (m *Memory) Events(id uuid.UUID) []journal.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]journal.Event(nil), m.events[id]...)
}
