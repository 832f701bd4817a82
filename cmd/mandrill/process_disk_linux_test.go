package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// The server's own disk is its worker's too, where the server is embedded. (M51)
func TestProcess_WorkerWhoseEmbeddedServersDiskIsFullEndsAndGoesOnAfterANewStart(t *testing.T) {
	t.Parallel()
	disk := mountDisk(t, "16m")
	s := newHosts(t, simulated.Config{RestartMin: time.Second, RestartMax: time.Second})
	database := filepath.Join(t.TempDir(), databaseFile)
	s.database = database
	args := []string{"--data", disk.path, "--database", database, "--ack-wait", "1s", "--grace", "2s"}
	w := s.startBare(t, "worker", nil, args...)

	first := instances("before", 20)
	wantPublished(t, s.startPublish(t, first, "--data", disk.path), len(first))
	disk.fill(t)
	more := instances("full", 2000)
	publisher := s.startPublish(t, more, "--data", disk.path, "--publish-timeout", "2s")
	w.wantExit(t, exitFailed)
	w.lastLine(t)
	wantText(t, w, "embedded NATS server is unwell, check the disk and start again")
	if code := publisher.exitCode(t); code == exitDone {
		t.Error("everything was confirmed with the disk full")
	}

	disk.empty(t)
	w = s.startBare(t, "worker again", nil, args...)
	s.connectEmbedded(t, disk.path)
	s.awaitEmpty(t)
	w.stop(t)

	// Of those that were not confirmed some may be stored all the same. Everything that was stored is done, once.
	ended := s.outcomes(t)
	var hosts []string
	for _, o := range ended {
		hosts = append(hosts, strings.TrimSuffix(string(o.Host), ".example.net"))
	}
	for _, instance := range first {
		if !slices.Contains(hosts, instance) {
			t.Errorf("%s was confirmed, and has no outcome", instance)
		}
	}
	for _, instance := range published(t, publisher) {
		if !slices.Contains(hosts, instance) {
			t.Errorf("%s was confirmed, and has no outcome", instance)
		}
	}
	s.wantEachRestartedOnce(t, hosts)
}

// M54: hosts are restarted while the database is full, and nothing is acknowledged without its rows.
func TestProcess_NothingIsAckedWhileTheDatabaseHasNoRoom(t *testing.T) {
	t.Parallel()
	disk := mountDisk(t, "16m")
	s := newScene(t, simulated.Config{RestartMax: 100 * time.Millisecond})
	database := filepath.Join(disk.path, databaseFile)
	s.database = database
	w := s.startBare(t, "worker", nil, "--nats", s.url, "--data", t.TempDir(), "--database", database, "--ack-wait", "2s")
	before := instances("before", 20)
	s.publish(t, before)
	s.awaitEmpty(t)

	disk.fill(t)
	full := instances("full", 200)
	s.publish(t, full)
	s.awaitBoots(t, len(before)+len(full))
	w.awaitLine(t, "complaint", func(l logLine) bool { return strings.Contains(l.Error, "full") })
	queued, err := s.queued(t)
	if err != nil {
		t.Fatal(err)
	}
	// What was acked by then has both rows, as anybody can read.
	saved, ended := countRows(t, database)
	t.Logf("with the disk full: %d of %d messages in flight, %d saved, %d with an outcome", queued, len(full), saved, ended)
	acked := len(before) + len(full) - queued
	if queued == 0 {
		t.Error("everything was acked, so the disk was not full")
	}
	if saved < acked || ended < acked {
		t.Errorf("got %d messages acked, and only %d saved and %d with an outcome", acked, saved, ended)
	}

	disk.empty(t)
	s.awaitEmpty(t)
	w.stop(t)
	s.wantEachRestartedOnce(t, append(before, full...))
}

// A disk is a small one of the test's own.
type disk struct {
	path string
	junk string
}

// mountDisk takes a right that only root has. Nothing else runs out of room the way a disk does: a limit on the size of
// files gives other errors, by which neither database nor server know it.
func mountDisk(t *testing.T, size string) *disk {
	t.Helper()
	path := t.TempDir()
	err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=0700,size="+size)
	if errors.Is(err, syscall.EPERM) && os.Getenv("MANDRILL_TEST_ALL") == "" {
		t.Skipf("needs root, to mount a disk that can be filled: %v", err)
	}
	if err != nil {
		t.Fatalf("cannot mount a disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", path, err)
		}
	})
	return &disk{path: path, junk: filepath.Join(path, "junk")}
}

// fill leaves no room.
func (d *disk) fill(t *testing.T) {
	t.Helper()
	f, err := os.Create(d.junk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// empty makes room again.
func (d *disk) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.junk); err != nil {
		t.Fatal(err)
	}
}

// countRows looks into the database of a worker that runs.
func countRows(t *testing.T, database string) (saved, ended int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+database+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	row := db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM outcomes)")
	if err := row.Scan(&saved, &ended); err != nil {
		t.Fatal(err)
	}
	return saved, ended
}

// published returns the instances of which a publisher that has ended says that they were confirmed.
func published(t *testing.T, p *process) []string {
	t.Helper()
	var report struct {
		Requests []publishLine `json:"requests"`
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &report); err != nil {
		t.Fatalf("%s: cannot read what it printed: %v: %s", p.name, err, p.stdout.Bytes())
	}
	var confirmed []string
	for _, line := range report.Requests {
		if line.Status == publisher.Confirmed {
			confirmed = append(confirmed, strings.TrimSuffix(string(line.Host), ".example.net"))
		}
	}
	return confirmed
}
