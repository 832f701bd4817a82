package handler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/journal/journaltest"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

var (
	errKilled = errors.New("killed")
	errCut    = errors.New("cut off")
	errLost   = errors.New("no answer")
	errGrace  = errors.New("grace is over")
)

// universe is one request with all that it meets: a broker that hands its message out, workers that come and go, and a
// host. It plays a schedule, and notes what must never happen.
type universe struct {
	schedule schedule
	request  Request
	began    time.Time
	journal  journaltest.Memory
	store    storetest.Memory
	handling sync.WaitGroup
	changed  chan struct{} // wakes the broker

	mu        sync.Mutex
	trace     []string
	wrong     []string
	counts    map[op]int // calls so far
	told      []Outcome
	letters   []Letter
	workers   []*worker // the present incarnations
	host      propertyHost
	awayUntil time.Time // the store
	broker    propertyBroker
}

// propertyBroker is JetStream's bookkeeping of one message. It does not fence: what an old delivery says is taken for the
// present one's word.
type propertyBroker struct {
	gone       bool
	due        time.Time // when it is handed out again
	deliveries int       // as it counts them
	handedOut  int       // as they are
	naks       int
}

// A worker is one incarnation of a worker process, with its way to everything else.
type worker struct {
	*universe
	name       string
	handler    *Handler
	intake     context.Context
	work       context.Context
	stopIntake context.CancelFunc
	stopWork   context.CancelCauseFunc

	// Guarded by the universe's mu.
	dead, stopping      bool
	cutUntil, coldUntil time.Time
	cutHangs            bool
}

func newUniverse(s schedule, request Request) *universe {
	u := &universe{
		schedule: s, request: request, began: time.Now(), changed: make(chan struct{}, 1), counts: map[op]int{},
		host: propertyHost{epoch: 1},
	}
	u.broker.due = u.began
	for i := range s.Workers {
		u.workers = append(u.workers, u.newWorker(i, 1))
	}
	return u
}

