package consumer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// BenchmarkConsumer compares a Consumer whose Handle only acknowledges with a bare loop of Fetch and Ack, and with one
// that starts a goroutine for each message, on the same server, in turns. The metrics "of-bare" and "of-spawning" are the
// shares of their speeds that are left. "serial" is one message after the other, which is the shape that the consumer
// is there to avoid (M20).
func BenchmarkConsumer(b *testing.B) {
	s := stream.Settings{Replicas: 1, AckWait: longAckWait, Budget: 10_000}
	bench := prepare(b, natsdtest.Start(b), s)
	conn := bench.broker.Connect(b)
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	bare, err := stream.EnsureConsumer(b.Context(), js, "bare", s)
	if err != nil {
		b.Fatal(err)
	}
	var inline, spawning, ours, serial time.Duration
	for b.Loop() {
		inline += bench.timed(b, "bare", func() { bareLoop(b, bare, func(ack func()) { ack() }) })
		spawning += bench.timed(b, "bare", func() {
			var acks sync.WaitGroup
			bareLoop(b, bare, acks.Go)
			acks.Wait()
		})
		var r *running
		ours += bench.timed(b, "default", func() { r = consume(b, bench, Config{Conn: conn, Settings: fixed(s), MaxInFlight: benchInFlight}) })
		r.mustStop(b)
		serial += bench.timed(b, "default", func() { r = consume(b, bench, Config{Conn: conn, Settings: fixed(s), MaxInFlight: 1}) })
		r.mustStop(b)
	}
	b.ReportMetric(float64(benchMessages*b.N)/inline.Seconds(), "bare-msgs/s")
	b.ReportMetric(float64(benchMessages*b.N)/ours.Seconds(), "msgs/s")
	b.ReportMetric(float64(benchMessages*b.N)/serial.Seconds(), "serial-msgs/s")
	b.ReportMetric(inline.Seconds()/ours.Seconds(), "of-bare")
	b.ReportMetric(spawning.Seconds()/ours.Seconds(), "of-spawning")
}

const (
	benchMessages = 20_000
	benchInFlight = 2000
)

// timed returns how long it takes until the server has had an acknowledgement for each of the group's messages.
func (b *bench) timed(t *testing.B, group restart.Group, drain func()) time.Duration {
	t.Helper()
	for i := range benchMessages {
		if _, err := b.js.PublishAsync(stream.WorkSubject(group, restart.Host(fmt.Sprintf("host-%d", i))), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 || i == benchMessages-1 { // the client allows for no more on their way
			await(t, "the answers to publishes", b.js.PublishAsyncComplete())
		}
	}
	began := time.Now()
	drain()
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
	return time.Since(began)
}

func bareLoop(b *testing.B, pull jetstream.Consumer, do func(ack func())) {
	b.Helper()
	for n := benchMessages; n > 0; {
		msgs, err := pull.Fetch(min(n, benchInFlight), jetstream.FetchMaxWait(pullWait))
		if err != nil {
			b.Fatal(err)
		}
		for msg := range msgs.Messages() {
			do(func() {
				if err := msg.Ack(); err != nil {
					b.Error(err)
				}
			})
			n--
		}
	}
}

// consume returns a Consumer that runs, when it has acknowledged everything.
func consume(b *testing.B, bench *bench, cfg Config) *running {
	b.Helper()
	var handled atomic.Int64
	all := make(chan struct{})
	cfg.Begin = inItsGoroutine(func(ctx context.Context, d *Delivery) {
		if err := d.Ack(ctx); err != nil {
			b.Error(err)
		}
		if handled.Add(1) == benchMessages {
			close(all)
		}
	})
	r := bench.run(b, cfg)
	await(b, "the last message", all)
	return r
}

// BenchmarkExtend asks for extensions of one message from as many goroutines as a worker has messages in work.
func BenchmarkExtend(b *testing.B) {
	bench := prepare(b, natsdtest.Start(b), settings)
	bench.publish(b, 1)
	d := await(b, "the delivery", bench.each(b, Config{}))
	b.ReportAllocs()
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := extend(b.Context(), d); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
