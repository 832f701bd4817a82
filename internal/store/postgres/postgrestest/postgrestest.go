// Package postgrestest runs a PostgreSQL server for tests: private, on loopback, as durable as a real one, and gone
// when the test is, however that ends.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	user     = "mandrill"
	password = "a secret" // which no error may tell

	// patience bounds how long a server may take to start or to stop.
	patience = 30 * time.Second
)

// A Server is one PostgreSQL server with its data. Its methods are called from one goroutine at a time.
type Server struct {
	install   installation
	dir       string // of everything that it writes
	port      int
	process   *process // nil: stopped
	databases int
}

// Start starts a server that the end of the test stops. Where PostgreSQL is not installed the test is skipped, or fails
// if the environment has MANDRILL_TEST_ALL=1.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := mustCreate(tb)
	tb.Cleanup(func() {
		if err := s.remove(); err != nil {
			tb.Errorf("cannot remove PostgreSQL: %v", err)
		}
	})
	return s
}

func mustCreate(tb testing.TB) *Server {
	tb.Helper()
	install, err := find()
	if err != nil && os.Getenv("MANDRILL_TEST_ALL") != "1" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	s, err := create(install)
	if err != nil {
		tb.Fatalf("cannot start PostgreSQL: %v", err)
	}
	return s
}

// Address is where the server listens, or would if it ran.
func (s *Server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URL is that of one of the server's databases, its owner's password included.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: s.Address(), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// NewDatabase makes an empty database. It lives as long as the server's data.
func (s *Server) NewDatabase(tb testing.TB) (url string) {
	tb.Helper()
	s.databases++
	name := fmt.Sprintf("test_%d", s.databases)
	Exec(tb, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// Stop ends all connections, and the server in good order.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if err := s.stop(); err != nil {
		tb.Fatalf("cannot stop PostgreSQL: %v", err)
	}
}

// Kill kills every process of the server at once. What it had not written down is lost, as when a machine dies, except
// that the kernel still has what it was given.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.kill(); err != nil {
		tb.Fatalf("cannot kill PostgreSQL: %v", err)
	}
}

// StartAgain starts the server where it was, after Stop or Kill, and returns when it takes connections.
func (s *Server) StartAgain(tb testing.TB) {
	tb.Helper()
	if err := s.start(); err != nil {
		tb.Fatalf("cannot start PostgreSQL again: %v", err)
	}
}

// Exec executes statements, as a shell would.
func Exec(tb testing.TB, url, sql string) {
	tb.Helper()
	if err := execute(url, sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func execute(url, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}
