package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

const secret = "tell-nobody"

// Errors go to logs, terminals and chat: one that tells the password has given it away.
func TestOpen_ErrorsSayWhereAndWhyAndTellNoSecret(t *testing.T) {
	server := shared.Server(t)
	database := server.NewDatabase(t)
	change := func(f func(*url.URL)) string {
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		f(u)
		return u.String()
	}
	withSecret := func(f func(*url.URL)) string {
		return change(func(u *url.URL) {
			u.User = url.UserPassword("mandrill", secret)
			f(u)
		})
	}
	for _, tt := range []struct {
		name, url string
		want      []string
	}{
		{"WrongPassword", withSecret(func(*url.URL) {}), []string{server.Address(), "password authentication failed"}},
		{"WrongPasswordInTheQuery", change(func(u *url.URL) {
			u.User = url.User("mandrill")
			u.RawQuery += "&password=" + secret
		}), []string{server.Address(), "password authentication failed"}},
		{"NobodyListens", withSecret(func(u *url.URL) { u.Host = "127.0.0.1:1" }), []string{"127.0.0.1:1", "connection refused"}},
		{"NoSuchHost", withSecret(func(u *url.URL) { u.Host = "db.invalid" }), []string{"db.invalid:5432"}},
		{"NoSuchDatabase", change(func(u *url.URL) { u.Path = "/nothing" }), []string{server.Address(), `database "nothing" does not exist`}},
		{"UnknownParameter", change(func(u *url.URL) { u.RawQuery += "&colour=red" }), []string{server.Address(), `"colour"`}},
		{"BadParameter", withSecret(func(u *url.URL) { u.RawQuery = "sslmode=maybe" }), []string{"sslmode is invalid"}},
		{"BadParameterBesideASecretOne", withSecret(func(u *url.URL) { u.RawQuery = "sslmode=maybe&sslpassword=" + secret }), []string{"sslmode is invalid"}},
		{"PasswordWithAHash", "postgres://mandrill:#" + secret + "@127.0.0.1/x", []string{"%XX"}},
		{"PasswordWithASlash", "postgres://mandrill:1234/" + secret + "@127.0.0.1/x", []string{"%XX"}},
		{"PasswordWithAQuestionMark", "postgres://mandrill:12?" + secret + "@127.0.0.1/x", []string{"%XX"}},
		{"PasswordWithAPercent", "postgres://mandrill:%zz" + secret + "@127.0.0.1/x", []string{"%XX"}},
		{"Keywords", "host=127.0.0.1 password=" + secret, []string{"postgres://"}},
		{"AnotherScheme", "mysql://mandrill:" + secret + "@127.0.0.1/x", []string{"postgres://"}},
		{"Empty", "", []string{"postgres://"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := postgres.Open(t.Context(), postgres.Config{URL: tt.url, Timeout: 5 * time.Second})
			if err == nil {
				s.Close()
				t.Fatal("Open succeeded")
			}
			for _, want := range append(tt.want, "cannot open database") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got error %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\n\t") {
				t.Errorf("got error %q, want no secret and one line", err)
			}
		})
	}
}

// A server that confirms what it has not written would lose, at a power failure, requests whose messages are acked.
func TestOpen_RefusesAServerThatMayForget(t *testing.T) {
	server := shared.Server(t)
	for _, tt := range []struct{ name, setting, want string }{
		{"Off", "synchronous_commit = off", "synchronous_commit is off"},
		{"Local", "synchronous_commit = local", "synchronous_commit is local"},
		{"RemoteWrite", "synchronous_commit = remote_write", "synchronous_commit is remote_write"},
		{"ReadOnly", "default_transaction_read_only = on", "default_transaction_read_only is on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			database := server.NewDatabase(t)
			mustOpen(t, database).Close()
			mustExec(t, database, fmt.Sprintf("ALTER DATABASE %s SET %s", name(t, database), tt.setting))
			for _, access := range []store.Access{store.Worker, store.Mender} {
				mustNotOpen(t, postgres.Config{URL: database, Access: access}, tt.want, "set it to", server.Address(), name(t, database))
			}
			s, err := postgres.Open(t.Context(), postgres.Config{URL: database, Access: store.Reader})
			if err != nil {
				t.Fatalf("a reader was refused: %v", err)
			}
			s.Close()
		})
	}
	t.Run("InTheURL", func(t *testing.T) {
		database := server.NewDatabase(t)
		mustNotOpen(t, postgres.Config{URL: database + "&synchronous_commit=off"}, "synchronous_commit is off")
		s, err := postgres.Open(t.Context(), postgres.Config{URL: database + "&synchronous_commit=remote_apply"})
		if err != nil {
			t.Fatalf("more than enough was refused: %v", err)
		}
		s.Close()
	})
}