func (u *universe) newWorker(slot, incarnation int) *worker {
	w := &worker{universe: u, name: fmt.Sprintf("w%d.%d", slot, incarnation)}
	w.intake, w.stopIntake = context.WithCancel(context.Background())
	w.work, w.stopWork = context.WithCancelCause(context.Background())
	cfg := restarterConfig()
	cfg.Control, cfg.Journal, cfg.Store, cfg.Worker = (*propertyControl)(u), w, (*propertyStore)(w), w.name
	cfg.ProbeInterval = 2 * time.Second
	cfg.Retry = Backoff{Base: time.Millisecond, Cap: time.Millisecond} // the schedule's own delays come on top
	cfg.StableFor = u.schedule.StableFor
	cfg.VerifyTimeout = u.schedule.VerifyTimeout
	cfg.MaxAttempts, cfg.MaxDeliveries = u.schedule.MaxAttempts, u.schedule.MaxDeliveries
	driver := boundedConfig(w)
	driver.Slots, driver.RestartTimeout = u.schedule.Slots, u.schedule.RestartTimeout
	var err error
	cfg.Driver, err = bounded.New(driver)
	if err != nil {
		panic(err)
	}
	work, err := NewRestarter(cfg)
	if err != nil {
		panic(err)
	}
	work.writes.free, work.looks.free = u.schedule.Slots, u.schedule.Slots
	w.handler, err = New(Config{
		Work: work, DeadLetters: w, MaxLease: time.Hour, Retry: cfg.Retry,
		Settled: func(r Report) {
			w.note("%s: %s %s %v", w.name, r.fate, r.Outcome.Reason, r.Err)
			if r.Outcome.Kind != "" {
				w.tell(r.Outcome)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	return w
}

// play runs the schedule until the message is gone and nothing of it can come any more.
func (u *universe) play() {
	var timers []*time.Timer
	for _, f := range u.schedule.Faults {
		if f.On == "" {
			timers = append(timers, time.AfterFunc(f.At, func() { u.strike(f, f.Worker) }))
		}
	}
	u.handOut()
	for _, timer := range timers {
		timer.Stop()
	}
	u.mu.Lock()
	if !u.broker.gone {
		u.wrong = append(u.wrong, "the message never came to an end")
		for _, w := range u.workers {
			w.stopWork(errGrace)
		}
	}
	u.mu.Unlock()
	u.handling.Wait()
	time.Sleep(2 * longest)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.workers {
		w.stopIntake()
		w.stopWork(nil)
	}
}

// handOut is the broker's side: it hands the message out whenever it is due and somebody pulls.
func (u *universe) handOut() {
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		u.mu.Lock()
		if u.broker.gone {
			u.mu.Unlock()
			return
		}
		wait := time.Until(u.broker.due)
		if wait <= 0 {
			wait = time.Second // nobody pulls
			if w := u.puller(); w != nil {
				u.broker.deliveries++
				u.broker.handedOut++
				wait = ackWait
				u.broker.due = time.Now().Add(wait)
				d := &propertyDelivery{worker: w, deliveries: u.broker.deliveries, asked: time.Now()}
				late := u.schedule.wire(opDeliver, u.broker.handedOut).Before
				u.notef("%s: delivery %d, counted %d", w.name, u.broker.handedOut, d.deliveries)
				ctx := context.WithValue(w.work, skewKey{}, time.Duration(u.broker.handedOut)*time.Millisecond)
				u.handling.Go(func() {
					time.Sleep(late)
					handle(w.handler, ctx, d)
				})
			}
		}
		u.mu.Unlock()
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-u.changed:
		case <-end.C:
			return
		}
		next.Stop()
	}
}

// skewKey is under which a delivery's context has its skew: what its calls to journal and host take longer than those of
// earlier deliveries, so that rivals in one instant go in the same order whenever the schedule is played.
type skewKey struct{}

func skew(ctx context.Context) time.Duration {
	d, _ := ctx.Value(skewKey{}).(time.Duration)
	return d
}

// puller returns the worker that gets the next delivery; nil if nobody is there. mu is held.
func (u *universe) puller() *worker {
	var pulling []*worker
	now := time.Now()
	for _, w := range u.workers {
		if !w.dead && !w.stopping && !now.Before(w.cutUntil) && !now.Before(w.coldUntil) {
			pulling = append(pulling, w)
		}
	}
	if len(pulling) == 0 {
		return nil
	}
	n := u.broker.handedOut
	if n < len(u.schedule.Picks) {
		n = u.schedule.Picks[n]
	}
	return pulling[n%len(pulling)]
}

func (u *universe) wake() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// strike has a fault happen, to the worker in that slot if it is a worker's.
func (u *universe) strike(f fault, slot int) {
	slot %= u.schedule.Workers
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.workers[slot]
	if f.Kind == serverKilled || f.Kind == rebooted {
		u.notef("%s", f.Kind)
	} else {
		u.notef("%s: %s for %s", w.name, f.Kind, f.For)
	}
	switch f.Kind {
	case serverKilled:
		if u.broker.handedOut > 0 {
			u.broker.due, u.broker.deliveries = time.Now(), 0
			u.wake()
		}
	case storeAway:
		u.awayUntil = time.Now().Add(f.For)
	case rebooted:
		u.host.boot(u.schedule)
		u.host.elsewhere++
	case killed:
		w.dead = true
		w.stopIntake()
		w.stopWork(errKilled)
		u.replaceAfter(f.For, slot)
	case stopped:
		if w.dead || w.stopping {
			return
		}
		w.stopping = true
		w.stopIntake()
		time.AfterFunc(f.For, func() { w.stopWork(errGrace) })
		u.replaceAfter(f.For, slot)
	case cut, cutHanging:
		w.cutUntil, w.cutHangs = time.Now().Add(f.For), f.Kind == cutHanging
	case frozen:
		w.coldUntil = time.Now().Add(f.For)
	}
}

func (w *worker) freeze(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if until := time.Now().Add(d); until.After(w.coldUntil) {
		w.coldUntil = until
	}
}

// replaceAfter brings the next incarnation of a worker. mu is held.
func (u *universe) replaceAfter(d time.Duration, slot int) {
	old := u.workers[slot]
	incarnation, _ := strconv.Atoi(old.name[len("w0."):])
	time.AfterFunc(d, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.workers[slot] == old {
			u.workers[slot] = u.newWorker(slot, incarnation+1)
			u.wake()
		}
	})
}

func (u *universe) note(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.notef(format, args...)
}

// notef is note with mu held.
func (u *universe) notef(format string, args ...any) {
	u.trace = append(u.trace, fmt.Sprintf("%9.3fs ", time.Since(u.began).Seconds())+fmt.Sprintf(format, args...))
}

// An op is a kind of call that a worker makes, of which the schedule can name the n-th.
type op string

const (
	opLast      op = "last"
	opAppend    op = "append"
	opRestart   op = "restart"
	opSave      op = "save"
	opFinish    op = "finish"
	opLook      op = "look"
	opAttempted op = "attempted"
	opBury      op = "bury"
	opSettle    op = "settle"
	opExtend    op = "extend"
	opDeliver   op = "deliver"
)

func (o op) isStore() bool { return o == opSave || o == opFinish || o == opLook || o == opAttempted }

// begin counts a call, and has the faults happen that wait for it.
func (w *worker) begin(o op) (n int) {
	w.mu.Lock()
	w.counts[o]++
	n = w.counts[o]
	w.mu.Unlock()
	w.strikeAt(o, n, false)
	return n
}

func (w *worker) strikeAt(o op, n int, after bool) {
	for _, f := range w.schedule.Faults {
		if f.On != o || f.Nth != n || f.After != after {
			continue
		}
		w.mu.Lock()
		slot := slices.Index(w.workers, w)
		w.mu.Unlock()
		if slot >= 0 { // a dead worker's call is nobody's
			w.strike(f, slot)
		}
	}
}

// call is one call over the network to the broker's or the store's side. What was sent takes effect, unless the worker
// is dead by then; the answer may be lost. A frozen worker's call goes out when it thaws, whatever its context says then.
func (w *worker) call(ctx context.Context, o op, effect func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n := w.begin(o)
	if err := w.reach(ctx); err != nil {
		return err
	}
	wire := w.schedule.wire(o, n)
	time.Sleep(wire.Before + skew(ctx))
	switch {
	case w.isDead():
		return errKilled
	case o.isStore() && w.storeIsAway():
		return errCut
	case o.isStore() && ctx.Err() != nil && !wire.Lost:
		return context.Cause(ctx) // rolled back
	}
	err := effect(context.WithoutCancel(ctx))
	w.note("%s: %s %d: %v", w.name, o, n, err)
	w.strikeAt(o, n, true)
	pause(ctx, wire.Behind)
	w.thaw()
	switch {
	case w.isDead():
		return errKilled
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case wire.Lost || w.isCut():
		return errLost
	default:
		return err
	}
}

// reach returns nil once a call can go out.
func (w *worker) reach(ctx context.Context) error {
	w.thaw()
	switch {
	case w.isDead():
		return errKilled
	case w.isCut():
		w.mu.Lock()
		hangs := w.cutHangs
		w.mu.Unlock()
		if hangs {
			<-ctx.Done()
		}
		return errCut
	}
	return nil
}

func (w *worker) thaw() {
	for {
		w.mu.Lock()
		cold := time.Until(w.coldUntil)
		w.mu.Unlock()
		if cold <= 0 {
			return
		}
		time.Sleep(cold)
	}
}

func (w *worker) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

func (u *universe) storeIsAway() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Now().Before(u.awayUntil)
}

