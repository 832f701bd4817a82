package consumer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	// patience is how long a real server may take over anything.
	patience = 20 * time.Second

	// longAckWait is so long that what is delivered again within a test was not delivered because of it.
	longAckWait = 10 * time.Minute
)

var settings = stream.Settings{Replicas: 1, AckWait: longAckWait, Budget: 5000}

// A broker is what natsdtest gives, one server or a cluster.
type broker interface {
	Connect(t testing.TB) *nats.Conn
	JetStream(t testing.TB) jetstream.JetStream
}

// A bench is a broker with Mandrill's streams, and the test's own view of it.
type bench struct {
	broker broker
	js     jetstream.JetStream
	hosts  int // published so far
}

func newBench(t testing.TB) (*bench, *natsdtest.Server) {
	t.Helper()
	srv := natsdtest.Start(t)
	return prepare(t, srv, settings), srv
}

// fixed are settings that nothing changes.
func fixed(s stream.Settings) func() stream.Settings { return func() stream.Settings { return s } }

func prepare(t testing.TB, b broker, s stream.Settings) *bench {
	t.Helper()
	js := b.JetStream(t)
	if _, err := stream.Ensure(t.Context(), js, s); err != nil {
		t.Fatal(err)
	}
	return &bench{broker: b, js: js}
}

// publish puts n messages on the stream, each for a host of its own.
func (b *bench) publish(t testing.TB, n int) {
	t.Helper()
	var pending []jetstream.PubAckFuture
	for range n {
		b.hosts++
		f, err := b.js.PublishAsync(stream.WorkSubject("default", restart.Host(fmt.Sprintf("host-%d", b.hosts))), []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, f)
	}
	for _, f := range pending {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatal(err)
		case <-time.After(patience):
			t.Fatal("no answer to a publish")
		}
	}
}

// consumer returns what the server says of the group's consumer.
func (b *bench) consumer(t testing.TB) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), stream.Work, stream.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo()
}

// left returns how many messages are in the work stream.
func (b *bench) left(t testing.TB) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream.Work)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// inItsGoroutine begins by handling in a goroutine of its own.
func inItsGoroutine(handle func(context.Context, *Delivery)) func(context.Context, *Delivery, func()) {
	return func(ctx context.Context, d *Delivery, done func()) {
		go func() {
			defer done()
			handle(ctx, d)
		}()
	}
}

// open returns a consumer; what cfg leaves out is filled in.
func (b *bench) open(t testing.TB, cfg Config) *Consumer {
	t.Helper()
	if cfg.Conn == nil {
		cfg.Conn = b.broker.Connect(t)
	}
	if cfg.Group == "" {
		cfg.Group = "default"
	}
	if cfg.Settings == nil {
		cfg.Settings = fixed(settings)
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 100
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A running is a consumer that runs.
type running struct {
	stop   context.CancelFunc
	ended  chan struct{}
	result error // once ended
}

// run opens a consumer and runs it until it is stopped, or the test ends.
func (b *bench) run(t testing.TB, cfg Config) *running {
	t.Helper()
	return start(t, b.open(t, cfg))
}

func start(t testing.TB, c *Consumer) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.result = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		r.wait(t)
	})
	return r
}

// wait returns what Run returned.
func (r *running) wait(t testing.TB) error {
	t.Helper()
	await(t, "Run's return", r.ended)
	return r.result
}

// mustStop stops the consumer and wants Run to return nil.
func (r *running) mustStop(t testing.TB) {
	t.Helper()
	r.stop()
	if err := r.wait(t); err != nil {
		t.Fatalf("Run, asked to stop: got %v, want nil", err)
	}
}

func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s has not come within %s", what, patience)
	}
	return v
}

// eventually polls what only the server knows.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A hold is a Handle that tells of each delivery, and holds it until the test, or the stop, lets it go. The server has
// confirmed the acknowledgement before the slot is free, so that what it counts can be compared with the slots.
type hold struct {
	t       testing.TB
	held    chan *Delivery
	release chan struct{} // one for each, or closed for all
	now     atomic.Int32
	most    atomic.Int32
}

func newHold(t testing.TB) *hold {
	return &hold{t: t, held: make(chan *Delivery, 10_000), release: make(chan struct{})}
}

func (h *hold) handle(_ context.Context, d *Delivery) {
	now := h.now.Add(1)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	h.held <- d
	select {
	case <-h.release:
		h.now.Add(-1) // before another may have it
		if err := confirmAck(d); err != nil {
			h.t.Errorf("cannot ack: %v", err)
		}
	case <-d.Intake().Done():
		h.now.Add(-1)
		_ = giveBack(d) // the connection may be what has ended
	}
}

// wait returns the next n that are held.
func (h *hold) wait(n int) []*Delivery {
	h.t.Helper()
	var all []*Delivery
	for range n {
		all = append(all, await(h.t, "a delivery", h.held))
	}
	return all
}

func confirmAck(d *Delivery) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := d.conn.RequestWithContext(ctx, d.reply, []byte("+ACK"))
	return err
}

// giveBack naks, though the work's context may have ended. A server that has just gone away gives no answer.
func giveBack(d *Delivery) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience/4)
	defer cancel()
	return d.Nak(ctx, 0)
}

// A tally counts, by sequence, what was handled.
type tally struct {
	mu    sync.Mutex
	times map[uint64]int
	most  int // deliveries of one message
}

func (c *tally) add(d *Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == nil {
		c.times = map[uint64]int{}
	}
	c.times[d.Sequence()]++
	c.most = max(c.most, d.Deliveries())
}

func (c *tally) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// twice returns the messages that were handled more than once.
func (c *tally) twice() (seqs []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for seq, n := range c.times {
		if n > 1 {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// ack is a Handle that counts and acknowledges.
func (c *tally) ack(ctx context.Context, d *Delivery) {
	c.add(d)
	_ = d.Ack(ctx) // one that is lost shows as another delivery
}

// A signal is a log writer that tells of the first line: the one way to know from outside that Run waits for a server.
type signal struct {
	once sync.Once
	c    chan struct{}
}

func newSignal() *signal { return &signal{c: make(chan struct{})} }

func (s *signal) Write(line []byte) (int, error) {
	s.once.Do(func() { close(s.c) })
	return len(line), nil
}

func (s *signal) logger() zerolog.Logger { return zerolog.New(s) }

// extend returns what the server says to an extension.
func extend(ctx context.Context, d *Delivery) error {
	answer := make(chan error, 1)
	cancel, err := d.Extend(func(err error) { answer <- err })
	if err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		if cancel() {
			return context.Cause(ctx)
		}
		return <-answer
	}
}
