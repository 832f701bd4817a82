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

// The verbs of a driver, as errors and log lines name them.
const (
	probe     = "probe"
	restarted = "restart"
)

// A call is one call of the driver. The goroutine that makes it writes the answer, and whoever waits reads it when
// answered is closed: a stray has its call for itself.
type call struct {
	slot    *Slot
	verb    string
	trigger restart.Trigger // of a probe, the host alone
	ctx     callContext     // the driver's

	answered chan struct{}
	state    restart.State
	err      error
}

func (c *call) failed(err error) error {
	return fmt.Errorf("cannot %s host %q: %w", c.verb, c.trigger.Host, err)
}

// do makes a call, unless its time is over before it begins.
//
// The call has a goroutine of its own, because a caller cannot leave a call that runs in the caller's. It is a new one
// for each call: one that is kept for a slot would save under a microsecond, and would need somebody to end it. The
// caller has nothing to do but wait, so it is the one who ends the call's context: that needs no entry in the context
// above, which many messages share, and no timer of its own.
func (c *call) do(ctx context.Context, timeout time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return c.failed(context.Cause(ctx))
	case timeout <= 0:
		return c.failed(context.DeadlineExceeded)
	}
	if err := c.slot.begin(); err != nil {
		return c.failed(err)
	}
	c.ctx.init(ctx, timeout)
	c.answered = make(chan struct{})
	go c.run()

	timer := c.slot.d.startTimer(timeout)
	defer c.slot.d.stopTimer(timer)
	var cause error
	select {
	case <-c.answered:
		return c.err
	case <-ctx.Done():
		cause = context.Cause(ctx)
		c.ctx.end(ctx.Err())
	case <-timer.C:
		cause = context.DeadlineExceeded
		c.ctx.end(cause)
	}
	timer.Reset(c.slot.d.cfg.Overrun)
	select {
	case <-c.answered:
		return c.err
	case <-timer.C:
	}
	if !c.giveUp() {
		<-c.answered // it has ended, and is about to answer
		return c.err
	}
	return c.failed(fmt.Errorf("%w: %v", ErrAbandoned, cause))
}

// run makes the call, on its goroutine.
func (c *call) run() {
	returned := false
	defer func() {
		if p := recover(); p != nil {
			c.err = c.failed(&PanicError{p, debug.Stack()})
		} else if !returned {
			c.err = c.failed(errExited)
		}
		c.ctx.end(context.Canceled)
		c.end(c.err)
		close(c.answered)
	}()
	if driver := c.slot.d.cfg.Driver; c.verb == probe {
		c.state, c.err = driver.Probe(&c.ctx, c.trigger.Host)
	} else {
		c.err = driver.Restart(&c.ctx, c.trigger)
	}
	returned = true
}

// giveUp reports whether the call still runs, which is a stray from then on.
func (c *call) giveUp() bool {
	strays, ok := c.slot.giveUp()
	if ok {
		c.slot.d.log.Error().Str("host", string(c.trigger.Host)).Str("call", c.verb).Int64("strays", strays).
			Msg("driver ignores its deadline")
	}
	return ok
}

// end is the end of the call in the driver. What a stray comes back with is told here, because nobody else hears it.
func (c *call) end(err error) {
	strays, stray := c.slot.end()
	if !stray {
		return
	}
	event := c.slot.d.log.Warn().Err(err)
	if panicked := (*PanicError)(nil); errors.As(err, &panicked) {
		event = event.Bytes("stack", panicked.Stack)
	}
	event.Str("host", string(c.trigger.Host)).Str("call", c.verb).Int64("strays", strays).
		Msg("driver returned long after its deadline")
}
