package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// maxBatch bounds how much one transaction takes, and so how long those who come while it runs wait for the next.
const maxBatch = 1024

// A writer has the connection that writes, and the goroutine that has it to itself.
type writer struct {
	conn     *sql.Conn
	stmt     statements
	prepared []*sql.Stmt // those of stmt, to be closed

	queue   chan *write // unbuffered: what was sent is taken, and will be answered
	stopped chan struct{}
	stop    func() error // returns when what was taken is answered
}

// A write is what one caller waits for.
type write struct {
	run  func(context.Context, *statements) error // within the transaction of its batch
	err  error                                    // what run returned; counts once the batch is committed
	done chan error                               // takes the one answer without blocking
}

// statements are prepared once, on the connection that writes.
type statements struct {
	begin, commit, rollback *sql.Stmt

	insertRequest, selectOwner, insertOutcome, selectOutcome *sql.Stmt
}

func startWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, queue: make(chan *write), stopped: make(chan struct{})}
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, w.release())
	}
	var running sync.WaitGroup
	running.Go(w.run)
	w.stop = sync.OnceValue(func() error {
		close(w.stopped)
		running.Wait()
		return w.release()
	})
	return w, nil
}

func (w *writer) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&w.stmt.begin, "BEGIN IMMEDIATE"},
		{&w.stmt.commit, "COMMIT"},
		{&w.stmt.rollback, "ROLLBACK"},
		{&w.stmt.insertRequest, insertRequest},
		{&w.stmt.selectOwner, selectOwner},
		{&w.stmt.insertOutcome, insertOutcome},
		{&w.stmt.selectOutcome, selectOutcome},
	} {
		stmt, err := w.conn.PrepareContext(ctx, p.sql)
		if err != nil {
			return fmt.Errorf("cannot prepare %q: %w", p.sql, err)
		}
		*p.stmt = stmt
		w.prepared = append(w.prepared, stmt)
	}
	return nil
}

// release hands the connection back to its pool, without the statements: database/sql does not close those of a single
// connection, and SQLite keeps a connection that has any open, with its files, until the process ends.
func (w *writer) release() error {
	var errs []error
	for _, stmt := range w.prepared {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// do has run executed in some transaction, and returns once that is durable. Where ctx ends first, run may still be
// executed later: what it refers to must be its own.
func (w *writer) do(ctx context.Context, run func(context.Context, *statements) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	op := &write{run: run, done: make(chan error, 1)}
	select {
	case w.queue <- op:
	case <-w.stopped:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run commits one batch after the other until the writer is stopped.
func (w *writer) run() {
	batch := make([]*write, 0, maxBatch)
	for {
		select {
		case op := <-w.queue:
			batch = w.gather(append(batch, op))
		case <-w.stopped:
			return
		}
		w.answer(batch, w.transact(batch))
		clear(batch) // lets go of what the callers sent
		batch = batch[:0]
	}
}

// gather adds whoever is waiting already, and waits for nobody.
func (w *writer) gather(batch []*write) []*write {
	for len(batch) < maxBatch {
		select {
		case op := <-w.queue:
			batch = append(batch, op)
		default:
			return batch
		}
	}
	return batch
}

// answer tells every caller of a batch how its write went.
func (w *writer) answer(batch []*write, err error) {
	for _, op := range batch {
		// If the batch is not durable, no answer in it counts: even "the id is another's" may speak of a row that has
		// just been rolled back.
		if err == nil {
			op.done <- op.err
		} else {
			op.done <- err
		}
	}
}

// transact runs a batch in one transaction. Its error means that nothing of the batch may be relied on.
func (w *writer) transact(batch []*write) error {
	// A commit under way cannot be taken back, and belongs to many callers: no one's context ends it.
	ctx := context.Background()
	if _, err := w.stmt.begin.ExecContext(ctx); err != nil {
		return err
	}
	err := w.apply(ctx, batch)
	if err == nil {
		_, err = w.stmt.commit.ExecContext(ctx)
	}
	if err != nil {
		// SQLite may have rolled back by itself, and then says that there is nothing to roll back. Were it still
		// open for another reason, the next batch could not begin, would fail too, and come here again.
		_, _ = w.stmt.rollback.ExecContext(ctx)
	}
	return err
}

func (w *writer) apply(ctx context.Context, batch []*write) error {
	for _, op := range batch {
		op.err = op.run(ctx, &w.stmt)
		if op.err != nil && !isOwn(op.err) {
			return op.err
		}
	}
	return nil
}

// isOwn reports whether an error is that of one write alone, so that the others in its transaction can go on. SQLite
// undoes just the statement on these; on the others, a full disk among them, it may have undone them all.
func isOwn(err error) bool {
	if errors.Is(err, store.ErrIDReused) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff { // without the extension
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}
