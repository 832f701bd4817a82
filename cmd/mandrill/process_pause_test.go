package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// Fear: the kill switch returns, and another host goes down after it.
func TestProcess_NothingIsTriggeredOncePauseHasReturned(t *testing.T) {
	t.Parallel()
	const count, workers = 3000, 3
	s := newScene(t, simulated.Config{RestartMin: 50 * time.Millisecond, RestartMax: 100 * time.Millisecond})
	s.usePostgres(t)
	var all []*process
	for i := range workers {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--log-level", "info", "--max-in-flight", "50"))
	}
	hosts := instances("pause", count)
	publisher := s.startPublish(t, hosts, "--nats", s.url)
	for round := 1; round <= 3; round++ {
		s.awaitBoots(t, round*count/5)
		var told struct {
			Confirmed, Missing []string
		}
		if err := json.Unmarshal([]byte(s.do(t, "pause", "default", "--output", "json")), &told); err != nil {
			t.Fatal(err)
		}
		before := s.fleet.Boots()
		if len(told.Confirmed) != workers || len(told.Missing) != 0 {
			t.Errorf("confirmed by %q and not by %q, want all %d", told.Confirmed, told.Missing, workers)
		}
		if before >= count {
			t.Fatal("there was nothing left to pause")
		}
		time.Sleep(time.Second) // in which nothing must happen
		if after := s.fleet.Boots(); after != before {
			t.Errorf("%d hosts booted in the second after the pause", after-before)
		}
		s.do(t, "resume", "default")
	}
	wantPublished(t, publisher, count)
	s.awaitEmpty(t)
	for _, w := range all {
		w.stop(t)
	}
	s.wantEachRestartedOnce(t, hosts)
}
