package sqlite

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strings"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A place is where the next page begins: after the entry that has it.
type place struct {
	requestedAt int64
	tie         any // what tells entries of the same instant apart
}

// History implements store.Store.
func (s *Store) History(ctx context.Context, f store.Filter) iter.Seq2[store.Entry, error] {
	p := pathOf(f)
	return store.ByPage(f.Limit, p.beginning(f), func(after place, n int) ([]store.Entry, place, error) {
		return s.page(ctx, p, after, f, n)
	})
}

// A path is the index along which the entries of a filter are found from the latest to the oldest. It is named in the
// query, so that it does not depend on statistics, which nobody may ever gather.
type path struct {
	from     string
	time     string // the columns of a place
	tie      string
	firstTie any // before every other
}

var (
	byTime  = requestsBy("requests_by_time")
	byHost  = requestsBy("requests_by_host")
	byGroup = requestsBy("requests_by_group")
	// An outcome has the time of its request. CROSS JOIN is what keeps SQLite from turning the join round.
	byKind = path{
		from: "outcomes o INDEXED BY outcomes_by_kind CROSS JOIN requests r ON r.id = o.id",
		time: "o.requested_at", tie: "o.id", firstTie: "",
	}
)

func requestsBy(index string) path {
	return path{
		from: "requests r INDEXED BY " + index + " LEFT JOIN outcomes o ON o.id = r.id",
		time: "r.requested_at", tie: "r.seq", firstTie: math.MinInt64,
	}
}

// pathOf returns the path of the fewest entries that do not match.
func pathOf(f store.Filter) path {
	switch {
	case f.Host != "":
		return byHost
	case f.Kind != "":
		return byKind
	case f.Group != "":
		return byGroup
	default:
		return byTime
	}
}

// beginning returns the place before the latest entry that can match.
func (p path) beginning(f store.Filter) place {
	if f.Until.IsZero() {
		return place{math.MaxInt64, p.firstTie}
	}
	return place{micros(f.Until), p.firstTie}
}

// page returns at most n entries, and the place of the last.
func (s *Store) page(ctx context.Context, p path, after place, f store.Filter, n int) (page []store.Entry, last place,
	err error,
) {
	query, args := p.query(after, f, n)
	rows, err := s.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, place{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var e store.Entry
		fields := append(requestFields(&e.Request), outcomeFields(&e.Outcome)...)
		if err := rows.Scan(append(fields, &last.requestedAt, &last.tie)...); err != nil {
			return nil, place{}, err
		}
		page = append(page, e)
	}
	return page, last, rows.Err()
}

func (p path) query(after place, f store.Filter, n int) (query string, args []any) {
	where := []string{fmt.Sprintf("(%s, %s) < (?, ?)", p.time, p.tie)}
	args = []any{after.requestedAt, after.tie}
	add := func(condition string, arg any) {
		where = append(where, condition)
		args = append(args, arg)
	}
	if f.Host != "" {
		add("r.host = ?", string(f.Host))
	}
	if f.Group != "" {
		add("r.grp = ?", string(f.Group))
	}
	if f.Kind != "" {
		add("o.kind = ?", string(f.Kind))
	}
	if !f.Since.IsZero() {
		add(p.time+" >= ?", micros(f.Since))
	}
	query = fmt.Sprintf("SELECT %s, %s, %s, %s FROM %s WHERE %s ORDER BY %s DESC, %s DESC LIMIT ?",
		requestColumns, outcomeColumns, p.time, p.tie, p.from, strings.Join(where, " AND "), p.time, p.tie)
	return query, append(args, n)
}
