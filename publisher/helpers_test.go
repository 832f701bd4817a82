package publisher

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestMain(m *testing.M) {
	// nats.go forgets this one of its own goroutines, for ever, where a publisher is cleaned up before the goroutine has
	// run for the first time.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// patience bounds what a test waits for a real server.
const patience = 30 * time.Second

// createWork makes the work stream as workers make it, and returns it.
func createWork(t testing.TB, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	streams, err := stream.Ensure(t.Context(), js, stream.Settings{AckWait: 30 * time.Second, Budget: 100})
	if err != nil {
		t.Fatal(err)
	}
	return streams.Work
}

// stored returns how many messages the work stream holds. It waits for a connection that is not back yet.
func stored(t testing.TB, work jetstream.Stream) int {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		info, err := work.Info(t.Context())
		switch {
		case err == nil:
			return int(info.State.Msgs)
		case time.Now().After(deadline):
			t.Fatal(err)
		}
	}
}

// publish publishes a request and waits for its result.
func publish(t testing.TB, p *Publisher, r Request) Result {
	t.Helper()
	results := make(chan Result, 1)
	if err := p.Publish(t.Context(), r, func(r Result) { results <- r }); err != nil {
		t.Fatal(err)
	}
	return receive(t, results)
}

// receive waits for an event that a real server owes.
func receive[T any](t testing.TB, events <-chan T) T {
	t.Helper()
	select {
	case event := <-events:
		return event
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

func openPublisher(t testing.TB, cfg Config) *Publisher {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

// validRequest returns a request with nothing left open.
func validRequest(t testing.TB, instance string) Request {
	t.Helper()
	r := Request{Instance: instance}
	if err := r.Complete(DefaultDomain, time.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}
