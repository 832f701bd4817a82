package main

import (
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// copyDatabase copies the scene's SQLite database to elsewhere, beside a worker that has it open.
func (s *scene) copyDatabase(t *testing.T) string {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "copy.db")
	db, err := sql.Open("sqlite", s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "VACUUM INTO ?", elsewhere); err != nil {
		t.Fatal(err)
	}
	return elsewhere
}

func (s *scene) startReplay(t *testing.T, database string, args ...string) *process {
	t.Helper()
	return run(t, "replay", nil, "", append([]string{
		"replay", "--nats", s.url, "--database", database, "--since", "1h", "--name", "x", "--yes",
	}, args...)...)
}

// replayed returns the counts of a replay that has ended well.
func replayed(t *testing.T, p *process) map[string]int {
	t.Helper()
	p.wantExit(t, exitDone)
	var report map[string]any
	if err := json.Unmarshal(p.stdout.Bytes(), &report); err != nil {
		t.Fatalf("cannot read what replay printed: %v: %s", err, p.stdout.Bytes())
	}
	counts := map[string]int{}
	for name, value := range report {
		if n, ok := value.(float64); ok {
			counts[name] = int(n)
		}
	}
	return counts
}

// wantReplayedOnce wants one more boot of each host, and an outcome of each request and of its replay.
func (s *scene) wantReplayedOnce(t *testing.T, instances []string) {
	t.Helper()
	for _, instance := range instances {
		if n := s.fleet.BootsOf(hostOf(instance)); n != 2 {
			t.Errorf("%s: got %d boots, want 2", instance, n)
		}
	}
	outcomes := s.outcomes(t)
	if len(outcomes) != 2*len(instances) {
		t.Errorf("got %d outcomes, want %d", len(outcomes), 2*len(instances))
	}
	replays := 0
	for id, o := range outcomes {
		if o.Kind != restart.Restarted {
			t.Errorf("%s: got outcome %s (%s: %s), want restarted", o.Host, o.Kind, o.Reason, o.Detail)
		}
		if _, ok := outcomes[restart.ReplayID(id, "x")]; ok {
			replays++
		}
	}
	if replays != len(instances) {
		t.Errorf("got %d requests whose replay has an outcome, want %d", replays, len(instances))
	}
}

// A replay that was killed half-way is run again by an operator who does not know how far it came. No host may pay for
// that with another boot, and none may be left out.
func TestProcess_ReplayFromACopyKilledAndRunAgainRestartsEachHostOnceMore(t *testing.T) {
	t.Parallel()
	const count = 1000
	s := newScene(t, simulated.Config{RestartMax: 5 * time.Millisecond})
	w := s.startWorker(t, "worker", "--log-level", "info")
	hosts := instances("again", count)
	s.publish(t, hosts)
	s.awaitBoots(t, count)
	s.awaitEmpty(t)
	elsewhere := s.copyDatabase(t)

	killed := s.startReplay(t, elsewhere, "--rate", "500")
	published := func() int { return strings.Count(killed.stdout.String(), "\tpublished\t") }
	killed.await(t, "third of the replay", func() bool { return published() >= count/3 })
	killed.kill(t)
	if n := published(); n >= count {
		t.Fatalf("the replay was not killed in the middle: it had published %d", n)
	}

	counts := replayed(t, s.startReplay(t, elsewhere, "--output", "json"))
	if counts["published"]+counts["already_queued"] != count || counts["failed"] != 0 {
		t.Errorf("got %v, want %d published or queued", counts, count)
	}
	s.awaitBoots(t, 2*count)
	s.awaitEmpty(t)
	s.wantReplayedOnce(t, hosts)

	// A server that was restarted has forgotten which ids it took, as it does after two minutes.
	s.server.stop(t)
	s.startServer(t)
	if counts := replayed(t, s.startReplay(t, elsewhere, "--output", "json")); counts["published"] != count {
		t.Errorf("got %v, want %d published", counts, count)
	}
	s.awaitEmpty(t)
	w.stop(t)
	s.wantReplayedOnce(t, hosts)
}

// While the first run still waits for a worker, a second one of the same name has nothing to add.
func TestProcess_ReplayRunAgainWhileQueuedReportsAlreadyQueued(t *testing.T) {
	t.Parallel()
	const count = 1000
	s := newScene(t, simulated.Config{RestartMax: 5 * time.Millisecond})
	w := s.startWorker(t, "worker", "--log-level", "info")
	hosts := instances("queued", count)
	s.publish(t, hosts)
	s.awaitEmpty(t)
	w.stop(t)

	for _, want := range []string{"published", "already_queued", "already_queued"} {
		if counts := replayed(t, s.startReplay(t, s.database, "--output", "json")); counts[want] != count {
			t.Errorf("got %v, want %d %s", counts, count, want)
		}
	}
	if n := s.fleet.Boots(); n != count {
		t.Errorf("got %d boots before a worker runs, want %d", n, count)
	}

	w = s.startWorker(t, "next worker", "--log-level", "info")
	s.awaitEmpty(t)
	if counts := replayed(t, s.startReplay(t, s.database, "--output", "json")); counts["already_done"] != count {
		t.Errorf("got %v, want %d already done", counts, count)
	}
	w.stop(t)
	s.wantReplayedOnce(t, hosts)
}
