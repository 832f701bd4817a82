package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

// workStream returns a consumer of an empty stream.
func workStream(ctx context.Context, t *testing.T) (jetstream.JetStream, jetstream.Consumer) {
	t.Helper()
	js := natsdtest.Start(t).JetStream(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "work", Subjects: []string{"work"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	from, err := js.CreateConsumer(ctx, "work", jetstream.ConsumerConfig{Durable: "sleepers", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return js, from
}

func publish(ctx context.Context, t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.Publish(ctx, "work", nil); err != nil {
		t.Fatal(err)
	}
}

// Of a million messages some are delivered again in the end, on a slow machine, and nobody else acknowledges those.
func TestSleepers_AcknowledgeWhatComesAfterTheRelease(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	js, from := workStream(ctx, t)
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
	publish(ctx, t, js)
	await("one sleeps", func() bool { return sleepers.Held.Load() == 1 })
	if n := sleepers.Acked.Load(); n != 0 {
		t.Errorf("%d are acknowledged before the release", n)
	}
	close(release)
	await("one is acknowledged", func() bool { return sleepers.Acked.Load() == 1 })
	publish(ctx, t, js)
	publish(ctx, t, js) // the first may have been asked for before
	await("the others are", func() bool { return sleepers.Acked.Load() == 3 })
	if err := bench.AwaitSettled(ctx, js, "work", "sleepers"); err != nil {
		t.Error(err)
	}
}

// Fear: a run that has failed goes on until its time is over, because nobody wakes those that sleep.
func TestSleepers_WakeWhenNoMoreCanBeFetched(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	js, from := workStream(ctx, t)
	publish(ctx, t, js)
	sleepers := &bench.Sleepers{From: from, AckWait: time.Hour, Batch: 1}
	ended := make(chan error, 1)
	go func() { ended <- sleepers.Hold(ctx, 2, nil, nil) }()
	err := bench.Await(ctx, func() (bool, error) { return sleepers.Held.Load() == 1, nil })
	if err != nil {
		t.Error(err)
	}
	if err := js.DeleteConsumer(ctx, "work", "sleepers"); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Errorf("got %v, want the reason at once", err)
	}
}