func (w *worker) isCut() bool { return w.cutFor() > 0 }

func (w *worker) cutFor() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Until(w.cutUntil)
}

func (w *worker) tell(o Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.told = append(w.told, o)
	}
}

// Bury implements DeadLetters: the first letter of a message stands.
func (w *worker) Bury(ctx context.Context, l Letter) error {
	return w.call(ctx, opBury, func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.ContainsFunc(w.letters, func(had Letter) bool { return had.WorkSequence == l.WorkSequence }) {
			w.letters = append(w.letters, l)
		}
		return nil
	})
}

// Covers, Last and Append implement Journal.
func (w *worker) Covers(stored time.Time) bool { return w.journal.Covers(stored) }

func (w *worker) Last(ctx context.Context, key journal.Key) (last journal.Event, err error) {
	err = w.call(ctx, opLast, func(ctx context.Context) (err error) {
		last, err = w.journal.Last(ctx, key)
		return err
	})
	return last, err
}

// Append waits for the end of a partition, and finds its own event again if the answer was lost, as the real one does.
func (w *worker) Append(ctx context.Context, key journal.Key, last, next journal.Event) (journal.Event, error) {
	n := w.begin(opAppend)
	wire := w.schedule.wire(opAppend, n)
	w.thaw()
	for w.isCut() && ctx.Err() == nil {
		pause(ctx, w.cutFor())
	}
	if ctx.Err() != nil {
		return journal.Event{}, context.Cause(ctx)
	}
	time.Sleep(wire.Before + skew(ctx))
	w.thaw()
	if w.isDead() {
		return journal.Event{}, errKilled
	}
	event, err := w.journal.Append(context.WithoutCancel(ctx), key, last, next)
	w.note("%s: append %d: %s{%d from %s takeover %t settled %t} %s: %v", w.name, n, next.Kind, next.Attempt, next.From,
		next.Takeover, next.Settled, next.Reason, err)
	w.strikeAt(opAppend, n, true)
	pause(ctx, wire.Behind)
	w.thaw()
	lost := wire.Lost
	for w.isCut() && ctx.Err() == nil {
		lost = true
		pause(ctx, w.cutFor())
	}
	switch {
	case w.isDead():
		return journal.Event{}, errKilled
	case ctx.Err() != nil:
		return journal.Event{}, context.Cause(ctx)
	case err == nil && lost:
		stands, err := w.journal.Last(ctx, key)
		if err == nil && stands.ID != event.ID {
			err = journal.ErrConflict
		}
		return stands, err
	}
	return event, err
}