// The setting of a role may change while the worker runs.
func TestStore_ConnectionThatMayForgetIsRefusedLaterToo(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	set := func(value string) {
		mustExec(t, database, fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = %s", name(t, database), value))
		terminateAll(t, database)
	}
	set("off")
	eventually(t, "synchronous_commit is off", func() error {
		err := s.Save(t.Context(), storetest.NewRequest("a.example.net"))
		if err == nil {
			t.Fatal("Save succeeded on a connection that may forget")
		}
		if strings.Contains(err.Error(), "synchronous_commit is off") {
			return nil
		}
		return err
	})
	set("on")
	eventually(t, "Save", func() error { return s.Save(t.Context(), storetest.NewRequest("a.example.net")) })
}

func TestOpen_ServerThatDoesNotSyncOrIsAStandbyIsForReadersOnly(t *testing.T) {
	server := postgrestest.Start(t)
	database := server.NewDatabase(t)
	s := mustOpen(t, database)
	r := storetest.NewRequest("a.example.net")
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s.Close()
	refused := func(want string) {
		t.Helper()
		mustNotOpen(t, postgres.Config{URL: database}, want)
		mustNotOpen(t, postgres.Config{URL: database, Access: store.Mender}, want)
		reader, err := postgres.Open(t.Context(), postgres.Config{URL: database, Access: store.Reader})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if _, err := reader.Request(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
	mustExec(t, database, "ALTER SYSTEM SET fsync = off")
	restart := func() {
		server.Stop(t)
		server.StartAgain(t)
	}
	restart()
	refused("fsync is off")
	mustExec(t, database, "ALTER SYSTEM RESET fsync")
	mustExec(t, database, "COPY (SELECT) TO PROGRAM 'cat > standby.signal'") // in the server's folder
	restart()
	refused("is a standby")
}

func TestOpen_WorkersThatStartTogetherMakeOneSchema(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	const workers = 8
	ids := make([]uuid.UUID, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Config{URL: database})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			ids[i] = s.Identity()
			if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id == uuid.Nil || id != ids[0] {
			t.Errorf("got identities %v, want one", ids)
		}
	}
	if got := queryText(t, database, "SELECT string_agg(version_id::text, ' ' ORDER BY id) FROM goose_db_version"); got != "0 1 2 3" {
		t.Errorf("got versions %q, want 0 1 2 3", got)
	}
}

func TestOpen_RefusesASchemaThatIsNotItsOwn(t *testing.T) {
	server := shared.Server(t)
	t.Run("Newer", func(t *testing.T) {
		database := server.NewDatabase(t)
		mustOpen(t, database).Close()
		mustExec(t, database, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9, true)")
		for _, access := range []store.Access{store.Worker, store.Reader, store.Mender} {
			mustNotOpen(t, postgres.Config{URL: database, Access: access}, "version 9", "version 3", "use a newer program")
		}
	})
	t.Run("OlderAndNotAWorker", func(t *testing.T) {
		database := server.NewDatabase(t)
		mustMigrateTo(t, database, 1)
		for _, access := range []store.Access{store.Reader, store.Mender} {
			mustNotOpen(t, postgres.Config{URL: database, Access: access}, "version 1", "version 3", "start a worker")
		}
	})
	t.Run("EmptyAndNotAWorker", func(t *testing.T) {
		database := server.NewDatabase(t)
		for _, access := range []store.Access{store.Reader, store.Mender} {
			mustNotOpen(t, postgres.Config{URL: database, Access: access}, "version 0", "version 3", "start a worker")
		}
		if got := queryText(t, database, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
			t.Errorf("got %s tables, want none", got)
		}
	})
}

func TestOpen_ReaderReadsAndMenderWritesBesideAWorker(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	worker := mustOpen(t, database)
	r := storetest.NewRequest("a.example.net")
	if err := worker.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	open := func(access store.Access) *postgres.Store {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: database, Access: access})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	mender, reader := open(store.Mender), open(store.Reader)
	if _, err := mender.Finish(t.Context(), storetest.NewOutcome(r.ID, r.Host)); err != nil {
		t.Error(err)
	}
	if _, err := reader.Outcome(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if mender.Identity() != worker.Identity() || reader.Identity() != worker.Identity() {
		t.Error("one database has several identities")
	}
	_, finish := reader.Finish(t.Context(), storetest.NewOutcome(r.ID, r.Host))
	_, forget := reader.Forget(t.Context(), time.Now(), 1)
	for name, err := range map[string]error{
		"Save": reader.Save(t.Context(), r), "Finish": finish, "Forget": forget,
	} {
		if err == nil || !strings.Contains(err.Error(), "for reading only") {
			t.Errorf("%s of a reader: got error %v, want a refusal", name, err)
		}
	}
}

func TestOpen_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := postgres.Open(ctx, postgres.Config{URL: shared.Server(t).NewDatabase(t)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got store %v, error %v, want %v", s, err, context.Canceled)
	}
}

func mustNotOpen(t *testing.T, cfg postgres.Config, want ...string) {
	t.Helper()
	s, err := postgres.Open(t.Context(), cfg)
	if err == nil {
		s.Close()
		t.Fatal("Open succeeded")
	}
	for _, want := range want {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want %q in it", err, want)
		}
	}
}

// name returns the name of the database of a URL.
func name(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}
