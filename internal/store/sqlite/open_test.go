package sqlite_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestOpen_RefusesWhatIsNoDatabaseAndNamesIt(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setUp func(t *testing.T, path string)
		want  string // in the error, besides the path
	}{
		{"Garbage", func(t *testing.T, path string) {
			mustWrite(t, path, bytes.Repeat([]byte("not a database\n"), 1000))
		}, "not a database"},
		{"Truncated", func(t *testing.T, path string) {
			closedDatabase(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, path, data[:len(data)/2])
		}, "malformed"},
		{"Directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"FolderMissing", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, "no such file or directory"},
		{"SchemaOfANewerProgram", func(t *testing.T, path string) {
			closedDatabase(t, path)
			mustExec(t, mustOpenRaw(t, path), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9, 1)")
		}, "version 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mandrill.db")
			tt.setUp(t, path)
			for range 2 { // a refusal must leave no lock behind that makes the next one say something else
				mustNotOpen(t, path, tt.want)
			}
		})
	}
	t.Run("NoPath", func(t *testing.T) { mustNotOpen(t, "", "path is empty") })
}

func mustNotOpen(t *testing.T, path, want string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		s.Close()
		t.Fatal("Open succeeded")
	}
	for _, want := range []string{path, want} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want %q in it", err, want)
		}
	}
}

// A file that cannot be written opens all the same, for SQLite: the first request would find out.
func TestOpen_RefusesWhatCannotBeWrittenAndNamesIt(t *testing.T) {
	for _, tt := range []struct {
		name         string
		folder, file fs.FileMode
		want         string
	}{
		{"File", 0o777, 0o444, "readonly"},
		{"Folder", 0o555, 0o666, "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "mandrill.db")
			closedDatabase(t, path)
			if err := os.Remove(path + ".lock"); err != nil {
				t.Fatal(err)
			}
			for name, mode := range map[string]fs.FileMode{filepath.Dir(dir): 0o755, dir: tt.folder, path: tt.file} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
			out, err := childCommand(t, "nobody", path).Output()
			if err == nil {
				t.Fatal("Open succeeded")
			}
			for _, want := range []string{path, tt.want} {
				if !strings.Contains(string(out), want) {
					t.Errorf("got error %q, want %q in it", out, want)
				}
			}
		})
	}
}

func TestOpen_SecondWriterIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s := mustOpen(t, path)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	const want = "another worker has it open"
	mustNotOpen(t, path, want)
	mustNotOpen(t, link, want)
	if out, err := childCommand(t, "open", path).Output(); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("other process: got %q, error %v, want %q", out, err, want)
	}
	if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
		t.Errorf("the first store was hurt: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := childCommand(t, "open", path).Output(); err != nil {
		t.Errorf("after Close: %s, error %v", out, err)
	}
}

// Whoever looks at the history must not wait for the worker, nor the worker for them.
func TestStore_OthersMayReadWhileItIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s := mustOpen(t, path)
	save := func() {
		t.Helper()
		if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
			t.Fatal(err)
		}
	}
	save()
	reading, err := mustOpenRaw(t, "file:"+path+"?mode=ro").Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Rollback()
	for range 2 {
		var n int
		if err := reading.QueryRow("SELECT count(*) FROM requests").Scan(&n); err != nil || n != 1 {
			t.Errorf("got %d requests, error %v, want 1", n, err)
		}
		save()
	}
}

func TestOpen_FilesAreTheirOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s := mustOpen(t, path)
	if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mandrill.db%s: got mode %o, want 600", suffix, got)
		}
	}
}

func TestOpen_PathIsTakenAsItStands(t *testing.T) {
	for _, name := range []string{"a?mode=memory", "50%20 #1 & co.db", ":memory:", "käse\".db"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			closedDatabase(t, path)
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				t.Errorf("got %v, error %v, want the database at %q", info, err, path)
			}
		})
	}
}

// A connection that SQLite could not close would keep the log beside the database, and the files open, for ever.
func TestStore_CloseLeavesOneFileAndTheLock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, filepath.Join(dir, "mandrill.db"))
	if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
		t.Fatal(err)
	}
	for range s.History(t.Context(), store.Filter{}) {
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if diff := cmp.Diff([]string{"mandrill.db", "mandrill.db.lock"}, names); err != nil || diff != "" {
		t.Errorf("error %v, files (-want +got):\n%s", err, diff)
	}
}

func closedDatabase(t testing.TB, path string) {
	t.Helper()
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
}

func mustWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