// propertyStore is a worker's way to the store. (Its methods would clash with the worker's own.)
type propertyStore worker

func (s *propertyStore) Save(ctx context.Context, r Request) error {
	return (*worker)(s).call(ctx, opSave, func(ctx context.Context) error { return s.store.Save(ctx, r) })
}

func (s *propertyStore) Finish(ctx context.Context, o Outcome) (stands Outcome, err error) {
	err = (*worker)(s).call(ctx, opFinish, func(ctx context.Context) (err error) {
		stands, err = s.store.Finish(ctx, o)
		return err
	})
	return stands, err
}

func (s *propertyStore) Outcome(ctx context.Context, id uuid.UUID) (o Outcome, err error) {
	err = (*worker)(s).call(ctx, opLook, func(ctx context.Context) (err error) {
		o, err = s.store.Outcome(ctx, id)
		return err
	})
	return o, err
}

func (s *propertyStore) Attempted(ctx context.Context, a restart.Attempt) error {
	return (*worker)(s).call(ctx, opAttempted, func(ctx context.Context) error { return s.store.Attempted(ctx, a) })
}

// propertyDelivery is one delivery of the message, which outlives its lease.
type propertyDelivery struct {
	*worker
	deliveries int
	asked      time.Time
}

func (d *propertyDelivery) Data() []byte {
	data, err := d.request.Encode()
	if err != nil {
		panic(err)
	}
	return data
}

