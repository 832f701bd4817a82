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
	asked  []time.Time
	events []error
}

func (e *extender) hold() *Lease {
	l := newLease(time.Now(), func(ctx context.Context) error {
		e.asked = append(e.asked, time.Now())
		if e.answer == nil {
			return nil
		}
		return e.answer(ctx)
	}, ackWait, func(err error) { e.events = append(e.events, err) })
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
				var ended bool
				if asked == "OnItsWay" {
					e.answer = func(ctx context.Context) error {
						<-ctx.Done()
						ended = true
						return ctx.Err()
					}
				}
				l := e.hold()
				time.Sleep(ackWait / 3)
				synctest.Wait()
				before := len(e.asked)
				l.release()
				if asked == "OnItsWay" && !ended {
					t.Error("released while an extension was on its way: it was not joined")
				}
				time.Sleep(time.Hour)
				if len(e.asked) != before {
					t.Errorf("got %d extensions after the release", len(e.asked)-before)
				}
			})
		})
	}
}

func TestLease_isLostWhenNothingIsConfirmed(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"Disconnected": func(context.Context) error { return errors.New("disconnected") },
		"NoAnswer":     func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &extender{answer: answer}
				l := e.hold()
				began := time.Now()
				<-l.ctx.Done()
				if !errors.Is(context.Cause(l.ctx), ErrLeaseLost) {
					t.Errorf("got cause %v, want %v", context.Cause(l.ctx), ErrLeaseLost)
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

// The broker counts from when it got the question, which is never before it was sent.
func TestLease_countsFromWhenTheExtensionWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 9 * time.Second
		e := &extender{answer: func(context.Context) error { time.Sleep(slow); return nil }}
		l := e.hold()
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := l.Left(), ackWait-ackWait/10-slow; got != want {
			t.Errorf("got %s left after an answer that took %s, want %s", got, slow, want)
		}
		l.release()
	})
}

func TestLease_anAnswerThatCameTooLateDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &extender{answer: func(context.Context) error { time.Sleep(ackWait); return nil }}
		l := e.hold()
		if err := l.Confirm(t.Context()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("got %v, want %v", err, ErrLeaseLost)
		}
		if held, _ := l.release(); held {
			t.Error("released as held")
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

func TestLease_Confirm(t *testing.T) {
	t.Run("AsksAtOnce", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{}
			l := e.hold()
			began := time.Now()
			if err := l.Confirm(t.Context()); err != nil || len(e.asked) != 1 || time.Since(began) != 0 {
				t.Errorf("got %v after %d extensions and %s, want one at once", err, len(e.asked), time.Since(began))
			}
			l.release()
		})
	})
	t.Run("AsksOnlyOnce", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{}
			l := e.hold()
			time.Sleep(ackWait / 3)
			synctest.Wait()
			before := len(e.asked)
			if err := l.Confirm(t.Context()); err != nil || len(e.asked) != before {
				t.Errorf("got %v after %d extensions, want the earlier one to be enough", err, len(e.asked))
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
			l := e.hold()
			if err := l.Confirm(t.Context()); err != nil {
				t.Errorf("got %v, want the fifth try to be confirmed", err)
			}
			l.release()
		})
	})
	t.Run("EndsWithTheLease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{answer: func(context.Context) error { return errors.New("disconnected") }}
			l := e.hold()
			if err := l.Confirm(t.Context()); !errors.Is(err, ErrLeaseLost) {
				t.Errorf("got %v, want %v", err, ErrLeaseLost)
			}
			l.release()
		})
	})
	t.Run("EndsWithItsContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &extender{answer: func(context.Context) error { return errors.New("disconnected") }}
			l := e.hold()
			cause := errors.New("stopped")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
			defer cancel()
			if err := l.Confirm(ctx); !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
			l.release()
		})
	})
}
