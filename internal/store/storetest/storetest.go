// Package storetest is the contract suite that every store passes, and Memory, the store that other tests use.
package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A Database is one empty database, which the suite opens, closes and opens again.
type Database struct {
	// Open opens it. The suite closes it before it opens it again.
	Open func(t *testing.T) store.Store

	// Stall makes writes wait until release is called, as a locked table or a hung disk does. It is called while the
	// database is open, once.
	Stall func(t *testing.T) (release func())

	// Break makes writes fail until mend is called, as a full disk or a stopped server does, all of them or only those
	// of more than a few bytes. What fails may have been done all the same, and reads may fail too. It is called while
	// the database is open, again and again. If it is nil, what it is for is not tested.
	Break func(t *testing.T) (mend func())

	// Second opens it once more while it is open. If it is nil, the database serves one store at a time.
	Second func(t *testing.T) store.Store
}

// Run holds a kind of store against its contract (M23). create makes a new database for each test.
func Run(t *testing.T, create func(t *testing.T) Database) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Save", saveTests},
		{"Finish", finishTests},
		{"Request", requestTests},
		{"Attempts", attemptTests},
		{"History", historyTests},
		{"Forget", forgetTests},
		{"Life", lifeTests},
		{"Faults", faultTests},
		{"Two", twoTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t, create)) })
			}
		})
	}
}

type test struct {
	name string
	run  func(t *testing.T, f *fixture)
}

// A fixture is a database and the store that is open on it.
type fixture struct {
	store.Store
	db     Database
	create func(t *testing.T) Database // makes another one
}

func newFixture(t *testing.T, create func(t *testing.T) Database) *fixture {
	db := create(t)
	f := &fixture{db.Open(t), db, create}
	t.Cleanup(func() { f.mustClose(t) })
	return f
}

func (f *fixture) mustClose(t *testing.T) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// reopen leaves only what was durable.
func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	f.mustClose(t)
	f.Store = f.db.Open(t)
}

func (f *fixture) mustSave(t *testing.T, r restart.Request) {
	t.Helper()
	if err := f.Save(t.Context(), r); err != nil {
		t.Fatalf("Save: %v", err)
	}
}

func (f *fixture) mustFinish(t *testing.T, o restart.Outcome) restart.Outcome {
	t.Helper()
	stands, err := f.Finish(t.Context(), o)
	if err != nil {
		t.Fatalf("Finish: %v", err)
	}
	return stands
}

func (f *fixture) mustOutcome(t *testing.T, id uuid.UUID) restart.Outcome {
	t.Helper()
	o, err := f.Outcome(t.Context(), id)
	if err != nil {
		t.Fatalf("Outcome: %v", err)
	}
	return o
}

// mustEntries returns the entries that match, in the order in which they came.
func (f *fixture) mustEntries(t *testing.T, filter store.Filter) []store.Entry {
	t.Helper()
	entries, err := entriesOf(t.Context(), f, filter)
	if err != nil {
		t.Fatalf("History: %v", err)
	}
	return entries
}

func entriesOf(ctx context.Context, s store.Store, filter store.Filter) (entries []store.Entry, err error) {
	for e, err := range s.History(ctx, filter) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// mustRequests returns the requests that match, in the order in which they came.
func (f *fixture) mustRequests(t *testing.T, filter store.Filter) []restart.Request {
	t.Helper()
	var got []restart.Request
	for _, e := range f.mustEntries(t, filter) {
		got = append(got, e.Request)
	}
	return got
}

func (f *fixture) mustAttempt(t *testing.T, a restart.Attempt) {
	t.Helper()
	if err := f.Attempted(t.Context(), a); err != nil {
		t.Fatalf("Attempted: %v", err)
	}
}

func (f *fixture) mustAttempts(t *testing.T, id uuid.UUID) []restart.Attempt {
	t.Helper()
	all, err := f.Attempts(t.Context(), id)
	if err != nil {
		t.Fatalf("Attempts: %v", err)
	}
	return all
}

// mustHold checks that the store has exactly these ids, each once.
func (f *fixture) mustHold(t *testing.T, want map[uuid.UUID]bool) {
	t.Helper()
	for id := range f.mustKeep(t, want) {
		if !want[id] {
			t.Errorf("request %s is stored, though its Save failed", id)
		}
	}
}

// mustKeep checks that the store has these ids, each once, and returns all that it has.
func (f *fixture) mustKeep(t *testing.T, want map[uuid.UUID]bool) (got map[uuid.UUID]bool) {
	t.Helper()
	got = make(map[uuid.UUID]bool)
	for _, r := range f.mustRequests(t, store.Filter{}) {
		if got[r.ID] {
			t.Errorf("request %s is stored twice", r.ID)
		}
		got[r.ID] = true
	}
	for id := range want {
		if !got[id] {
			t.Errorf("request %s is lost, though its Save succeeded", id)
		}
	}
	return got
}

// noon is when the requests of the suite were made, unless it matters.
var noon = time.Date(2026, 3, 29, 12, 0, 0, 123456000, time.UTC)

// NewRequest returns a valid request with an id of its own.
func NewRequest(host restart.Host) restart.Request {
	return restart.Request{
		ID:          uuid.Must(uuid.NewV7()),
		Instance:    string(host),
		Host:        host,
		Group:       restart.DefaultGroup,
		RequestedAt: noon,
		NotAfter:    noon.Add(restart.DefaultLifetime),
		Raw:         []byte(`{"instance": "` + host + `"}`),
	}
}

// NewOutcome returns a verified restart, of what NewRequest returns.
func NewOutcome(id uuid.UUID, host restart.Host) restart.Outcome {
	return restart.Outcome{
		ID:     id,
		Host:   host,
		Group:  restart.DefaultGroup,
		Kind:   restart.Restarted,
		Reason: restart.ReasonVerified,
		Detail: "restarted in 3 s",
		At:     noon.Add(time.Minute),
		Receipt: restart.Receipt{
			RequestedBy: "ops",
			RequestedAt: noon,
			Worker:      "worker-1",
			Attempt:     1,
			From:        "41",
			To:          "42",
			TriggeredAt: noon.Add(time.Second),
			VerifiedAt:  noon.Add(4 * time.Second),
			Down:        restart.Duration(2750 * time.Millisecond),
			Checks:      []restart.Check{{Name: "epoch", Result: "42, was 41"}, {Name: "ready", Result: "yes"}},
		},
	}
}

// together calls do n times at once, and returns when all have ended.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}
