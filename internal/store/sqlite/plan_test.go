package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// The history of years must be neither read nor sorted to show its last page. A few rows are enough to know: each query
// names its index or looks up a key, so that the plan depends neither on how many there are nor on statistics.
func TestStore_EveryQueryUsesAnIndexAndNoneSorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	s := mustOpen(t, path)
	for range 10 {
		r := storetest.NewRequest("a.example.net")
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Finish(t.Context(), storetest.NewOutcome(r.ID, r.Host)); err != nil {
			t.Fatal(err)
		}
	}
	const (
		outcome = "SEARCH o USING INDEX sqlite_autoindex_outcomes_1 (id=?) LEFT-JOIN"
		request = "SEARCH r USING INDEX sqlite_autoindex_requests_1 (id=?)"
	)
	hourAgo := time.Now().Add(-time.Hour)
	queries := sqlite.Queries()
	tests := []struct {
		name  string
		query sqlite.Query
		want  []string
	}{
		{"Host", sqlite.HistoryQuery(store.Filter{Host: "a"}), []string{
			"SEARCH r USING INDEX requests_by_host (host=? AND requested_at<?)", outcome,
		}},
		{"Since", sqlite.HistoryQuery(store.Filter{Since: hourAgo}), []string{
			"SEARCH r USING INDEX requests_by_time (requested_at>? AND requested_at<?)", outcome,
		}},
		{"Until", sqlite.HistoryQuery(store.Filter{Until: hourAgo}), []string{
			"SEARCH r USING INDEX requests_by_time (requested_at<?)", outcome,
		}},
		{"Group", sqlite.HistoryQuery(store.Filter{Group: "g"}), []string{
			"SEARCH r USING INDEX requests_by_group (grp=? AND requested_at<?)", outcome,
		}},
		{"Kind", sqlite.HistoryQuery(store.Filter{Kind: restart.Dead}), []string{
			"SEARCH o USING INDEX outcomes_by_kind (kind=? AND (requested_at,id)<(?,?))", request,
		}},
		{"KindSince", sqlite.HistoryQuery(store.Filter{Kind: restart.Dead, Since: hourAgo}), []string{
			"SEARCH o USING INDEX outcomes_by_kind (kind=? AND requested_at>? AND (requested_at,id)<(?,?))", request,
		}},
		{"HostSince", sqlite.HistoryQuery(store.Filter{Host: "a", Since: hourAgo}), []string{
			"SEARCH r USING INDEX requests_by_host (host=? AND requested_at>? AND requested_at<?)", outcome,
		}},
		{"All", sqlite.HistoryQuery(store.Filter{}), []string{
			"SEARCH r USING INDEX requests_by_time (requested_at<?)", outcome,
		}},
		{"Request", queries["Request"], []string{request}},
		{"Outcome", queries["Outcome"], []string{"SEARCH o USING INDEX sqlite_autoindex_outcomes_1 (id=?)"}},
		{"Ended", queries["Ended"], []string{ // sorts what was found, of which there are few kinds
			"SEARCH outcomes USING COVERING INDEX outcomes_by_end (at>?)", "USE TEMP B-TREE FOR GROUP BY",
		}},
		{"Oldest", queries["Oldest"], []string{"SEARCH requests USING INDEX requests_by_time (requested_at<?)"}},
		{"DeleteRequest", queries["DeleteRequest"], []string{
			"SEARCH requests USING INDEX sqlite_autoindex_requests_1 (id=?)",
		}},
		{"DeleteOutcome", queries["DeleteOutcome"], []string{
			"SEARCH outcomes USING INDEX sqlite_autoindex_outcomes_1 (id=?)",
		}},
		{"DeleteAttempts", queries["DeleteAttempts"], []string{"SEARCH earlier_attempts USING PRIMARY KEY (request_id=?)"}},
		{"Attempts", queries["Attempts"], []string{ // scans and sorts what both searches found, of one request
			"CO-ROUTINE attempts", "COMPOUND QUERY", "LEFT-MOST SUBQUERY",
			"SEARCH earlier_attempts USING PRIMARY KEY (request_id=?)", "UNION ALL",
			"SEARCH outcomes USING INDEX sqlite_autoindex_outcomes_1 (id=?)", "SCAN attempts", "USE TEMP B-TREE FOR ORDER BY",
		}},
	}
	db := mustOpenRaw(t, path)
	for _, statistics := range []string{"SELECT 1", "ANALYZE"} {
		mustExec(t, db, statistics)
		for _, tt := range tests {
			t.Run(tt.name+"After"+strings.ReplaceAll(statistics, " ", ""), func(t *testing.T) {
				got := plan(t, db, tt.query)
				if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Errorf("got plan %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func plan(t *testing.T, db *sql.DB, query sqlite.Query) (steps []string) {
	t.Helper()
	rows, err := db.Query("EXPLAIN QUERY PLAN "+query.Text, query.Args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
