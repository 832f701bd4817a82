package postgres_test

import (
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// mustMigrateTo makes the tables as an older program left them.
func mustMigrateTo(t *testing.T, database string, version int64) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// What nobody kept must read as not known, and not as an error. In a fleet that is brought up to date worker by worker
// the older ones go on writing it.
func TestOpen_MigrationKeepsOutcomesWithoutDownAndChecks(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	mustMigrateTo(t, database, 1)
	before := mustFinishAsVersion1(t, database, "before.example.net")
	s := mustOpen(t, database)
	during := mustFinishAsVersion1(t, database, "during.example.net")
	r := storetest.NewRequest("after.example.net")
	after := store.Entry{Request: r, Outcome: storetest.NewOutcome(r.ID, r.Host)}
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []store.Entry{before, during, after} {
		id, host := want.Request.ID, want.Request.Host
		got, err := s.Finish(t.Context(), storetest.NewOutcome(id, host))
		checkKept(t, "Finish", want.Outcome, got, err)
		got, err = s.Outcome(t.Context(), id)
		checkKept(t, "Outcome", want.Outcome, got, err)
		n := 0
		for e, err := range s.History(t.Context(), store.Filter{Host: host}) {
			checkKept(t, "History", want, e, err)
			n++
		}
		if n != 1 {
			t.Errorf("History of %s: got %d entries, want 1", host, n)
		}
	}
}

// Rows outlive the program that wrote them, and people ask for them in SQL.
func TestStore_DownIsMicrosecondsAndChecksAreJSON(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	const known = `2750000 [{"check":"epoch","result":"42, was 41"},{"check":"ready","result":"yes"}]`
	for want, receipt := range map[string]restart.Receipt{
		known:       storetest.NewOutcome(uuid.Nil, "").Receipt,
		"null null": {Checks: []restart.Check{}},
	} {
		id := uuid.New()
		if _, err := s.Finish(t.Context(), restart.Outcome{ID: id, Receipt: receipt}); err != nil {
			t.Fatal(err)
		}
		const query = "SELECT coalesce(down::text, 'null') || ' ' || coalesce(checks, 'null') FROM outcomes WHERE id = '%s'"
		if got := queryText(t, database, fmt.Sprintf(query, id)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func checkKept[T store.Entry | restart.Outcome](t *testing.T, by string, want, got T, err error) {
	t.Helper()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%s: error %v (-want +got):\n%s", by, err, diff)
	}
}

// mustFinishAsVersion1 saves and finishes a request as the first program did.
func mustFinishAsVersion1(t *testing.T, database string, host restart.Host) store.Entry {
	t.Helper()
	r := storetest.NewRequest(host)
	o := storetest.NewOutcome(r.ID, host)
	o.Receipt.Down, o.Receipt.Checks = 0, nil
	conn := mustConnect(t, database)
	for _, insert := range []struct {
		query string
		args  []any
	}{
		{
			`INSERT INTO requests (id, instance, host, grp, reason, requested_by, requested_at, not_after, campaign, replay_of,
				requeued_from, min_uptime, raw, saved_at)
			VALUES ($1, $2, $3, $4, '', '', $5, $6, '', '', '', 0, $7, $5)`,
			[]any{r.ID.String(), r.Instance, string(r.Host), string(r.Group), r.RequestedAt, r.NotAfter, r.Raw},
		},
		{
			`INSERT INTO outcomes (id, host, grp, kind, reason, detail, at, receipt_requested_at, requested_by, worker, attempt,
				from_epoch, to_epoch, triggered_at, verified_at, requested_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $8)`,
			[]any{
				o.ID.String(), string(o.Host), string(o.Group), string(o.Kind), string(o.Reason), o.Detail, o.At,
				o.Receipt.RequestedAt, o.Receipt.RequestedBy, o.Receipt.Worker, o.Receipt.Attempt, string(o.Receipt.From),
				string(o.Receipt.To), o.Receipt.TriggeredAt, o.Receipt.VerifiedAt,
			},
		},
	} {
		if _, err := conn.Exec(t.Context(), insert.query, insert.args...); err != nil {
			t.Fatalf("%s: %v", insert.query, err)
		}
	}
	return store.Entry{Request: r, Outcome: o}
}
