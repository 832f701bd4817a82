package consumer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestStop_EndsTheIntakeOfEveryDeliveryAtOnceAndTheWorkOnlyAfterGrace(t *testing.T) {
	const n, grace = 10, 300 * time.Millisecond
	b, _ := newBench(t)
	b.publish(t, n)
	held, ended := make(chan *Delivery, 2*n), make(chan error, 2*n) // what is given back may come again
	r := b.run(t, Config{Grace: grace, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		held <- d
		<-ctx.Done()
		ended <- context.Cause(ctx)
		if err := giveBack(d); err != nil {
			t.Errorf("cannot nak: %v", err)
		}
	})})
	var deliveries []*Delivery
	for range n {
		d := await(t, "a delivery", held)
		if d.Intake().Err() != nil {
			t.Fatal("the intake has ended before the stop")
		}
		deliveries = append(deliveries, d)
	}

	stopped := time.Now()
	r.stop()
	for _, d := range deliveries {
		if d.Intake().Err() == nil {
			t.Error("the intake goes on after the stop")
		}
	}
	for range n {
		if err := await(t, "the end of the work", ended); !errors.Is(err, ErrGraceOver) {
			t.Errorf("cause: got %v, want ErrGraceOver", err)
		}
	}
	if took := time.Since(stopped); took < grace {
		t.Errorf("the work was ended %s after the stop, within the grace of %s", took, grace)
	}
	if err := r.wait(t); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

func TestStop_LeavesTheContextOfWorkAloneThatEndsWithinGrace(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	begun, finish := make(chan struct{}), make(chan struct{})
	work := make(chan error, 1)
	r := b.run(t, Config{Grace: time.Hour, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		close(begun)
		<-finish
		work <- ctx.Err()
		_ = d.Ack(ctx)
	})})
	await(t, "the delivery", begun)
	r.stop()
	close(finish)
	if err := await(t, "the work's end", work); err != nil {
		t.Errorf("the work's context: got %v, want none", err)
	}
	if err := r.wait(t); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
	eventually(t, "the ack has arrived", func() bool { return b.left(t) == 0 })
}

func TestStop_WithoutGraceEndsTheWorkAtOnce(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	begun, cause := make(chan struct{}, 2), make(chan error, 2) // what is given back may come again
	r := b.run(t, Config{Grace: 0, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		begun <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		if err := giveBack(d); err != nil {
			t.Errorf("cannot nak: %v", err)
		}
	})})
	await(t, "the delivery", begun)
	r.stop()
	if err := await(t, "the work's end", cause); !errors.Is(err, ErrGraceOver) {
		t.Errorf("cause: got %v, want ErrGraceOver", err)
	}
	r.mustStop(t)
}

func TestStop_WaitsForWorkThatDoesNotHearIt(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	begun, over, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r := b.run(t, Config{Grace: 0, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		close(begun)
		<-ctx.Done()
		close(over)
		<-finish
		_ = d.Ack(ctx)
	})})
	await(t, "the delivery", begun)
	r.stop()
	await(t, "the end of grace", over)
	time.AfterFunc(2*pullWait, func() { close(finish) }) // time enough for a Run that does not wait
	await(t, "Run's return", r.ended)
	select {
	case <-finish:
	default:
		t.Error("Run has returned before its last Handle")
	}
}

// A message that is given back at the stop comes again at once: if the stopping worker took it again and again for as
// long as its last fetch lasts, the stop alone would make it look like poison.
func TestStop_UsesUpNoDeliveriesOfWhatIsGivenBack(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 3)
	h := newHold(t)
	r := b.run(t, Config{MaxInFlight: 2000, Begin: inItsGoroutine(h.handle)})
	h.wait(3)
	r.mustStop(t)

	next := newHold(t)
	b.run(t, Config{Begin: inItsGoroutine(next.handle)})
	for _, d := range next.wait(3) {
		// One to begin with, at most one more that the last fetch caught, and this one.
		if got := d.Deliveries(); got > 3 {
			t.Errorf("deliveries of message %d: got %d, want 3 at most", d.Sequence(), got)
		}
	}
}

func TestStop_UnderLoadGivesEverythingToTheNextWorkerLongBeforeAckWait(t *testing.T) {
	const n, slots = 400, 50
	b, _ := newBench(t)
	b.publish(t, n)
	h := newHold(t)
	r := b.run(t, Config{MaxInFlight: slots, Begin: inItsGoroutine(h.handle)})
	h.wait(slots)
	for range slots { // some are done, so that fetches are under way
		h.release <- struct{}{}
	}
	r.mustStop(t)
	left := int(b.left(t))
	if left != n-slots {
		t.Fatalf("left: got %d, want %d", left, n-slots)
	}

	var handled tally
	stopped := time.Now()
	b.run(t, Config{MaxInFlight: n, Begin: inItsGoroutine(handled.ack)})
	eventually(t, "the next worker has had all", func() bool { return handled.len() == left })
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
	t.Logf("%d messages were handled within %s, ack wait is %s", left, time.Since(stopped), longAckWait)
}

// Whatever the moment of the stop, a message is with somebody: handled, or with the server.
func TestStop_AtAnyMomentUnderLoadLosesNoMessageAndHandlesNoneTwice(t *testing.T) {
	const rounds, n = 15, 60
	b, _ := newBench(t)
	var handled tally
	c := b.open(t, Config{MaxInFlight: 16, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		if d.Intake().Err() != nil {
			if err := giveBack(d); err != nil {
				t.Errorf("cannot nak: %v", err)
			}
			return
		}
		handled.add(d)
		if err := confirmAck(d); err != nil {
			t.Errorf("cannot ack: %v", err)
		}
	})})

	// Nothing waits for a stream that runs dry: it publishes while rounds are run.
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for range rounds {
			b.publish(t, n)
		}
	})
	for range rounds {
		r := start(t, c)
		timer := time.NewTimer(rand.N(60 * time.Millisecond)) // any moment will do
		select {
		case <-timer.C:
		case <-r.ended:
		}
		r.mustStop(t)
	}
	publishing.Wait()

	start(t, c)
	eventually(t, "all are handled", func() bool { return handled.len() == rounds*n })
	if seqs := handled.twice(); len(seqs) != 0 {
		t.Errorf("handled twice: %v", seqs)
	}
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
}

func TestStop_WhileTheServerIsAwayReturnsNil(t *testing.T) {
	t.Run("BeforeTheFirstMessage", func(t *testing.T) {
		b, srv := newBench(t)
		waiting := newSignal()
		c := b.open(t, Config{Logger: waiting.logger(), Begin: inItsGoroutine(func(context.Context, *Delivery) {})})
		srv.Stop(t)
		r := start(t, c)
		await(t, "its finding out that the server is away", waiting.c)
		r.mustStop(t)
	})
	t.Run("WithMessagesInWork", func(t *testing.T) {
		b, srv := newBench(t)
		b.publish(t, 3)
		h := newHold(t)
		r := b.run(t, Config{Begin: inItsGoroutine(h.handle)})
		h.wait(3)
		srv.Stop(t)
		r.mustStop(t)
	})
}

func TestStop_BeforeTheStartIsAStop(t *testing.T) {
	b, _ := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := b.open(t, Config{Begin: inItsGoroutine(func(context.Context, *Delivery) {})})
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}
