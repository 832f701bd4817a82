// Package sqlite keeps requests and outcomes in one SQLite file, for one worker.
//
// What a method has returned is on the disk (write-ahead log, synchronous=FULL). One goroutine writes: it takes
// whatever is waiting into one transaction, so that a thousand callers share the price of one sync, and a single
// caller waits for nobody. A lock beside the file keeps a second writer out, while any process may read.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	_ "modernc.org/sqlite" // the driver

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// errClosed is what comes after Close.
var errClosed = errors.New("the store is closed")

const (
	// busyTimeout is how long a write waits for another process that has locked the database, as a person's shell may.
	busyTimeout = 5 * time.Second

	maxReaders = 4
)

// Config is what Open needs.
type Config struct {
	Path   string           // of the database, which is created if absent; its folder must exist
	Logger zerolog.Logger   // the zero value is silent
	Now    func() time.Time // nil means time.Now
}

// A Store is an open database.
type Store struct {
	identity uuid.UUID
	now      func() time.Time
	lock     *os.File
	writes   *sql.DB // has one connection, which the writer keeps
	reads    *sql.DB
	writer   *writer
	close    func() error
}

var _ store.Store = (*Store)(nil)

// Open opens the database, brings its schema up to date, and starts the goroutine that writes, which Close ends. It
// refuses a database whose schema is newer than this program's, and one that another Store has open.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.close = sync.OnceValue(s.release)
	if err := s.open(ctx, cfg); err != nil {
		return nil, fmt.Errorf("cannot open database %q: %w", cfg.Path, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, cfg Config) error {
	path, err := resolve(cfg.Path)
	if err != nil {
		return err
	}
	// The lock comes before anything touches the database: where another Store of this process has it open, opening
	// and closing the file once more would take SQLite's own locks away from under that one.
	if s.lock, err = acquire(path + ".lock"); err != nil {
		return err
	}
	if err := create(path); err != nil {
		return err
	}
	if s.writes, err = sql.Open("sqlite", dsn(path, "_journal_mode=WAL", "_synchronous=FULL")); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writes, cfg.Logger); err != nil {
		return err
	}
	if s.identity, err = identify(ctx, s.writes); err != nil {
		return err
	}
	if s.reads, err = sql.Open("sqlite", dsn(path, "_query_only=1")); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(maxReaders)
	s.reads.SetMaxIdleConns(maxReaders)
	s.writer, err = startWriter(ctx, s.writes)
	return err
}

// Identity tells this database from every other. It is made when the database is, and never changes.
func (s *Store) Identity() uuid.UUID { return s.identity }

// Close implements store.Store.
func (s *Store) Close() error { return s.close() }

// release lets go of what open took, as far as it came.
func (s *Store) release() error {
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.stop())
	}
	if s.reads != nil {
		errs = append(errs, s.reads.Close())
	}
	if s.writes != nil {
		errs = append(errs, s.writes.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// resolve returns the one name of the file at path, so that two links to it do not mean two locks.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("path is empty")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return abs, nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("is not a regular file (%s)", info.Mode().Type())
	}
	return file, nil
}

// create makes an empty database that only its owner can read. SQLite gives the files beside it the same mode.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn escapes the path, in which '?', '#' and '%' would mean something else.
func dsn(path string, params ...string) string {
	s := fmt.Sprintf("file:%s?_busy_timeout=%d&_dqs=0&_error_rc=1", (&url.URL{Path: path}).EscapedPath(),
		busyTimeout.Milliseconds())
	for _, p := range params {
		s += "&" + p
	}
	return s
}
