package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	insertOutcomes = `INSERT INTO outcomes (id, host, grp, kind, reason, detail, at, receipt_requested_at, requested_by,
		worker, attempt, from_epoch, to_epoch, triggered_at, verified_at, down, checks, requested_at)
		SELECT *, coalesce((SELECT requested_at FROM requests WHERE id = o.id), o.requested_at, o.at)
		FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
			unnest($5::text[]), unnest($6::text[]), unnest($7::timestamptz[]) AS at,
			unnest($8::timestamptz[]) AS requested_at, unnest($9::text[]), unnest($10::text[]), unnest($11::bigint[]),
			unnest($12::text[]), unnest($13::text[]), unnest($14::timestamptz[]), unnest($15::timestamptz[]),
			unnest($16::bigint[]), unnest($17::text[])) AS o
		ON CONFLICT (id) DO NOTHING`

	outcomeFieldList = `o.id, o.host, o.grp, o.kind, o.reason, o.detail, o.at, o.requested_by, o.receipt_requested_at,
		o.worker, coalesce(o.attempt, 0), o.from_epoch, o.to_epoch, o.triggered_at, o.verified_at, o.down, o.checks`

	selectOutcomes = `SELECT ` + outcomeFieldList + ` FROM outcomes o WHERE id = ANY($1)`
)

// Finish implements store.Store.
func (s *Store) Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error) {
	store.CleanOutcome(&o)
	id := o.ID
	if err := s.do(ctx, &write{outcome: &o, checks: store.ChecksText(o.Receipt.Checks)}); err != nil {
		// The write may still go on, and o with it.
		return restart.Outcome{}, fmt.Errorf("cannot finish request %q: %w", id, err)
	}
	return o, nil
}

func outcomeColumns(ops []*op) []any {
	text := func(value func(*restart.Outcome) string) []string {
		return column(ops, func(w *write) string { return value(w.outcome) })
	}
	orNull := func(value func(*restart.Receipt) time.Time) []zeronull.Timestamptz {
		return column(ops, func(w *write) zeronull.Timestamptz { return zeronull.Timestamptz(value(&w.outcome.Receipt)) })
	}
	return []any{
		column(ops, func(w *write) [16]byte { return w.outcome.ID }),
		text(func(o *restart.Outcome) string { return string(o.Host) }),
		text(func(o *restart.Outcome) string { return string(o.Group) }),
		text(func(o *restart.Outcome) string { return string(o.Kind) }),
		text(func(o *restart.Outcome) string { return string(o.Reason) }),
		text(func(o *restart.Outcome) string { return o.Detail }),
		column(ops, func(w *write) time.Time { return w.outcome.At }),
		orNull(func(r *restart.Receipt) time.Time { return r.RequestedAt }),
		text(func(o *restart.Outcome) string { return o.Receipt.RequestedBy }),
		text(func(o *restart.Outcome) string { return o.Receipt.Worker }),
		column(ops, func(w *write) int64 { return int64(w.outcome.Receipt.Attempt) }),
		text(func(o *restart.Outcome) string { return string(o.Receipt.From) }),
		text(func(o *restart.Outcome) string { return string(o.Receipt.To) }),
		orNull(func(r *restart.Receipt) time.Time { return r.TriggeredAt }),
		orNull(func(r *restart.Receipt) time.Time { return r.VerifiedAt }),
		column(ops, func(w *write) zeronull.Int8 {
			return zeronull.Int8(time.Duration(w.outcome.Receipt.Down).Microseconds())
		}),
		column(ops, func(w *write) zeronull.Text { return zeronull.Text(w.checks) }),
	}
}

// outcomeFields are where the fields of outcomeFieldList go. If they are all null, there is no outcome, and o becomes
// the zero one.
func outcomeFields(o *restart.Outcome) []any {
	return []any{
		(*zeronull.UUID)(&o.ID), (*zeronull.Text)(&o.Host), (*zeronull.Text)(&o.Group), (*zeronull.Text)(&o.Kind),
		(*zeronull.Text)(&o.Reason), (*zeronull.Text)(&o.Detail), (*zeronull.Timestamptz)(&o.At),
		(*zeronull.Text)(&o.Receipt.RequestedBy), (*zeronull.Timestamptz)(&o.Receipt.RequestedAt),
		(*zeronull.Text)(&o.Receipt.Worker), &o.Receipt.Attempt, (*zeronull.Text)(&o.Receipt.From),
		(*zeronull.Text)(&o.Receipt.To), (*zeronull.Timestamptz)(&o.Receipt.TriggeredAt),
		(*zeronull.Timestamptz)(&o.Receipt.VerifiedAt), (*store.Span)(&o.Receipt.Down),
		(*store.Checks)(&o.Receipt.Checks),
	}
}

// asStored returns an outcome as reading it would: whoever finishes first must be told the same as all who come later,
// to the last digit of its times.
func asStored(o restart.Outcome) restart.Outcome {
	for _, t := range outcomeTimes(&o) {
		*t = time.UnixMicro(t.UnixMicro()).UTC()
	}
	return o
}

func inUTC(o restart.Outcome) restart.Outcome {
	for _, t := range outcomeTimes(&o) {
		*t = t.UTC()
	}
	return o
}

func outcomeTimes(o *restart.Outcome) []*time.Time {
	return []*time.Time{&o.At, &o.Receipt.RequestedAt, &o.Receipt.TriggeredAt, &o.Receipt.VerifiedAt}
}

const countEnded = "SELECT grp, kind, count(*) FROM outcomes WHERE at >= $1 GROUP BY grp, kind"

// Ended implements store.Store.
func (s *Store) Ended(ctx context.Context, since time.Time) (counts store.Counts, err error) {
	err = s.within(ctx, func(ctx context.Context) error {
		counts = store.Counts{}
		var group, kind string
		var n int
		rows, _ := s.reads.Query(ctx, countEnded, since) // its error comes from them too
		_, err := pgx.ForEachRow(rows, []any{&group, &kind, &n}, func() error {
			counts.Add(restart.Group(group), restart.Kind(kind), n)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot count outcomes: %w", err)
	}
	return counts, nil
}

// Outcome implements store.Store.
func (s *Store) Outcome(ctx context.Context, id uuid.UUID) (o restart.Outcome, err error) {
	err = s.within(ctx, func(ctx context.Context) error {
		return s.reads.QueryRow(ctx, "SELECT "+outcomeFieldList+" FROM outcomes o WHERE id = $1", [16]byte(id)).
			Scan(outcomeFields(&o)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return restart.Outcome{}, fmt.Errorf("cannot read outcome of request %q: %w", id, err)
	}
	return inUTC(o), nil
}
