package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestConsumer_GoesOnByItselfWhenTheServerIsBack(t *testing.T) {
	b, srv := newBench(t)
	var handled tally
	r := b.run(t, Config{Begin: inItsGoroutine(handled.ack)})
	for outage := range 3 {
		b.publish(t, 20)
		eventually(t, "all are handled", func() bool { return handled.len() == 20*(outage+1) })
		srv.Restart(t)
		// A connection may not have noticed yet that its server was away; only an answer proves that it is a new one.
		eventually(t, "the test is connected again", func() bool { return b.js.Conn().FlushTimeout(time.Second) == nil })
	}
	r.mustStop(t)
}

// What is in work while the server is away can be settled when it is back.
func TestConsumer_WorkThatOutlastsAnOutageIsSettledAndNotDeliveredAgain(t *testing.T) {
	const n = 20
	b, srv := newBench(t)
	b.publish(t, n)
	nc := b.broker.Connect(t)
	h := newHold(t)
	b.run(t, Config{Conn: nc, Begin: inItsGoroutine(h.handle)})
	h.wait(n)
	srv.Restart(t)
	eventually(t, "all are connected again", func() bool { return nc.IsConnected() && b.js.Conn().IsConnected() })
	// A server may take connections before it has its consumers, and nobody answers an ack then.
	eventually(t, "the consumer is there again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.js.Consumer(ctx, stream.Work, stream.ConsumerName("default"))
		return err == nil
	})
	close(h.release)
	eventually(t, "the work stream is empty", func() bool { return b.left(t) == 0 })
	select {
	case d := <-h.held:
		t.Errorf("message %d was delivered again", d.Sequence())
	default:
	}
}

func TestConsumer_ThatIsDeletedIsCreatedAgain(t *testing.T) {
	b, _ := newBench(t)
	var handled tally
	b.run(t, Config{Begin: inItsGoroutine(handled.ack)})
	b.publish(t, 10)
	eventually(t, "all are handled", func() bool { return handled.len() == 10 && b.left(t) == 0 })
	deleted := time.Now()
	if err := b.js.DeleteConsumer(t.Context(), stream.Work, stream.ConsumerName("default")); err != nil {
		t.Fatal(err)
	}
	b.publish(t, 10)
	eventually(t, "those that came since are handled", func() bool { return handled.len() == 20 && b.left(t) == 0 })
	// One that is created while the server still removes the other loses its folder with it.
	if waited := b.consumer(t).Created.Sub(deleted); waited < removal {
		t.Errorf("created again %s after it was deleted, want %s at least", waited, removal)
	}
	if got := b.consumer(t).Config; got.AckWait != settings.AckWait || got.MaxAckPending != settings.Budget {
		t.Errorf("created again: got ack wait %s and budget %d, want those of the settings", got.AckWait, got.MaxAckPending)
	}
}

// M51
func TestRun_EndsWhenTheWorkStreamWasDeletedAfterWhatIsInWork(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	held, finish := make(chan *Delivery, 1), make(chan struct{})
	r := b.run(t, Config{Grace: time.Hour, Begin: inItsGoroutine(func(_ context.Context, d *Delivery) {
		held <- d
		<-finish
	})})
	d := await(t, "the delivery", held)
	if err := b.js.DeleteStream(t.Context(), stream.Work); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the intake", d.Intake().Done())
	if err := context.Cause(d.Intake()); !errors.Is(err, ErrStreamGone) {
		t.Errorf("cause of the intake's end: got %v, want ErrStreamGone", err)
	}
	select {
	case <-r.ended:
		t.Error("Run has returned before its last Handle")
	default:
	}
	close(finish)
	err := r.wait(t)
	if !errors.Is(err, ErrStreamGone) || !strings.Contains(err.Error(), stream.Work) || !strings.Contains(err.Error(), "default") {
		t.Errorf("got %v, want ErrStreamGone that names the stream and the group", err)
	}
}

func TestConsumer_AWorkStreamThatIsCreatedAgainSoonIsConsumed(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	h := newHold(t)
	r := b.run(t, Config{Begin: inItsGoroutine(h.handle)})
	before := fallbackID(t, h.wait(1)[0])
	if err := b.js.DeleteStream(t.Context(), stream.Work); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), b.js, settings); err != nil {
		t.Fatal(err)
	}
	b.publish(t, 1)
	d := h.wait(1)[0]
	if d.Sequence() != 1 {
		t.Fatalf("sequence: got %d, want 1", d.Sequence())
	}
	if after := fallbackID(t, d); after == before {
		t.Errorf("the first messages of two streams have the same fallback id, %s", after)
	}
	r.mustStop(t)
}

