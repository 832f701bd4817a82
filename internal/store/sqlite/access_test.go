package sqlite_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/pressly/goose/v3"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func mustOpenAs(t *testing.T, access store.Access, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Access: access})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustSave(t *testing.T, s store.Store) restart.Request {
	t.Helper()
	r := storetest.NewRequest("a.example.net")
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReader_SeesAtOnceWhatTheWorkerWasToldIsDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	worker := mustOpen(t, path)
	reader := mustOpenAs(t, store.Reader, path)
	if got, want := reader.Identity(), worker.Identity(); got != want {
		t.Errorf("got identity %s, want %s", got, want)
	}
	for range 20 {
		want := mustSave(t, worker)
		got, err := reader.Request(t.Context(), want.ID)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("error %v, request (-want +got):\n%s", err, diff)
		}
	}
}

func TestReader_NeitherWaitsForAWriterNorKeepsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	worker := mustOpen(t, path)
	mustSave(t, worker)
	db := mustOpenRaw(t, path)
	db.SetMaxOpenConns(1)
	mustExec(t, db, "BEGIN IMMEDIATE")
	reader := mustOpenAs(t, store.Reader, path)
	for _, err := range reader.History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Error(err)
		}
		mustExec(t, db, "ROLLBACK")
		mustSave(t, worker) // while the reader is in the middle
	}
}

func TestReader_WritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	worker := mustOpen(t, path)
	want := mustSave(t, worker)
	reader := mustOpenAs(t, store.Reader, path)
	r := storetest.NewRequest("a.example.net")
	_, finish := reader.Finish(t.Context(), storetest.NewOutcome(want.ID, want.Host))
	_, forget := reader.Forget(t.Context(), time.Now(), 10)
	for name, err := range map[string]error{
		"Save":      reader.Save(t.Context(), r),
		"Finish":    finish,
		"Attempted": reader.Attempted(t.Context(), restart.Attempt{Request: want.ID, Number: 1}),
		"Forget":    forget,
	} {
		if err == nil || !strings.Contains(err.Error(), "reading only") {
			t.Errorf("%s: got error %v, want a refusal", name, err)
		}
	}
	var got []store.Entry
	for e, err := range worker.History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if diff := cmp.Diff([]store.Entry{{Request: want}}, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func TestOpen_OnlyAWorkerCreatesAndMigrates(t *testing.T) {
	for name, access := range map[string]store.Access{"Reader": store.Reader, "Mender": store.Mender} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "mandrill.db")
			mustNotOpenAs(t, access, path, "file does not exist")
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("error %v, got files %v, want none", err, entries)
			}

			mustWrite(t, path, nil)
			mustNotOpenAs(t, access, path, "version 0")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}

			mustMigrateTo(t, path, 1)
			mustNotOpenAs(t, access, path, "version 1", "version 4", "start a worker")
			db := mustOpenRaw(t, path)
			var version int
			if err := db.QueryRow("SELECT max(version_id) FROM goose_db_version").Scan(&version); err != nil || version != 1 {
				t.Errorf("got version %d, error %v, want 1", version, err)
			}
			mustExec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9, 1)")
			mustNotOpenAs(t, access, path, "version 9", "newer program")
			mustNotOpenAs(t, access, filepath.Dir(path), "not a regular file")
		})
	}
	t.Run("Unknown", func(t *testing.T) { mustNotOpenAs(t, -1, filepath.Join(t.TempDir(), "mandrill.db"), "access -1") })
}

func mustNotOpenAs(t *testing.T, access store.Access, path string, want ...string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Access: access})
	if err == nil {
		s.Close()
		t.Fatal("Open succeeded")
	}
	for _, want := range append(want, path) {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want %q in it", err, want)
		}
	}
}

