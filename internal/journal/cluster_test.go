package journal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// Two winners are a host that is restarted twice; no winner is a request that nobody carries out.
func TestJournal_OfRacersOneWinsWhileAClusterLosesItsLeader(t *testing.T) {
	const racers, rounds, stopAt, startAt = 3, 90, 30, 60
	cluster := natsdtest.StartCluster(t, 3)
	var journals [racers]*journal.Journal
	for i := range journals {
		journals[i] = open(t, cluster.Connect(t), time.Second)
	}
	js := cluster.JetStream(t)
	leader := leaderOf(t, js)

	winners := map[uuid.UUID]uuid.UUID{} // the winner's event, by request
	for round := range rounds {
		id := uuid.New()
		during := func() {}
		switch round { // while the round's appends are on their way
		case stopAt:
			during = func() { cluster.Node(leader).Stop(t) }
		case startAt:
			during = func() { cluster.Node(leader).StartAgain(t) }
		}
		winners[id] = raceOnce(t, journals[:], id, during)
	}

	for i, j := range journals {
		for id, winner := range winners {
			if stands := mustFindEventually(t, j, id); stands.ID != winner {
				t.Errorf("journal %d, request %s: event %s stands, want the winner's, %s", i, id, stands.ID, winner)
			}
		}
	}
	for id := range winners {
		wantEvents(t, js, journal.Key{ID: id}, 1)
	}
}

// raceOnce has all append a first event under one id, the last of them for another host, and returns the winner's.
func raceOnce(t *testing.T, journals []*journal.Journal, id uuid.UUID, during func()) uuid.UUID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := make([]journal.Event, len(journals))
	errs := make([]error, len(journals))
	var wg sync.WaitGroup
	for i, j := range journals {
		wg.Go(func() {
			events[i], errs[i] = j.Append(ctx, raceKey(id, i == len(journals)-1), journal.Event{}, fence())
		})
	}
	during()
	wg.Wait()

	var winners []uuid.UUID
	for i, err := range errs {
		switch {
		case err == nil:
			winners = append(winners, events[i].ID)
		case !errors.Is(err, journal.ErrConflict):
			t.Errorf("racer %d: got %v, want ErrConflict", i, err)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("request %s: got %d winners, want 1: %v", id, len(winners), errs)
	}
	return winners[0]
}

func raceKey(id uuid.UUID, other bool) journal.Key {
	key := journal.Key{Group: restart.DefaultGroup, ID: id, Host: "host-1.example.net"}
	if other {
		key.Host = "host-2.example.net"
	}
	return key
}

// mustFindEventually reads what stands under an id for either host, and asks again while a leader is being elected.
func mustFindEventually(t *testing.T, j *journal.Journal, id uuid.UUID) (stands journal.Event) {
	t.Helper()
	other := false
	awaitCondition(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var err error
		stands, err = j.Last(ctx, raceKey(id, other))
		if errors.Is(err, journal.ErrIDReused) {
			other = !other
		}
		return err == nil
	})
	return stands
}

func leaderOf(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	s, err := js.Stream(t.Context(), stream.Journal)
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]int{"node0": 0, "node1": 1, "node2": 2}
	node, ok := nodes[s.CachedInfo().Cluster.Leader]
	if !ok {
		t.Fatalf("the journal's leader is %q, want a node of the cluster", s.CachedInfo().Cluster.Leader)
	}
	return node
}
