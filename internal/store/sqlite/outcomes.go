package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var outcomesTable = &table{name: "outcomes", key: "id", columns: `id, host, grp, kind, reason, detail, at,
	requested_by, requested_at, worker, attempt, from_epoch, to_epoch, triggered_at, verified_at, down, checks`}

const (
	outcomeColumns = `o.id, o.host, o.grp, o.kind, o.reason, o.detail, o.at, o.requested_by, o.requested_at, o.worker,
		o.attempt, o.from_epoch, o.to_epoch, o.triggered_at, o.verified_at, o.down, o.checks`

	selectOutcome = `SELECT ` + outcomeColumns + ` FROM outcomes o WHERE o.id = ?`
)

// Finish implements store.Store.
func (s *Store) Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error) {
	store.CleanOutcome(&o)
	id := o.ID.String()
	var there *restart.Outcome // nil: this one was inserted
	err := s.write(ctx, &insertion{
		into: outcomesTable,
		row: []driver.Value{
			id, string(o.Host), string(o.Group), string(o.Kind), string(o.Reason), o.Detail, micros(o.At),
			o.Receipt.RequestedBy, micros(o.Receipt.RequestedAt), o.Receipt.Worker, int64(o.Receipt.Attempt),
			string(o.Receipt.From), string(o.Receipt.To), microsOrNull(o.Receipt.TriggeredAt),
			microsOrNull(o.Receipt.VerifiedAt), orNull(time.Duration(o.Receipt.Down).Microseconds()),
			orNull(store.ChecksText(o.Receipt.Checks)),
		},
		compare: func(ctx context.Context, stmt *statements) error {
			there = new(restart.Outcome)
			return stmt.selectOutcome.QueryRowContext(ctx, id).Scan(outcomeFields(there)...)
		},
	})
	switch {
	case err != nil:
		// The write may still go on, and with it what is there.
		return restart.Outcome{}, fmt.Errorf("cannot finish request %q: %w", id, err)
	case there != nil:
		return *there, nil
	default:
		return asStored(o), nil
	}
}

// asStored returns an outcome as reading it would: whoever finishes first must be told the same as all who come later,
// to the last digit of its times.
func asStored(o restart.Outcome) restart.Outcome {
	for _, t := range []*time.Time{&o.At, &o.Receipt.RequestedAt, &o.Receipt.TriggeredAt, &o.Receipt.VerifiedAt} {
		*t = fromMicros(micros(*t))
	}
	return o
}

// Outcome implements store.Store.
func (s *Store) Outcome(ctx context.Context, id uuid.UUID) (o restart.Outcome, err error) {
	err = s.reads.QueryRowContext(ctx, selectOutcome, id).Scan(outcomeFields(&o)...)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return restart.Outcome{}, fmt.Errorf("cannot read outcome of request %q: %w", id, err)
	}
	return o, nil
}

const countEnded = "SELECT grp, kind, count(*) FROM outcomes INDEXED BY outcomes_by_end WHERE at >= ? GROUP BY grp, kind"

// Ended implements store.Store.
func (s *Store) Ended(ctx context.Context, since time.Time) (store.Counts, error) {
	counts, err := s.ended(ctx, since)
	if err != nil {
		return nil, fmt.Errorf("cannot count outcomes: %w", err)
	}
	return counts, nil
}

func (s *Store) ended(ctx context.Context, since time.Time) (store.Counts, error) {
	rows, err := s.reads.QueryContext(ctx, countEnded, micros(since))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := store.Counts{}
	for rows.Next() {
		var group restart.Group
		var kind restart.Kind
		var n int
		if err := rows.Scan(&group, &kind, &n); err != nil {
			return nil, err
		}
		counts.Add(group, kind, n)
	}
	return counts, rows.Err()
}

// outcomeFields returns where outcomeColumns are scanned to. Where a request has no outcome, all of them are null.
func outcomeFields(o *restart.Outcome) []any {
	r := &o.Receipt
	return []any{
		orZero(&o.ID), orZero(&o.Host), orZero(&o.Group), orZero(&o.Kind), orZero(&o.Reason), orZero(&o.Detail),
		scanTime(&o.At), orZero(&r.RequestedBy), scanTime(&r.RequestedAt), orZero(&r.Worker), orZero(&r.Attempt),
		orZero(&r.From), orZero(&r.To), scanTime(&r.TriggeredAt), scanTime(&r.VerifiedAt),
		(*store.Span)(&r.Down), (*store.Checks)(&r.Checks),
	}
}
