package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	insertAttempts = `INSERT INTO earlier_attempts (request_id, number, worker, started_at, ended_at, from_epoch,
			to_epoch, error)
		SELECT unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::timestamptz[]),
			unnest($5::timestamptz[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[])
		ON CONFLICT (request_id, number, worker) DO NOTHING`

	selectAttempts = `SELECT request_id, number, worker, started_at, ended_at, from_epoch, to_epoch, error FROM attempts
		WHERE request_id = $1 ORDER BY is_last, number, started_at NULLS FIRST, worker`
)

// Attempted implements store.Store.
func (s *Store) Attempted(ctx context.Context, a restart.Attempt) error {
	store.CleanAttempt(&a)
	if err := s.do(ctx, &write{attempt: &a}); err != nil {
		return fmt.Errorf("cannot save attempt %d of request %q: %w", a.Number, a.Request, err)
	}
	return nil
}

func attemptColumns(ops []*op) []any {
	text := func(value func(*restart.Attempt) string) []string {
		return column(ops, func(w *write) string { return value(w.attempt) })
	}
	orNull := func(value func(*restart.Attempt) time.Time) []zeronull.Timestamptz {
		return column(ops, func(w *write) zeronull.Timestamptz { return zeronull.Timestamptz(value(w.attempt)) })
	}
	return []any{
		column(ops, func(w *write) [16]byte { return w.attempt.Request }),
		column(ops, func(w *write) int64 { return int64(w.attempt.Number) }),
		text(func(a *restart.Attempt) string { return a.Worker }),
		orNull(func(a *restart.Attempt) time.Time { return a.StartedAt }),
		orNull(func(a *restart.Attempt) time.Time { return a.EndedAt }),
		text(func(a *restart.Attempt) string { return string(a.From) }),
		text(func(a *restart.Attempt) string { return string(a.To) }),
		text(func(a *restart.Attempt) string { return a.Error }),
	}
}

// Attempts implements store.Store.
func (s *Store) Attempts(ctx context.Context, id uuid.UUID) (all []restart.Attempt, err error) {
	err = s.within(ctx, func(ctx context.Context) error {
		rows, _ := s.reads.Query(ctx, selectAttempts, [16]byte(id)) // its error comes from them too
		all, err = pgx.AppendRows(all, rows, scanAttempt)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read attempts of request %q: %w", id, err)
	}
	return all, nil
}

func scanAttempt(row pgx.CollectableRow) (a restart.Attempt, err error) {
	err = row.Scan((*[16]byte)(&a.Request), &a.Number, &a.Worker, (*zeronull.Timestamptz)(&a.StartedAt),
		(*zeronull.Timestamptz)(&a.EndedAt), (*string)(&a.From), (*string)(&a.To), &a.Error)
	a.StartedAt, a.EndedAt = a.StartedAt.UTC(), a.EndedAt.UTC()
	return a, err
}