func TestRun_EndsWithAnErrorWhenItsConnectionIsClosed(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	nc := b.broker.Connect(t)
	h := newHold(t)
	r := b.run(t, Config{Conn: nc, Begin: inItsGoroutine(h.handle)})
	h.wait(1)
	nc.Close()
	if err := r.wait(t); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want nats.ErrConnectionClosed", err)
	}
}

// A consumer that refuses every pull, though it is there and can be looked at, must not be asked in a tight loop; and
// when its owner has mended it, the work goes on.
func TestConsumer_AServerThatRefusesEveryPullIsAskedLessAndLess(t *testing.T) {
	const pulls = 6
	b, _ := newBench(t)
	cfg := jetstream.ConsumerConfig{
		Durable: stream.ConsumerName("default"), FilterSubject: stream.WorkFilter("default"), AckPolicy: jetstream.AckExplicitPolicy,
		MaxDeliver: -1, AckWait: longAckWait, MaxRequestBatch: 1,
	}
	if _, err := b.js.CreateConsumer(t.Context(), stream.Work, cfg); err != nil {
		t.Fatal(err)
	}
	asked := make(chan *nats.Msg, 10_000)
	sub, err := b.js.Conn().ChanSubscribe("$JS.API.CONSUMER.MSG.NEXT.>", asked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	b.publish(t, 5) // answered, so the subscription is there

	var handled tally
	b.run(t, Config{MaxInFlight: 10, Begin: inItsGoroutine(handled.ack)})
	await(t, "the first pull", asked)
	first := time.Now()
	for range pulls - 1 {
		await(t, "a pull", asked)
	}
	// With all the jitter to its disadvantage: 25 + 50 + 100 + 200 + 400 ms.
	if took := time.Since(first); took < 750*time.Millisecond {
		t.Errorf("refused %d times within %s", pulls, took)
	}
	cfg.MaxRequestBatch = 0
	if _, err := b.js.UpdateConsumer(t.Context(), stream.Work, cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are handled", func() bool { return handled.len() == 5 && b.left(t) == 0 })
}

// A suspended process wakes up when the time of its fetch is long over: what came by then is its own all the same.
func TestFetch_AfterASuspensionLeavesNothingThatHadCome(t *testing.T) {
	const n = 20
	b, _ := newBench(t)
	b.publish(t, n)
	c := b.open(t, Config{Begin: inItsGoroutine(func(context.Context, *Delivery) {})})
	if err := c.attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	started := 0
	_, err := c.fetch(t.Context(), 2*n, func(*Delivery) {
		if started == 0 {
			<-time.After(pullWait + answerWait + answerWait/10) // suspended
		}
		started++
	})
	if err != nil || started != n {
		t.Errorf("got %d messages and %v, want %d", started, err, n)
	}
}

func TestConsumer_OfAClusterHandlesEverythingWhenANodeStops(t *testing.T) {
	const n = 300
	cluster := natsdtest.StartCluster(t, 3)
	s := stream.Settings{Replicas: 3, AckWait: 2 * time.Second, Budget: 1000}
	b := prepare(t, cluster, s)
	b.publish(t, n)
	done, all := make(chan struct{}, 10*n), make(chan struct{})
	var handled tally
	conn := cluster.Connect(t)
	b.run(t, Config{Conn: conn, Settings: fixed(s), MaxInFlight: 20, Begin: inItsGoroutine(func(ctx context.Context, d *Delivery) {
		handled.add(d)
		if handled.len() > n/3 {
			<-all // the rest is in work, or to come, when the node stops
		}
		_ = d.Ack(ctx)
		done <- struct{}{}
	})})
	for range n / 3 {
		await(t, "a third of all", done)
	}
	cluster.Node(leader(t, b, cluster)).Stop(t)
	stopped := time.Now()
	close(all)
	eventually(t, "the work stream is empty", func() bool {
		st, err := b.js.Stream(t.Context(), stream.Work)
		return err == nil && st.CachedInfo().State.Msgs == 0
	})
	if got := handled.len(); got != n {
		t.Errorf("handled: got %d, want %d", got, n)
	}
	t.Logf("all were handled %s after the node had stopped", time.Since(stopped))
}

// leader returns the node that leads the group's consumer: the worst one to lose.
func leader(t *testing.T, b *bench, cluster *natsdtest.Cluster) int {
	t.Helper()
	name := b.consumer(t).Cluster.Leader
	for i := range cluster.URLs() {
		if name == "node"+string(rune('0'+i)) {
			return i
		}
	}
	t.Fatalf("leader %q is no node", name)
	return 0
}
