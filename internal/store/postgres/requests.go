package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

const (
	// Arrays are taken apart in the list of what is selected: as a table they would first be written to one.
	insertRequests = `INSERT INTO requests (id, instance, host, grp, reason, requested_by, requested_at, not_after,
		campaign, replay_of, requeued_from, min_uptime, raw, saved_at)
		SELECT unnest($1::uuid[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
			unnest($6::text[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]), unnest($9::text[]),
			unnest($10::text[]), unnest($11::text[]), unnest($12::bigint[]), unnest($13::bytea[]), $14::timestamptz
		ON CONFLICT (id) DO NOTHING`

	selectOwners = `SELECT id, host, grp FROM requests WHERE id = ANY($1)`

	requestFieldList = `r.id, r.instance, r.host, r.grp, r.reason, r.requested_by, r.requested_at, r.not_after,
		r.campaign, r.replay_of, r.requeued_from, r.min_uptime, r.raw`
)

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, r restart.Request) error {
	r.Raw = bytes.Clone(r.Raw) // the write may outlast the call, and the caller's right to the bytes
	store.CleanRequest(&r)
	if err := s.do(ctx, &write{request: &r}); err != nil {
		return fmt.Errorf("cannot save request %q: %w", r.ID, err)
	}
	return nil
}

func requestColumns(ops []*op) []any {
	text := func(value func(*restart.Request) string) []string {
		return column(ops, func(w *write) string { return value(w.request) })
	}
	at := func(value func(*restart.Request) time.Time) []time.Time {
		return column(ops, func(w *write) time.Time { return value(w.request) })
	}
	return []any{
		column(ops, func(w *write) [16]byte { return w.request.ID }),
		text(func(r *restart.Request) string { return r.Instance }),
		text(func(r *restart.Request) string { return string(r.Host) }),
		text(func(r *restart.Request) string { return string(r.Group) }),
		text(func(r *restart.Request) string { return r.Reason }),
		text(func(r *restart.Request) string { return r.RequestedBy }),
		at(func(r *restart.Request) time.Time { return r.RequestedAt }),
		at(func(r *restart.Request) time.Time { return r.NotAfter }),
		text(func(r *restart.Request) string { return r.Campaign }),
		text(func(r *restart.Request) string { return r.ReplayOf }),
		text(func(r *restart.Request) string { return r.RequeuedFrom }),
		column(ops, func(w *write) int64 { return int64(w.request.MinUptime) }),
		column(ops, func(w *write) []byte { return w.request.Raw }),
	}
}

// requestFields are where the fields of requestFieldList go.
func requestFields(r *restart.Request) []any {
	return []any{
		(*[16]byte)(&r.ID), &r.Instance, (*string)(&r.Host), (*string)(&r.Group), &r.Reason, &r.RequestedBy,
		&r.RequestedAt, &r.NotAfter, &r.Campaign, &r.ReplayOf, &r.RequeuedFrom, (*int64)(&r.MinUptime), &r.Raw,
	}
}

// Request implements store.Store.
func (s *Store) Request(ctx context.Context, id uuid.UUID) (r restart.Request, err error) {
	err = s.within(ctx, func(ctx context.Context) error {
		return s.reads.QueryRow(ctx, "SELECT "+requestFieldList+" FROM requests r WHERE id = $1", [16]byte(id)).
			Scan(requestFields(&r)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return restart.Request{}, fmt.Errorf("cannot read request %q: %w", id, err)
	}
	r.RequestedAt, r.NotAfter = r.RequestedAt.UTC(), r.NotAfter.UTC()
	return r, nil
}

// Forget implements store.Store. Of several who forget at once each takes other requests.
func (s *Store) Forget(ctx context.Context, before time.Time, n int) (forgotten int, err error) {
	if s.writes == nil {
		return 0, fmt.Errorf("cannot forget requests: %w", errReadOnly)
	}
	err = s.within(ctx, func(ctx context.Context) error {
		tag, err := s.writes.Exec(ctx, forgetRequests, before, max(0, n))
		forgotten = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cannot forget requests: %w", err)
	}
	return forgotten, nil
}

// forgetRequests finds the rows of the other tables by arrays of ids, whose plan is by index however many the planner
// thinks they are.
const forgetRequests = `WITH old AS MATERIALIZED (
		SELECT id FROM requests WHERE requested_at < $1 ORDER BY requested_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
	), o AS (
		DELETE FROM outcomes WHERE id = ANY(ARRAY(SELECT id FROM old))
	), a AS (
		DELETE FROM earlier_attempts WHERE request_id = ANY(ARRAY(SELECT id FROM old))
	)
	DELETE FROM requests WHERE id = ANY(ARRAY(SELECT id FROM old))`
