package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestStore_KeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		path := filepath.Join(t.TempDir(), "mandrill.db")
		return storetest.Database{
			Open:  func(t *testing.T) store.Store { return mustOpen(t, path) },
			Stall: func(t *testing.T) func() { return lockOut(t, path) },
		}
	})
}

// mustOpen opens a store that the caller closes; to close it again is harmless.
func mustOpen(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// lockOut locks the database as another process may, so that writes wait.
func lockOut(t *testing.T, path string) (release func()) {
	t.Helper()
	db := mustOpenRaw(t, path)
	db.SetMaxOpenConns(1)
	mustExec(t, db, "BEGIN IMMEDIATE")
	return func() {
		t.Helper()
		mustExec(t, db, "ROLLBACK")
		db.Close()
	}
}

// mustOpenRaw opens a database as a shell would.
func mustOpenRaw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
