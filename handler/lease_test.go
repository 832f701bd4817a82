package handler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// extender answers extensions as a test wants, and records when they were asked for.
type extender struct {
	answer func(ctx context.Context) error
	refuse error // what asking itself comes to
	asked  []time.Time
	events []error
	sender sender
}

func (e *extender) hold() *Lease { return e.holdSince(time.Now()) }

func (e *extender) holdSince(asked time.Time) *Lease {
	l := newLease(&e.sender, asked, func(then func(error)) (cancel func() bool, err error) {
		e.asked = append(e.asked, time.Now())
		if e.refuse != nil {
			return nil, e.refuse
		}
		return answering(e.answer, then), nil
	}, ackWait, func(_ time.Time, err error) { e.events = append(e.events, err) })
	l.start()
	return l
}

func TestLease_isExtendedEveryThirdOfAckWait(t *testing.T) { // M29
	synctest.Test(t, func(t *testing.T) {
		e := &extender{}
		last := time.Now()
		l := e.hold()
		time.Sleep(10 * time.Minute)
		held, extended := l.release()
		if !held || extended != len(e.asked) || extended < 60 {
			t.Errorf("got held %t after %d extensions, want it held by at least 60", held, extended)
		}
		for _, at := range e.asked {
			if gap := at.Sub(last); gap > ackWait/3 || gap < ackWait/4 {
				t.Errorf("extended after %s, want a third of %s with jitter", gap, ackWait)
			}
			last = at
		}
	})
}

func TestLease_isNeverExtendedAfterRelease(t *testing.T) { // M30
	for _, asked := range []string{"Idle", "OnItsWay"} {
		t.Run(asked, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &extender{}
				if asked == "OnItsWay" {
					e.answer = func(ctx context.Context) error { <-ctx.Done(); return nil }
				}
				l := e.hold()
				time.Sleep(ackWait / 3)
				synctest.Wait()
				before, events := len(e.asked), len(e.events)
				l.release()
				time.Sleep(time.Hour)
				if len(e.asked) != before || len(e.events) != events {
					t.Errorf("got %d extensions and %v after the release", len(e.asked)-before, e.events[events:])
				}
			})
		})
	}
}

func TestLease_hearsNothingAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer func(error)
		asked, events := 0, 0
		l := newLease(new(sender), time.Now(), func(then func(error)) (cancel func() bool, err error) {
			asked++
			answer = then
			return func() bool { return false }, nil // the answer is on its way
		}, ackWait, func(time.Time, error) { events++ })
		l.start()
		time.Sleep(ackWait / 3)
		synctest.Wait()
		l.release()
		answer(nil)
		time.Sleep(time.Hour)
		if asked != 1 || events != 0 || l.Left() != 0 {
			t.Errorf("got %d extensions, %d events and %s left", asked, events, l.Left())
		}
	})
}

func TestLease_isLostWhenNothingIsConfirmed(t *testing.T) {
	for name, e := range map[string]*extender{
		"Disconnected": {refuse: errors.New("disconnected")},
		"CutOff":       {answer: func(context.Context) error { return errors.New("disconnected") }},
		"NoAnswer":     {answer: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := e.hold()
				began := time.Now()
				ctx := l.Context()
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrLeaseLost) {
					t.Errorf("got cause %v, want %v", context.Cause(ctx), ErrLeaseLost)
				}
				if again := l.Context(); !errors.Is(context.Cause(again), ErrLeaseLost) {
					t.Errorf("whoever asks later gets cause %v", context.Cause(again))
				}
				if lost := time.Since(began); lost > ackWait*9/10 || lost < ackWait*8/10 {
					t.Errorf("lost after %s, want a margin before %s", lost, ackWait)
				}
				if len(e.asked) < 2 {
					t.Error("one unanswered extension was enough to lose it")
				}
				if held, _ := l.release(); held {
					t.Error("released as held")
				}
			})
		})
	}
}

func TestLease_survivesAnOutageShorterThanAckWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &extender{}
		began := time.Now()
		e.answer = func(context.Context) error {
			if out := time.Since(began); out > 9*time.Second && out < 25*time.Second {
				return errors.New("disconnected")
			}
			return nil
		}
		l := e.hold()
		time.Sleep(5 * time.Minute)
		if held, _ := l.release(); !held {
			t.Error("lost by an outage of half of AckWait")
		}
	})
}

