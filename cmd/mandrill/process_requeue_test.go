package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A requeue that was killed half-way, between a publish and its mark too, is run again by an operator who does not know
// how far it came.
func TestProcess_RequeueKilledAndRunAgainRestartsEachHostOnce(t *testing.T) {
	t.Parallel()
	const count = 400
	s := newScene(t, simulated.Config{RestartMax: 5 * time.Millisecond})
	hosts := instances("given-up", count)
	for _, instance := range hosts {
		s.hosts.RefuseNext(hostOf(instance), 1)
	}
	w := s.startWorker(t, "worker", "--log-level", "info", "--retry-max-attempts", "1")
	s.publish(t, hosts)
	s.awaitEmpty(t)
	w.stop(t)
	if n := len(s.letters(t)); n != count || s.fleet.Boots() != 0 {
		t.Fatalf("got %d dead letters and %d boots, want %d and none", n, s.fleet.Boots(), count)
	}

	killed := s.startRequeue(t, "--rate", "400")
	requeued := func() int { return strings.Count(killed.stdout.String(), "\trequeued\t") }
	killed.await(t, "third of the requeue", func() bool { return requeued() >= count/3 })
	killed.kill(t)
	if n := requeued(); n >= count {
		t.Fatalf("the requeue was not killed in the middle: it had requeued %d", n)
	}
	s.wantRequeue(t, "requeued", "already_requeued")
	if n, err := s.queued(t); err != nil || n != count {
		t.Errorf("got %d requests queued, %v, want %d", n, err, count)
	}

	w = s.startWorker(t, "worker again", "--log-level", "info")
	s.awaitEmpty(t)
	s.wantRequeue(t, "already_requeued")
	s.awaitEmpty(t)
	w.stop(t)
	for _, instance := range hosts {
		if n := s.fleet.BootsOf(hostOf(instance)); n != 1 {
			t.Errorf("%s: got %d boots, want 1", instance, n)
		}
	}
	if n := len(s.outcomes(t)); n != 2*count {
		t.Errorf("got %d requests with an outcome, want those that were given up and those that were requeued, %d", n, 2*count)
	}
}

func (s *scene) startRequeue(t *testing.T, args ...string) *process {
	t.Helper()
	return run(t, "requeue", nil, "", append([]string{"dead", "requeue", "--all", "--nats", s.url}, args...)...)
}

// wantRequeue requeues all that is left, and wants every letter to have come to one of these ends.
func (s *scene) wantRequeue(t *testing.T, ends ...string) {
	t.Helper()
	p := s.startRequeue(t, "--output", "json")
	p.wantExit(t, exitDone)
	var told map[string]any
	if err := json.Unmarshal(p.stdout.Bytes(), &told); err != nil {
		t.Fatalf("cannot read what requeue printed: %v: %s", err, p.stdout.Bytes())
	}
	letters, _ := told["letters"].([]any)
	sum := 0.0
	for _, end := range ends {
		n, _ := told[end].(float64)
		sum += n
	}
	if len(letters) == 0 || int(sum) != len(letters) {
		delete(told, "letters")
		t.Errorf("got %v of %d letters, want all of them %s", told, len(letters), strings.Join(ends, " or "))
	}
}
