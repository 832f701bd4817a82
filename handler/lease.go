package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

var (
	// ErrLeaseLost is the cause of a work context whose message may have been handed to somebody else.
	ErrLeaseLost = errors.New("lease lost")

	// ErrMaxLease is the cause of a work context whose message was held for as long as any may be.
	ErrMaxLease = errors.New("held for max_lease")
)

// A Lease is the right to work on a message, as far as this side can know: it lasts AckWait from when the message was
// asked for, or from when the latest extension that the broker has confirmed was sent. It says when to stop; it proves
// nothing else.
//
// Extensions are driven by a timer for each message, and have no goroutine: a sender sends those that are due, and the
// goroutine that all answers come by tells of theirs. An extender that serves all in time buckets would save the 150
// bytes of the timer, and no time that matters: to set one timer of 100,000 takes 0.3 µs, once in AckWait/3, and the
// question to the broker takes some 10 µs of the processors, its own side included.
type Lease struct {
	sender  *sender
	extend  func(then func(error)) (cancel func() bool, err error)
	ackWait time.Duration
	// onEvent is called, with mu held, when an extension that was asked for then is confirmed, or is not, or when the
	// lease is lost.
	onEvent func(asked time.Time, err error)

	mu       sync.Mutex // guards what follows; nothing is sent without it
	since    time.Time  // when what is held now was asked for; carries both clocks
	timer    *time.Timer
	due      time.Time   // when the next extension is, or when the one that is queued or on its way is given up
	queued   bool        // the sender is going to ask
	cancel   func() bool // of the extension on its way; nil if there is none
	sent     time.Time   // when that was
	until    time.Time   // when the work must have ended; zero if never
	over     func()      // called then, with mu held
	lost     bool
	released bool
	extended int
	heard    chan struct{}   // closed when it is extended or lost; nil if nobody waits for that
	ctx      context.Context // done with cause ErrLeaseLost, or when released; nil until somebody asks
	end      context.CancelCauseFunc
}

// newLease returns the lease of a message that was asked for at that time. Whoever starts it releases it.
func newLease(
	s *sender, asked time.Time, extend func(func(error)) (func() bool, error), ackWait time.Duration, onEvent func(time.Time, error),
) *Lease {
	return &Lease{sender: s, extend: extend, ackWait: ackWait, onEvent: onEvent, since: asked}
}

// endAfter has over called when the lease was held for so long. It goes on being held, because what is under way still
// has to be recorded and settled.
func (l *Lease) endAfter(d time.Duration, over func()) { l.until, l.over = l.since.Add(d), over }

// start begins to extend the lease.
func (l *Lease) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = l.since.Add(l.pause())
	l.timer = time.AfterFunc(l.untilNext(), l.tick)
}

// Context returns a context that is done, with cause ErrLeaseLost, when the lease is lost, or when it is released.
func (l *Lease) Context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.end = context.WithCancelCause(context.Background())
		switch {
		case l.lost:
			l.end(ErrLeaseLost)
		case l.released:
			l.end(context.Canceled)
		}
	}
	return l.ctx
}

// untilNext returns the time until something is to be done.
func (l *Lease) untilNext() time.Duration {
	d := time.Until(l.due)
	if l.over != nil {
		d = min(d, time.Until(l.until))
	}
	return max(d, 0)
}

// waitFor has tick called after d, or when the work must have ended. mu is held.
func (l *Lease) waitFor(d time.Duration) {
	l.due = time.Now().Add(d)
	l.timer.Reset(l.untilNext())
}

// Left returns how much longer the lease is held, by whichever clock is further: the monotonic one stands still while
// a machine sleeps, the wall clock may be set.
func (l *Lease) Left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left()
}

func (l *Lease) left() time.Duration {
	if l.lost || l.released {
		return 0
	}
	now := time.Now()
	age := max(now.Sub(l.since), now.Round(0).Sub(l.since.Round(0)))
	return max(0, l.ackWait-l.margin()-age)
}

// margin is what is kept back for the broker's clock and for the way there.
func (l *Lease) margin() time.Duration { return l.ackWait / 10 }

