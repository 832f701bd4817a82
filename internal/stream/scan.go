package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// scanBatch is how many messages are held at once. Each may be as large as a message can be, and all of them together
	// must stay below what a server holds for a client before it disconnects it.
	scanBatch = 32
	scanWait  = 5 * time.Second // without a message, where there must be one
)

var errScanBroken = errors.New("the server has not delivered all of them; run it again")

// Scan returns what a stream holds on the subjects of a filter, the oldest first, as it was when the scan began or later:
// everything or, where last is set, the last message of each subject. It reads in batches, and holds one of them. The
// first error ends the sequence; messages that were lost on the way are one.
func Scan(ctx context.Context, s jetstream.Stream, filter string, last bool) iter.Seq2[jetstream.Msg, error] {
	return func(yield func(jetstream.Msg, error) bool) {
		if err := scan(ctx, s, filter, last, func(msg jetstream.Msg) bool { return yield(msg, nil) }); err != nil {
			yield(nil, fmt.Errorf("cannot read stream %q: %w", s.CachedInfo().Config.Name, err))
		}
	}
}

// createScan tries again for a while where nobody answers: a cluster that elects a leader does not.
func createScan(ctx context.Context, s jetstream.Stream, filter string, last bool) (jetstream.Consumer, error) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = retryDelay, maxRetryDelay
	return backoff.Retry(ctx, func() (jetstream.Consumer, error) {
		c, err := s.CreateConsumer(ctx, scanConfig(filter, last))
		if err != nil && !errors.Is(err, nats.ErrNoResponders) {
			err = backoff.Permanent(err)
		}
		return c, err
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(scanWait))
}

// scan returns early, without an error, when yield says so.
func scan(ctx context.Context, s jetstream.Stream, filter string, last bool, yield func(jetstream.Msg) bool) error {
	// An ordered consumer would be made anew after a disconnection, and then deliver more than the last of a subject.
	c, err := createScan(ctx, s, filter, last)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		defer cancel()
		_ = s.DeleteConsumer(ctx, c.CachedInfo().Name) // it ends by itself, after its inactive threshold
	}()
	pending := c.CachedInfo().NumPending
	for next := uint64(1); pending > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch, err := c.Fetch(int(min(pending, scanBatch)), jetstream.FetchMaxWait(scanWait))
		if err != nil {
			return err
		}
		got := false
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return err
			}
			if meta.Sequence.Consumer != next {
				return errScanBroken
			}
			next++
			got, pending = true, meta.NumPending
			if !yield(msg) {
				return nil
			}
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if !got {
			return errScanBroken
		}
	}
	return nil
}

func scanConfig(filter string, last bool) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		FilterSubject: filter, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	}
	if last {
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	}
	return cfg
}
