package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// The connection dies in the middle of a commit. Whether the server did it or not, nobody may believe what was not
// answered, and who asks again must find it done exactly once.
func TestStore_ConnectionCutInTheMiddleOfACommit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
		done  bool // by the server, all the same
	}{
		{"RequestLost", requestLost, false},
		{"ResponseLost", responseLost, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			database := shared.Server(t).NewDatabase(t)
			proxy, through := mustProxy(t, database)
			s, direct := mustOpen(t, through), mustOpen(t, database)
			warm(t, s)

			r := storetest.NewRequest("a.example.net")
			proxy.arm(tt.fault)
			if err := s.Save(t.Context(), r); err == nil {
				t.Error("Save succeeded without an answer")
			}
			if _, err := direct.Request(t.Context(), r.ID); (err == nil) != tt.done {
				t.Errorf("Request: got error %v, want the request there: %t", err, tt.done)
			}
			if err := s.Save(t.Context(), r); err != nil {
				t.Errorf("Save again: %v", err)
			}
			first, second := storetest.NewOutcome(r.ID, r.Host), storetest.NewOutcome(r.ID, r.Host)
			second.Receipt.Worker = "worker-2"
			warm(t, s)
			proxy.arm(tt.fault)
			if _, err := s.Finish(t.Context(), first); err == nil {
				t.Error("Finish succeeded without an answer")
			}
			want := second
			if tt.done {
				want = first
			}
			if got, err := direct.Finish(t.Context(), second); err != nil || !cmp.Equal(got, want) {
				t.Errorf("Finish by another: got %+v, error %v, want %+v", got, err, want)
			}
			if got, err := s.Finish(t.Context(), first); err != nil || !cmp.Equal(got, want) {
				t.Errorf("Finish again: got %+v, error %v, want %+v", got, err, want)
			}
		})
	}
}

// warm has every statement prepared, so that what comes next on the wire is a commit.
func warm(t *testing.T, s store.Store) {
	t.Helper()
	for range 20 { // more than there are connections
		r := storetest.NewRequest("warm.example.net")
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Finish(t.Context(), storetest.NewOutcome(r.ID, r.Host)); err != nil {
			t.Fatal(err)
		}
	}
}

