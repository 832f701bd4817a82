package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
)

// maxBatch bounds how much one transaction takes, and so how long those who come while it runs wait for the next. It is
// well below the thousands who may be waiting: some of them get ready on one processor while others are written on
// another.
const maxBatch = 512

// gather lets a busy worker's batches become four times as large, which writes a fourth of the pages and takes a tenth
// off all that its processor does.
const gather = 2 * time.Millisecond

// A write is an *insertion or a *forgetting.
type write any

// A writer has the connection that writes, and the goroutine that has it to itself.
type writer struct {
	*groupcommit.Queue[write]
	conn      *sql.Conn
	stmt      statements
	prepared  []*sql.Stmt // those of stmt, to be closed
	inserters [len(tables)]inserter
	forgets   []*groupcommit.Op[write] // to be done next
	stop      func() error
}

// tables are all that an insertion can be into.
var tables = [...]*table{requestsTable, outcomesTable, attemptsTable}

// statements are prepared once, on the connection that writes.
type statements struct {
	begin, commit, rollback                      *sql.Stmt
	selectOwner, selectOutcome, selectOldest     *sql.Stmt
	deleteOutcome, deleteAttempts, deleteRequest *sql.Stmt
}

func startWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn}
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, w.release())
	}
	w.Queue = groupcommit.Start(groupcommit.Config{Committers: 1, MaxBatch: maxBatch, Gather: gather}, w.commit)
	w.stop = sync.OnceValue(func() error {
		w.Queue.Stop()
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
		{&w.stmt.selectOwner, selectOwner},
		{&w.stmt.selectOutcome, selectOutcome},
		{&w.stmt.selectOldest, selectOldest},
		{&w.stmt.deleteOutcome, deleteOutcome},
		{&w.stmt.deleteAttempts, deleteAttempts},
		{&w.stmt.deleteRequest, deleteRequest},
	} {
		stmt, err := w.conn.PrepareContext(ctx, p.sql)
		if err != nil {
			return fmt.Errorf("cannot prepare %q: %w", p.sql, err)
		}
		*p.stmt = stmt
		w.prepared = append(w.prepared, stmt)
	}
	for i, t := range tables {
		if err := w.inserters[i].prepare(ctx, w.conn, t); err != nil {
			return err
		}
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
	for i := range w.inserters {
		errs = append(errs, w.inserters[i].close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// commit runs a batch in one transaction, and says of each write how it went.
func (w *writer) commit(batch []*groupcommit.Op[write]) {
	defer w.letGo()
	if err := w.transact(batch); err != nil {
		// If the batch is not durable, no answer in it counts: even "the id is another's" may speak of a row that has
		// just been rolled back.
		for _, op := range batch {
			op.Err = err
		}
	}
}

// transact runs a batch in one transaction. Its error means that nothing of the batch may be relied on.
func (w *writer) transact(batch []*groupcommit.Op[write]) error {
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

// apply does what is of one kind together: they came at the same time, and so in any order.
func (w *writer) apply(ctx context.Context, batch []*groupcommit.Op[write]) error {
	w.sort(batch)
	for i := range w.inserters {
		if err := w.inserters[i].insert(ctx, &w.stmt); err != nil {
			return err
		}
	}
	for _, op := range w.forgets {
		if err := op.Write.(*forgetting).run(ctx, &w.stmt); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) sort(batch []*groupcommit.Op[write]) {
	for _, op := range batch {
		if ins, ok := op.Write.(*insertion); ok {
			in := &w.inserters[slices.Index(tables[:], ins.into)]
			in.ops = append(in.ops, op)
		} else {
			w.forgets = append(w.forgets, op)
		}
	}
}

// letGo forgets what the callers sent, which may be large.
func (w *writer) letGo() {
	for i := range w.inserters {
		w.inserters[i].letGo()
	}
	clear(w.forgets)
	w.forgets = w.forgets[:0]
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
