package bounded

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ErrAbandoned is wrapped where a call was given up because the driver ignores its context: nobody knows what became, or
// will become, of it.
var ErrAbandoned = errors.New("the driver ignores its deadline, and was given up")

var (
	errBusy     = errors.New("a former call in this slot still runs")
	errReleased = errors.New("the slot was released")
	errExited   = errors.New("the driver ended its goroutine")
	errNoEpoch  = errors.New("the driver named no epoch")
)

// A PanicError is a panic of the driver. It unwraps to nothing, because even a panic whose value is an error of some class
// says nothing about the host.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// A call is one call of the driver.
type call struct {
	slot    *Slot
	verb    string
	host    restart.Host
	timeout time.Duration
}

func (c call) failed(err error) error {
	return fmt.Errorf("cannot %s host %q: %w", c.verb, c.host, err)
}

type result[T any] struct {
	value T
	err   error
}

// do makes a call, unless its time is over before it begins.
//
// The call has a goroutine of its own, because a caller cannot leave a call that runs in the caller's. It is a new one
// for each call: one that is kept for a slot would save under a microsecond, and would need somebody to end it.
func do[T any](ctx context.Context, c call, f func(context.Context) (T, error)) (value T, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if ctx.Err() != nil {
		return value, c.failed(context.Cause(ctx))
	}
	if err := c.slot.begin(); err != nil {
		return value, c.failed(err)
	}
	done := make(chan result[T], 1) // a stray finds nobody here when it returns
	go func() {
		var r result[T]
		returned := false
		defer func() {
			if p := recover(); p != nil {
				r.err = c.failed(&PanicError{p, debug.Stack()})
			} else if !returned {
				r.err = c.failed(errExited)
			}
			c.end(r.err)
			done <- r
		}()
		r.value, r.err = f(ctx)
		returned = true
	}()

	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	overrun := time.NewTimer(c.slot.d.cfg.Overrun)
	defer overrun.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-overrun.C:
	}
	if !c.giveUp() {
		r := <-done // it has ended, and is about to answer
		return r.value, r.err
	}
	return value, c.failed(fmt.Errorf("%w: %v", ErrAbandoned, context.Cause(ctx)))
}

// giveUp reports whether the call still runs, which is a stray from then on.
func (c call) giveUp() bool {
	strays, ok := c.slot.giveUp()
	if ok {
		c.slot.d.log.Error().Str("host", string(c.host)).Str("call", c.verb).Int64("strays", strays).
			Msg("driver ignores its deadline")
	}
	return ok
}

// end is the end of the call in the driver. What a stray comes back with is told here, because nobody else hears it.
func (c call) end(err error) {
	strays, stray := c.slot.end()
	if !stray {
		return
	}
	event := c.slot.d.log.Warn().Err(err)
	if panicked := (*PanicError)(nil); errors.As(err, &panicked) {
		event = event.Bytes("stack", panicked.Stack)
	}
	event.Str("host", string(c.host)).Str("call", c.verb).Int64("strays", strays).
		Msg("driver returned long after its deadline")
}
