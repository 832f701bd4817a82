package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func open(t *testing.T) (s *Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mandrill.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

// onWriter changes a setting of the connection that writes, which is idle meanwhile.
func (s *Store) onWriter(t *testing.T, pragma string) (value int) {
	t.Helper()
	if err := s.writer.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&value); err != nil {
		t.Fatalf("PRAGMA %s: %v", pragma, err)
	}
	return value
}

func newOp(r restart.Request) *groupcommit.Op[write] {
	return &groupcommit.Op[write]{Write: newSave(r, time.Time{})}
}

func ids(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for e, err := range s.History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		found[e.Request.ID.String()] = true
	}
	return found
}

func TestWriter_EveryCommitIsSynced(t *testing.T) {
	s, _ := open(t)
	var mode string
	if err := s.writer.conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("got journal mode %q, error %v, want wal", mode, err)
	}
	if got := s.onWriter(t, "synchronous"); got != 2 {
		t.Errorf("got synchronous %d, want 2 (full)", got)
	}
}

// The disk has no room: SQLite finds out while the transaction is written (max_page_count), or the kernel refuses to
// let the log grow when it is committed (the process's limit on the size of files). Either way nobody may believe that
// the request is safe, and when there is room again the store must go on.
func TestStore_FullDiskIsToldToEveryCallerAndEndsWhenThereIsRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(t *testing.T, s *Store) (makeRoom func())
		want int // SQLite's code
	}{
		{"WhileWriting", fillPages, sqlite3.SQLITE_FULL},
		{"AtCommit", limitFiles, sqlite3.SQLITE_IOERR_WRITE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := open(t)
			before := storetest.NewRequest("before.example.net")
			if err := s.Save(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			requests := make([]restart.Request, 300)
			for i := range requests {
				requests[i] = storetest.NewRequest("a.example.net")
				requests[i].Raw = make([]byte, 8<<10)
			}
			makeRoom := tt.fill(t, s)
			refused := saveAll(t, s, requests)
			if refused == nil {
				t.Error("every Save succeeded on a full disk")
			}
			var e *sqlite.Error
			if !errors.As(refused, &e) || e.Code() != tt.want {
				t.Errorf("got error %v, want SQLite's code %d", refused, tt.want)
			}
			_, err := s.Finish(t.Context(), bigOutcome(before))
			if !errors.As(err, &e) || e.Code() != tt.want {
				t.Errorf("Finish: got error %v, want SQLite's code %d", err, tt.want)
			}
			if _, err := s.Outcome(t.Context(), before.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Outcome: got error %v, want %v", err, store.ErrNotFound)
			}

			makeRoom()
			if err := saveAll(t, s, requests); err != nil {
				t.Errorf("with room again: %v", err)
			}
			if got, want := len(ids(t, s)), len(requests)+1; got != want {
				t.Errorf("got %d requests, want %d", got, want)
			}
		})
	}
}

// saveAll saves at once, checks that what succeeded and nothing else is there, and returns the errors.
func saveAll(t *testing.T, s *Store, requests []restart.Request) error {
	t.Helper()
	errs := make([]error, len(requests))
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() { errs[i] = s.Save(t.Context(), r) })
	}
	all.Wait()
	stored := ids(t, s)
	for i, r := range requests {
		if saved := errs[i] == nil; saved != stored[r.ID.String()] {
			t.Errorf("request %s: Save returned %v, but stored is %t", r.ID, errs[i], !saved)
		}
	}
	return errors.Join(errs...)
}

func bigOutcome(r restart.Request) restart.Outcome {
	o := storetest.NewOutcome(r.ID, r.Host)
	o.Detail = strings.Repeat("x", 1<<20)
	return o
}

func fillPages(t *testing.T, s *Store) (makeRoom func()) {
	s.onWriter(t, fmt.Sprintf("max_page_count=%d", s.onWriter(t, "page_count")+20))
	return func() { s.onWriter(t, "max_page_count=1000000") }
}

func limitFiles(t *testing.T, s *Store) (makeRoom func()) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: 256 << 10, Max: old.Max})
	t.Cleanup(func() { set(old) })
	return func() { set(old) }
}

