package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/ask"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// Group names the hosts that share a consumer.
type Group = restart.Group

var (
	// ErrStreamGone is why Run ends when the work stream was deleted.
	ErrStreamGone = errors.New("work stream is gone")

	// ErrGraceOver is the cause with which the work's context ends when Grace is over.
	ErrGraceOver = errors.New("grace is over")

	// ErrRunning is returned by a second Run.
	ErrRunning = errors.New("consumer runs already")
)

const (
	// fetchPatience is how long free slots wait for more to become free, and maxFetch bounds what is fetched together.
	fetchPatience = 3 * time.Millisecond
	maxFetch      = 2000

	// settingsAge is how long what the server said of the consumer is believed, AckWait above all. It is also the time
	// between two sweeps.
	settingsAge = 10 * time.Second

	// attachPatience is how long one try to attach may take. A cluster that elects a leader leaves questions unanswered,
	// for electionTime at most as a rule: whoever went on waiting for those would miss the leader when it is there. Only
	// then is it rather that the server has much to do.
	attachPatience = 2 * time.Second
	electionTime   = 15 * time.Second

	// removal is how long a server may take to remove the folder of a consumer.
	removal = time.Second

	// overloadPause is how long a consumer whose process is overloaded waits before it fetches one message. Ten a second
	// are next to no load, and progress all the same where every worker is always overloaded. It is also how much later
	// than the overload itself the slow intake may end.
	overloadPause = 100 * time.Millisecond

	// goneAfter is for how long a work stream must be missing before it counts as deleted: a server that has only just
	// started, or lost its leader, may not know it yet.
	goneAfter = 3 * time.Second
)

// Config says what is consumed, and by whom.
type Config struct {
	Conn  *nats.Conn // without reconnect buffer, so that nothing is sent late
	Group Group
	// Settings returns the settings of a consumer that has to be created; AckWait and Budget must be positive.
	Settings func() stream.Settings
	// MaxInFlight is how many messages are worked on at once. It must be positive.
	MaxInFlight int
	// Grace is how long messages in work may go on after the stop; 0 stops them at once.
	Grace time.Duration
	// Overloaded reports whether this process has more to do than it can. While it does, messages are taken one by one,
	// at most ten a second, so that other workers have the rest; what is in work is left alone, and what was asked for
	// before may still come, for as long as a fetch lasts. It must not block. Nil means never.
	Overloaded func() bool
	// Begin begins to work on one delivery, and returns without waiting for anything. done is called once, when the
	// delivery was settled. Its context ends with cause ErrGraceOver.
	Begin func(ctx context.Context, d *Delivery, done func())
	// Recorded reports whether a message's outcome is on record. It is asked for a message that is settled, as far as
	// the server knows, and on the stream all the same. Nil leaves such a message where it is.
	Recorded func(context.Context, *Delivery) (bool, error)
	Logger   zerolog.Logger
}

// A Consumer consumes one group.
type Consumer struct {
	cfg   Config
	js    jetstream.JetStream
	asker *ask.Asker // for what deliveries ask
	slots *slots
	once  sync.Mutex // held while Run runs
	// believed is settingsAge, but for a test that will not wait; breath is overloadPause, but for one that would.
	believed, breath time.Duration

	// What follows belongs to Run's goroutine.
	next    string // where messages are asked for; empty if that is not known to be there
	ackWait time.Duration
	asked   time.Time      // when ackWait was read
	created time.Time      // the work stream
	seen    map[uint64]int // in how many sweeps up to the last a sequence was seen
}

// New returns a consumer.
func New(cfg Config) (*Consumer, error) {
	switch {
	case cfg.Conn == nil:
		return nil, errors.New("consumer: Conn is missing")
	case cfg.Begin == nil:
		return nil, errors.New("consumer: Begin is missing")
	case cfg.MaxInFlight <= 0:
		return nil, errors.New("consumer: MaxInFlight is not positive")
	case cfg.Grace < 0:
		return nil, errors.New("consumer: Grace is negative")
	case cfg.Settings == nil:
		return nil, errors.New("consumer: Settings is missing")
	}
	if _, err := restart.ParseGroup(string(cfg.Group)); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	if cfg.Overloaded == nil {
		cfg.Overloaded = func() bool { return false }
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	cfg.Logger = cfg.Logger.With().Str("group", string(cfg.Group)).Logger()
	return &Consumer{
		cfg: cfg, js: js, asker: ask.New(ask.Config{Conn: cfg.Conn}), slots: newSlots(cfg.MaxInFlight),
		believed: settingsAge, breath: overloadPause,
	}, nil
}

// Run pulls messages until ctx ends, waits for those in work for as long as Grace, stops the rest, and returns when
// every one was settled. It returns nil when it was asked to stop, and otherwise why it could not go on.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.once.TryLock() {
		return ErrRunning
	}
	defer c.once.Unlock()

	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	// A failure of the pull stops the intake as a signal does.
	intake, stopIntake := context.WithCancelCause(ctx)
	defer stopIntake(nil)

	var inWork, grace sync.WaitGroup
	grace.Go(func() { c.endGrace(intake, work, stopWork) })
	err := c.pullAll(intake, func(d *Delivery) {
		inWork.Add(1)
		c.cfg.Begin(work, d, func() {
			c.slots.put(1)
			inWork.Done()
		})
	})
	if err != nil {
		c.cfg.Logger.Error().Err(err).Msg("cannot go on, draining")
	}
	stopIntake(err)

	inWork.Wait()
	stopWork(nil)
	grace.Wait()
	return err
}

