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

// A Lease is the right to work on a message, as far as this side can know: it lasts AckWait from the latest extension
// that the broker has confirmed, counted from when that was sent. It says when to stop; it proves nothing else.
//
// Extensions are driven by a timer for each message, which costs a goroutine only while one is waiting for its answer. An
// extender that serves all in time buckets would save the 150 bytes of the timer, and no time that matters: to set one
// timer of 100,000 takes 0.3 µs, once in AckWait/3, and the question to the broker takes thirty times that.
type Lease struct {
	extend  func(context.Context) error
	ackWait time.Duration
	onEvent func(error) // nil error: extended

	ctx  context.Context // done with cause ErrLeaseLost, or when released
	lose context.CancelCauseFunc

	mu        sync.Mutex
	since     time.Time     // when what is held now was asked for; carries both clocks
	answered  bool          // whether the broker has confirmed any extension
	confirmed chan struct{} // closed by the first that it confirms; nil if nobody waits for that
	timer     *time.Timer
	until     time.Time     // when the work must have ended; zero if never
	over      func()        // called then, with mu held
	flight    chan struct{} // closed when the extension on its way has ended; nil if there is none
	asking    *brief        // the context of that extension, as far as it has come
	released  bool
	extended  int
}

// newLease returns the lease of a message that was received at that time. Whoever starts it releases it.
func newLease(since time.Time, extend func(context.Context) error, ackWait time.Duration, onEvent func(error)) *Lease {
	l := &Lease{extend: extend, ackWait: ackWait, onEvent: onEvent, since: since}
	l.ctx, l.lose = context.WithCancelCause(context.Background())
	return l
}

// endAfter has over called when the lease was held for so long. It goes on being held, because what is under way still
// has to be recorded and settled.
func (l *Lease) endAfter(d time.Duration, over func()) { l.until, l.over = l.since.Add(d), over }

// start begins to extend the lease.
func (l *Lease) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(l.untilOver(l.pause()), l.tick)
}

// untilOver returns the time until something is to be done, which is d at most.
func (l *Lease) untilOver(d time.Duration) time.Duration {
	if l.over == nil {
		return d
	}
	return max(0, min(d, time.Until(l.until)))
}

// Left returns how much longer the lease is held, by whichever clock is further: the monotonic one stands still while
// a machine sleeps, the wall clock may be set.
func (l *Lease) Left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left()
}

func (l *Lease) left() time.Duration {
	if l.ctx.Err() != nil {
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

// Confirm returns once the broker has confirmed an extension of this lease, and asks for one at once if none was. It
// returns ErrLeaseLost, or the cause of ctx, if that comes first.
func (l *Lease) Confirm(ctx context.Context) error {
	for asked := false; ; asked = true {
		l.mu.Lock()
		if l.answered {
			defer l.mu.Unlock()
			if l.left() == 0 {
				return ErrLeaseLost // the answer came too late
			}
			return nil
		}
		// A timer that was stopped in time is set again by the extension; one that was not is already extending.
		if !asked && l.flight == nil && !l.released && l.timer.Stop() {
			l.flight = make(chan struct{})
			l.mu.Unlock()
			l.extendOnce()
			continue
		}
		if l.confirmed == nil {
			l.confirmed = make(chan struct{})
		}
		confirmed := l.confirmed
		l.mu.Unlock()
		select {
		case <-confirmed:
		case <-l.ctx.Done():
			return ErrLeaseLost
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tick is the timer's: it extends the lease, or finds that it is lost, or held for too long.
func (l *Lease) tick() {
	l.mu.Lock()
	if l.over != nil && !l.released && time.Until(l.until) <= 0 {
		l.over()
		l.over = nil
	}
	idle := l.flight == nil && !l.released
	if idle {
		l.flight = make(chan struct{})
	}
	l.mu.Unlock()
	if idle {
		l.extendOnce()
	}
}

// extendOnce asks for one extension, waits for the answer, and sets the timer for what comes next. Its caller has put
// it in flight.
func (l *Lease) extendOnce() {
	left := l.Left()
	if left == 0 {
		l.end(0, ErrLeaseLost)
		return
	}
	timeout := min(left, l.ackWait/3)
	ctx := newBrief(context.Background(), timeout)
	l.mu.Lock()
	if l.released {
		ctx.end(context.Canceled)
	} else if d := l.untilOver(timeout); d < timeout {
		l.timer.Reset(d)
	}
	l.asking = ctx
	l.mu.Unlock()
	sent := time.Now()
	err := l.extend(ctx)
	ctx.end(context.Canceled)
	next := l.pause()
	if err != nil {
		next = l.ackWait / 20
	}
	l.mu.Lock()
	if err == nil {
		l.since, l.extended = sent, l.extended+1
		if !l.answered && l.confirmed != nil {
			close(l.confirmed)
		}
		l.answered = true
	}
	left = l.left()
	l.mu.Unlock()
	if left == 0 {
		err = ErrLeaseLost
	}
	l.end(min(next, left), err)
}

// end takes the extension off its way. A lost lease ends the work; otherwise the timer is set.
func (l *Lease) end(next time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.flight)
	l.flight, l.asking = nil, nil
	switch {
	case l.released:
		return
	case errors.Is(err, ErrLeaseLost):
		l.lose(ErrLeaseLost)
	default:
		l.timer.Reset(l.untilOver(next))
	}
	l.onEvent(err)
}

// release stops the extender and waits for the extension on its way, if any. It reports whether the lease is still
// held, so that the message may be settled, and how often it was extended.
func (l *Lease) release() (held bool, extended int) {
	l.mu.Lock()
	held = l.left() > 0
	l.released = true
	l.timer.Stop()
	flight := l.flight
	if l.asking != nil {
		l.asking.end(context.Canceled)
	}
	l.mu.Unlock()
	l.lose(context.Canceled)
	if flight != nil {
		<-flight
	}
	return held, l.extended
}
