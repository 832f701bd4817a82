package sqlite

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// M23, M24. The second store is a mender, because there is no second worker.
func TestStore_KeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		path := filepath.Join(t.TempDir(), "mandrill.db")
		var s *Store
		return storetest.Database{
			Open: func(t *testing.T) store.Store {
				s = mustOpenAs(t, store.Worker, path)
				return s
			},
			Stall:  func(t *testing.T) func() { return lockOut(t, path) },
			Break:  func(t *testing.T) func() { return fillPages(t, s) },
			Second: func(t *testing.T) store.Store { return mustOpenAs(t, store.Mender, path) },
		}
	})
}

// A commit that fails takes everybody's write with it. Those who ask again must find it done once.
func TestStore_KeepsTheContractUnderWriteFaults(t *testing.T) {
	var faults atomic.Int64
	storetest.Run(t, func(t *testing.T) storetest.Database {
		path := filepath.Join(t.TempDir(), "mandrill.db")
		return storetest.Database{
			Open: func(t *testing.T) store.Store {
				s := mustOpenAs(t, store.Worker, path)
				s.onCommit(t, func() (fail bool) {
					if fail = rand.IntN(3) == 0; fail {
						faults.Add(1)
					}
					return fail
				})
				return storetest.Stubborn{Store: s, Passes: isCommitRefused}
			},
			Stall: func(t *testing.T) func() { return lockOut(t, path) },
		}
	})
	if n := faults.Load(); n == 0 && !t.Failed() {
		t.Error("no commit failed")
	} else {
		t.Logf("%d commits failed", n)
	}
}

func mustOpenAs(t *testing.T, access store.Access, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path, Access: access})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// onCommit has hook called at each commit, which it can have fail.
func (s *Store) onCommit(t *testing.T, hook func() (fail bool)) {
	t.Helper()
	err := s.writer.conn.Raw(func(c any) error {
		c.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			if hook() {
				return 1
			}
			return 0
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isCommitRefused(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_COMMITHOOK
}
