// Package sqlite keeps requests and what came of them in one SQLite file, for one worker.
//
// What a method has returned is on the disk (write-ahead log, synchronous=FULL). One goroutine writes: it takes
// whatever is waiting into one transaction, so that a thousand callers share the price of one sync, and a single
// caller waits for nobody. A lock beside the file keeps a second worker out, while any process may read, and menders
// may write: their transactions and the worker's wait for each other.
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

// errReadOnly is what comes of writing to a database that was opened for reading.
var errReadOnly = errors.New("the database is open for reading only")

const (
	// busyTimeout is how long a write waits for another process that has locked the database, as a person's shell may.
	busyTimeout = 5 * time.Second

	maxReaders = 4

	// checkpointAfter is how many pages the log grows before they are moved to where they belong: a log of 32 MB. A page
	// that many commits have changed meanwhile is moved once, as those of the index by host are in a large fleet.
	checkpointAfter = 8000
)

// Config is what Open needs.
type Config struct {
	Path   string           // of the database, which a worker creates if absent; its folder must exist
	Access store.Access     // the zero value is a worker
	Logger zerolog.Logger   // the zero value is silent
	Now    func() time.Time // nil means time.Now
}

// A Store is an open database.
type Store struct {
	identity uuid.UUID
	now      func() time.Time
	lock     *os.File // of a worker
	reads    *sql.DB
	writes   *sql.DB // nil for a reader; has one connection, which the writer keeps
	writer   *writer
	close    func() error
}

var _ store.Store = (*Store)(nil)

// Open opens the database. For a worker it brings its schema up to date, and refuses one that another worker has open;
// for others it refuses a schema that is not this program's. For whoever writes it starts a goroutine, which Close ends.
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
	file, err := resolve(cfg.Path)
	if err != nil {
		return err
	}
	switch cfg.Access {
	case store.Worker:
		err = s.openWorker(ctx, file, cfg.Logger)
	case store.Mender:
		err = s.openMender(ctx, file)
	case store.Reader:
		s.reads, err = openReader(ctx, file)
	default:
		err = fmt.Errorf("access %d is unknown", cfg.Access)
	}
	if err != nil {
		return err
	}
	s.identity, err = readIdentity(ctx, s.reads)
	return err
}

func (s *Store) openWorker(ctx context.Context, file string, log zerolog.Logger) (err error) {
	// The lock comes before anything touches the database: where another Store of this process has it open, opening
	// and closing the file once more would take SQLite's own locks away from under that one.
	if s.lock, err = acquire(file + ".lock"); err != nil {
		return err
	}
	if err := create(file); err != nil {
		return err
	}
	if err := s.openPools(file, "_journal_mode=WAL"); err != nil {
		return err
	}
	schema, err := schemaOf(s.writes, log)
	if err != nil {
		return err
	}
	if err := schema.Migrate(ctx); err != nil {
		return err
	}
	if err := writeIdentity(ctx, s.writes); err != nil {
		return err
	}
	s.writer, err = startWriter(ctx, s.writes)
	return err
}

// openMender takes no lock: SQLite's own keep its transactions apart from the worker's.
func (s *Store) openMender(ctx context.Context, file string) error {
	if err := mustExist(file); err != nil {
		return err
	}
	if err := s.openPools(file, "mode=rw"); err != nil {
		return err
	}
	schema, err := schemaOf(s.writes, zerolog.Nop())
	if err != nil {
		return err
	}
	if err := schema.Check(ctx); err != nil {
		return err
	}
	s.writer, err = startWriter(ctx, s.writes)
	return err
}

// openPools opens a database for one who writes.
func (s *Store) openPools(file, param string) (err error) {
	checkpoint := fmt.Sprintf("_pragma=wal_autocheckpoint(%d)", checkpointAfter)
	if s.writes, err = openPool(file, 1, param, "_synchronous=FULL", checkpoint); err != nil {
		return err
	}
	s.reads, err = openPool(file, maxReaders, "_query_only=1")
	return err
}

// Identity implements store.Store.
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

// write returns when w is durable. What w has become may be read if there is no error; otherwise it may still be under
// way.
func (s *Store) write(ctx context.Context, w write) error {
	if s.writer == nil {
		return errReadOnly
	}
	return s.writer.Do(ctx, w)
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

// mustExist refuses what only a worker creates.
func mustExist(file string) error {
	_, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; the first worker creates it", fs.ErrNotExist)
	}
	return err
}

// openPool returns a pool of at most n connections, which are opened when they are needed.
func openPool(file string, n int, params ...string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(file, params...))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
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
