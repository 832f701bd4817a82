package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/consumer"
	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// rawBatch is how many messages nats.go alone fetches together: as many as a worker does.
const rawBatch = 2000

// alone does what is done with nats.go alone.
func (p *benchPart) alone(ctx context.Context, conn *connection, js jetstream.JetStream) error {
	from, err := js.Consumer(ctx, stream.Work, stream.ConsumerName(p.order.Group))
	if err != nil {
		return fmt.Errorf("cannot look at consumer: %w", err)
	}
	if p.order.Part == partAsleep {
		return p.asleep(ctx, conn, js, from)
	}
	s, err := p.begin()
	if err != nil {
		return err
	}
	stop := p.inBackground(ctx, p.tellProgress)
	err = bench.Raw(ctx, from, p.order.N, min(rawBatch, p.order.InFlight), &p.count.done)
	stop()
	if err == nil {
		err = p.endWhenSettled(ctx, conn, js, s)
	}
	if err != nil {
		return err
	}
	return p.tell(s.report)
}

// inBackground does something until stop is called, which waits for its end.
func (p *benchPart) inBackground(ctx context.Context, do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { do(ctx) })
	return func() { cancel(); running.Wait() }
}

// endWhenSettled waits until the server knows that all is settled, and ends the span.
func (p *benchPart) endWhenSettled(ctx context.Context, conn *connection, js jetstream.JetStream, s *span) (err error) {
	err = conn.FlushTimeout(flushTimeout)
	if err == nil {
		err = bench.AwaitSettled(ctx, js, stream.Work, stream.ConsumerName(p.order.Group))
	}
	if err = errors.Join(err, p.end(s)); err != nil {
		return err
	}
	s.report.Delivered, err = p.delivered(ctx, js)
	return err
}

// asleep holds all messages with as little as can be.
func (p *benchPart) asleep(ctx context.Context, conn *connection, js jetstream.JetStream, from jetstream.Consumer) error {
	sleepers := &bench.Sleepers{From: from, AckWait: p.order.AckWait, Batch: min(rawBatch, p.order.N)}
	s, err := p.begin()
	if err != nil {
		return err
	}
	release, enough := make(chan struct{}), make(chan struct{})
	working, running := errgroup.WithContext(ctx)
	working.Go(func() error { return sleepers.Hold(running, p.order.N, release, enough) })
	working.Go(func() error {
		defer close(enough)
		held := func() int64 { p.count.done.Store(sleepers.Held.Load()); return sleepers.Held.Load() }
		err := p.holdAll(running, &s.report, held, &sleepers.Extended)
		close(release)
		if err != nil {
			return err
		}
		acked := func() (bool, error) { return sleepers.Acked.Load() >= int64(p.order.N), nil }
		if err := bench.Await(running, acked); err != nil {
			return err
		}
		p.count.done.Store(int64(p.order.N))
		return p.endWhenSettled(running, conn, js, s)
	})
	stop := p.inBackground(ctx, p.tellProgress)
	err = working.Wait()
	stop()
	if err != nil {
		return err
	}
	return p.tell(s.report)
}

// memoryEvery is the time between two looks at the memory while all messages are held.
const memoryEvery = 500 * time.Millisecond

// holdAll waits until all messages are held, and then for as long as they are to be, and looks at what that takes.
func (p *benchPart) holdAll(ctx context.Context, r *benchReport, held func() int64, extended *atomic.Int64) error {
	err := bench.Await(ctx, func() (bool, error) { return held() >= int64(p.order.N), nil })
	if err != nil {
		return err
	}
	began, before := time.Now(), extended.Load()
	if err := p.tell(benchReport{Event: eventHeld, At: began.UTC()}); err != nil {
		return err
	}
	for left := p.order.Hold; left > 0; left = p.order.Hold - time.Since(began) {
		if err := bench.Sleep(ctx, min(left, memoryEvery)); err != nil {
			return err
		}
		now, err := bench.ReadMemory()
		if err != nil {
			return err
		}
		if now.RSS > r.Held.RSS {
			r.Held = now
		}
	}
	r.Extensions = float64(extended.Load()-before) / time.Since(began).Seconds()
	return bench.Snapshot(p.order.Profile, "held-")
}

// noRetry is the pause after work that is given back, which no measured work is.
var noRetry = handler.Backoff{Base: time.Millisecond, Cap: time.Millisecond}

// bare does everything that a worker does around work, and no work.
func (p *benchPart) bare(ctx context.Context, conn *connection, js jetstream.JetStream) error {
	box, err := deadletter.Open(ctx, js)
	if err != nil {
		return err
	}
	work := saveAndRestartNothing
	if p.order.Part == partTaker {
		work = p.keep
	}
	h, err := handler.New(handler.Config{
		Work: handler.FuncWork(work, noRetry), DeadLetters: box, MaxLease: time.Hour, Retry: noRetry, Settled: p.count.settled,
	})
	if err != nil {
		return err
	}
	c, err := consumer.New(consumer.Config{
		Conn: conn.Conn, Group: p.order.Group, MaxInFlight: p.order.InFlight,
		Settings: p.order.consumer,
		Begin:    func(ctx context.Context, d *consumer.Delivery, done func()) { h.Begin(ctx, d, done) },
	})
	if err != nil {
		return err
	}
	s, err := p.begin()
	if err != nil {
		return err
	}
	working, stopWorking := context.WithCancelCause(ctx)
	defer stopWorking(nil)
	group, running := errgroup.WithContext(working)
	group.Go(func() error { return c.Run(running) })
	group.Go(func() error {
		defer stopWorking(nil)
		if p.order.Part == partTaker {
			<-running.Done()
			return nil
		}
		return p.awaitAll(running, conn, js, s)
	})
	stop := p.inBackground(ctx, p.tellProgress)
	err = group.Wait()
	stop()
	if err != nil || p.order.Part == partTaker {
		return err
	}
	return p.tell(s.report)
}

// awaitAll waits until all messages are settled, and ends the span.
func (p *benchPart) awaitAll(ctx context.Context, conn *connection, js jetstream.JetStream, s *span) error {
	select {
	case <-p.count.all:
		return p.endWhenSettled(ctx, conn, js, s)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// saveAndRestartNothing is a save and a restart, side by side, of nothing.
func saveAndRestartNothing(context.Context, restart.Request) error {
	saved := make(chan error, 1)
	go func() { saved <- nil }()
	return <-saved
}

// keep is work that ends only with the worker, and tells when as much is begun as there is.
func (p *benchPart) keep(ctx context.Context, _ restart.Request) error {
	if p.count.done.Add(1) == p.count.want {
		if err := p.tell(benchReport{Event: eventHeld, At: time.Now().UTC()}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}
