package stream

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// What the journal relies upon, and what no documentation promises: an append that expects nothing under an id, for
// whatever host, is refused if anything is there or on its way. Every append must name the same filter: on a cluster,
// what is on its way is known by the filter that it named.

func TestFence_OneServer(t *testing.T) {
	server := natsdtest.Start(t)
	testFence(t, server.JetStream, 200)
}

func TestFence_Cluster(t *testing.T) {
	cluster := natsdtest.StartCluster(t, 3)
	testFence(t, cluster.JetStream, 100)
}

func testFence(t *testing.T, connect func(testing.TB) jetstream.JetStream, rounds int) {
	js := connect(t)
	if _, err := Ensure(t.Context(), js, Settings{}); err != nil {
		t.Fatal(err)
	}
	t.Run("AnIDThatAnotherHostHasIsRefused", func(t *testing.T) {
		id := uuid.New()
		if err := fence(t, js, "default", id, "a.example.net"); err != nil {
			t.Fatal(err)
		}
		for _, other := range []struct {
			group restart.Group
			host  restart.Host
		}{{"default", "b.example.net"}, {"other", "a.example.net"}, {"default", "a.example.net"}, {"default", "b"}} {
			if err := fence(t, js, other.group, id, other.host); !IsWrongSequence(err) {
				t.Errorf("group %s, host %s: got %v, want a refusal", other.group, other.host, err)
			}
		}
		if err := fence(t, js, "default", uuid.New(), "a.example.net"); err != nil {
			t.Errorf("another id for the same host: %v", err)
		}
	})
	t.Run("OfSeveralRacersOneWins", func(t *testing.T) {
		const racers = 4
		var conns [racers]jetstream.JetStream
		for i := range conns {
			conns[i] = connect(t)
		}
		for range rounds {
			race(t, conns[:])
		}
	})
}

func race(t *testing.T, conns []jetstream.JetStream) {
	t.Helper()
	id := uuid.New()
	errs := make([]error, len(conns))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, js := range conns {
		wg.Go(func() {
			<-start
			errs[i] = fence(t, js, "default", id, restart.Host(fmt.Sprintf("h%d.example.net", i)))
		})
	}
	close(start)
	wg.Wait()

	winners := 0
	for i, err := range errs {
		switch {
		case err == nil:
			winners++
		case !IsWrongSequence(err):
			t.Errorf("racer %d: got %v, want a refusal", i, err)
		}
	}
	if winners != 1 {
		t.Errorf("got %d winners, want 1", winners)
	}
	journal, err := conns[0].Stream(t.Context(), Journal)
	if err != nil {
		t.Fatal(err)
	}
	info, err := journal.Info(t.Context(), jetstream.WithSubjectFilter(JournalByID(id)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(info.State.Subjects); n != 1 {
		t.Errorf("got events for %d hosts, want 1: %v", n, info.State.Subjects)
	}
}

func fence(t *testing.T, js jetstream.JetStream, group restart.Group, id uuid.UUID, host restart.Host) error {
	_, err := js.Publish(t.Context(), JournalSubject(group, id, host), []byte("{}"),
		jetstream.WithExpectLastSequenceForSubject(0, JournalByID(id)))
	return err
}
