package sqlite

import (
	"bytes"
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

var requestsTable = &table{name: "requests", key: "id", columns: `id, instance, host, grp, reason, requested_by,
	requested_at, not_after, campaign, replay_of, requeued_from, min_uptime, raw, saved_at`}

const (
	selectOwner = `SELECT host, grp FROM requests WHERE id = ?`

	requestColumns = `r.id, r.instance, r.host, r.grp, r.reason, r.requested_by, r.requested_at, r.not_after,
		r.campaign, r.replay_of, r.requeued_from, r.min_uptime, r.raw`

	selectRequest = `SELECT ` + requestColumns + ` FROM requests r WHERE r.id = ?`
)

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, r restart.Request) error {
	if err := s.write(ctx, newSave(r, s.now())); err != nil {
		return fmt.Errorf("cannot save request %q: %w", r.ID, err)
	}
	return nil
}

// newSave returns the insertion of a request. It has bytes of its own, because it may outlast the caller's right to
// those of the request.
func newSave(r restart.Request, at time.Time) *insertion {
	store.CleanRequest(&r)
	id, host, group := r.ID.String(), r.Host, r.Group // all of r that lives as long as the insertion
	return &insertion{
		into: requestsTable,
		row: []driver.Value{
			id, r.Instance, string(r.Host), string(r.Group), r.Reason, r.RequestedBy, micros(r.RequestedAt),
			micros(r.NotAfter), r.Campaign, r.ReplayOf, r.RequeuedFrom, int64(r.MinUptime), bytes.Clone(r.Raw), micros(at),
		},
		compare: func(ctx context.Context, stmt *statements) error { return stmt.checkOwner(ctx, id, host, group) },
	}
}

// checkOwner refuses an id under which another host's request is stored, or another group's.
func (stmt *statements) checkOwner(ctx context.Context, id string, host restart.Host, group restart.Group) error {
	var ownerHost restart.Host
	var ownerGroup restart.Group
	if err := stmt.selectOwner.QueryRowContext(ctx, id).Scan(&ownerHost, &ownerGroup); err != nil {
		return err
	}
	if ownerHost != host || ownerGroup != group {
		return fmt.Errorf("%w: host %q in group %q", store.ErrIDReused, ownerHost, ownerGroup)
	}
	return nil
}

// Request implements store.Store.
func (s *Store) Request(ctx context.Context, id uuid.UUID) (r restart.Request, err error) {
	err = s.reads.QueryRowContext(ctx, selectRequest, id).Scan(requestFields(&r)...)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return restart.Request{}, fmt.Errorf("cannot read request %q: %w", id, err)
	}
	return r, nil
}

// requestFields returns where requestColumns are scanned to.
func requestFields(r *restart.Request) []any {
	return []any{
		&r.ID, &r.Instance, &r.Host, &r.Group, &r.Reason, &r.RequestedBy, scanTime(&r.RequestedAt), scanTime(&r.NotAfter),
		&r.Campaign, &r.ReplayOf, &r.RequeuedFrom, &r.MinUptime, &r.Raw,
	}
}