func (d *propertyDelivery) Envelope() (Envelope, error) {
	return Envelope{Group: d.request.Group, Host: d.request.Host, Stored: d.began, FallbackID: uuid.Max}, nil
}

func (d *propertyDelivery) Subject() string         { return "mandrill.restart.property" }
func (d *propertyDelivery) Sequence() uint64        { return 7 }
func (d *propertyDelivery) Deliveries() int         { return d.deliveries }
func (d *propertyDelivery) AckWait() time.Duration  { return ackWait }
func (d *propertyDelivery) Intake() context.Context { return d.intake }

func (d *propertyDelivery) Asked() time.Time { return d.asked }

func (d *propertyDelivery) Extend(then func(error)) (cancel func() bool, err error) {
	return answering(func(ctx context.Context) error {
		return d.call(ctx, opExtend, func(context.Context) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if now := time.Now(); now.Before(d.broker.due) {
				d.broker.due = now.Add(ackWait)
			}
			return nil
		})
	}, then), nil
}

func (d *propertyDelivery) Nak(ctx context.Context, delay time.Duration) error {
	return d.call(ctx, opSettle, func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if n := d.broker.naks; n < len(d.schedule.Naks) {
			delay += d.schedule.Naks[n]
		} else {
			delay += 5 * time.Second
		}
		d.broker.naks++
		d.broker.due = time.Now().Add(delay)
		d.wake()
		return nil
	})
}

func (d *propertyDelivery) Ack(ctx context.Context) error {
	return d.call(ctx, opSettle, func(ctx context.Context) error { return d.remove(ctx, false) })
}

func (d *propertyDelivery) Term(ctx context.Context, _ string) error {
	return d.call(ctx, opSettle, func(ctx context.Context) error { return d.remove(ctx, true) })
}

// remove takes the message from the broker, and looks at what is on record at that moment.
func (d *propertyDelivery) remove(ctx context.Context, buried bool) error {
	outcome, err := d.universe.store.Outcome(ctx, d.request.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		d.wrong = append(d.wrong, "the message was removed without an outcome on record")
	case !d.saved():
		d.wrong = append(d.wrong, "the message was removed without its request on record")
	case buried != (outcome.Kind == restart.Dead):
		d.wrong = append(d.wrong, fmt.Sprintf("outcome %s, and terminated: %t", outcome.Kind, buried))
	case buried && len(d.letters) == 0:
		d.wrong = append(d.wrong, "the message was terminated without a dead letter")
	}
	d.broker.gone = true
	d.wake()
	return nil
}

func (u *universe) saved() bool {
	for e, err := range u.store.History(context.Background(), store.Filter{}) {
		if err == nil && e.Request.ID == u.request.ID {
			return true
		}
	}
	return false
}

// propertyHost is a host that counts its boots.
type propertyHost struct {
	epoch     int
	boots     int // by our triggers
	elsewhere int // by other hands
	downUntil time.Time
	readyAt   time.Time
	asked     []restart.Epoch
}

// boot begins another boot.
func (h *propertyHost) boot(s schedule) {
	h.epoch++
	h.downUntil = time.Now().Add(s.Down)
	h.readyAt = h.downUntil.Add(s.Unready)
}

// Traits, Probe and Restart implement restart.Driver. The way to the host is not cut together with the one to the broker.
func (w *worker) Traits() restart.Traits { return w.schedule.Traits }

func (w *worker) Probe(ctx context.Context, _ restart.Host) (restart.State, error) {
	w.thaw()
	pause(ctx, w.schedule.ProbeTakes+skew(ctx))
	w.mu.Lock()
	defer w.mu.Unlock()
	since := time.Since(w.began)
	switch now := time.Now(); {
	case ctx.Err() != nil:
		return restart.State{}, context.Cause(ctx)
	case w.dead:
		return restart.State{}, errKilled
	case now.Before(w.host.downUntil):
		return restart.State{}, errors.New("host is down")
	case since >= w.schedule.BlindFrom && since < w.schedule.BlindUntil:
		return restart.State{}, errors.New("no route to host")
	default:
		return restart.State{Epoch: restart.Epoch(strconv.Itoa(w.host.epoch)), Ready: !now.Before(w.host.readyAt)}, nil
	}
}

