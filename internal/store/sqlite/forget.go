package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Those that are to be forgotten are looked up first, and deleted one by one: SQLite may choose to scan a table for a
// list of keys.
const (
	selectOldest = `SELECT id FROM requests INDEXED BY requests_by_time WHERE requested_at < ?
		ORDER BY requested_at, seq LIMIT ?`

	deleteOutcome  = `DELETE FROM outcomes WHERE id = ?`
	deleteAttempts = `DELETE FROM earlier_attempts WHERE request_id = ?`
	deleteRequest  = `DELETE FROM requests WHERE id = ?`
)

// A forgetting is one call of Forget.
type forgetting struct {
	before    int64
	limit     int
	forgotten int
}

// Forget implements store.Store.
func (s *Store) Forget(ctx context.Context, before time.Time, n int) (int, error) {
	w := &forgetting{before: micros(before), limit: max(n, 0)} // SQLite takes a negative limit for none
	if err := s.write(ctx, w); err != nil {
		return 0, fmt.Errorf("cannot forget requests before %s: %w", before.UTC().Format(time.RFC3339), err)
	}
	return w.forgotten, nil
}

func (w *forgetting) run(ctx context.Context, stmt *statements) error {
	ids, err := w.oldest(ctx, stmt)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, remove := range []*sql.Stmt{stmt.deleteOutcome, stmt.deleteAttempts, stmt.deleteRequest} {
			if _, err := remove.ExecContext(ctx, id); err != nil {
				return err
			}
		}
	}
	w.forgotten = len(ids)
	return nil
}

func (w *forgetting) oldest(ctx context.Context, stmt *statements) (ids []string, err error) {
	rows, err := stmt.selectOldest.QueryContext(ctx, w.before, w.limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