// endGrace stops the work when it still runs Grace after the intake ended.
func (c *Consumer) endGrace(intake, work context.Context, stopWork context.CancelCauseFunc) {
	select {
	case <-intake.Done():
	case <-work.Done():
		return
	}
	timer := time.NewTimer(c.cfg.Grace)
	defer timer.Stop()
	select {
	case <-timer.C:
		stopWork(ErrGraceOver)
	case <-work.Done():
	}
}

// pullAll fetches messages and starts them until ctx ends, or something happens that it cannot survive.
func (c *Consumer) pullAll(ctx context.Context, start func(*Delivery)) error {
	delays := newDelays()
	for ctx.Err() == nil {
		if err := c.attach(ctx); err != nil {
			return err
		}
		n := c.slots.take(ctx, maxFetch, fetchPatience)
		most := c.share(ctx, n)
		if ctx.Err() != nil {
			c.slots.put(n)
			return nil
		}
		started, err := c.fetch(ctx, most, start)
		c.slots.put(n - started)
		if err == nil {
			delays.Reset()
			continue
		}
		if ctx.Err() == nil {
			c.cfg.Logger.Warn().Err(err).Msg("cannot pull, attaching again")
			c.next = ""
			// Attaching may succeed each time where pulling never does, as with a limit on what may be asked for.
			pause(ctx, delays.NextBackOff())
		}
	}
	return nil
}

// share returns how many messages to fetch where n have a slot. That of an overloaded process is one, after a pause.
func (c *Consumer) share(ctx context.Context, n int) int {
	if !c.cfg.Overloaded() {
		return n
	}
	pause(ctx, c.breath)
	if !c.cfg.Overloaded() {
		return n
	}
	return 1
}

// attach makes sure that there is a consumer to pull from, whose AckWait is known. It waits for as long as the server
// is away, and returns an error only for what waiting cannot mend, or nil when ctx ends.
func (c *Consumer) attach(ctx context.Context) error {
	if c.next != "" && time.Since(c.asked) < c.believed {
		return nil
	}
	var missing time.Time // since when the work stream is
	level := zerolog.WarnLevel
	began := time.Now()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		patience := attachPatience
		if time.Since(began) > electionTime {
			patience = 4 * attachPatience
		}
		err := c.tryAttach(ctx, patience)
		var foreign *stream.SettingError
		switch {
		case errors.Is(err, nats.ErrConnectionClosed), errors.As(err, &foreign):
			err = backoff.Permanent(err)
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			missing = time.Time{}
		case missing.IsZero():
			missing = time.Now()
		case time.Since(missing) > goneAfter:
			err = backoff.Permanent(fmt.Errorf("%w: %s was deleted, and the requests in it with it", ErrStreamGone, stream.Work))
		}
		return struct{}{}, err
	}, backoff.WithBackOff(newDelays()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		c.cfg.Logger.WithLevel(level).Err(err).Msg("not attached yet, trying until it is")
		level = zerolog.DebugLevel // an outage is told once
	}))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot consume group %s: %w", c.cfg.Group, err)
	}
	return nil
}

func (c *Consumer) tryAttach(run context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(run, patience)
	defer cancel()
	work, err := c.js.Stream(ctx, stream.Work)
	if err != nil {
		return err
	}
	c.created = work.CachedInfo().Created
	if err := c.awaitRemoval(ctx); err != nil {
		return err
	}
	asked := time.Now()
	consumer, err := stream.EnsureConsumer(ctx, c.js, c.cfg.Group, c.cfg.Settings())
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	if c.cfg.Recorded != nil {
		if err := c.sweep(run, work, info.AckFloor.Stream); err != nil {
			c.cfg.Logger.Warn().Err(err).Msg("sweep incomplete, it goes on with the next one")
		}
	}
	c.next = nextPrefix + info.Stream + "." + info.Name
	c.ackWait, c.asked = info.Config.AckWait, asked
	return nil
}

// awaitRemoval gives the server time to remove what it keeps of a consumer that was there and is not any more. The server
// says that one is gone before it removes the folder, and with it that of one which was created meanwhile: such a one
// could not be resumed, nor be given another budget, until the server is started again.
func (c *Consumer) awaitRemoval(ctx context.Context) error {
	if c.asked.IsZero() {
		return nil
	}
	_, err := c.js.Consumer(ctx, stream.Work, stream.ConsumerName(c.cfg.Group))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		pause(ctx, removal)
		return nil
	}
	return err
}

// newDelays returns the delays between attempts to reach the server.
func newDelays() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5,
	}
	b.Reset()
	return b
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