// propertyControl is the group's control, which all workers hear at once.
type propertyControl universe

func (c *propertyControl) Holds(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, error) {
	since := time.Since(c.began)
	for _, h := range c.schedule.Holds {
		switch {
		case since < h.From || since >= h.From+h.For:
		case h.Dark:
			return nil, 0, errors.New("the bucket has not answered")
		default:
			return byHand, ackWait, nil
		}
	}
	if campaign == c.request.Campaign && c.aborted() {
		return []policy.Hold{{By: "ann", Aborts: true}}, ackWait, nil
	}
	return nil, ackWait, nil
}

// aborted reports whether the request's campaign is.
func (c *propertyControl) aborted() bool {
	return c.schedule.Aborted > 0 && time.Since(c.began) >= c.schedule.Aborted
}

func (c *propertyControl) Enter(campaign string, ackWait time.Duration) ([]policy.Hold, time.Duration, func(), error) {
	holds, left, err := c.Holds(campaign, ackWait)
	return holds, left, func() {}, err
}

func (c *propertyControl) Fell(context.Context, Outcome) error { return nil }
func (c *propertyControl) Rose(context.Context) error          { return nil }

func (w *worker) Restart(ctx context.Context, t restart.Trigger) error {
	if holds, _, err := (*propertyControl)(w.universe).Holds(w.request.Campaign, ackWait); err != nil || len(holds) > 0 {
		w.mu.Lock()
		w.wrong = append(w.wrong, fmt.Sprintf("%s: triggered while the group is held back, or the campaign aborted", w.name))
		w.mu.Unlock()
	}
	n := w.begin(opRestart)
	c := w.schedule.trigger(n)
	answer := make(chan error, 1)
	arrive := func() {
		err := w.arrive(n, c, t.From, t.Within)
		w.strikeAt(opRestart, n, true)
		if c.Answer == answered {
			time.AfterFunc(c.Takes, func() { answer <- err })
		} else if c.Answer == lost {
			time.AfterFunc(c.Takes, func() { answer <- errLost })
		}
	}
	if c.OnTheWire {
		time.AfterFunc(c.Held, arrive)
	} else {
		w.freeze(c.Held)
		w.thaw()
		if w.isDead() {
			return errKilled
		}
		arrive()
	}
	select {
	case err := <-answer:
		w.thaw()
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// arrive is the host's side of a trigger.
func (w *worker) arrive(n int, c trigger, from restart.Epoch, within time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &w.host
	h.asked = append(h.asked, from)
	w.notef("%s: restart %d from %s: %+v", w.name, n, from, c)
	changed := func() bool { return strconv.Itoa(h.epoch) != string(from) }
	switch {
	case c.Fate == refused:
		return restart.ErrRefused
	case c.Fate == impossible:
		return restart.ErrPermanent
	case c.Fate == dropped:
		return errLost
	case changed():
		return restart.ErrChanged
	}
	atMost := within
	if traits := w.schedule.Traits; traits.MaxDelay > 0 {
		atMost = traits.MaxDelay
	} else if traits.Compare == restart.CompareAtAcceptance {
		atMost = longest
	}
	// An effect at the very last instant is one too late for a prober in the same instant.
	time.AfterFunc(min(c.Late, atMost-time.Millisecond), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.schedule.Traits.Compare == restart.CompareAtEffect && changed() {
			w.notef("host: trigger %d has come too late", n)
			return
		}
		h.boot(w.schedule)
		h.boots++
		w.notef("host: boot by trigger %d", n)
	})
	return nil
}
