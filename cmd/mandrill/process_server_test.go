package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// The server goes down in the middle of publishing and restarting, again and again, on the same folder. Every second
// time it stays away for longer than the leases last.
func TestProcess_ServerThatIsRestartedOrKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	const (
		outages = 6
		count   = 200 // requests for each outage
	)
	s := newScene(t, simulated.Config{RestartMax: 2 * time.Second})
	w := s.startWorker(t, "worker", "--ack-wait", "2s")
	var hosts []string
	for i := range outages {
		batch := instances(fmt.Sprintf("outage%d", i), count)
		hosts = append(hosts, batch...)
		publisher := s.startPublish(t, batch, "--nats", s.url, "--publish-window", "4")
		booted := 0
		eventually(t, "a part of the batch has booted", func() bool {
			booted = s.bootsOf(batch)
			return booted >= count/10
		})

		lost := len(w.said(says("lease lost")))
		how := "killed"
		if i%3 == 0 {
			how = "restarted"
			s.server.signal(t, syscall.SIGTERM)
			s.server.wantExit(t, exitDone)
		} else {
			s.server.kill(t)
		}
		if i%2 == 1 {
			w.awaitCount(t, lost+1, "lease lost")
		}
		down := time.Now()
		s.startServer(t)
		up := time.Now()
		w.awaitCount(t, i+1, "reconnected to NATS")
		back := w.said(says("reconnected to NATS"))[i].Time
		t.Logf("%s with %d of %d booted; started again in %s, and the worker was back %s after that",
			how, booted, count, up.Sub(down).Round(time.Millisecond), max(0, back.Sub(up)).Round(time.Millisecond))
		wantPublished(t, publisher, count)
	}

	s.awaitEmpty(t)
	w.stop(t)
	token, _, _ := strings.Cut(strings.TrimPrefix(s.url, "nats://"), "@")
	if strings.Contains(w.text(), token) {
		t.Error("the worker's log has the token of the URL")
	}
	s.wantEachRestartedOnce(t, hosts)
}
