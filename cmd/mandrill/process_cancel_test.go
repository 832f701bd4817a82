package main

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A thousand requests are cancelled at the moment at which workers begin with them: each is cancelled and its host never
// boots, or the cancellation is refused and its host boots once.
func TestProcess_CancelAndTriggerNeverBothHappen(t *testing.T) {
	t.Parallel()
	const count = 1000
	// The workers take about as long to begin with all as the test does to cancel them.
	s := newScene(t, simulated.Config{RestartMin: 20 * time.Millisecond, RestartMax: 40 * time.Millisecond})
	s.usePostgres(t)
	one := s.startWorker(t, "worker 1", "--max-in-flight", "20")
	two := s.startWorker(t, "worker 2", "--max-in-flight", "20")
	kv, err := s.js.KeyValue(t.Context(), stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	hold := control.Pause{Group: restart.DefaultGroup, Cause: control.ByHand, Since: time.Now().UTC(), By: "ann"}
	if _, err := control.Put(t.Context(), kv, hold); err != nil {
		t.Fatal(err)
	}
	if err := control.Derive(t.Context(), s.js, kv, restart.DefaultGroup); err != nil {
		t.Fatal(err)
	}
	hosts := instances("cancel", count)
	s.publish(t, hosts)

	work, err := s.js.Stream(t.Context(), stream.Work)
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		journal.Key
		stored time.Time
	}
	requests := make([]request, count)
	for i, instance := range hosts {
		key, stored, err := findQueued(t.Context(), work, wantedRequest{host: hostOf(instance)})
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = request{key, stored}
	}
	rand.Shuffle(count, func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	events, err := journal.Open(t.Context(), journal.Config{Conn: s.js.Conn()})
	if err != nil {
		t.Fatal(err)
	}

	if err := control.Lift(t.Context(), kv, restart.DefaultGroup, control.ByHand); err != nil {
		t.Fatal(err)
	}
	s.awaitBoots(t, 1)
	refused := make([]error, count)
	var cancelling sync.WaitGroup
	for worker := range 4 {
		cancelling.Go(func() {
			for i := worker; i < count; i += 4 {
				stands, err := cancelRequest(t.Context(), events, requests[i].Key, requests[i].stored, journal.Event{
					Worker: "ann", Reason: restart.ReasonByHand, Detail: "by ann",
				})
				if err == nil {
					err = wantCancelled(stands)
				}
				refused[i] = err
			}
		})
	}
	cancelling.Wait()
	s.awaitEmpty(t)
	one.stop(t)
	two.stop(t)

	outcomes := map[uuid.UUID]restart.Outcome{}
	for id, o := range s.outcomes(t) {
		outcomes[id] = o
	}
	cancelled := 0
	for i, r := range requests {
		boots, kind := s.fleet.BootsOf(r.Host), outcomes[r.ID].Kind
		if refused[i] == nil {
			cancelled++
		}
		switch {
		case refused[i] == nil && (boots != 0 || kind != restart.Cancelled):
			t.Errorf("%s was cancelled: got %d boots and outcome %q, want 0 and cancelled", r.Host, boots, kind)
		case refused[i] != nil && (boots != 1 || kind != restart.Restarted):
			t.Errorf("%s was not (%v): got %d boots and outcome %q, want 1 and restarted", r.Host, refused[i], boots, kind)
		}
	}
	t.Logf("%d cancelled, %d triggered before", cancelled, count-cancelled)
	if cancelled == 0 || cancelled == count {
		t.Error("there was no race")
	}
}
