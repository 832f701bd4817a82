package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestNew_NamesWhatIsMissingOrCannotBe(t *testing.T) {
	b, _ := newBench(t)
	valid := Config{
		Conn: b.broker.Connect(t), Group: "default", Settings: fixed(settings), MaxInFlight: 1,
		Begin: inItsGoroutine(func(context.Context, *Delivery) {}),
	}
	if _, err := New(valid); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"Conn":        func(c *Config) { c.Conn = nil },
		"Begin":       func(c *Config) { c.Begin = nil },
		"MaxInFlight": func(c *Config) { c.MaxInFlight = 0 },
		"Grace":       func(c *Config) { c.Grace = -1 },
		"group":       func(c *Config) { c.Group = "no group" },
		"Settings":    func(c *Config) { c.Settings = nil },
	} {
		cfg := valid
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want an error that names it", field, err)
		}
	}
}

// M22: each of them waits for all the others, which only ends if none waits for another's end.
func TestConsumer_HandlesEveryMessageInAGoroutineOfItsOwn(t *testing.T) {
	const n = 50
	b, _ := newBench(t)
	b.publish(t, n)
	h := newHold(t)
	r := b.run(t, Config{MaxInFlight: n, Begin: inItsGoroutine(h.handle)})
	h.wait(n)
	close(h.release)
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
	r.mustStop(t)
}

// M21
func TestConsumer_ASlowMessageDoesNotDelayTheNextWhileASlotIsFree(t *testing.T) {
	const n = 100
	b, _ := newBench(t)
	slow, first := make(chan struct{}), make(chan struct{}, n)
	var others tally
	b.run(t, Config{MaxInFlight: 2, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		if d.Sequence() == 1 {
			first <- struct{}{}
			<-slow
		} else {
			others.add(d)
		}
		_ = d.Ack(ctx)
	})})
	b.publish(t, 1)
	await(t, "the slow message", first)
	b.publish(t, n)
	eventually(t, "all but the slow one are handled", func() bool { return others.len() == n })
	close(slow)
	eventually(t, "the slow one is handled too", func() bool { return b.left(t) == 0 })
}

func TestConsumer_HoldsNoMessageThatItHasNoSlotFor(t *testing.T) {
	const slots, n = 3, 40
	b, _ := newBench(t)
	b.publish(t, n)
	h := newHold(t)
	b.run(t, Config{MaxInFlight: slots, Begin: inItsGoroutine(h.handle)})
	h.wait(slots)
	for range n - slots {
		if info := b.consumer(t); info.NumAckPending > slots {
			t.Fatalf("held, as the server sees it: got %d, want at most %d", info.NumAckPending, slots)
		}
		h.release <- struct{}{}
		h.wait(1)
	}
	if got := h.most.Load(); got != slots {
		t.Errorf("most at once: got %d, want %d", got, slots)
	}
}

func TestConsumer_WithAllSlotsTakenLeavesTheRestAtTheServer(t *testing.T) {
	const slots, n = 3, 40
	b, _ := newBench(t)
	b.publish(t, n)
	h := newHold(t)
	b.run(t, Config{MaxInFlight: slots, Begin: inItsGoroutine(h.handle)})
	h.wait(slots)
	info := b.consumer(t)
	if info.NumAckPending != slots || info.NumPending != n-slots || info.NumWaiting != 0 {
		t.Errorf("got %d held, %d undelivered and %d pulls, want %d, %d and 0", info.NumAckPending, info.NumPending, info.NumWaiting, slots, n-slots)
	}
}

func TestConsumer_TwoOfAGroupShareItsMessagesAndNeitherStarves(t *testing.T) {
	const slots = 5
	b, _ := newBench(t)
	one, two := newHold(t), newHold(t)
	b.run(t, Config{MaxInFlight: slots, Begin: inItsGoroutine(one.handle)})
	b.run(t, Config{MaxInFlight: slots, Begin: inItsGoroutine(two.handle)})
	b.publish(t, 2*slots)
	one.wait(slots)
	two.wait(slots)

	// What one cannot take while it is full, the other does.
	close(two.release)
	b.publish(t, 3*slots)
	two.wait(3 * slots)
	close(one.release)
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
	if got := max(one.most.Load(), two.most.Load()); got > slots {
		t.Errorf("most at once: got %d, want %d", got, slots)
	}
}

