// Package groupcommit lets many callers share the price of one commit: whatever is waiting when a committer is free
// goes into its next batch, and a single caller waits for nobody.
package groupcommit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrClosed is what Do returns once Stop was called.
var ErrClosed = errors.New("the store is closed")

// crowd is how many writes in one batch say that more are about to come.
const crowd = 8

// Config says how writes are gathered.
type Config struct {
	Committers int // batches on their way at once
	MaxBatch   int // writes in one batch

	// Gather is how long a committer waits after a batch of many, unless there is enough for a full one: the next batch
	// is larger then, and all of them together cost less. A write that comes alone waits for nothing. Zero never waits.
	Gather time.Duration
}

// A Queue takes the writes of many callers and hands them to a few committers.
type Queue[W any] struct {
	cfg        Config
	commit     func(batch []*Op[W])
	committers sync.WaitGroup

	spare sync.Pool // of those *Op that their callers have seen done

	mu      sync.Mutex
	waiting []*Op[W] // in the order in which they came
	stopped bool
	wake    sync.Cond // a committer may have something to do
}

// An Op is one caller's write.
type Op[W any] struct {
	Write W
	Err   error // of this write alone, or of its batch; set by the committer

	done chan struct{} // takes the one message that it is done without blocking
	gone bool          // its caller went before a committer took it; guarded by the queue's mutex
}

// Start starts the committers, each of which calls commit with one batch of 1 to MaxBatch writes at a time. The batch is
// the committer's own until commit returns.
func Start[W any](cfg Config, commit func(batch []*Op[W])) *Queue[W] {
	q := &Queue[W]{cfg: cfg, commit: commit}
	q.wake.L = &q.mu
	for range cfg.Committers {
		q.committers.Go(q.run)
	}
	return q
}

// Do returns the error of the write once its batch was committed. If ctx ends first, it returns the cause of that, and
// the write may still happen: what it refers to must be its own. After Stop it returns ErrClosed.
func (q *Queue[W]) Do(ctx context.Context, w W) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	op, ok := q.spare.Get().(*Op[W])
	if !ok {
		op = &Op[W]{done: make(chan struct{}, 1)}
	}
	op.Write = w
	if err := q.put(op); err != nil {
		return err
	}
	select {
	case <-op.done:
		err := op.Err
		*op = Op[W]{done: op.done}
		q.spare.Put(op)
		return err
	case <-ctx.Done():
		q.leave(op)
		return context.Cause(ctx)
	}
}

// Stop refuses further writes, and returns when those that were taken are answered and the committers have ended.
func (q *Queue[W]) Stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.wake.Broadcast()
	q.committers.Wait()
}

func (q *Queue[W]) put(op *Op[W]) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return ErrClosed
	}
	q.waiting = append(q.waiting, op)
	q.wake.Signal()
	return nil
}

// leave spares the committers a write for which nobody waits any more, so that those who ask again and again do not
// fill a queue that has come to a halt with work.
func (q *Queue[W]) leave(op *Op[W]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	op.gone = true
}

// run commits one batch after the other until the queue is stopped and empty.
func (q *Queue[W]) run() {
	batch := make([]*Op[W], 0, q.cfg.MaxBatch)
	for {
		batch = q.take(batch)
		if len(batch) == 0 {
			return
		}
		q.commit(batch)
		for _, op := range batch {
			op.done <- struct{}{}
		}
		crowded := len(batch) >= crowd
		clear(batch) // lets go of what the callers sent
		batch = batch[:0]
		if crowded && q.worthWaiting() {
			time.Sleep(q.cfg.Gather)
		}
	}
}

// worthWaiting reports whether the next batch has room, and may get more.
func (q *Queue[W]) worthWaiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.stopped && len(q.waiting) < q.cfg.MaxBatch
}

// take waits for writes and moves the first of them to batch, which stays empty when there will be no more.
func (q *Queue[W]) take(batch []*Op[W]) []*Op[W] {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		taken := 0
		for taken < len(q.waiting) && len(batch) < q.cfg.MaxBatch {
			if op := q.waiting[taken]; !op.gone {
				batch = append(batch, op)
			}
			taken++
		}
		left := copy(q.waiting, q.waiting[taken:])
		clear(q.waiting[left:])
		q.waiting = q.waiting[:left]
		if len(batch) > 0 || q.stopped {
			return batch
		}
		q.wake.Wait()
	}
}
