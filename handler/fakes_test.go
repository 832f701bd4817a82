package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/journal/journaltest"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ackWait = 30 * time.Second

// The handler is tested over fakes at its seams, under fake time (M70): see property_test.go for the broker that
// misbehaves, and the consumer's tests for the real one.

// fakeDelivery is a delivery that records how it was settled and can be told to fail.
type fakeDelivery struct {
	request    Request
	data       []byte // instead of the request's own encoding
	deliveries int
	ackWait    time.Duration
	intake     context.Context
	asked      time.Time // zero: when it is begun
	stored     time.Time
	sequence   uint64
	onExtend   func(ctx context.Context) error // nil: confirmed at once
	settleErr  error

	mu          sync.Mutex
	extended    []time.Time
	settlements []string
	settledAt   time.Time
	delay       time.Duration // of the last nak
}

func newDelivery(r Request) *fakeDelivery {
	return &fakeDelivery{
		request: r, deliveries: 1, ackWait: ackWait, intake: context.Background(), stored: time.Now(), sequence: 7,
	}
}

// again is the next delivery of the same message.
func (d *fakeDelivery) again() *fakeDelivery {
	next := newDelivery(d.request)
	next.data, next.stored, next.deliveries, next.ackWait = d.data, d.stored, d.deliveries+1, d.ackWait
	return next
}

func (d *fakeDelivery) Data() []byte {
	if d.data != nil {
		return d.data
	}
	data, err := d.request.Encode()
	if err != nil {
		panic(err)
	}
	return data
}

func (d *fakeDelivery) Envelope() (Envelope, error) {
	return Envelope{
		Group: d.request.Group, Host: d.request.Host, Stored: d.stored,
		FallbackID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, d.sequence, d.request.Host)),
	}, nil
}

func (d *fakeDelivery) Subject() string {
	return "mandrill.restart." + string(d.request.Group) + "." + string(d.request.Host)
}
func (d *fakeDelivery) Sequence() uint64        { return d.sequence }
func (d *fakeDelivery) Deliveries() int         { return d.deliveries }
func (d *fakeDelivery) AckWait() time.Duration  { return d.ackWait }
func (d *fakeDelivery) Intake() context.Context { return d.intake }

func (d *fakeDelivery) Asked() time.Time {
	if d.asked.IsZero() {
		return time.Now()
	}
	return d.asked
}

func (d *fakeDelivery) Extend(then func(error)) (cancel func() bool, err error) {
	d.mu.Lock()
	d.extended = append(d.extended, time.Now())
	d.mu.Unlock()
	return answering(d.onExtend, then), nil
}

// answering has then told what an answer, which may wait, comes to; nil says yes. Whether it is told or canceled is
// decided once.
func answering(answer func(context.Context) error, then func(error)) (cancel func() bool) {
	ctx, stop := context.WithCancel(context.Background())
	var over atomic.Bool
	go func() {
		var err error
		if answer != nil {
			err = answer(ctx)
		}
		if over.CompareAndSwap(false, true) {
			then(err)
		}
		stop()
	}()
	return func() bool {
		defer stop()
		return over.CompareAndSwap(false, true)
	}
}

func (d *fakeDelivery) Ack(context.Context) error { return d.settle("ack", 0) }
func (d *fakeDelivery) Nak(_ context.Context, delay time.Duration) error {
	return d.settle("nak", delay)
}

func (d *fakeDelivery) Term(_ context.Context, reason string) error {
	return d.settle("term "+reason, 0)
}

func (d *fakeDelivery) settle(how string, delay time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settlements = append(d.settlements, how)
	d.settledAt, d.delay = time.Now(), delay
	return d.settleErr
}

// settled returns how the delivery was settled; "left" if it was not; an error text if more than once.
func (d *fakeDelivery) settled() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch len(d.settlements) {
	case 0:
		return "left"
	case 1:
		return d.settlements[0]
	default:
		return fmt.Sprintf("settled more than once: %q", d.settlements)
	}
}

func (d *fakeDelivery) extensions() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Time(nil), d.extended...)
}

