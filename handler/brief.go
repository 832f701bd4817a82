package handler

import (
	"context"
	"sync"
	"time"
)

// A brief is the context of one call to the outside: it ends after a while, or when it is ended before. It has the
// values of the context above and nothing else of it, so that nothing has to be entered there; and it makes a channel
// and a timer only for a call that waits for its end, which most need not.
type brief struct {
	context.Context // for its values
	deadline        time.Time

	mu    sync.Mutex // guards what follows
	err   error
	done  chan struct{} // nil until somebody asks
	timer *time.Timer   // closes done
}

// newBrief returns a context that lasts for a while. It must be ended.
func newBrief(above context.Context, d time.Duration) *brief {
	return &brief{Context: above, deadline: time.Now().Add(d)}
}

// Deadline implements context.Context.
func (b *brief) Deadline() (time.Time, bool) { return b.deadline, true }

// Done implements context.Context.
func (b *brief) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done != nil {
		return b.done
	}
	b.done = make(chan struct{})
	if b.err != nil {
		close(b.done)
	} else {
		b.timer = time.AfterFunc(time.Until(b.deadline), func() { b.end(context.DeadlineExceeded) })
	}
	return b.done
}

// Err implements context.Context.
func (b *brief) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && !time.Now().Before(b.deadline) {
		b.endLocked(context.DeadlineExceeded)
	}
	return b.err
}

// end ends the context, unless it has ended.
func (b *brief) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(err)
}

func (b *brief) endLocked(err error) {
	if b.err != nil {
		return
	}
	b.err = err
	if b.done != nil {
		close(b.done)
		b.timer.Stop()
	}
}
