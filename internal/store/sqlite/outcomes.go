package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	insertOutcome = `INSERT INTO outcomes (id, host, grp, kind, reason, detail, at, requested_by, worker, attempt,
		from_epoch, to_epoch, triggered_at, verified_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`

	selectOutcome = `SELECT id, host, grp, kind, reason, detail, at, requested_by, worker, attempt,
		from_epoch, to_epoch, triggered_at, verified_at FROM outcomes WHERE id = ?`
)

// Finish implements store.Store.
func (s *Store) Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error) {
	var stands restart.Outcome
	err := s.writer.do(ctx, func(ctx context.Context, stmt *statements) (err error) {
		stands, err = stmt.finish(ctx, &o)
		return err
	})
	if err != nil {
		// The write may still go on, and stands with it.
		return restart.Outcome{}, fmt.Errorf("cannot finish request %q: %w", o.ID, err)
	}
	return stands, nil
}

func (stmt *statements) finish(ctx context.Context, o *restart.Outcome) (restart.Outcome, error) {
	res, err := stmt.insertOutcome.ExecContext(ctx, o.ID, string(o.Host), string(o.Group), string(o.Kind),
		string(o.Reason), o.Detail, micros(o.At), o.Receipt.RequestedBy, o.Receipt.Worker, o.Receipt.Attempt,
		string(o.Receipt.From), string(o.Receipt.To), microsOrNull(o.Receipt.TriggeredAt),
		microsOrNull(o.Receipt.VerifiedAt))
	if err != nil {
		return restart.Outcome{}, err
	}
	if inserted, err := res.RowsAffected(); err != nil || inserted == 1 {
		return asStored(*o), err
	}
	return scanOutcome(stmt.selectOutcome.QueryRowContext(ctx, o.ID))
}

// asStored returns an outcome as reading it would: whoever finishes first must be told the same as all who come later,
// to the last digit of its times.
func asStored(o restart.Outcome) restart.Outcome {
	for _, t := range []*time.Time{&o.At, &o.Receipt.TriggeredAt, &o.Receipt.VerifiedAt} {
		*t = fromMicros(micros(*t))
	}
	return o
}

// Outcome implements store.Store.
func (s *Store) Outcome(ctx context.Context, id uuid.UUID) (restart.Outcome, error) {
	o, err := scanOutcome(s.reads.QueryRowContext(ctx, selectOutcome, id))
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return restart.Outcome{}, fmt.Errorf("cannot read outcome of request %q: %w", id, err)
	}
	return o, nil
}

func scanOutcome(row *sql.Row) (o restart.Outcome, err error) {
	var at int64
	var triggeredAt, verifiedAt sql.NullInt64
	err = row.Scan(&o.ID, &o.Host, &o.Group, &o.Kind, &o.Reason, &o.Detail, &at, &o.Receipt.RequestedBy,
		&o.Receipt.Worker, &o.Receipt.Attempt, &o.Receipt.From, &o.Receipt.To, &triggeredAt, &verifiedAt)
	if err != nil {
		return restart.Outcome{}, err
	}
	o.At = fromMicros(at)
	o.Receipt.TriggeredAt, o.Receipt.VerifiedAt = fromNullMicros(triggeredAt), fromNullMicros(verifiedAt)
	return o, nil
}
