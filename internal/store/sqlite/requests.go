package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	insertRequest = `INSERT INTO requests (id, instance, host, grp, reason, requested_by, requested_at, not_after,
		campaign, replay_of, requeued_from, min_uptime, raw, saved_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`

	selectOwner = `SELECT host, grp FROM requests WHERE id = ?`

	selectRequests = `SELECT seq, id, instance, host, grp, reason, requested_by, requested_at, not_after,
		campaign, replay_of, requeued_from, min_uptime, raw FROM requests`
)

// pageSize is how many requests are read at a time.
const pageSize = 500

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, r restart.Request) error {
	r.Raw = bytes.Clone(r.Raw) // the write may outlast the call, and the caller's right to the bytes
	savedAt := s.now()
	err := s.writer.do(ctx, func(ctx context.Context, stmt *statements) error {
		return stmt.save(ctx, &r, savedAt)
	})
	if err != nil {
		return fmt.Errorf("cannot save request %q: %w", r.ID, err)
	}
	return nil
}

func (stmt *statements) save(ctx context.Context, r *restart.Request, savedAt time.Time) error {
	res, err := stmt.insertRequest.ExecContext(ctx, r.ID, r.Instance, string(r.Host), string(r.Group), r.Reason,
		r.RequestedBy, micros(r.RequestedAt), micros(r.NotAfter), r.Campaign, r.ReplayOf, r.RequeuedFrom,
		int64(r.MinUptime), r.Raw, micros(savedAt))
	if err != nil {
		return err
	}
	if inserted, err := res.RowsAffected(); err != nil || inserted == 1 {
		return err
	}
	var host restart.Host
	var group restart.Group
	if err := stmt.selectOwner.QueryRowContext(ctx, r.ID).Scan(&host, &group); err != nil {
		return err
	}
	if host != r.Host || group != r.Group {
		return fmt.Errorf("%w: host %q in group %q", store.ErrIDReused, host, group)
	}
	return nil
}

// A place is where the next page of requests begins: after the request that has it.
type place struct {
	requestedAt, seq int64
}

// beginning is before every request: the latest comes first.
var beginning = place{math.MaxInt64, math.MaxInt64}

// Requests implements store.Store. It reads page by page, and holds nothing while its caller has a request: so a slow
// caller does not keep the write-ahead log from being emptied, and one that asks for outcomes in its loop does not
// wait for a connection that it has itself.
func (s *Store) Requests(ctx context.Context, f store.Filter) iter.Seq2[restart.Request, error] {
	return func(yield func(restart.Request, error) bool) {
		left := f.Limit
		if left <= 0 {
			left = math.MaxInt
		}
		for after := beginning; left > 0; {
			n := min(left, pageSize)
			page, last, err := s.requestsAfter(ctx, after, f, n)
			if err != nil {
				yield(restart.Request{}, fmt.Errorf("cannot read requests: %w", err))
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) < n {
				return
			}
			after, left = last, left-n
		}
	}
}

// requestsAfter returns at most n requests, and the place of the last.
func (s *Store) requestsAfter(ctx context.Context, after place, f store.Filter, n int) (page []restart.Request,
	last place, err error,
) {
	query, args := requestsQuery(after, f, n)
	rows, err := s.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, place{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var r restart.Request
		var notAfter int64
		if err := rows.Scan(&last.seq, &r.ID, &r.Instance, &r.Host, &r.Group, &r.Reason, &r.RequestedBy,
			&last.requestedAt, &notAfter, &r.Campaign, &r.ReplayOf, &r.RequeuedFrom, &r.MinUptime, &r.Raw); err != nil {
			return nil, place{}, err
		}
		r.RequestedAt, r.NotAfter = fromMicros(last.requestedAt), fromMicros(notAfter)
		page = append(page, r)
	}
	return page, last, rows.Err()
}

func requestsQuery(after place, f store.Filter, n int) (query string, args []any) {
	where := []string{"(requested_at, seq) < (?, ?)"}
	args = []any{after.requestedAt, after.seq}
	add := func(condition string, arg any) {
		where = append(where, condition)
		args = append(args, arg)
	}
	if f.Group != "" {
		add("grp = ?", string(f.Group))
	}
	if f.Host != "" {
		add("host = ?", string(f.Host))
	}
	if !f.Since.IsZero() {
		add("requested_at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		add("requested_at < ?", micros(f.Until))
	}
	query = selectRequests + " WHERE " + strings.Join(where, " AND ") + " ORDER BY requested_at DESC, seq DESC LIMIT ?"
	return query, append(args, n)
}