// fakeHost is a driver of one host, which compares at effect unless told otherwise.
type fakeHost struct {
	down       time.Duration // how long a boot takes
	unready    time.Duration // for how long it is not ready then; negative: for ever
	traits     restart.Traits
	onProbe    func(ctx context.Context) error // an error is what the caller gets
	onRestart  func(ctx context.Context, n int) error
	takeEffect bool // whether a restart for which onRestart returns an error happens all the same

	mu        sync.Mutex
	epoch     int
	boots     int
	calls     int
	probes    int
	downUntil time.Time
	readyAt   time.Time
	asked     []restart.Epoch
	within    []time.Duration
}

func newHost() *fakeHost {
	return &fakeHost{traits: restart.Traits{Compare: restart.CompareAtEffect}, epoch: 1}
}

func (h *fakeHost) Traits() restart.Traits { return h.traits }

func (h *fakeHost) Probe(ctx context.Context, _ restart.Host) (restart.State, error) {
	h.mu.Lock()
	h.probes++
	h.mu.Unlock()
	if h.onProbe != nil {
		if err := h.onProbe(ctx); err != nil {
			return restart.State{}, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Before(h.downUntil) {
		return restart.State{}, errors.New("host is down")
	}
	ready := h.boots == 0 || h.unready >= 0 && !now.Before(h.readyAt)
	return restart.State{Epoch: restart.Epoch(strconv.Itoa(h.epoch)), Since: h.downUntil, Ready: ready}, nil
}

func (h *fakeHost) Restart(ctx context.Context, t restart.Trigger) error {
	h.mu.Lock()
	h.calls++
	n := h.calls
	h.asked, h.within = append(h.asked, t.From), append(h.within, t.Within)
	h.mu.Unlock()
	var err error
	if h.onRestart != nil {
		err = h.onRestart(ctx, n)
		if err != nil && !h.takeEffect {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if strconv.Itoa(h.epoch) != string(t.From) {
		return restart.ErrChanged
	}
	h.boot()
	return err
}

// boot begins another boot; mu is held.
func (h *fakeHost) boot() {
	h.boots++
	h.epoch++
	h.downUntil = time.Now().Add(h.down)
	h.readyAt = h.downUntil.Add(max(0, h.unready))
}

// reboot is somebody else's hand.
func (h *fakeHost) reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot()
	h.boots--
}

// perHost is a driver that makes a fakeHost of each host.
func perHost(make func() *fakeHost) restart.Driver { return &hosts{make: make} }

type hosts struct {
	make func() *fakeHost
	all  sync.Map
}

func (h *hosts) of(name restart.Host) *fakeHost {
	host, _ := h.all.LoadOrStore(name, h.make())
	return host.(*fakeHost)
}

func (h *hosts) Traits() restart.Traits { return restart.Traits{Compare: restart.CompareAtEffect} }

func (h *hosts) Probe(ctx context.Context, name restart.Host) (restart.State, error) {
	return h.of(name).Probe(ctx, name)
}

func (h *hosts) Restart(ctx context.Context, t restart.Trigger) error {
	return h.of(t.Host).Restart(ctx, t)
}

// letters records what was buried.
type letters struct {
	mu     sync.Mutex
	buried []Letter
	err    error
}

func (l *letters) Bury(_ context.Context, letter Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.buried = append(l.buried, letter)
	}
	return l.err
}

// world is a worker with all that it stands on.
type world struct {
	t        *testing.T
	host     *fakeHost
	driver   bounded.Config
	control  *fakeControl
	observer recorder
	journal  *journaltest.Memory
	store    *storetest.Memory
	letters  *letters
	cfg      RestarterConfig
	log      zerolog.Logger
	labels   bool
	slow     time.Duration
	handler  *Handler

	mu      sync.Mutex
	reports []Report
	told    []Outcome
}

func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	w := &world{
		t: t, host: newHost(), control: &fakeControl{}, journal: &journaltest.Memory{}, store: &storetest.Memory{}, letters: &letters{},
	}
	w.driver = boundedConfig(w.host)
	w.cfg = restarterConfig()
	w.cfg.Control, w.cfg.Journal, w.cfg.Store = w.control, w.journal, w.store
	w.log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	if change != nil {
		change(w)
	}
	var err error
	w.driver.Logger = w.log
	w.cfg.Driver, err = bounded.New(w.driver)
	if err != nil {
		t.Fatal(err)
	}
	work, err := NewRestarter(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.handler, err = New(Config{
		Work: work, DeadLetters: w.letters, MaxLease: time.Hour, Retry: w.cfg.Retry,
		Settled: func(r Report) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reports = append(w.reports, r)
			if r.Outcome.Kind != "" {
				w.told = append(w.told, r.Outcome)
			}
		},
		Observer: &w.observer, Labels: w.labels, SlowPhase: w.slow,
		Logger: w.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// handle takes one delivery through its life.
func handle(h *Handler, ctx context.Context, d Delivery) {
	settled := make(chan struct{})
	h.Begin(ctx, d, func() { close(settled) })
	<-settled
}

// recorder is an observer that remembers.
type recorder struct {
	mu     sync.Mutex
	moves  []string // of one message, where there is only one
	now    map[Phase]int
	took   map[Step][]time.Duration
	events map[Event]int
}

func (r *recorder) Moved(from, to Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = map[Phase]int{}
	}
	r.now[from]--
	r.now[to]++
	r.moves = append(r.moves, string(to))
}

func (r *recorder) Took(s Step, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.took == nil {
		r.took = map[Step][]time.Duration{}
	}
	r.took[s] = append(r.took[s], d)
}

func (r *recorder) Happened(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = map[Event]int{}
	}
	r.events[e]++
}

func boundedConfig(driver restart.Driver) bounded.Config {
	return bounded.Config{
		Driver: driver, Slots: 10, ProbeTimeout: 10 * time.Second, RestartTimeout: 2 * time.Minute, Overrun: 5 * time.Second,
	}
}

// fakeControl holds a group back as it is told, and records what it hears.
type fakeControl struct {
	mu    sync.Mutex
	holds []policy.Hold
	// aborted has the campaigns that were aborted.
	aborted map[string]bool
	err     error         // nobody can tell what holds the group back
	left    time.Duration // zero: ackWait
	onFell  func() error
	onAsk   func(n int) // the n-th question, from 1
	asked   int
	fallen  []Outcome
	// entered is how many triggers are being given.
	entered int
	risen   int
}

func (c *fakeControl) Holds(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.onAsk != nil {
		c.onAsk(c.asked)
	}
	if c.err != nil {
		return nil, 0, c.err
	}
	if c.aborted[campaign] {
		return append(slices.Clone(c.holds), policy.Hold{By: "ann", Aborts: true}), cmp.Or(c.left, ackWait), nil
	}
	return c.holds, cmp.Or(c.left, ackWait), nil
}

func (c *fakeControl) Enter(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, func(), error) {
	holds, left, err := c.Holds(campaign, ackWait)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entered++
	return holds, left, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.entered--
	}, err
}

func (c *fakeControl) Fell(_ context.Context, o Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.onFell != nil {
		if err := c.onFell(); err != nil {
			return err
		}
	}
	c.fallen = append(c.fallen, o)
	return nil
}

func (c *fakeControl) Rose(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.risen++
	return nil
}

func restarterConfig() RestarterConfig {
	return RestarterConfig{
		Worker:        "worker-1",
		ProbeInterval: time.Second, VerifyTimeout: 10 * time.Minute, StoreTimeout: 30 * time.Second,
		Retry: Backoff{Base: time.Second, Cap: 5 * time.Minute}, MaxAttempts: 3, MaxDeliveries: 50,
	}
}

func newRequest(t testing.TB) Request {
	t.Helper()
	r := Request{Instance: "cattle-a1b2"}
	if err := r.Complete("example.net", time.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}

// outcome returns the outcome on record, or "none".
func (w *world) outcome(r Request) string {
	o, err := w.store.Outcome(context.Background(), r.ID)
	if err != nil {
		return "none"
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Reason)
}

// saved returns how many requests are on record.
func (w *world) saved() (n int) {
	for _, err := range w.store.History(context.Background(), storeFilter) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// expect checks how one delivery ended, and what is on record.
func (w *world) expect(d *fakeDelivery, settled, outcome string, boots int) {
	w.t.Helper()
	if got := d.settled(); got != settled {
		w.t.Errorf("delivery %d: got %q, want %q", d.deliveries, got, settled)
	}
	if got := w.outcome(d.request); got != outcome {
		w.t.Errorf("delivery %d: got outcome %q, want %q", d.deliveries, got, outcome)
	}
	if w.host.boots != boots {
		w.t.Errorf("delivery %d: got %d boots, want %d", d.deliveries, w.host.boots, boots)
	}
}
