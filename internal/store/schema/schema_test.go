package schema_test

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"

	"github.com/mayhem-mandrill/mandrill/internal/store/schema"
)

func versions(n int) fs.FS {
	files := fstest.MapFS{}
	for _, name := range []string{"1_a", "2_b", "3_c"}[:n] {
		files[name+".sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE " + name[2:] + " (x INTEGER);\n")}
	}
	return files
}

func newDatabase(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func of(db *sql.DB, n int) schema.Schema {
	return schema.Schema{Dialect: goose.DialectSQLite3, DB: db, Migrations: versions(n)}
}

func tables(t *testing.T, db *sql.DB) (names string) {
	t.Helper()
	const query = "SELECT coalesce(group_concat(name, ' ' ORDER BY name), '') FROM sqlite_master WHERE type = 'table' AND length(name) = 1"
	if err := db.QueryRow(query).Scan(&names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMigrate_GoesOnWhereTheLastProgramLeftIt(t *testing.T) {
	db := newDatabase(t)
	for n, want := range []string{1: "a", 2: "a b", 3: "a b c"} {
		if n == 0 {
			continue
		}
		for range 2 {
			if err := of(db, n).Migrate(t.Context()); err != nil {
				t.Fatalf("version %d: %v", n, err)
			}
		}
		if got := tables(t, db); got != want {
			t.Errorf("version %d: got tables %q, want %q", n, got, want)
		}
	}
}

// An old program on new tables would write rows that lack what the new one relies on.
func TestMigrate_RefusesWhatIsNewer(t *testing.T) {
	db := newDatabase(t)
	if err := of(db, 3).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = "its schema has version 3, this program knows only version 2; use a newer program"
	for name, err := range map[string]error{
		"Migrate": of(db, 2).Migrate(t.Context()),
		"Check":   of(db, 2).Check(t.Context()),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", name, err, want)
		}
	}
}

func TestCheck_TakesItsOwnVersionAndChangesNothing(t *testing.T) {
	db := newDatabase(t)
	check := func(want string) {
		t.Helper()
		err := of(db, 2).Check(t.Context())
		if err == nil && want != "" || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	check("version 0, this program needs version 2; start a worker")
	var n int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&n); err != nil || n != 0 {
		t.Errorf("got %d tables after Check, error %v, want none", n, err)
	}
	if err := of(db, 1).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("version 1, this program needs version 2; start a worker")
	if err := of(db, 2).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := of(db, 2).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMigrate_ThatFailsLeavesTheVersionBefore(t *testing.T) {
	db := newDatabase(t)
	bad := of(db, 2)
	bad.Migrations.(fstest.MapFS)["2_b.sql"].Data = []byte("-- +goose Up\nCREATE TABLE b (x);\nCREATE TABLE a (x);\n")
	err := bad.Migrate(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot migrate schema from version 0 to 2") {
		t.Errorf("got error %v, want both versions", err)
	}
	if got := tables(t, db); got != "a" {
		t.Errorf("got tables %q, want a", got)
	}
	if err := of(db, 2).Migrate(t.Context()); err != nil {
		t.Errorf("when it is mended: %v", err)
	}
}