func TestConsumer_TheBudgetBoundsWhatAllWorkersHoldTogether(t *testing.T) {
	const budget, n = 4, 30
	srv := natsdtest.Start(t)
	s := stream.Settings{Replicas: 1, AckWait: longAckWait, Budget: budget}
	b := prepare(t, srv, s)
	b.publish(t, n)
	h := newHold(t) // of both, so that it counts what they hold together
	for range 2 {
		b.run(t, Config{MaxInFlight: 10, Settings: fixed(s), Begin: inItsGoroutine(h.handle)})
	}
	h.wait(budget)
	for range n - budget {
		if info := b.consumer(t); info.NumAckPending > budget {
			t.Fatalf("held, as the server sees it: got %d, want at most %d", info.NumAckPending, budget)
		}
		h.release <- struct{}{}
		h.wait(1)
	}
	if got := h.most.Load(); got != budget {
		t.Errorf("most at once: got %d, want %d", got, budget)
	}
}

func TestConsumer_OfOneGroupLeavesTheOthersMessagesAlone(t *testing.T) {
	b, _ := newBench(t)
	if _, err := b.js.Publish(t.Context(), stream.WorkSubject("other", "host"), nil); err != nil {
		t.Fatal(err)
	}
	b.publish(t, 1)
	h := newHold(t)
	b.run(t, Config{Begin: inItsGoroutine(h.handle)})
	group, _, err := stream.ParseWorkSubject(h.wait(1)[0].Subject())
	if err != nil || group != "default" {
		t.Errorf("got a message of group %q, %v", group, err)
	}
	if got := b.consumer(t).NumPending; got != 0 {
		t.Errorf("still to come: got %d, want 0", got)
	}
}

func TestConsumer_TakesAckWaitFromTheServerAndNotFromItsSettings(t *testing.T) {
	b, _ := newBench(t)
	was := settings
	was.AckWait = 7 * time.Minute
	if _, err := stream.EnsureConsumer(t.Context(), b.js, "default", was); err != nil {
		t.Fatal(err)
	}
	b.publish(t, 1)
	h := newHold(t)
	b.run(t, Config{Begin: inItsGoroutine(h.handle)})
	if got := h.wait(1)[0].AckWait(); got != was.AckWait {
		t.Errorf("AckWait: got %s, want %s", got, was.AckWait)
	}
	if got := b.consumer(t).Config.AckWait; got != was.AckWait {
		t.Errorf("the consumer's own: got %s, want it left at %s", got, was.AckWait)
	}
}

func TestRun_RefusesAConsumerThatWouldBreakThePromiseAndPullsNothing(t *testing.T) {
	b, _ := newBench(t)
	name := stream.ConsumerName("default")
	_, err := b.js.CreateConsumer(t.Context(), stream.Work, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: stream.WorkFilter("default"), AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t, 3)
	h := newHold(t)
	err = b.run(t, Config{Begin: inItsGoroutine(h.handle)}).wait(t)
	var setting *stream.SettingError
	if !errors.As(err, &setting) || setting.Setting != "max_deliver" || setting.Consumer != name {
		t.Errorf("got %v, want a SettingError for max_deliver of %s", err, name)
	}
	if info := b.consumer(t); info.Delivered.Consumer != 0 || info.NumWaiting != 0 {
		t.Errorf("got %d delivered and %d pulls, want none", info.Delivered.Consumer, info.NumWaiting)
	}
}

func TestRun_CalledWhileItRunsIsAnError(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	h := newHold(t)
	c := b.open(t, Config{Begin: inItsGoroutine(h.handle)})
	r := start(t, c)
	h.wait(1)
	if err := c.Run(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("second Run: got %v, want ErrRunning", err)
	}
	r.mustStop(t)
}

func TestRun_AfterAStopGoesOn(t *testing.T) {
	b, _ := newBench(t)
	var handled tally
	c := b.open(t, Config{Begin: inItsGoroutine(handled.ack)})
	for i := range 3 {
		b.publish(t, 10)
		r := start(t, c)
		eventually(t, "all are handled", func() bool { return handled.len() == 10*(i+1) })
		r.mustStop(t)
		if got := c.slots.free; got != c.slots.size {
			t.Fatalf("free slots after the stop: got %d, want %d", got, c.slots.size)
		}
	}
	if seqs := handled.twice(); len(seqs) != 0 {
		t.Errorf("handled twice: %v", seqs)
	}
}
