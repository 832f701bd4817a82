package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

// Of a million messages some are delivered again in the end, on a slow machine, and nobody else acknowledges those.
func TestSleepers_AcknowledgeWhatComesAfterTheRelease(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	js := natsdtest.Start(t).JetStream(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "work", Subjects: []string{"work"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	from, err := js.CreateConsumer(ctx, "work", jetstream.ConsumerConfig{Durable: "sleepers", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		if _, err := js.Publish(ctx, "work", nil); err != nil {
			t.Fatal(err)
		}
	}
	sleepers := &bench.Sleepers{From: from, AckWait: time.Second, Batch: 1}
	release, enough, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { ended <- sleepers.Hold(ctx, 1, release, enough) }()
	defer func() {
		close(enough)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	await := func(what string, look func() bool) {
		t.Helper()
		if err := bench.Await(ctx, func() (bool, error) { return look(), nil }); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	publish()
	await("one sleeps", func() bool { return sleepers.Held.Load() == 1 })
	if n := sleepers.Acked.Load(); n != 0 {
		t.Errorf("%d are acknowledged before the release", n)
	}
	close(release)
	await("one is acknowledged", func() bool { return sleepers.Acked.Load() == 1 })
	publish()
	publish() // the first may have been asked for before
	await("the others are", func() bool { return sleepers.Acked.Load() == 3 })
	if err := bench.AwaitSettled(ctx, js, "work", "sleepers"); err != nil {
		t.Error(err)
	}
}
