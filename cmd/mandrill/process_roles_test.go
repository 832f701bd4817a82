package main

import (
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func contextConfig(r role) config.Config { return config.Config{NATSContext: string(r)} }

// Whoever is given a role of the example does all of its work by the real verbs, and the server has nothing to complain of.
func TestProcess_EachRoleOfTheExampleCanDoItsJob(t *testing.T) {
	t.Parallel()
	s := newSecured(t, exampleConfig)
	w := s.startWebWorker(t)
	w.awaitLine(t, "worker is ready", says("worker is ready"))

	s.must(t, rolePublisher, "publish", "one", "two", "--group", "web", "--wait")

	s.must(t, roleOperator, "pause", "web", "--reason", "a test")
	s.must(t, rolePublisher, "publish", "three", "four", "--group", "web")
	// It need not be able to look into the journal, or at pauses, and then does without.
	again := s.run(t, rolePublisher, "publish", "three", "--group", "web")
	again.wantExit(t, exitDone)
	if out := again.stdout.String(); !strings.Contains(out, "is queued") {
		t.Errorf("a publisher must be told what is queued: %s", out)
	}
	s.must(t, roleViewer, "explain", "three", "--group", "web", "--data", s.workerData)
	if out := s.must(t, roleViewer, "status", "--in-flight", "--data", s.workerData); !strings.Contains(out, "web") || !strings.Contains(out, "a test") {
		t.Errorf("a viewer must see what holds the group back: %s", out)
	}
	s.must(t, roleOperator, "cancel", "three.example.net")
	s.must(t, roleOperator, "budget", "web", "7")
	s.must(t, roleOperator, "resume", "web")

	id := anyID.FindString(s.must(t, roleOperator, "roll", "five", "six", "--group", "web", "--settle", "0s", "--wait"))
	for _, r := range []role{roleOperator, roleViewer} {
		s.must(t, r, "campaign", "list")
		s.must(t, r, "campaign", "show", id[24:])
		s.must(t, r, "campaign", "report", id)
	}
	other := anyID.FindString(s.must(t, roleOperator, "roll", "seven", "eight", "--group", "web", "--settle", "10m", "--batch", "1"))
	s.must(t, roleOperator, "campaign", "pause", other)
	s.must(t, roleOperator, "campaign", "resume", other)
	s.must(t, roleOperator, "campaign", "abort", other)

	s.must(t, roleOperator, "schedule", "add", "nightly", "--every", "6h", "--", "restart", "nine-1", "--group", "web")
	s.must(t, roleOperator, "schedule", "list")
	s.must(t, roleOperator, "schedule", "show", "nightly")
	s.must(t, roleOperator, "schedule", "run-now", "nightly")
	s.must(t, roleOperator, "schedule", "pause", "nightly")
	s.must(t, roleOperator, "schedule", "resume", "nightly")
	s.must(t, roleOperator, "schedule", "remove", "nightly")
	eventually(t, "the schedule's host restarted", func() bool { return s.fleet.BootsOf(hostOf("nine-1")) == 1 })

	asked := s.publishMalformed(t)
	eventually(t, "a dead letter", func() bool {
		return strings.Contains(s.must(t, roleOperator, "dead", "list"), asked)
	})
	s.must(t, roleViewer, "explain", asked, "--group", "web", "--data", s.workerData)
	letter := anyID.FindString(s.must(t, roleOperator, "dead", "list", "--output", "json"))
	s.must(t, roleOperator, "dead", "show", letter)
	s.must(t, roleOperator, "dead", "purge", "--all", "--yes")
	s.must(t, roleOperator, "status")
	w.stop(t)
	wantPermitted(t, w)
	wantPermitted(t, s.server)
}

// publishMalformed publishes, as a publisher may, what is no request, and returns the host.
func (s *secured) publishMalformed(t *testing.T) (host string) {
	t.Helper()
	conn, _ := s.as(t, rolePublisher)
	if _, err := conn.Request("mandrill.restart.web.broken.example.net", []byte("no request"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return "broken.example.net"
}

func wantPermitted(t *testing.T, p *process) {
	t.Helper()
	for line := range strings.Lines(p.text()) {
		if strings.Contains(line, "PUBLISH_WEB") && (strings.Contains(line, "KV_mandrill-control") || strings.Contains(line, "MANDRILL_JOURNAL")) {
			continue // what a publisher does without
		}
		if text := strings.ToLower(line); strings.Contains(text, "violation") || strings.Contains(text, "does not permit") {
			t.Errorf("%s: %s", p.name, line)
		}
	}
}
