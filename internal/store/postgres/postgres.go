// Package postgres keeps requests and outcomes in a PostgreSQL database, for a fleet of workers.
//
// What a method has returned is committed, and the server has synced it: one that is configured not to is refused. Few
// connections write: whatever is waiting goes to the server in one round trip and one commit, so that a thousand
// callers share its price, and a single caller waits for nobody. Reads have connections of their own, so that writes
// never wait for a reader.
//
// Between two methods nothing is held: a server that goes away makes calls fail, and when it is back they succeed.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
)

const (
	// committers is how many batches are on their way at a time.
	committers = 2

	// maxBatch and maxBatchBytes bound how much one commit takes, and so how long those who come while it runs wait for
	// the next.
	maxBatch      = 1024
	maxBatchBytes = 16 << 20

	// maxReaders is how many connections read, unless the URL has pool_max_conns.
	maxReaders = 4

	defaultTimeout = 10 * time.Second
)

var (
	errReadOnly = errors.New("the store was opened for reading only")

	// errForgotten comes from a race with Forget, which a second try wins.
	errForgotten = errors.New("the row was there, and was removed meanwhile")
)

// Config is what Open needs.
type Config struct {
	URL    string // as postgres://user@host:5432/name; the server's parameters may follow
	Access store.Access

	// Timeout bounds how long the server may take for one batch of writes or one page of reads, and to take a
	// connection. Zero means 10 s.
	Timeout time.Duration

	Logger zerolog.Logger   // the zero value is silent
	Now    func() time.Time // nil means time.Now
}

// A Store is an open database.
type Store struct {
	identity uuid.UUID
	name     string // of the database, for errors
	timeout  time.Duration
	now      func() time.Time
	reads    *pgxpool.Pool
	writes   *pgxpool.Pool              // nil: a reader
	queue    *groupcommit.Queue[*write] // nil: a reader

	open  context.Context // ends with Close
	close context.CancelCauseFunc
}

var _ store.Store = (*Store)(nil)

// Open connects to the database, brings its schema up to date if it is for a worker, and starts what writes, which
// Close ends. It refuses a server that would not keep what it has confirmed, and a schema that is newer than this
// program.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	config, err := parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("cannot open database: %w", err)
	}
	s := &Store{name: nameOf(config), timeout: cfg.Timeout, now: cfg.Now}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.open, s.close = context.WithCancelCause(context.Background())
	if err := s.connect(ctx, config, cfg); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot open %s: %w", s.name, plain(err))
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context, config *pgxpool.Config, cfg Config) (err error) {
	if t := &config.ConnConfig.ConnectTimeout; *t <= 0 || *t > s.timeout {
		*t = s.timeout
	}
	forReads := config.Copy()
	// A read that meets a connection of a server that is gone would fail, though the server may be back. It can afford to
	// ask first; a write is tried again anyway.
	forReads.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	if s.reads, err = pgxpool.NewWithConfig(ctx, forReads); err != nil {
		return err
	}
	if cfg.Access == store.Reader {
		if err := checkSchema(ctx, s.reads, cfg.Logger); err != nil {
			return err
		}
		s.identity, err = readIdentity(ctx, s.reads)
		return err
	}
	config.MaxConns = committers + 1 // Forget has the one
	config.AfterConnect = checkDurable
	if s.writes, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	if cfg.Access == store.Worker {
		if err := migrate(ctx, s.writes, cfg.Logger); err != nil {
			return err
		}
		s.identity, err = identify(ctx, s.writes)
	} else if err = checkSchema(ctx, s.writes, cfg.Logger); err == nil {
		s.identity, err = readIdentity(ctx, s.writes)
	}
	if err != nil {
		return err
	}
	s.queue = groupcommit.Start(groupcommit.Config{Committers: committers, MaxBatch: maxBatch}, s.commit)
	return nil
}

// Identity implements store.Store.
func (s *Store) Identity() uuid.UUID { return s.identity }

// Close implements store.Store. It ends what reads, and waits for the timeout at most.
func (s *Store) Close() error {
	if s.queue != nil {
		late := time.AfterFunc(s.timeout, func() { s.close(groupcommit.ErrClosed) })
		s.queue.Stop()
		late.Stop()
	}
	s.close(groupcommit.ErrClosed)
	if s.writes != nil {
		s.writes.Close()
	}
	if s.reads != nil {
		s.reads.Close()
	}
	return nil
}

// within calls do with a context that ends with ctx, with the store and after the timeout, and with the cause of
// whichever was first if do fails after it.
func (s *Store) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.open, func() { cancel(groupcommit.ErrClosed) })()
	ctx, stop := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer from %s within %s", s.name, s.timeout))
	defer stop()
	return s.explain(ctx, do(ctx))
}

// explain returns what an error of the database means to who called with ctx.
func (s *Store) explain(ctx context.Context, err error) error {
	var refused *pgconn.ConnectError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &refused):
		return fmt.Errorf("cannot connect to %s: %w", s.name, plain(err))
	}
	return err
}