// The broker counts from when it handed the message out, or got the question: that is never before this side asked.
func TestLease_countsFromWhenItWasAskedFor(t *testing.T) {
	t.Run("TheMessage", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			asked := time.Now()
			time.Sleep(20 * time.Second)
			e := &extender{}
			l := e.holdSince(asked)
			if got, want := l.Left(), ackWait-ackWait/10-20*time.Second; got != want {
				t.Errorf("got %s left, want %s", got, want)
			}
			synctest.Wait()
			if len(e.asked) != 1 {
				t.Errorf("got %d extensions, want one at once, because it is overdue", len(e.asked))
			}
			l.release()
		})
	})
	t.Run("TheExtension", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const slow = 9 * time.Second
			e := &extender{answer: func(context.Context) error { time.Sleep(slow); return nil }}
			l := e.hold()
			time.Sleep(ackWait / 3)
			synctest.Wait()
			time.Sleep(time.Until(e.asked[0].Add(slow)))
			synctest.Wait()
			if got, want := l.Left(), ackWait-ackWait/10-slow; got != want {
				t.Errorf("got %s left after an answer that took %s, want %s", got, slow, want)
			}
			l.release()
		})
	})
}

// A process that was suspended finds messages that others have by now.
func TestLease_isLostIfItWasAskedForTooLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := time.Now()
		time.Sleep(ackWait)
		e := &extender{}
		l := e.holdSince(asked)
		if got := l.Left(); got != 0 {
			t.Errorf("got %s left", got)
		}
		synctest.Wait()
		if len(e.asked) != 0 || len(e.events) != 1 || !errors.Is(e.events[0], ErrLeaseLost) {
			t.Errorf("got %d extensions and %v, want none and %v", len(e.asked), e.events, ErrLeaseLost)
		}
		if held, _ := l.release(); held {
			t.Error("released as held")
		}
	})
}

func TestLease_anAnswerThatCameTooLateDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &extender{answer: func(context.Context) error { time.Sleep(ackWait); return nil }}
		l := e.hold()
		time.Sleep(2 * ackWait)
		if held, extended := l.release(); held || extended != 0 {
			t.Errorf("released as held: %t, after %d extensions", held, extended)
		}
	})
}

// A machine that slept wakes up with a monotonic clock that stood still; one whose clock was set has a wall clock that
// jumped. Either is enough.
func TestLease_isLostByEitherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &extender{}
		l := e.hold()
		defer l.release()
		if l.Left() == 0 {
			t.Fatal("lost at once")
		}
		l.mu.Lock()
		l.since = l.since.Round(0).Add(-ackWait) // without the monotonic reading: the wall clock alone decides
		l.mu.Unlock()
		if left := l.Left(); left != 0 {
			t.Errorf("got %s left by a wall clock that is %s later", left, ackWait)
		}
	})
}

func TestLease_Renew(t *testing.T) {
	disconnected := func(context.Context) error { return errors.New("disconnected") }
	const old = ackWait / 4 // too old to be as good as new, and not yet extended
	t.Run("AsksNothingWhileMostIsLeft", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{answer: disconnected}
			l := e.holdSince(time.Now().Add(-ackWait / 10))
			if err := l.Renew(t.Context()); err != nil || len(e.asked) != 0 {
				t.Errorf("got %v after %d extensions, want none", err, len(e.asked))
			}
			l.release()
		})
	})
	t.Run("AsksAtOnceOtherwise", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const slow = 2 * time.Second
			e := &extender{answer: func(context.Context) error { time.Sleep(slow); return nil }}
			l := e.holdSince(time.Now().Add(-old))
			if err := l.Renew(t.Context()); err != nil || len(e.asked) != 1 {
				t.Errorf("got %v after %d extensions, want one", err, len(e.asked))
			}
			if got, want := l.Left(), ackWait-ackWait/10-slow; got != want {
				t.Errorf("got %s left, want %s", got, want)
			}
			l.release()
		})
	})
	t.Run("WaitsThroughAnOutage", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{}
			e.answer = func(context.Context) error {
				if len(e.asked) < 5 {
					return errors.New("disconnected")
				}
				return nil
			}
			l := e.holdSince(time.Now().Add(-old))
			if err := l.Renew(t.Context()); err != nil || len(e.asked) != 5 {
				t.Errorf("got %v after %d extensions, want the fifth to be confirmed", err, len(e.asked))
			}
			l.release()
		})
	})
	t.Run("EndsWithTheLease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{answer: disconnected}
			l := e.holdSince(time.Now().Add(-old))
			if err := l.Renew(t.Context()); !errors.Is(err, ErrLeaseLost) {
				t.Errorf("got %v, want %v", err, ErrLeaseLost)
			}
			l.release()
		})
	})
	t.Run("EndsWithItsContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{answer: disconnected}
			l := e.holdSince(time.Now().Add(-old))
			cause := errors.New("stopped")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
			defer cancel()
			if err := l.Renew(ctx); !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
			l.release()
		})
	})
}
