package bounded

import (
	"context"
	"sync"
	"time"
)

// A callContext is the context of one call of the driver. It has the values of the context above, and whoever waits for
// the call ends it.
type callContext struct {
	context.Context // for its values
	deadline        time.Time

	mu   sync.Mutex // guards what follows
	done chan struct{}
	err  error
}

var _ context.Context = (*callContext)(nil)

func (c *callContext) init(above context.Context, timeout time.Duration) {
	c.Context, c.deadline = above, time.Now().Add(timeout)
	if d, ok := above.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end ends the context, unless it has ended.
func (c *callContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
}