// pause is the time between extensions: a third of AckWait, with jitter, so that two may fail before the lease is
// lost, and messages that came together do not extend together.
func (l *Lease) pause() time.Duration {
	third := l.ackWait / 3
	return third - time.Duration(rand.Int64N(int64(third)/5+1))
}

// Renew returns once most of the lease is left, which it mostly is at once: otherwise it waits for an extension. It
// returns ErrLeaseLost, or the cause of ctx, if that comes first. So does whoever is going to take long get all the time
// that there is.
func (l *Lease) Renew(ctx context.Context) error {
	if heard := l.renew(); heard != nil {
		select {
		case <-heard:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.Left() == 0 {
		return ErrLeaseLost
	}
	return nil
}

// renew asks for an extension, unless one is on its way, and returns what is closed then; nil if nothing is to be waited
// for.
func (l *Lease) renew() (heard <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.left(); left == 0 || left >= l.ackWait-l.ackWait/5 {
		return nil
	}
	if l.heard == nil {
		l.heard = make(chan struct{})
	}
	heard = l.heard
	if l.cancel == nil {
		l.ask()
	}
	return heard
}

// tell wakes those who wait for an extension. mu is held.
func (l *Lease) tell() {
	if l.heard != nil {
		close(l.heard)
		l.heard = nil
	}
}

// tick is the timer's.
func (l *Lease) tick() {
	if l.isDue() {
		l.sender.send(l)
	}
}

// isDue does what the time has come for, and reports whether an extension is to be sent.
func (l *Lease) isDue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released || l.lost {
		return false
	}
	now := time.Now()
	if l.over != nil && !now.Before(l.until) {
		l.over()
		l.over = nil
	}
	switch {
	case now.Before(l.due):
		l.timer.Reset(l.untilNext())
	case l.cancel != nil:
		if l.cancel() {
			l.failed(context.DeadlineExceeded)
		} // else its answer is here, and waits for mu
	case l.left() == 0:
		l.lose()
	default:
		l.queued = true
		l.waitFor(l.left()) // the sender may not come to it
		return true
	}
	return false
}

// send is the sender's.
func (l *Lease) send() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queued && !l.released && !l.lost {
		l.ask()
	}
}

// ask asks for an extension, unless the lease is lost. mu is held.
func (l *Lease) ask() {
	l.queued = false
	left := l.left()
	if left == 0 {
		l.lose()
		return
	}
	l.sent = time.Now()
	cancel, err := l.extend(l.answered)
	if err != nil {
		l.failed(err)
		return
	}
	l.cancel = cancel
	l.waitFor(min(left, l.ackWait/3))
}

// answered is told what became of the extension on its way.
func (l *Lease) answered(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return
	}
	if err != nil {
		l.failed(err)
		return
	}
	l.cancel = nil
	l.since, l.extended = l.sent, l.extended+1
	if l.left() == 0 {
		l.lose() // the answer came too late
		return
	}
	l.waitFor(l.pause())
	l.tell()
	l.onEvent(l.sent, nil)
}

// failed has an extension tried again that was not confirmed. mu is held.
func (l *Lease) failed(err error) {
	l.cancel = nil
	left := l.left()
	if left == 0 {
		l.lose()
		return
	}
	l.waitFor(min(l.ackWait/20, left))
	l.onEvent(l.sent, err)
}

// lose ends the work. mu is held.
func (l *Lease) lose() {
	l.lost = true
	if l.end != nil {
		l.end(ErrLeaseLost)
	}
	l.tell()
	l.onEvent(l.sent, ErrLeaseLost)
}

// release ends the extensions: nothing is sent after it. It reports whether the lease is still held, so that the message
// may be settled, and how often it was extended.
func (l *Lease) release() (held bool, extended int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = l.left() > 0
	l.released = true
	l.timer.Stop()
	if l.cancel != nil {
		l.cancel()
	}
	if l.end != nil {
		l.end(context.Canceled)
	}
	return held, l.extended
}
