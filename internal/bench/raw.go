package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// fetchWait is how long one fetch waits for messages.
const fetchWait = 500 * time.Millisecond

// Raw is the limit that everything is compared with: nats.go alone fetches n messages, batch of them at a time, and
// acknowledges each where it comes out. done counts them.
func Raw(ctx context.Context, from jetstream.Consumer, n, batch int, done *atomic.Int64) error {
	for int(done.Load()) < n {
		err := fetch(ctx, from, min(batch, n-int(done.Load())), func(msg jetstream.Msg) error {
			defer done.Add(1)
			return msg.Ack()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fetch(ctx context.Context, from jetstream.Consumer, n int, do func(jetstream.Msg) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	batch, err := from.Fetch(n, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return fmt.Errorf("cannot fetch: %w", err)
	}
	for msg := range batch.Messages() {
		if err := do(msg); err != nil {
			return err
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("cannot fetch: %w", err)
	}
	return nil
}

// Sleepers are the least that can hold messages: one sleeping goroutine for each, and one timer that extends its lease.
type Sleepers struct {
	From    jetstream.Consumer
	AckWait time.Duration
	Batch   int // how many are fetched together

	Held     atomic.Int64 // messages that sleep, or have slept
	Extended atomic.Int64
	Acked    atomic.Int64
}

// Hold fetches n messages and puts each to sleep until release is closed, then acknowledges it. What is delivered again,
// before or after, is a message like any other: it goes on fetching until enough is closed. The first error wakes all that
// sleep, and is returned.
func (s *Sleepers) Hold(ctx context.Context, n int, release, enough <-chan struct{}) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		for !closed(enough) {
			want := min(s.Batch, max(1, n-int(s.Held.Load())))
			err := fetch(ctx, s.From, want, func(msg jetstream.Msg) error {
				s.Held.Add(1)
				all.Go(func() error { return s.sleep(ctx, release, msg) })
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all.Wait()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sleep notices the release when the lease is due. A million that wake at once keep the connection's own goroutine from
// its turn until the connection counts as lost.
func (s *Sleepers) sleep(ctx context.Context, release <-chan struct{}, msg jetstream.Msg) error {
	pause := func() time.Duration {
		third := s.AckWait / 3
		return third - time.Duration(rand.Int64N(int64(third)/5+1))
	}
	timer := time.NewTimer(pause())
	defer timer.Stop()
	for !closed(release) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			timer.Reset(pause())
		}
		if !closed(release) && msg.InProgress() == nil {
			s.Extended.Add(1)
		}
	}
	err := msg.Ack()
	s.Acked.Add(1)
	return err
}
