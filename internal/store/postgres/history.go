package postgres

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A place is where the next page begins: after the entry that has it.
type place struct {
	requestedAt pgtype.Timestamptz
	id          uuid.UUID
}

// beginning is before every request: the latest comes first.
var beginning = place{pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, uuid.Max}

// History implements store.Store.
func (s *Store) History(ctx context.Context, f store.Filter) iter.Seq2[store.Entry, error] {
	return store.ByPage(f.Limit, beginning, func(after place, n int) ([]store.Entry, place, error) {
		return s.page(ctx, after, f, n)
	})
}

// page returns at most n entries, and the place of the last.
func (s *Store) page(ctx context.Context, after place, f store.Filter, n int) (page []store.Entry, last place,
	err error,
) {
	query, args := historyQuery(after, f, n)
	// The plan is for these values: a group may have a handful of requests, or nearly all.
	args = append([]any{pgx.QueryExecModeCacheDescribe}, args...)
	err = s.within(ctx, func(ctx context.Context) error {
		rows, _ := s.reads.Query(ctx, query, args...) // its error comes from them too
		var e store.Entry
		fields := append([]any{&last.requestedAt, (*[16]byte)(&last.id)}, requestFields(&e.Request)...)
		fields = append(fields, outcomeFields(&e.Outcome)...)
		_, err := pgx.ForEachRow(rows, fields, func() error {
			e.Request.RequestedAt, e.Request.NotAfter = e.Request.RequestedAt.UTC(), e.Request.NotAfter.UTC()
			e.Outcome = inUTC(e.Outcome)
			page = append(page, e)
			return nil
		})
		return err
	})
	return page, last, err
}

// historyQuery asks for a page by the index that has its order: of the requests, or, where they are chosen by their
// outcome alone, of the outcomes, which know when their requests were made.
func historyQuery(after place, f store.Filter, n int) (query string, args []any) {
	ordered := "r"
	if f.Kind != "" && f.Host == "" {
		ordered = "o"
	}
	var where []string
	add := func(condition string, values ...any) {
		numbers := make([]any, len(values))
		for i, value := range values {
			args = append(args, value)
			numbers[i] = len(args)
		}
		where = append(where, fmt.Sprintf(condition, numbers...))
	}
	add("("+ordered+".requested_at, "+ordered+".id) < ($%d, $%d)", after.requestedAt, [16]byte(after.id))
	if f.Kind != "" {
		add("o.kind = $%d", string(f.Kind))
	}
	if f.Group != "" {
		add("r.grp = $%d", string(f.Group))
	}
	if f.Host != "" {
		add("r.host = $%d", string(f.Host))
	}
	if !f.Since.IsZero() {
		add(ordered+".requested_at >= $%d", f.Since)
	}
	if !f.Until.IsZero() {
		add(ordered+".requested_at < $%d", f.Until)
	}
	query = fmt.Sprintf(`SELECT %[1]s.requested_at, %[1]s.id, %[2]s, %[3]s
		FROM requests r LEFT JOIN outcomes o ON o.id = r.id
		WHERE %[4]s ORDER BY %[1]s.requested_at DESC, %[1]s.id DESC LIMIT %[5]d`,
		ordered, requestFieldList, outcomeFieldList, strings.Join(where, " AND "), n)
	return query, args
}
