package consumer

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// Fear: a worker that cannot keep up takes two thousand messages more, while the one beside it has nothing to do.
func TestOverloaded_TakesMessagesOneByOneAndTheRestAsSoonAsItIsOver(t *testing.T) {
	const n, slowly = 1000, 5
	b, _ := newBench(t)
	b.publish(t, n)
	var overloaded atomic.Bool
	overloaded.Store(true)
	h := newHold(t)
	began := time.Now()
	b.run(t, Config{MaxInFlight: n, Begin: inItsGoroutine(h.handle), Overloaded: overloaded.Load})
	for i := 1; i <= slowly; i++ {
		h.wait(1)
		// A pause came before each, so that a slow machine only makes this easier.
		if pauses, elapsed := time.Duration(i), time.Since(began); elapsed < pauses*overloadPause {
			t.Errorf("message %d came after %s, within %d pauses", i, elapsed, pauses)
		}
	}

	overloaded.Store(false)
	h.wait(n - slowly) // which would take far longer than any test waits, one by one
}

func TestOverloaded_LeavesTheRestToAnotherWorker(t *testing.T) {
	const n = 300
	b, _ := newBench(t)
	always := func() bool { return true }
	var slow, quick tally
	began := time.Now()
	b.run(t, Config{Begin: inItsGoroutine(slow.ack), Overloaded: always})
	b.run(t, Config{Begin: inItsGoroutine(quick.ack)})
	b.publish(t, n)
	eventually(t, "all are handled", func() bool { return slow.len()+quick.len() == n })
	if got, most := slow.len(), int(time.Since(began)/overloadPause); got > most {
		t.Errorf("the overloaded worker had %d of %d messages, want %d at most", got, n, most)
	}
}

// Fear: a worker that is overloaded when it is told to stop holds up the stop as well.
func TestOverloaded_WhileItPausesStopsAtOnce(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	asked := make(chan struct{}, 2)
	c := b.open(t, Config{
		Begin:      inItsGoroutine(func(context.Context, *Delivery) { t.Error("a message was taken in the pause") }),
		Overloaded: func() bool { asked <- struct{}{}; return true },
	})
	c.breath = time.Hour
	r := start(t, c)
	await(t, "the look at the load", asked)
	r.mustStop(t)
	if left := b.left(t); left != 1 {
		t.Errorf("left: got %d messages, want 1", left)
	}
}
