package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/groupcommit"
)

// A write is what one caller waits for: a request, an outcome or an attempt, the others being nil.
type write struct {
	request *restart.Request
	outcome *restart.Outcome // the one that stands, once it is committed
	checks  string           // of the outcome, as they are stored
	attempt *restart.Attempt
}

type op = groupcommit.Op[*write]

// do has a write committed. Where ctx ends first, it may still be: what it refers to must be its own.
func (s *Store) do(ctx context.Context, w *write) error {
	if s.queue == nil {
		return errReadOnly
	}
	return s.queue.Do(ctx, w)
}

// commit writes a batch. It belongs to many callers: no one's context ends it.
func (s *Store) commit(batch []*op) {
	_ = s.within(context.Background(), func(ctx context.Context) error {
		s.commitWithin(ctx, batch)
		return nil
	})
}

// commitWithin writes a batch in one transaction, or in several where it is too large, or where the server refuses a
// row of it: that harms nobody but the row's own caller.
func (s *Store) commitWithin(ctx context.Context, batch []*op) {
	if len(batch) > 1 && size(batch) > maxBatchBytes {
		s.commitHalves(ctx, batch)
		return
	}
	err := s.transact(ctx, sorted(batch))
	if len(batch) > 1 && isRefusedRow(err) {
		s.commitHalves(ctx, batch)
		return
	}
	if err == nil {
		return
	}
	err = s.explain(ctx, err)
	for _, op := range batch {
		op.Err = err
	}
}

func (s *Store) commitHalves(ctx context.Context, batch []*op) {
	middle := len(batch) / 2
	s.commitWithin(ctx, batch[:middle])
	s.commitWithin(ctx, batch[middle:])
}

// size returns about how many bytes a batch has. What is not counted is small.
func size(batch []*op) (n int) {
	for _, op := range batch {
		if op.Write.request != nil {
			n += len(op.Write.request.Raw)
		}
	}
	return n
}

// isRefusedRow reports whether an error of a transaction is about what a row holds, so that others may do without it.
func isRefusedRow(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "54": // data exception, integrity constraint violation, program limit exceeded
		return true
	}
	return false
}

// rows is a batch, each kind of row in the order of its key: so two workers that have the same rows in their batches
// wait for one another, and never each for the other.
type rows struct {
	requests, outcomes, attempts []*op
}

func sorted(batch []*op) (r rows) {
	for _, op := range batch {
		switch w := op.Write; {
		case w.request != nil:
			r.requests = append(r.requests, op)
		case w.outcome != nil:
			r.outcomes = append(r.outcomes, op)
		default:
			r.attempts = append(r.attempts, op)
		}
	}
	// Of equals the first stays the first.
	slices.SortStableFunc(r.requests, func(a, b *op) int { return compareIDs(a.Write.request.ID, b.Write.request.ID) })
	slices.SortStableFunc(r.outcomes, func(a, b *op) int { return compareIDs(a.Write.outcome.ID, b.Write.outcome.ID) })
	slices.SortStableFunc(r.attempts, func(a, b *op) int {
		x, y := a.Write.attempt, b.Write.attempt
		return cmp.Or(compareIDs(x.Request, y.Request), cmp.Compare(x.Number, y.Number), cmp.Compare(x.Worker, y.Worker))
	})
	return r
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// transact sends all rows in one round trip, which is one transaction, and tells every caller which row stands. Its
// error means that nothing is known of any of them.
func (s *Store) transact(ctx context.Context, r rows) error {
	var batch pgx.Batch
	requests, outcomes := rowsOf(r.requests), rowsOf(r.outcomes)
	if len(r.requests) > 0 {
		batch.Queue(insertRequests, append(requestColumns(r.requests), s.now())...).Exec(requests.count)
	}
	if len(r.outcomes) > 0 {
		batch.Queue(insertOutcomes, outcomeColumns(r.outcomes)...).Exec(outcomes.count)
	}
	if len(r.attempts) > 0 {
		batch.Queue(insertAttempts, attemptColumns(r.attempts)...)
	}
	// Every statement may have been answered well, and the commit after them not.
	if err := s.writes.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if !requests.all {
		s.tellOwners(ctx, r.requests)
	}
	if outcomes.all {
		for _, op := range r.outcomes {
			*op.Write.outcome = asStored(*op.Write.outcome)
		}
	} else {
		s.tellStanding(ctx, r.outcomes)
	}
	return nil
}

// inserted knows whether all rows were new. If not, it does not matter which: the database is asked what it has, in a
// statement of its own, which sees what others have committed.
type inserted struct {
	want int
	all  bool
}

func rowsOf(ops []*op) inserted { return inserted{want: len(ops), all: len(ops) == 0} }

func (i *inserted) count(tag pgconn.CommandTag) error {
	i.all = tag.RowsAffected() == int64(i.want)
	return nil
}

// tellOwners compares requests with what is stored under their ids.
func (s *Store) tellOwners(ctx context.Context, ops []*op) {
	type owner struct {
		host  restart.Host
		group restart.Group
	}
	owners := make(map[uuid.UUID]owner, len(ops))
	var id uuid.UUID
	var o owner
	err := s.selectByID(ctx, selectOwners, column(ops, func(w *write) [16]byte { return w.request.ID }),
		[]any{(*[16]byte)(&id), (*string)(&o.host), (*string)(&o.group)},
		func() { owners[id] = o })
	for _, op := range ops {
		r := op.Write.request
		switch o, ok := owners[r.ID]; {
		case err != nil:
			op.Err = err
		case !ok:
			op.Err = errForgotten
		case o.host != r.Host || o.group != r.Group:
			op.Err = fmt.Errorf("%w: host %q in group %q", store.ErrIDReused, o.host, o.group)
		}
	}
}

// tellStanding replaces outcomes by those that are stored under their ids.
func (s *Store) tellStanding(ctx context.Context, ops []*op) {
	standing := make(map[uuid.UUID]restart.Outcome, len(ops))
	var o restart.Outcome
	err := s.selectByID(ctx, selectOutcomes, column(ops, func(w *write) [16]byte { return w.outcome.ID }),
		outcomeFields(&o), func() { standing[o.ID] = inUTC(o) })
	for _, op := range ops {
		o, ok := standing[op.Write.outcome.ID]
		switch {
		case err != nil:
			op.Err = err
		case !ok:
			op.Err = errForgotten
		default:
			o.Receipt.Checks = slices.Clone(o.Receipt.Checks) // several may ask for one id
			*op.Write.outcome = o
		}
	}
}

func (s *Store) selectByID(ctx context.Context, query string, ids [][16]byte, fields []any, each func()) error {
	rows, _ := s.writes.Query(ctx, query, ids) // its error comes from them too
	_, err := pgx.ForEachRow(rows, fields, func() error {
		each()
		return nil
	})
	return s.explain(ctx, err)
}

// column returns one value of each write.
func column[V any](ops []*op, value func(*write) V) []V {
	values := make([]V, len(ops))
	for i, op := range ops {
		values[i] = value(op.Write)
	}
	return values
}