// mustMigrateTo makes a database as an older program left it.
func mustMigrateTo(t *testing.T, path string, version int64) {
	t.Helper()
	db := mustOpenRaw(t, path)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// The requests of years are what the program was for. A new version must find them all, by the new questions too.
func TestOpen_MigrationKeepsWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	mustMigrateTo(t, path, 1)
	db := mustOpenRaw(t, path)
	r := storetest.NewRequest("a.example.net")
	mustExec(t, db, `INSERT INTO requests VALUES (1, ?, ?, ?, ?, '', '', ?, ?, '', '', '', 0, ?, 0)`,
		r.ID, r.Instance, string(r.Host), string(r.Group), r.RequestedAt.UnixMicro(), r.NotAfter.UnixMicro(), r.Raw)
	want := storetest.NewOutcome(r.ID, r.Host)
	orphan := storetest.NewOutcome(uuid.New(), r.Host)
	orphan.Receipt.RequestedAt = orphan.At // what is nearest to what nobody knows
	for _, o := range []*restart.Outcome{&want, &orphan} {
		o.Receipt.Down, o.Receipt.Checks = 0, nil // which no database had
		mustExec(t, db, `INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, o.ID, string(o.Host),
			string(o.Group), string(o.Kind), string(o.Reason), o.Detail, o.At.UnixMicro(), o.Receipt.RequestedBy,
			o.Receipt.Worker, o.Receipt.Attempt, string(o.Receipt.From), string(o.Receipt.To),
			o.Receipt.TriggeredAt.UnixMicro(), o.Receipt.VerifiedAt.UnixMicro())
	}
	db.Close()

	s := mustOpen(t, path)
	for _, filter := range []store.Filter{{}, {Kind: want.Kind}, {Kind: want.Kind, Since: r.RequestedAt}} {
		for e, err := range s.History(t.Context(), filter) {
			if diff := cmp.Diff(store.Entry{Request: r, Outcome: want}, e); err != nil || diff != "" {
				t.Errorf("filter %+v: error %v, entry (-want +got):\n%s", filter, err, diff)
			}
		}
	}
	if got, err := s.Outcome(t.Context(), orphan.ID); err != nil || !cmp.Equal(got, orphan) {
		t.Errorf("got %+v, error %v, want %+v", got, err, orphan)
	}
	if got, err := s.Attempts(t.Context(), r.ID); err != nil || len(got) != 1 || got[0].Worker != want.Receipt.Worker {
		t.Errorf("got attempts %+v, error %v, want the one of the outcome", got, err)
	}
}

// What nobody kept must read as not known, and not as an error; and what comes after it is kept.
func TestOpen_MigrationKeepsOutcomesWithoutDownAndChecks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	mustMigrateTo(t, path, 2)
	db := mustOpenRaw(t, path)
	old, later := storetest.NewRequest("a.example.net"), storetest.NewRequest("b.example.net")
	want := storetest.NewOutcome(old.ID, old.Host)
	want.Receipt.Down, want.Receipt.Checks = 0, nil
	mustExec(t, db, `INSERT INTO requests VALUES (1, ?, ?, ?, ?, '', '', ?, ?, '', '', '', 0, ?, 0)`,
		old.ID, old.Instance, string(old.Host), string(old.Group), old.RequestedAt.UnixMicro(), old.NotAfter.UnixMicro(),
		old.Raw)
	mustExec(t, db, `INSERT INTO outcomes (id, host, grp, kind, reason, detail, at, requested_by, requested_at, worker,
			attempt, from_epoch, to_epoch, triggered_at, verified_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, want.ID, string(want.Host), string(want.Group),
		string(want.Kind), string(want.Reason), want.Detail, want.At.UnixMicro(), want.Receipt.RequestedBy,
		want.Receipt.RequestedAt.UnixMicro(), want.Receipt.Worker, want.Receipt.Attempt, string(want.Receipt.From),
		string(want.Receipt.To), want.Receipt.TriggeredAt.UnixMicro(), want.Receipt.VerifiedAt.UnixMicro())
	db.Close()

	s := mustOpen(t, path)
	if got, err := s.Finish(t.Context(), storetest.NewOutcome(old.ID, old.Host)); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Finish again: error %v, outcome (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	if err := s.Save(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	added := storetest.NewOutcome(later.ID, later.Host)
	if _, err := s.Finish(t.Context(), added); err != nil {
		t.Fatal(err)
	}
	for _, want := range []store.Entry{{Request: old, Outcome: want}, {Request: later, Outcome: added}} {
		if got, err := s.Outcome(t.Context(), want.Request.ID); err != nil || !cmp.Equal(got, want.Outcome) {
			t.Errorf("Outcome: error %v, outcome (-want +got):\n%s", err, cmp.Diff(want.Outcome, got))
		}
		n := 0
		for got, err := range s.History(t.Context(), store.Filter{Host: want.Request.Host}) {
			if err != nil || !cmp.Equal(got, want) {
				t.Errorf("History: error %v, entry (-want +got):\n%s", err, cmp.Diff(want, got))
			}
			n++
		}
		if n != 1 {
			t.Errorf("History of %s: got %d entries, want 1", want.Request.Host, n)
		}
	}
}

// Rows outlive the program that wrote them, and people ask for them in SQL.
func TestStore_DownIsMicrosecondsAndChecksAreJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s, db := mustOpen(t, path), mustOpenRaw(t, path)
	const known = `2750000 [{"check":"epoch","result":"42, was 41"},{"check":"ready","result":"yes"}]`
	for want, receipt := range map[string]restart.Receipt{
		known:       storetest.NewOutcome(uuid.Nil, "").Receipt,
		"null null": {Checks: []restart.Check{}},
	} {
		id := uuid.New()
		if _, err := s.Finish(t.Context(), restart.Outcome{ID: id, Receipt: receipt}); err != nil {
			t.Fatal(err)
		}
		var got string
		const query = "SELECT coalesce(down, 'null') || ' ' || coalesce(checks, 'null') FROM outcomes WHERE id = ?"
		if err := db.QueryRow(query, id).Scan(&got); err != nil || got != want {
			t.Errorf("got %s, error %v, want %s", got, err, want)
		}
	}
}

// A database that was copied for an inquiry lies where nothing may be written, with or without what lay beside it.
func TestReader_ReadsACopyInAReadOnlyFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s := mustOpen(t, path)
	first := mustSave(t, s).ID
	if err := s.Close(); err != nil { // moves it from the log
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	inLog := mustSave(t, s).ID
	for _, tt := range []struct {
		name     string
		suffixes []string
		want     []uuid.UUID
	}{
		{"FileAlone", []string{""}, []uuid.UUID{first}},
		{"WithLog", []string{"", "-wal"}, []uuid.UUID{first, inLog}},
		{"WithLogAndItsIndex", []string{"", "-wal", "-shm"}, []uuid.UUID{first, inLog}},
		{"WithIndexAlone", []string{"", "-shm"}, []uuid.UUID{first}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := readOnlyCopy(t, path, tt.suffixes)
			copied := filepath.Join(dir, filepath.Base(path))
			before := listing(t, dir)
			out, err := childCommand(t, "reader", copied).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var want []string
			for _, id := range tt.want {
				want = append(want, id.String())
			}
			got := strings.Fields(string(out))
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
				t.Errorf("files (-before +after):\n%s", diff)
			}
		})
	}
}

func readOnlyCopy(t *testing.T, path string, suffixes []string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, suffix := range suffixes {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)+suffix), data, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{filepath.Dir(dir): 0o755, dir: 0o555} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	return dir
}

