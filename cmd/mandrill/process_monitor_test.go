package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A watched is an HTTP service that is good until it is told otherwise.
type watched struct {
	*httptest.Server
	bad atomic.Bool
}

func startWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if w.bad.Load() {
			http.Error(rw, "burning", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

// configFile writes a configuration file and returns its path.
func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mandrill.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Checks that are to fail only when the service is bad: a machine that is busy with other tests answers late, and for two
// seconds on end it does not.
const (
	checkEvery    = 200 * time.Millisecond
	checkFailures = 10
	checkSlack    = 2 * time.Second // for how much later than it has failed the pause may be there

	pausedWithin = checkEvery + checkFailures*checkEvery + checkSlack
)

// awaitAgreed returns when every worker has confirmed what the control bucket says now.
func (s *scene) awaitAgreed(t *testing.T) {
	t.Helper()
	// A pause of a group that nobody serves holds nothing back, and is confirmed like any other.
	s.do(t, "pause", "nobody")
}

// wantPausedWithin wants the group to be paused by a check, no later than that after the service turned bad.
func (s *scene) wantPausedWithin(t *testing.T, cause control.Cause, turned time.Time, most time.Duration) {
	t.Helper()
	var pause control.Pause
	eventually(t, "pause by the check", func() bool {
		var held bool
		pause, held = s.pauses(t)[cause]
		return held
	})
	if took := pause.Since.Sub(turned); took > most {
		t.Errorf("paused %s after the service had turned bad, want at most %s", took, most)
	}
}

// The fear: the service burns, and the restarts go on.
func TestProcess_CheckThatTurnsBadPausesTheFleet(t *testing.T) {
	t.Parallel()
	const count, workers = 1000, 3
	service := startWatched(t)
	s := newScene(t, simulated.Config{RestartMin: 150 * time.Millisecond, RestartMax: 300 * time.Millisecond})
	s.usePostgres(t)
	file := configFile(t, fmt.Sprintf(`
monitors:
  checkout:
    type: http
    url: %s
    every: %s
    failures: %d
`, service.URL, checkEvery, checkFailures))
	// One worker of the fleet watches the service, and all heed it.
	watching := s.startWorker(t, "worker 0", "--log-level", "info", "--max-in-flight", "10", "--config", file)
	all := []*process{watching}
	for i := 1; i < workers; i++ {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--log-level", "info", "--max-in-flight", "10"))
	}
	hosts := instances("checked", count)
	publisher := s.startPublish(t, hosts, "--nats", s.url)
	s.awaitBoots(t, count/5)

	service.bad.Store(true)
	turned := time.Now()
	const cause = control.Cause("monitor-checkout")
	s.wantPausedWithin(t, cause, turned, pausedWithin)
	s.awaitAgreed(t)
	before := s.fleet.Boots()
	if before >= count {
		t.Fatal("there was nothing left to pause")
	}
	wantPublished(t, publisher, count)
	time.Sleep(time.Second) // in which nothing must happen
	if after := s.fleet.Boots(); after != before {
		t.Errorf("%d hosts booted in the second after the pause was confirmed", after-before)
	}
	for _, verb := range [][]string{{"status"}, {"explain", lastOf(t, s, hosts)}} {
		// On a busy machine the last of the failures may have been to answer in time.
		said := s.do(t, verb...)
		if !strings.Contains(said, string(cause)) || !strings.Contains(said, "500") && !strings.Contains(said, "no answer within") {
			t.Errorf("%s does not say which check holds the group back, and what it saw:\n%s", verb[0], said)
		}
	}

	service.bad.Store(false)
	s.do(t, "resume", string(restart.DefaultGroup))
	s.awaitEmpty(t)
	for _, w := range all {
		w.stop(t)
	}
	s.wantEachRestartedOnce(t, hosts)
}

// lastOf returns one of the instances that has not booted.
func lastOf(t *testing.T, s *scene, hosts []string) string {
	t.Helper()
	for _, instance := range hosts {
		if s.fleet.BootsOf(hostOf(instance)) == 0 {
			return instance
		}
	}
	t.Fatal("all hosts have booted")
	return ""
}

// The fear: a worker that is started while the service burns restarts a few hosts before its first check is done.
func TestProcess_WorkerTriggersNothingBeforeItsChecksAreGood(t *testing.T) {
	t.Parallel()
	const count = 50
	service := startWatched(t)
	service.bad.Store(true)
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	file := configFile(t, fmt.Sprintf(`
monitors:
  checkout: {type: http, url: %q, every: 300ms, failures: 3, resume_after: 2}
`, service.URL))
	hosts := instances("early", count)
	s.startWorker(t, "maker of the streams").stop(t)
	s.publish(t, hosts)
	w := s.startWorker(t, "worker", "--config", file)
	eventually(t, "pause by the check", func() bool { return len(s.pauses(t)) == 1 })
	s.awaitAgreed(t)
	if n := s.fleet.Boots(); n != 0 {
		t.Errorf("%d hosts were restarted while the check was bad", n)
	}
	// It is good again, and the worker is told that two good results are enough.
	service.bad.Store(false)
	s.awaitEmpty(t)
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

// The fear: the check that is to end the worker ends it while it holds what it has triggered, or leaves no trace of why.
func TestProcess_CheckThatEndsTheWorkerDrainsItAndSaysWhy(t *testing.T) {
	t.Parallel()
	const count = 500
	service := startWatched(t)
	s := newScene(t, simulated.Config{RestartMin: 150 * time.Millisecond, RestartMax: 300 * time.Millisecond})
	report := filepath.Join(t.TempDir(), "report")
	file := configFile(t, fmt.Sprintf(`
monitor:
  stop_on: first_failure
  exit_code: 42
  command: [tee, %q]
monitors:
  checkout: {type: http, url: %q, every: %s, failures: %d}
`, report, service.URL, checkEvery, checkFailures))
	w := s.startWorker(t, "worker", "--log-level", "info", "--max-in-flight", "20", "--config", file)
	hosts := instances("ended", count)
	s.publish(t, hosts)
	s.awaitBoots(t, count/10)
	service.bad.Store(true)
	w.wantExit(t, 42)
	told, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(told), `"monitor":"checkout"`) || !strings.Contains(string(told), `"reason":"failure"`) {
		t.Errorf("the command was told %q, %v, want the report", told, err)
	}
	if !strings.Contains(w.text(), "failure of checkout") {
		t.Error("the worker does not say why it ended")
	}
	if last := w.lastLine(t); last.Unverified != 0 || last.LeasesLost != 0 {
		t.Errorf("the worker left %d unverified and lost %d leases", last.Unverified, last.LeasesLost)
	}
	if n := s.fleet.Boots(); n >= count {
		t.Fatal("there was nothing left when the check failed")
	}
	// What it handed back waits for a person, since the group is paused.
	second := s.startWorker(t, "second worker")
	s.awaitAgreed(t)
	before := s.fleet.Boots()
	time.Sleep(500 * time.Millisecond) // in which nothing must happen
	if after := s.fleet.Boots(); after != before {
		t.Errorf("%d hosts booted although the group is paused", after-before)
	}
	s.do(t, "resume", string(restart.DefaultGroup))
	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}