// Every statement has succeeded, and the commit after them fails: what the statements answered is worth nothing.
func TestStore_CommitThatFailsAtItsVeryEndIsNoSuccess(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	mustExec(t, database, `
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON requests DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW WHEN (NEW.host = 'bad.example.net') EXECUTE FUNCTION fail()`)
	requests := make([]restart.Request, 100)
	for i := range requests {
		requests[i] = storetest.NewRequest("bad.example.net")
	}
	for _, err := range saveAll(t, s, requests) {
		if err == nil || !strings.Contains(err.Error(), "no room") {
			t.Fatalf("got error %v, want the commit's", err)
		}
	}
	mustHold(t, s, 0)
	mustExec(t, database, "DROP TRIGGER late ON requests")
	if err := errors.Join(saveAll(t, s, requests)...); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// One row that the database can never take must not keep a thousand others out, nor be kept out with them unseen.
func TestStore_RowThatTheServerRefusesHarmsOnlyItself(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	release := lockOut(t, database) // so that they meet in a few batches
	requests := make([]restart.Request, 700)
	bad := map[int]bool{0: true, 350: true, 351: true, 699: true}
	for i := range requests {
		requests[i] = storetest.NewRequest("a.example.net")
		if bad[i] {
			requests[i].Host = restart.Host(randomText(20 << 10)) // more than an index takes
		}
	}
	requests[351].Host = "\xff"
	time.AfterFunc(100*time.Millisecond, release)
	for i, err := range saveAll(t, s, requests) {
		if (err != nil) != bad[i] {
			t.Errorf("request %d: got error %v, want one: %t", i, err, bad[i])
		}
	}
	mustHold(t, s, len(requests)-len(bad))
}

func randomText(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	return string(text)
}

// A thousand requests of a megabyte each are more than PostgreSQL takes in one message.
func TestStore_BatchOfLargeRequestsGoesInParts(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	release := lockOut(t, database) // so that they meet in a few batches
	requests := make([]restart.Request, 60)
	for i := range requests {
		requests[i] = storetest.NewRequest("a.example.net")
		requests[i].Raw = make([]byte, 1<<20)
	}
	time.AfterFunc(100*time.Millisecond, release)
	if err := errors.Join(saveAll(t, s, requests)...); err != nil {
		t.Error(err)
	}
	mustHold(t, s, len(requests))
	const largest = "SELECT max(n)::text FROM (SELECT count(*) AS n FROM requests GROUP BY xmin) AS transactions"
	if got := queryText(t, database, largest); len(got) > 2 || len(got) == 2 && got > "16" {
		t.Errorf("the largest transaction has %s MiB, want 16 at most", got)
	}
}

// Two workers have the same ids in their batches, in other orders and with other hosts: each id has one owner, on whom
// both agree, and neither worker's batches stand in the other's way for ever.
func TestStore_TwoStoresThatCollideAgreeAndDoNotDeadlock(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	stores := []store.Store{mustOpen(t, database), mustOpen(t, database)}
	ids := make([]uuid.UUID, 2000)
	for i := range ids {
		ids[i] = uuid.New()
	}
	hosts := []restart.Host{"a.example.net", "b.example.net"}
	saved := make([][2]error, len(ids))
	stands := make([][2]restart.Outcome, len(ids))
	var all sync.WaitGroup
	for w, s := range stores {
		for _, i := range rand.Perm(len(ids)) {
			all.Go(func() {
				r := storetest.NewRequest(hosts[w])
				r.ID = ids[i]
				saved[i][w] = s.Save(t.Context(), r)
				o := storetest.NewOutcome(ids[i], hosts[w])
				var err error
				if stands[i][w], err = s.Finish(t.Context(), o); err != nil {
					t.Errorf("Finish: %v", err)
				}
			})
		}
	}
	all.Wait()
	won := [2]int{}
	for i := range ids {
		if !cmp.Equal(stands[i][0], stands[i][1]) {
			t.Errorf("id %d: outcomes %v and %v stand", i, stands[i][0], stands[i][1])
		}
		for w := range stores {
			if saved[i][w] == nil {
				won[w]++
			} else if !errors.Is(saved[i][w], store.ErrIDReused) {
				t.Errorf("id %d: got error %v, want %v", i, saved[i][w], store.ErrIDReused)
			}
		}
	}
	if won[0]+won[1] != len(ids) {
		t.Errorf("%d and %d saves succeeded of %d ids, want one of each", won[0], won[1], len(ids))
	}
}

// People who read a long history must not keep the workers from saving.
func TestStore_WritesDoNotWaitForReaders(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s := mustOpen(t, database)
	lock := mustConnect(t, database)
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE outcomes IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	for range 50 {
		reading.Go(func() {
			if _, err := s.Outcome(ctx, uuid.New()); !errors.Is(err, context.Canceled) {
				t.Errorf("Outcome: got error %v, want %v", err, context.Canceled)
			}
		})
	}
	eventually(t, "readers that use up their connections", func() error {
		const query = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		if n := queryText(t, database, query); n != "4" {
			return fmt.Errorf("%s wait", n)
		}
		return nil
	})
	for range 10 {
		if err := s.Save(t.Context(), storetest.NewRequest("a.example.net")); err != nil {
			t.Error(err)
		}
	}
	cancel()
	reading.Wait()
}

// A commit that takes longer than it may is an error, not a wait for ever; and it is the database's, not one of the
// caller's context.
func TestStore_SlowCommitIsAnErrorAfterTheTimeout(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: database, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := storetest.NewRequest("a.example.net")
	release := lockOut(t, database)
	err = s.Save(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "no answer from database") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that the database did not answer", err)
	}
	release()
	eventually(t, "Save", func() error { return s.Save(t.Context(), r) })
	mustHold(t, s, 1)
}

