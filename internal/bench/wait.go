package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lookEvery is the time between two looks at the server, where only looking tells.
const lookEvery = 2 * time.Millisecond

// AwaitSettled returns when the server has nothing left for the consumer, neither waiting nor handed out.
func AwaitSettled(ctx context.Context, js jetstream.JetStream, stream, consumer string) error {
	return Await(ctx, func() (bool, error) {
		c, err := js.Consumer(ctx, stream, consumer)
		if err != nil {
			return false, fmt.Errorf("cannot look at consumer %q: %w", consumer, err)
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0, nil
	})
}

// Await returns when look says so, or fails, or ctx ends.
func Await(ctx context.Context, look func() (bool, error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		ok, err := look()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