func listing(t *testing.T, dir string) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%s %s %d", info.Name(), info.Mode(), info.Size()))
	}
	return files
}

func TestMender_WritesBesideAWorkerAndLearnsWhatStands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	worker := mustOpen(t, path)
	mender := mustOpenAs(t, store.Mender, path)
	const n = 200
	errs := make([]error, 2*n)
	var all sync.WaitGroup
	for i := range errs {
		s := []store.Store{worker, mender}[i%2]
		all.Go(func() { errs[i] = s.Save(t.Context(), storetest.NewRequest("a.example.net")) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, err := range worker.History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != len(errs) {
		t.Errorf("got %d requests, want %d", count, len(errs))
	}

	want := storetest.NewOutcome(uuid.New(), "a.example.net")
	if _, err := worker.Finish(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	late := want
	late.Kind, late.Reason = restart.Unknown, restart.ReasonRepaired
	if got, err := mender.Finish(t.Context(), late); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
}

// Whoever mends must not keep the worker out, in whatever order they come.
func TestMender_TakesNoLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	closedDatabase(t, path)
	mender := mustOpenAs(t, store.Mender, path)
	worker := mustOpen(t, path)
	mustSave(t, mender)
	mustSave(t, worker)
	if err := worker.Close(); err != nil {
		t.Fatal(err)
	}
	mustSave(t, mender)
}
