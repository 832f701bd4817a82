package natsdtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer_KeepsStreamsAndPortOverARestart(t *testing.T) {
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	reconnected := make(chan struct{}, 1)
	nc.SetReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store(t, js, 1)

	before := s.URL()
	s.Restart(t)
	if s.URL() != before {
		t.Errorf("URL after the restart: got %s, want %s", s.URL(), before)
	}
	await(t, reconnected)
	wantStored(t, js)
}

func TestServer_PublishFailsAtOnceDuringAnOutage(t *testing.T) {
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	disconnected, reconnected := make(chan struct{}, 1), make(chan struct{}, 1)
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) { disconnected <- struct{}{} })
	nc.SetReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} })

	s.Stop(t)
	await(t, disconnected)
	if err := nc.Publish("a", nil); err == nil {
		t.Error("publish during an outage: got nil, want an error")
	}
	s.StartAgain(t)
	await(t, reconnected)
	if err := nc.Publish("a", nil); err != nil {
		t.Errorf("publish after the outage: %v", err)
	}
}

func TestCluster_KeepsStreamsWhileANodeIsAwayAndAfterIt(t *testing.T) {
	c := natsdtest.StartCluster(t, 3)
	js := c.JetStream(t)
	store(t, js, 3)
	for i := range c.URLs() {
		c.Node(i).Stop(t)
		wantStored(t, js)
		c.Node(i).StartAgain(t)
		wantCurrent(t, js)
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing happened for 30s")
	}
}

func store(t *testing.T, js jetstream.JetStream, replicas int) {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
}

func wantStored(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventually(t, js, func(info *jetstream.StreamInfo) bool { return info.State.Msgs == 1 })
}

func wantCurrent(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventually(t, js, func(info *jetstream.StreamInfo) bool {
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return false
			}
		}
		return info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 2
	})
}

// eventually polls, because an election ends without an event for clients.
func eventually(t *testing.T, js jetstream.JetStream, ok func(*jetstream.StreamInfo) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	var last error
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		s, err := js.Stream(ctx, "S")
		cancel()
		if err == nil && ok(s.CachedInfo()) {
			return
		}
		last = err
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the stream is not as it should be after a minute: %v", last)
}