// At the end of a worker's life there is no time to wait for a database that hangs, however many wait.
func TestStore_CloseWaitsForAHangingServerNoLongerThanTheTimeout(t *testing.T) {
	database := shared.Server(t).NewDatabase(t)
	const timeout = 500 * time.Millisecond
	s, err := postgres.Open(t.Context(), postgres.Config{URL: database, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	release := lockOut(t, database)
	defer release()
	var saving sync.WaitGroup
	for range 10_000 { // ten batches
		saving.Go(func() {
			if s.Save(t.Context(), storetest.NewRequest("a.example.net")) == nil {
				t.Error("Save succeeded on locked tables")
			}
		})
	}
	eventually(t, "writes that wait", func() error {
		const query = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		if n := queryText(t, database, query); n == "0" {
			return errors.New("none waits")
		}
		return nil
	})
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 4*timeout { // the server is busy elsewhere too
		t.Errorf("Close took %s, with a timeout of %s", took, timeout)
	}
	saving.Wait()
}

// The server is stopped and started under load, in good order and not: what was confirmed is there, nothing is there
// twice, and the same store goes on.
func TestStore_LosesNothingItConfirmedWhenTheServerDies(t *testing.T) {
	server := postgrestest.Start(t)
	database := server.NewDatabase(t)
	s := mustOpen(t, database)
	for round := range 12 {
		var saved sync.Map // ids that were confirmed
		var n atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var savers sync.WaitGroup
		for range 100 {
			savers.Go(func() {
				for ctx.Err() == nil {
					r := storetest.NewRequest("a.example.net")
					for ctx.Err() == nil { // one that fails is asked for again
						if s.Save(ctx, r) == nil {
							saved.Store(r.ID, true)
							n.Add(1)
							break
						}
					}
				}
			})
		}
		after := int64(1 + rand.IntN(2000))
		eventually(t, "saves", func() error {
			if n := n.Load(); n < after {
				return fmt.Errorf("%d of %d", n, after)
			}
			return nil
		})
		if round < 10 {
			server.Kill(t)
		} else {
			server.Stop(t)
		}
		cancel()
		savers.Wait()
		server.StartAgain(t)
		eventually(t, "Save after the server came back", func() error {
			return s.Save(t.Context(), storetest.NewRequest("again.example.net"))
		})
		var there map[uuid.UUID]bool
		eventually(t, "History", func() (err error) {
			there, err = stored(t, s)
			return err
		})
		saved.Range(func(id, _ any) bool {
			if !there[id.(uuid.UUID)] {
				t.Errorf("round %d: request %s is lost, though its Save succeeded", round, id)
			}
			return true
		})
	}
}

func TestStore_CallsFailWhileTheServerIsAwayAndSayWhere(t *testing.T) {
	server := postgrestest.Start(t)
	s := mustOpen(t, server.NewDatabase(t))
	r := storetest.NewRequest("a.example.net")
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	for range 5 {
		_, read := s.Request(t.Context(), r.ID)
		for name, err := range map[string]error{"Save": s.Save(t.Context(), r), "Request": read} {
			if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrIDReused) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got error %v, want one line about the connection", name, err)
			}
		}
	}
	if err := s.Save(t.Context(), r); err == nil || !strings.Contains(err.Error(), server.Address()) {
		t.Errorf("got error %v, want %s in it", err, server.Address())
	}
	server.StartAgain(t)
	eventually(t, "Save", func() error { return s.Save(t.Context(), r) })
	eventually(t, "Request", func() error {
		_, err := s.Request(t.Context(), r.ID)
		return err
	})
}

func saveAll(t *testing.T, s store.Store, requests []restart.Request) []error {
	t.Helper()
	errs := make([]error, len(requests))
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() { errs[i] = s.Save(t.Context(), r) })
	}
	all.Wait()
	return errs
}

// stored returns the ids of all requests, each of which must be there once.
func stored(t *testing.T, s store.Store) (map[uuid.UUID]bool, error) {
	t.Helper()
	found := make(map[uuid.UUID]bool)
	for e, err := range s.History(t.Context(), store.Filter{}) {
		if err != nil {
			return nil, err
		}
		if found[e.Request.ID] {
			t.Errorf("request %s is there twice", e.Request.ID)
		}
		found[e.Request.ID] = true
	}
	return found, nil
}

func mustHold(t *testing.T, s store.Store, want int) {
	t.Helper()
	got, err := stored(t, s)
	if err != nil || len(got) != want {
		t.Errorf("got %d requests, error %v, want %d", len(got), err, want)
	}
}
