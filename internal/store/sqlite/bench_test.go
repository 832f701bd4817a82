package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func BenchmarkSave(b *testing.B) {
	storetest.BenchmarkSave(b, func(b *testing.B) store.Store { return mustOpen(b, filepath.Join(b.TempDir(), "mandrill.db")) })
}

func BenchmarkFinish(b *testing.B) {
	storetest.BenchmarkFinish(b, func(b *testing.B) store.Store { return mustOpen(b, filepath.Join(b.TempDir(), "mandrill.db")) })
}

// BenchmarkMessage shows what the two writes of a message cost the processor when a thousand have them done at once. How
// long they take depends on the disk, and on who else uses the machine.
func BenchmarkMessage(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "mandrill.db"))
	var next atomic.Int64
	var callers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	for range 1000 {
		callers.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				r := storetest.NewRequest(restart.Host(fmt.Sprintf("host-%07d.example.net", n)))
				if err := s.Save(b.Context(), r); err != nil {
					b.Error(err)
				}
				if _, err := s.Finish(b.Context(), storetest.NewOutcome(r.ID, r.Host)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
}

// processorTime returns what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkHistory shows that a question about a few of a million takes the time of a few.
func BenchmarkHistory(b *testing.B) {
	if testing.Short() {
		b.Skip("builds 1,000,000 rows")
	}
	path := filepath.Join(b.TempDir(), "mandrill.db")
	now := time.Now()
	fill(b, path, 1_000_000, now)
	s := mustOpen(b, path)
	for _, bm := range []struct {
		name   string
		filter store.Filter
		want   int
	}{
		{"HostLimit100", store.Filter{Host: "host-9990.example.net", Limit: 100}, 100},
		{"Since1h", store.Filter{Since: now.Add(-time.Hour)}, 104},
		{"GroupLimit100", store.Filter{Group: "group-7", Limit: 100}, 100},
		{"KindLimit100", store.Filter{Kind: restart.Dead, Limit: 100}, 100},
		{"HostSince1h", store.Filter{Host: "host-9990.example.net", Since: now.Add(-time.Hour)}, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				for _, err := range s.History(b.Context(), bm.filter) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != bm.want {
					b.Fatalf("got %d entries, want %d", n, bm.want)
				}
			}
		})
	}
}

// fill stores requests of the last 400 days, of 10,000 hosts in 20 groups; of their outcomes one in a thousand is dead.
func fill(b *testing.B, path string, rows int, now time.Time) {
	b.Helper()
	closedDatabase(b, path)
	db := mustOpenRaw(b, path)
	defer db.Close()
	db.SetMaxOpenConns(1)
	mustExec(b, db, "PRAGMA synchronous = OFF")
	mustExec(b, db, `
		WITH RECURSIVE row (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < ?1)
		INSERT INTO requests (id, instance, host, grp, reason, requested_by, requested_at, not_after, campaign, replay_of,
			requeued_from, min_uptime, raw, saved_at)
		SELECT format('%08x-0000-7000-8000-%012x', n / 1000, n), 'host-' || (n % 10000),
			'host-' || (n % 10000) || '.example.net', 'group-' || (n % 20), 'kernel', 'ops', ?2 - (?1 - n) * ?3,
			?2 - (?1 - n - 1) * ?3, '', '', '', 0, CAST('{}' AS BLOB), ?2
		FROM row`, rows, now.UnixMicro(), (400*24*time.Hour).Microseconds()/int64(rows))
	mustExec(b, db, `
		INSERT INTO outcomes (id, host, grp, kind, reason, detail, at, requested_by, requested_at, worker, attempt,
			from_epoch, to_epoch, triggered_at, verified_at)
		SELECT id, host, grp, iif(seq % 1000 = 0, 'dead', 'restarted'), 'verified', 'restarted in 3 s', requested_at, 'ops',
			requested_at, 'worker-1', 1, '41', '42', requested_at, requested_at
		FROM requests`)
}
