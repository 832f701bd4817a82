package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestStore_KeepsTheContract(t *testing.T) {
	server := shared.Server(t)
	storetest.Run(t, func(t *testing.T) storetest.Database {
		url := server.NewDatabase(t)
		return storetest.Database{
			Open:   func(t *testing.T) store.Store { return mustOpen(t, url) },
			Stall:  func(t *testing.T) func() { return lockOut(t, url) },
			Break:  func(t *testing.T) func() { return shutOut(t, server, url) },
			Second: func(t *testing.T) store.Store { return mustOpen(t, url) },
		}
	})
}

// mustOpen opens a store that the caller closes; to close it again is harmless.
func mustOpen(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// lockOut locks the tables as a person's shell may, so that writes wait.
func lockOut(t testing.TB, url string) (release func()) {
	t.Helper()
	ctx := context.Background()
	conn := mustConnect(t, url)
	if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE requests, outcomes, earlier_attempts IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// shutOut ends all connections to a database, and lets nobody in.
func shutOut(t testing.TB, server *postgrestest.Server, url string) (mend func()) {
	t.Helper()
	allow := func(allowed bool) {
		t.Helper()
		mustExec(t, server.URL("postgres"), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", name(t, url), allowed))
	}
	allow(false)
	mustExec(t, server.URL("postgres"), fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", name(t, url)))
	return func() {
		t.Helper()
		allow(true)
	}
}

// mustConnect connects as a shell would.
func mustConnect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func mustExec(t testing.TB, url, sql string) {
	t.Helper()
	postgrestest.Exec(t, url, sql)
}

func queryText(t testing.TB, url, query string) (text string) {
	t.Helper()
	conn := mustConnect(t, url)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), query).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}

// terminateAll ends all other connections to a database.
func terminateAll(t testing.TB, url string) {
	t.Helper()
	mustExec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
}

// eventually calls try until it succeeds: nobody says when a server has noticed something.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 20 s: %v", what, err)
		}
	}
}
