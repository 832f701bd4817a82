package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func BenchmarkSave(b *testing.B) {
	storetest.BenchmarkSave(b, func(b *testing.B) store.Store { return mustOpen(b, shared.Server(b).NewDatabase(b)) })
}

func BenchmarkFinish(b *testing.B) {
	storetest.BenchmarkFinish(b, func(b *testing.B) store.Store { return mustOpen(b, shared.Server(b).NewDatabase(b)) })
}

// BenchmarkHistory asks a database of years what people ask.
func BenchmarkHistory(b *testing.B) {
	if testing.Short() {
		b.Skip("makes a million rows")
	}
	url := shared.Server(b).NewDatabase(b)
	s := mustOpen(b, url)
	fill(b, url, 1_000_000)
	for _, bm := range []struct {
		name   string
		filter store.Filter
	}{
		{"HostLimit100", store.Filter{Host: "host-77.example.net", Limit: 100}},
		{"SinceOneHour", store.Filter{Since: filled.Add(-time.Hour)}},
		{"GroupLimit100", store.Filter{Group: "group-3", Limit: 100}},
		{"KindDeadLimit100", store.Filter{Kind: "dead", Limit: 100}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			rows := 0
			for b.Loop() {
				rows = 0
				for _, err := range s.History(b.Context(), bm.filter) {
					if err != nil {
						b.Fatal(err)
					}
					rows++
				}
			}
			b.ReportMetric(float64(rows), "rows")
		})
	}
}

// filled is when the last of fill's requests was made.
var filled = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// fill makes n requests, thirty seconds apart, with their outcomes: of a thousand hosts in ten groups. One in a
// thousand ended dead, the oldest, which is where a planner that expects them everywhere goes wrong.
func fill(tb testing.TB, url string, n int) {
	tb.Helper()
	mustExec(tb, url, fmt.Sprintf(`
		INSERT INTO requests
		SELECT gen_random_uuid(), 'host-' || i %% 1000, 'host-' || i %% 1000 || '.example.net', 'group-' || i %% 10, 'kernel update', 'ops',
			at, at + interval '1 day', '', '', '', 0, '\x7b7d', at
		FROM (SELECT i, timestamptz '%s' - i * interval '30 s' AS at FROM generate_series(0, %d) AS i) AS rows;
		INSERT INTO outcomes
		SELECT id, host, grp, CASE WHEN row_number() OVER (ORDER BY requested_at) <= %d THEN 'dead' ELSE 'restarted' END,
			'verified', '', requested_at + interval '1 min', requested_at, requested_at, 'ops', 'worker-1', 1, '41', '42',
			requested_at + interval '2 s', requested_at + interval '40 s'
		FROM requests`, filled.Format(time.RFC3339), n-1, n/1000))
	mustExec(tb, url, "VACUUM ANALYZE") // what autovacuum does after a while
}
