package campaign

import (
	"context"
	"errors"
	"time"
)

// ErrLeaseLost is the cause of the context of a run whose message may have been handed to somebody else.
var ErrLeaseLost = errors.New("lease lost")

// hold returns a context that lasts as long as a message is known to be ours, and a function that ends it, waits for
// the extender, and reports whether the message is still ours. The message was received at that time.
func hold(ctx context.Context, since time.Time, ackWait time.Duration, extend func(context.Context) error) (context.Context, func() bool) {
	held, lose := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	ended := make(chan struct{})
	remains := func() time.Duration {
		now := time.Now()
		// The monotonic clock stands still while a machine sleeps, the wall clock may be set.
		return ackWait - ackWait/10 - max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
	}
	go func() {
		defer close(ended)
		for pause := ackWait / 3; ; {
			timer := time.NewTimer(min(pause, max(remains(), 0)))
			select {
			case <-stop:
				timer.Stop()
				return
			case <-timer.C:
			}
			if remains() <= 0 {
				lose(ErrLeaseLost)
				return
			}
			attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(remains(), ackWait/3))
			sent := time.Now()
			if err := extend(attempt); err == nil {
				since, pause = sent, ackWait/3
			} else {
				pause = ackWait / 20
			}
			cancel()
		}
	}()
	return held, func() bool {
		close(stop)
		<-ended
		ours := !errors.Is(context.Cause(held), ErrLeaseLost) && remains() > 0
		lose(nil)
		return ours
	}
}
