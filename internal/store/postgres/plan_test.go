package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// The history of years must not be read through to show its last page. What is no more than a page, as that of one host
// may be, can be sorted: to the planner that is the same.
func TestStore_HistoryIsReadByIndex(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	fill(t, database, 100_000)
	mustExec(t, database, "INSERT INTO earlier_attempts SELECT id, 1, 'worker-1', NULL, NULL, '', '', '' FROM requests")
	mustExec(t, database, "ANALYZE earlier_attempts")
	mustExec(t, database, "UPDATE requests SET grp = 'rare' WHERE host = 'host-5.example.net'")
	mustExec(t, database, "ANALYZE requests")
	for _, tt := range []struct {
		name   string
		filter store.Filter
		index  string
	}{
		{"All", store.Filter{}, "requests_by_time"},
		{"Host", store.Filter{Host: "host-77.example.net"}, "requests_by_host"},
		{"HostSince", store.Filter{Host: "host-77.example.net", Since: filled.Add(-time.Hour)}, "requests_by_host"},
		{"GroupThatIsRare", store.Filter{Group: "rare"}, "requests_by_group"},
		{"GroupThatIsCommon", store.Filter{Group: "group-3"}, "requests_by_"}, // soon found along the time, too
		{"Since", store.Filter{Since: filled.Add(-time.Hour)}, "requests_by_time"},
		{"Until", store.Filter{Until: filled.Add(-24 * time.Hour)}, "requests_by_time"},
		{"KindThatIsRare", store.Filter{Kind: "dead"}, "outcomes_by_kind"},
		{"KindThatIsCommon", store.Filter{Kind: "restarted"}, "outcomes_by_kind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			query, args := postgres.HistoryQuery(tt.filter)
			mustUseIndexes(t, database, query, args, tt.index)
			tt.filter.Limit = 1000
			for _, err := range s.History(t.Context(), tt.filter) {
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("Forget", func(t *testing.T) {
		args := []any{filled.Add(-24 * time.Hour), 1000}
		mustUseIndexes(t, database, postgres.ForgetQuery, args, "requests_by_time", "outcomes_pkey", "earlier_attempts_pkey", "requests_pkey")
	})
}

// What ended in the last hour must be counted without reading through what ended in years.
func TestStore_EndedIsCountedByIndex(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	mustOpen(t, database)
	fill(t, database, 100_000)
	mustUseIndexes(t, database, postgres.CountEnded, []any{filled.Add(-time.Hour)}, "outcomes_by_end")
}

// mustUseIndexes checks that a query's plan has these indexes, and reads no table through.
func mustUseIndexes(t *testing.T, database, query string, args []any, indexes ...string) {
	t.Helper()
	rows, err := mustConnect(t, database).Query(t.Context(), "EXPLAIN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	for _, index := range indexes {
		if !strings.Contains(plan, index) {
			t.Errorf("want the index %s in the plan:\n%s", index, plan)
		}
	}
	if strings.Contains(plan, "Seq Scan") {
		t.Errorf("want no table read through in the plan:\n%s", plan)
	}
}

// An outcome's receipt may not know when its request was made, or know it of a second asking.
func TestStore_HistoryOfAKindHasTheOrderOfItsRequests(t *testing.T) {
	s := mustOpen(t, shared.Server(t).NewDatabase(t))
	for _, minute := range []int{3, 1, 2, 0} {
		r := storetest.NewRequest("a.example.net")
		r.RequestedAt = r.RequestedAt.Add(time.Duration(minute) * time.Minute)
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		o := storetest.NewOutcome(r.ID, r.Host)
		o.Receipt.RequestedAt = []time.Time{{}, r.RequestedAt, r.RequestedAt.Add(-time.Hour), {}}[minute]
		if _, err := s.Finish(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	var last time.Time
	n := 0
	for e, err := range s.History(t.Context(), store.Filter{Kind: "restarted", Since: storetest.NewRequest("").RequestedAt}) {
		if err != nil {
			t.Fatal(err)
		}
		if at := e.Request.RequestedAt; n > 0 && !at.Before(last) {
			t.Errorf("got %s after %s, want the latest first", at, last)
		}
		last = e.Request.RequestedAt
		n++
	}
	if n != 4 {
		t.Errorf("got %d entries, want 4", n)
	}
}

// Retention runs in every worker of the fleet at once, while others save.
func TestStore_ManyForgetAtOnceEachItsOwn(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	fill(t, database, 10_000)
	before := filled.Add(-1000 * 30 * time.Second) // of all but 1001
	const forgetters = 8
	forgotten := make(chan int, forgetters)
	for range forgetters {
		own := mustOpen(t, database)
		go func() {
			sum := 0
			defer func() { forgotten <- sum }()
			for {
				n, err := own.Forget(context.Background(), before, 100)
				if err != nil {
					t.Error(err)
					return
				}
				if sum += n; n == 0 {
					return
				}
			}
		}()
	}
	sum := 0
	for range forgetters {
		sum += <-forgotten
	}
	if sum != 8999 {
		t.Errorf("%d were forgotten, want 8999, each once", sum)
	}
	mustHold(t, s, 1001)
	if got := queryText(t, database, "SELECT count(*)::text FROM outcomes"); got != "1001" {
		t.Errorf("got %s outcomes, want 1001", got)
	}
}

// Retention must not stand still because somebody looks at an old request.
func TestStore_ForgetPassesByWhatAnotherHolds(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	fill(t, database, 10)
	holder := mustConnect(t, database)
	const hold = "BEGIN; SELECT id FROM requests ORDER BY requested_at LIMIT 3 FOR UPDATE"
	if _, err := holder.PgConn().Exec(t.Context(), hold).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Forget(t.Context(), filled.Add(time.Second), 100); n != 7 || err != nil {
		t.Errorf("got %d, error %v, want 7", n, err)
	}
	if err := holder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Forget of what was held", func() error {
		if n, err := s.Forget(t.Context(), filled.Add(time.Second), 100); n != 3 || err != nil {
			return fmt.Errorf("got %d, error %v, want 3", n, err)
		}
		return nil
	})
}
