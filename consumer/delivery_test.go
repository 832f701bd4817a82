package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// each runs a consumer that gives every delivery to the test, which settles it.
func (b *bench) each(t testing.TB, cfg Config) <-chan *Delivery {
	t.Helper()
	deliveries := make(chan *Delivery, 100)
	cfg.Begin = inItsGoroutine(func(_ context.Context, d *Delivery) { deliveries <- d })
	b.run(t, cfg)
	return deliveries
}

func fallbackID(t testing.TB, d *Delivery) uuid.UUID {
	t.Helper()
	e, _ := d.Envelope() // there even if the subject cannot be read
	return e.FallbackID
}

func TestDelivery_ShowsTheMessageAsItWasPublished(t *testing.T) {
	b, _ := newBench(t)
	ack, err := b.js.PublishMsg(t.Context(), &nats.Msg{
		Subject: stream.WorkSubject("default", "a.example.net"),
		Header:  nats.Header{stream.VersionHeader: {"1"}},
		Data:    []byte(`{"instance":"a"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	work, err := b.js.Stream(t.Context(), stream.Work)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := work.GetMsg(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}

	d := await(t, "the delivery", b.each(t, Config{}))
	if got := string(d.Data()); got != `{"instance":"a"}` {
		t.Errorf("data: got %s", got)
	}
	if d.Subject() != stored.Subject || d.Sequence() != stored.Sequence || d.Deliveries() != 1 {
		t.Errorf("got %s, sequence %d, delivery %d, want %s, %d, 1", d.Subject(), d.Sequence(), d.Deliveries(), stored.Subject, stored.Sequence)
	}
	got, err := d.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	if !got.Stored.Equal(stored.Time) {
		t.Errorf("stored: got %s, want %s", got.Stored, stored.Time)
	}
	want := restart.Envelope{
		Version: "1", Group: "default", Host: "a.example.net", Stored: got.Stored,
		FallbackID: stream.FallbackID(work.CachedInfo().Created.UnixNano(), stored.Sequence),
	}
	if got != want {
		t.Errorf("envelope: got %+v, want %+v", got, want)
	}
}

func TestDelivery_FallbackIDIsTheSameAtEveryDeliveryOfAMessageAndNoOtherHasIt(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 2)
	deliveries := b.each(t, Config{})
	ids := map[uint64]uuid.UUID{}
	for range 3 * 2 {
		d := await(t, "a delivery", deliveries)
		id := fallbackID(t, d)
		if was, seen := ids[d.Sequence()]; seen && id != was {
			t.Errorf("delivery %d of message %d: got %s, before %s", d.Deliveries(), d.Sequence(), id, was)
		}
		ids[d.Sequence()] = id
		if err := d.Nak(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) != 2 || ids[1] == ids[2] || ids[1] == uuid.Nil {
		t.Errorf("got %v, want an id of its own for each message", ids)
	}
}

func TestDelivery_FallbackIDSurvivesARestartOfWorkerAndServer(t *testing.T) {
	b, srv := newBench(t)
	b.publish(t, 1)
	h := newHold(t)
	r := b.run(t, Config{Begin: inItsGoroutine(h.handle)})
	before := fallbackID(t, h.wait(1)[0])
	r.mustStop(t)
	srv.Restart(t)
	if after := fallbackID(t, await(t, "the delivery", b.each(t, Config{}))); after != before {
		t.Errorf("got %s, before %s", after, before)
	}
}

// Such a message is to become a dead letter, which needs an id and a time.
func TestDelivery_WithASubjectThatNoDoorLetsInHasTimeAndFallbackIDAllTheSame(t *testing.T) {
	b, _ := newBench(t)
	odd := []string{"mandrill.restart.default.UPPER", "mandrill.restart.default.ho$t", "mandrill.restart.default.a.B"}
	for _, subject := range odd {
		if _, err := b.js.Publish(t.Context(), subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	deliveries := b.each(t, Config{})
	ids := map[uuid.UUID]bool{}
	for range odd {
		d := await(t, "a delivery", deliveries)
		e, err := d.Envelope()
		if err == nil {
			t.Errorf("%s: got no error", d.Subject())
		}
		if e.FallbackID == uuid.Nil || e.Stored.IsZero() {
			t.Errorf("%s: got id %s and time %s", d.Subject(), e.FallbackID, e.Stored)
		}
		ids[e.FallbackID] = true
	}
	if len(ids) != len(odd) {
		t.Errorf("got %d ids for %d messages", len(ids), len(odd))
	}
}

// The server counts AckWait from when it hands a message out. Whoever counts from earlier stops in time.
func TestDelivery_WasAskedForBeforeItWasThere(t *testing.T) {
	b, _ := newBench(t)
	began := time.Now()
	deliveries := b.each(t, Config{})
	b.publish(t, 1) // a fetch waits by then, or is made
	first := await(t, "the delivery", deliveries)
	b.publish(t, 1)
	second := await(t, "the delivery", deliveries)
	for _, d := range []*Delivery{first, second} {
		if asked := d.Asked(); asked.Before(began) || time.Since(asked) > pullWait+patience {
			t.Errorf("got asked at %s, want between %s and now", asked, began)
		}
	}
	if second.Asked().Before(first.Asked()) {
		t.Errorf("the second was asked for at %s, the first at %s", second.Asked(), first.Asked())
	}
	info := b.consumer(t)
	if handedOut := info.Delivered.Last; handedOut == nil || second.Asked().After(*handedOut) {
		t.Errorf("asked for at %s, handed out at %v", second.Asked(), handedOut)
	}
}

func TestExtend_ProlongsAMessageHeldForSeveralTimesAckWait(t *testing.T) {
	const ackWait = time.Second
	b, _ := newBench(t)
	s := settings
	s.AckWait = ackWait
	b.publish(t, 1)
	deliveries := b.each(t, Config{Settings: fixed(s)})
	d := await(t, "the delivery", deliveries)

	ticker := time.NewTicker(ackWait / 4)
	defer ticker.Stop()
	over := time.After(3*ackWait + ackWait/2)
	for held := true; held; {
		select {
		case <-ticker.C:
			if err := extend(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		case again := <-deliveries:
			t.Fatalf("delivered again, %d times so far", again.Deliveries())
		case <-over:
			held = false
		}
	}
	if err := confirmAck(d); err != nil {
		t.Fatal(err)
	}
	if info := b.consumer(t); info.Delivered.Consumer != 1 || b.left(t) != 0 {
		t.Errorf("got %d deliveries and %d messages left, want 1 and 0", info.Delivered.Consumer, b.left(t))
	}
}

func TestExtend_WithoutWhichAMessageIsDeliveredAgain(t *testing.T) {
	b, _ := newBench(t)
	s := settings
	s.AckWait = 500 * time.Millisecond
	b.publish(t, 1)
	deliveries := b.each(t, Config{Settings: fixed(s)})
	for want := 1; want <= 3; want++ {
		if got := await(t, "the delivery", deliveries).Deliveries(); got != want {
			t.Errorf("deliveries: got %d, want %d", got, want)
		}
	}
}

// Nothing is sent late: what an outage swallowed must not arrive when somebody else holds the message.
func TestDelivery_FailsAtOnceWhileDisconnectedAndSendsNothingLate(t *testing.T) {
	b, srv := newBench(t)
	b.publish(t, 1)
	nc := b.broker.Connect(t)
	d := await(t, "the delivery", b.each(t, Config{Conn: nc}))
	srv.Stop(t)
	eventually(t, "the connection is down", func() bool { return !nc.IsConnected() })

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, call := range map[string]func() error{
		"Extend":        func() error { return extend(ctx, d) },
		"Ack":           func() error { return d.Ack(ctx) },
		"Nak":           func() error { return d.Nak(ctx, 0) },
		"Nak, with one": func() error { return d.Nak(ctx, time.Minute) },
		"Term":          func() error { return d.Term(ctx, "reason") },
	} {
		if err := call(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want an error at once", name, err)
		}
	}
	if ctx.Err() != nil {
		t.Errorf("it took %s", patience)
	}

	srv.StartAgain(t)
	eventually(t, "all are connected again", func() bool { return nc.IsConnected() && b.js.Conn().IsConnected() })
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := extend(ctx, d); err != nil { // and so has the server read what was sent before
		t.Fatal(err)
	}
	if info := b.consumer(t); info.NumAckPending != 1 || b.left(t) != 1 {
		t.Errorf("after the outage: got %d held and %d stored, want 1 and 1", info.NumAckPending, b.left(t))
	}
}

func TestNak_GivesBackAtOnceOrAfterTheDelay(t *testing.T) {
	const delay = 500 * time.Millisecond
	b, _ := newBench(t)
	b.publish(t, 1)
	deliveries := b.each(t, Config{})
	d := await(t, "the delivery", deliveries)
	if err := d.Nak(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	d = await(t, "the delivery after a nak", deliveries)
	if got := d.Deliveries(); got != 2 {
		t.Errorf("deliveries: got %d, want 2", got)
	}
	sent := time.Now()
	if err := d.Nak(t.Context(), delay); err != nil {
		t.Fatal(err)
	}
	d = await(t, "the delivery after a nak with a delay", deliveries)
	if got := d.Deliveries(); got != 3 {
		t.Errorf("deliveries: got %d, want 3", got)
	}
	if took := time.Since(sent); took < delay {
		t.Errorf("came again after %s, want %s at least", took, delay)
	}
}

// The embedded server stops with its worker: what the worker gave back must not wait for AckWait when both are back.
func TestNak_IsNotForgottenByAServerThatIsRestarted(t *testing.T) {
	b, srv := newBench(t)
	b.publish(t, 3)
	h := newHold(t)
	r := b.run(t, Config{Begin: inItsGoroutine(h.handle)})
	h.wait(3)
	r.mustStop(t)
	srv.Restart(t)
	next := newHold(t)
	b.run(t, Config{Begin: inItsGoroutine(next.handle)})
	next.wait(3)
}

func TestAck_RemovesTheMessage(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	d := await(t, "the delivery", b.each(t, Config{}))
	if err := d.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
}

func TestTerm_RemovesTheMessageForGoodAndTellsWhy(t *testing.T) {
	b, _ := newBench(t)
	told := make(chan *nats.Msg, 1)
	sub, err := b.js.Conn().ChanSubscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", told)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	b.publish(t, 1)
	d := await(t, "the delivery", b.each(t, Config{}))
	if err := d.Term(t.Context(), "malformed"); err != nil {
		t.Fatal(err)
	}
	var advisory struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(await(t, "the server's advisory", told).Data, &advisory); err != nil || advisory.Reason != "malformed" {
		t.Errorf("reason: got %q, %v, want malformed", advisory.Reason, err)
	}
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
}

// A foreign publisher may send what nats.go takes for the server's own word on a pull: no body, and a status.
func TestConsumer_AMessageThatLooksLikeAStatusIsHandledAndSpoilsNoOther(t *testing.T) {
	b, _ := newBench(t)
	for _, status := range []string{"100", "404", "408", "409", "503"} {
		msg := nats.NewMsg(stream.WorkSubject("default", restart.Host("status-"+status)))
		msg.Header.Set("Status", status)
		if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	b.publish(t, 20)
	var handled tally
	b.run(t, Config{Begin: inItsGoroutine(handled.ack)})
	eventually(t, "all are handled", func() bool { return handled.len() == 25 && b.left(t) == 0 })
}
