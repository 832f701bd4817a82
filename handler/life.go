package handler

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A life is what ends with a message's work: its context, and what runs under rules of its own beside it. Whoever sees
// that something must end says so here, and here it is passed on. The contexts of one message thus stand alone; they
// have no entries in those that all messages share, where a thousand of them would wait for one lock, and a message
// whose host is waited for keeps no more than one of them.
type life struct {
	work   context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex              // guards what follows
	intake   context.CancelCauseFunc // what can be handed back; nil if nothing can
	write    *brief                  // the try of a write that is under way; nil if there is none
	late     *time.Timer             // ends write, because the work has ended
	retry    context.CancelCauseFunc // what waits to try a write again; nil if nothing does
	handBack bool                    // no write goes on
	watch    *time.Timer             // looks at the host again

	// Where the save waits for room, or has it, and where what goes on beside it does; nil if it needs none.
	save, next *visit
}

// stop ends the work.
func (l *life) stop(cause error) {
	l.cancel(cause)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.intake != nil {
		l.intake(context.Cause(l.work))
	}
	if l.retry != nil {
		l.retry(context.Cause(l.work))
	}
	l.hurry()
	if l.watch != nil && l.watch.Stop() {
		l.watch.Reset(0)
	}
	for _, v := range [...]*visit{l.save, l.next} {
		if v != nil {
			v.hurry()
		}
	}
}

// hurry bounds the write that is under way, if any, now that the work may have ended. mu is held.
func (l *life) hurry() {
	switch {
	case l.write == nil || l.work.Err() == nil && !l.handBack:
	case l.handBack || errors.Is(context.Cause(l.work), ErrLeaseLost):
		l.write.end(context.Canceled)
	case l.late == nil:
		write := l.write
		l.late = time.AfterFunc(settleTimeout, func() { write.end(context.Canceled) })
	}
}

// stopIntake ends what can be handed back.
func (l *life) stopIntake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.intake != nil {
		l.intake(errHandBack)
	}
}

// open returns a context that ends with the work, or with cause errHandBack when nothing new may be begun, which the
// other context says. Only one is open at a time.
func (l *life) open(accepting context.Context) (intake context.Context, done func()) {
	intake, cancel := context.WithCancelCause(context.WithoutCancel(l.work))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.work.Err() != nil:
		cancel(context.Cause(l.work))
	case accepting.Err() != nil:
		cancel(errHandBack)
	default:
		l.intake = cancel
	}
	return intake, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.intake = nil
		cancel(nil)
	}
}

// handBackWrites ends the writes of a message that was handed back.
func (l *life) handBackWrites() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handBack = true
	if l.retry != nil {
		l.retry(errHandBack)
	}
	l.hurry()
	if l.save != nil {
		l.save.hurry()
	}
}

// beginWrite returns the context of one try of a write. What is under way when the work ends, or begins then, still has
// settleTimeout, because what has happened is worth recording; unless the lease is lost, or the message handed back.
func (l *life) beginWrite(timeout time.Duration) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = newBrief(context.Background(), timeout)
	l.hurry()
	return l.write
}

func (l *life) endWrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write.end(context.Canceled)
	l.write = nil
	if l.late != nil {
		l.late.Stop()
		l.late = nil
	}
}

// beginRetry returns the context of what waits to try a write again. It ends with the work, and when the message is
// handed back.
func (l *life) beginRetry() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.handBack:
		cancel(errHandBack)
	case l.work.Err() != nil:
		cancel(context.Cause(l.work))
	default:
		l.retry = cancel
	}
	return ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.retry = nil
		cancel(nil)
	}
}

// watchAfter has look called after a while, or at once when the work ends.
func (l *life) watchAfter(d time.Duration, look func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.work.Err() != nil {
		d = 0
	}
	if l.watch == nil {
		l.watch = time.AfterFunc(d, look)
	} else {
		l.watch.Reset(d)
	}
}

// enter reports whether what is to be done, which is save or next, may be done now: there is room for it, or the work has
// ended, which waits for none. If not, begin is called when it may, on a goroutine of its own. Either is ended by leave.
func (l *life) enter(what **visit, r *room, begin func()) (now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.work.Err() != nil || l.handBack {
		return true
	}
	*what, now = r.enter(begin)
	return now
}

// leave gives the room back, if there is any.
func (l *life) leave(what **visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *what != nil {
		(*what).leave()
		*what = nil
	}
}