// One statement inserts many rows. What is wrong with one of them must not be the others' fate.
func TestWriter_WriteThatCannotBeDoneFailsAlone(t *testing.T) {
	s, _ := open(t)
	const length = 10_000
	if _, err := sqlite.Limit(s.writer.conn, sqlite3.SQLITE_LIMIT_LENGTH, length); err != nil {
		t.Fatal(err)
	}
	requests := make([]restart.Request, 300)
	for i := range requests {
		requests[i] = storetest.NewRequest("a.example.net")
	}
	want := make(map[int]error)
	for _, i := range []int{0, 70, 299} {
		requests[i].Raw = make([]byte, 2*length)
		want[i] = errTooBig
	}
	for _, i := range []int{71, 150, 298} {
		requests[i].ID, requests[i].Host = requests[i-20].ID, "b.example.net"
		want[i] = store.ErrIDReused
	}
	for _, i := range []int{72, 151, 297} { // again, by the same host
		requests[i].ID = requests[i-20].ID
	}
	batch := make([]*groupcommit.Op[write], len(requests))
	for i, r := range requests {
		batch[i] = newOp(r)
	}
	s.writer.commit(batch)
	stored := ids(t, s)
	for i, op := range batch {
		if !errors.Is(op.Err, want[i]) && !(want[i] == errTooBig && isTooBig(op.Err)) {
			t.Errorf("write %d: got error %v, want %v", i, op.Err, want[i])
		}
		if id := requests[i].ID.String(); want[i] == nil && !stored[id] {
			t.Errorf("write %d: %s is not stored", i, id)
		}
	}
	if len(stored) != 300-9 {
		t.Errorf("got %d requests, want 291", len(stored))
	}
}

var errTooBig = errors.New("string or blob too big")

func isTooBig(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_TOOBIG
}

// In a batch that was rolled back, "the id is another's" is a lie about a row that is not there; it would send the
// message to the dead letters for good.
func TestWriter_NoAnswerOfABatchThatWasRolledBackCounts(t *testing.T) {
	s, _ := open(t)
	first := storetest.NewRequest("a.example.net")
	reused := first
	reused.Host = "b.example.net"
	huge := storetest.NewRequest("a.example.net")
	huge.Raw = make([]byte, 1<<20)
	fillPages(t, s)
	batch := []*groupcommit.Op[write]{newOp(first), newOp(reused), newOp(huge)}
	s.writer.commit(batch)
	for i, op := range batch {
		var e *sqlite.Error
		if err := op.Err; !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_FULL {
			t.Errorf("write %d: got error %v, want a full disk", i, err)
		}
	}
	if err := s.Save(t.Context(), reused); err != nil {
		t.Errorf("Save of the second host, where the first was not stored: %v", err)
	}
}

// Not every failure makes SQLite roll back by itself. A transaction left open would keep all later ones out.
func TestWriter_BatchThatFailedIsUndoneAndTheNextBegins(t *testing.T) {
	s, _ := open(t)
	first := newOp(storetest.NewRequest("a.example.net"))
	broken := errors.New("broken")
	failing := newOp(storetest.NewRequest("a.example.net"))
	failing.Write = &insertion{
		into:    requestsTable,
		row:     first.Write.(*insertion).row, // so that it is compared
		compare: func(context.Context, *statements) error { return broken },
	}
	batch := []*groupcommit.Op[write]{first, failing}
	s.writer.commit(batch)
	for i, op := range batch {
		if err := op.Err; !errors.Is(err, broken) {
			t.Errorf("write %d: got error %v, want %v", i, err, broken)
		}
	}
	next := storetest.NewRequest("a.example.net")
	if err := s.Save(t.Context(), next); err != nil {
		t.Errorf("the next batch: %v", err)
	}
	if stored := ids(t, s); len(stored) != 1 || !stored[next.ID.String()] {
		t.Errorf("got %v, want %s alone", stored, next.ID)
	}
}

func TestStore_LockHeldTooLongByAnotherProcessIsAnErrorAndNotForEver(t *testing.T) {
	s, path := open(t)
	s.onWriter(t, "busy_timeout=20")
	unlock := lockOut(t, path)
	r := storetest.NewRequest("a.example.net")
	var e *sqlite.Error
	if err := s.Save(t.Context(), r); !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_BUSY {
		t.Errorf("got error %v, want SQLite's busy", err)
	}
	unlock()
	if err := s.Save(t.Context(), r); err != nil {
		t.Errorf("when the lock was gone: %v", err)
	}
}

// lockOut takes the write lock as another process may.
func lockOut(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { db.Close() })
}
