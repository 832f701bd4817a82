package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
)

// The database goes away for ten seconds while thousands are in work: saves wait, restarts go on, nothing is lost, and
// the log says from when to when.
func TestProcess_DatabaseThatIsAwayLosesNothing(t *testing.T) {
	t.Parallel()
	const count = 5000
	postgres := postgrestest.Start(t)
	s := newScene(t, simulated.Config{RestartMax: time.Second})
	s.database = postgres.NewDatabase(t)
	w := s.startWorker(t, "worker", "--log-level", "info", "--ack-wait", "2s")
	hosts := instances("away", count)
	publisher := s.startPublish(t, hosts, "--nats", s.url)
	s.awaitBoots(t, count/4)

	postgres.Stop(t)
	stopped := time.Now()
	before := s.fleet.Boots()
	away := w.awaitLine(t, "store away", saysSomeOf("store away since"))
	eventually(t, "restarts while the database is away", func() bool { return s.fleet.Boots() > before })
	time.Sleep(time.Until(stopped.Add(10 * time.Second))) // the outage itself: it waits for nothing
	if back := w.said(says("store is back")); len(back) != 0 {
		t.Errorf("the store is said to be back while it is away: %+v", back)
	}
	queued, err := s.queued(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("away since %s: %d hosts booted meanwhile, %d messages held", away.Time.Format(time.TimeOnly), s.fleet.Boots()-before, queued)
	postgres.StartAgain(t)

	wantPublished(t, publisher, count)
	s.awaitEmpty(t)
	w.awaitLine(t, "store is back", says("store is back"))
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	if saved := s.saved(t); len(saved) != count {
		t.Errorf("got %d requests saved, want %d", len(saved), count)
	}

	history := run(t, "history", nil, "", "history", "--database", s.database, "--outcome", "restarted", "--limit", "0", "--output", "json")
	history.wantExit(t, exitDone)
	var told []map[string]any
	if err := json.Unmarshal(history.stdout.Bytes(), &told); err != nil || len(told) != count {
		t.Errorf("history tells of %d requests, %v, want %d", len(told), err, count)
	}
}

func saysSomeOf(text string) func(logLine) bool {
	return func(l logLine) bool { return strings.Contains(l.Message, text) }
}

// saved returns how often each request is on record.
func (s *scene) saved(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for e, err := range s.open(t).History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		found[e.Request.ID.String()]++
	}
	return found
}

// wantSaved wants each request once on record of which a worker has said that it is.
func (s *scene) wantSaved(t *testing.T, workers ...*process) {
	t.Helper()
	saved := s.saved(t)
	for id, n := range saved {
		if n != 1 {
			t.Errorf("request %s is on record %d times", id, n)
		}
	}
	confirmed := 0
	for _, w := range workers {
		for _, line := range w.said(says("saved")) {
			confirmed++
			if saved[line.ID] == 0 {
				t.Errorf("%s has saved %s, and it is not on record", w.name, line.ID)
			}
		}
	}
	if confirmed == 0 {
		t.Error("no worker has said that it saved anything")
	}
}

// The worker dies at any moment, in the middle of a commit too, again and again.
func TestProcess_WorkerThatIsKilledOverAndOverKeepsWhatItSaved(t *testing.T) {
	for _, database := range []string{"SQLite", "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			const (
				kills = 50
				batch = 40
			)
			s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
			if database == "PostgreSQL" {
				s.usePostgres(t)
			}
			// What was delivered fifty times, or ten on a busy machine, would be tried again only after minutes.
			args := []string{"--ack-wait", "1s", "--retry-cap", "5s"}
			var workers []*process
			var hosts []string
			for i := range kills {
				more := instances(fmt.Sprintf("kill%d", i), batch)
				hosts = append(hosts, more...)
				w := s.startWorker(t, fmt.Sprintf("worker %d", i), args...)
				workers = append(workers, w)
				s.publish(t, more)
				w.await(t, "first rows", func() bool { return len(w.matching(says("saved"))) > 0 })
				time.Sleep(rand.N(20 * time.Millisecond)) // the moment is drawn, not waited for
				w.kill(t)
			}
			last := s.startWorker(t, "last worker", args...)
			s.awaitEmpty(t)
			last.stop(t)
			s.wantSaved(t, append(workers, last)...)
			s.wantEachRestartedOnce(t, hosts)
		})
	}
}

// The database itself dies with all its processes, and recovers from its own log.
func TestProcess_DatabaseThatIsKilledOverAndOverKeepsWhatWasSaved(t *testing.T) {
	t.Parallel()
	const (
		kills = 10
		batch = 300
	)
	postgres := postgrestest.Start(t)
	s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
	s.database = postgres.NewDatabase(t)
	w := s.startWorker(t, "worker", "--ack-wait", "2s", "--retry-cap", "5s")
	var hosts []string
	for i := range kills {
		more := instances(fmt.Sprintf("kill%d", i), batch)
		hosts = append(hosts, more...)
		saved := len(w.said(says("saved")))
		publisher := s.startPublish(t, more, "--nats", s.url)
		w.await(t, "rows of this round", func() bool { return len(w.matching(says("saved"))) > saved })
		time.Sleep(rand.N(20 * time.Millisecond)) // the moment is drawn, not waited for
		postgres.Kill(t)
		postgres.StartAgain(t)
		wantPublished(t, publisher, batch)
	}
	s.awaitEmpty(t)
	w.stop(t)
	s.wantSaved(t, w)
	s.wantEachRestartedOnce(t, hosts)
}

// Two workers with a database each would both accept an outcome for one request: the second is refused, and told what to
// do. The one that is still running with the database that was given up ends.
func TestProcess_SecondDatabaseIsRefusedUntilItIsAdopted(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: time.Millisecond})
	first := s.startWorker(t, "first worker")
	first.awaitLine(t, "warning", saysSomeOf("this one must be alone"))
	second := run(t, "second worker", []string{fleetVariable + "=" + s.hosts.URL}, "", "worker", "--nats", s.url, "--data", t.TempDir())
	second.wantExit(t, exitFailed)
	wantText(t, second, "the group's workers remember in another database")
	wantText(t, second, "--adopt-store")
	s.publish(t, []string{"still-served"})
	s.awaitEmpty(t)

	s.workerData = t.TempDir()
	old := s.database
	s.database = s.workerData + "/" + databaseFile
	third := s.startWorker(t, "third worker", "--adopt-store")
	first.wantExit(t, exitFailed)
	wantText(t, first, "the group's workers remember in another database")
	s.publish(t, []string{"served-by-the-third"})
	s.awaitEmpty(t)
	third.stop(t)
	if n := len(s.outcomes(t)); n != 1 {
		t.Errorf("the adopted database has %d outcomes, want 1", n)
	}
	s.database = old
	if n := len(s.outcomes(t)); n != 1 {
		t.Errorf("the database that was given up has %d outcomes, want 1", n)
	}
}
