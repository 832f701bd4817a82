package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var attemptsTable = &table{name: "earlier_attempts", key: "request_id, number, worker", columns: `request_id, number,
	worker, started_at, ended_at, from_epoch, to_epoch, error`}

const selectAttempts = `SELECT request_id, number, worker, started_at, ended_at, from_epoch, to_epoch, error
		FROM attempts WHERE request_id = ? ORDER BY is_last, number, started_at`

// Attempted implements store.Store.
func (s *Store) Attempted(ctx context.Context, a restart.Attempt) error {
	store.CleanAttempt(&a)
	err := s.write(ctx, &insertion{
		into: attemptsTable,
		row: []driver.Value{
			a.Request.String(), int64(a.Number), a.Worker, microsOrNull(a.StartedAt), microsOrNull(a.EndedAt),
			string(a.From), string(a.To), a.Error,
		},
	})
	if err != nil {
		return fmt.Errorf("cannot save attempt %d of request %q: %w", a.Number, a.Request, err)
	}
	return nil
}

// Attempts implements store.Store.
func (s *Store) Attempts(ctx context.Context, id uuid.UUID) ([]restart.Attempt, error) {
	all, err := s.attempts(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("cannot read attempts of request %q: %w", id, err)
	}
	return all, nil
}

func (s *Store) attempts(ctx context.Context, id uuid.UUID) (all []restart.Attempt, err error) {
	rows, err := s.reads.QueryContext(ctx, selectAttempts, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a restart.Attempt
		err := rows.Scan(&a.Request, &a.Number, &a.Worker, scanTime(&a.StartedAt), scanTime(&a.EndedAt), &a.From, &a.To,
			&a.Error)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, rows.Err()
}
