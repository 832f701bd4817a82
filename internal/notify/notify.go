package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// errGrace ends what is still being sent when the time after a stop is over.
var errGrace = errors.New("the time to send what waits is over")

// A Notifier tells of what happens. Its methods may be called from many goroutines at once.
type Notifier struct {
	cfg       Config
	body      *template
	transport http.RoundTripper
	queue     *queue
	wake      chan struct{} // holds one token if something was added since Run looked

	running                atomic.Bool
	sent, givenUp, dropped atomic.Uint64
}

// New returns a notifier, which tells nothing before Run. An error begins with the key of what is wrong.
func New(cfg Config) (*Notifier, error) {
	cfg = cfg.complete()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	body, err := parseTemplate(cmp.Or(cfg.Template, defaultTemplate))
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return &Notifier{
		cfg:       cfg,
		body:      body,
		transport: newTransport(cfg.Timeout),
		queue:     newQueue(cfg.Queue, cfg.Every),
		wake:      make(chan struct{}, 1),
	}, nil
}

// Stats says what became of the messages so far.
type Stats struct {
	Sent    uint64 // and taken by the server
	GivenUp uint64 // refused, or not taken in time
	Dropped uint64 // notices that found no place
}

// Stats returns what became of the messages so far.
func (n *Notifier) Stats() Stats {
	return Stats{Sent: n.sent.Load(), GivenUp: n.givenUp.Load(), Dropped: n.dropped.Load()}
}

// Notify has a notice told, soon and if its kind is among those to be told. It returns at once, whatever the server does.
// In a fleet many see that something has happened: the one that brought it about calls Notify.
func (n *Notifier) Notify(notice Notice) {
	if !slices.Contains(n.cfg.On, notice.Kind) {
		return
	}
	now := time.Now()
	if notice.At.IsZero() {
		notice.At = now.UTC()
	}
	notice.More = 0
	added, first := n.queue.add(notice, now)
	if !added {
		n.dropped.Add(1)
		if first {
			n.cfg.Logger.Error().Int("queue", n.cfg.Queue).Msg("too many notifications wait, new ones are dropped until there is room")
		}
		return
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run sends messages until ctx ends, then tries for a bounded time to send what waits, and returns nil.
func (n *Notifier) Run(ctx context.Context) error {
	if !n.running.CompareAndSwap(false, true) {
		return errors.New("notify: is running already")
	}
	defer n.running.Store(false)
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var sending sync.WaitGroup
	defer sending.Wait()
	ended := make(chan struct{})
	sending.Go(func() {
		defer close(ended)
		n.send(ctx, work)
	})

	<-ctx.Done()
	grace := time.NewTimer(n.cfg.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		cancel(errGrace)
	}
	return nil
}

// send sends what is due until stop ends; then, until work ends, what waits.
func (n *Notifier) send(stop, work context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for work.Err() == nil {
		stopping := stop.Err() != nil
		notice, wait, ok := n.queue.take(time.Now(), stopping)
		if ok {
			n.deliver(stop, work, notice)
			continue
		}
		if stopping {
			break
		}
		var due <-chan time.Time // never, if nothing waits
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-stop.Done():
		case <-n.wake:
		case <-due:
		}
	}
	if left := n.queue.left(); left > 0 {
		n.cfg.Logger.Warn().Int("notices", left).Msg("stopped before all notifications were sent")
	}
}

// deliver sends one message, again and again if need be. A stop does not break an attempt off, but ends the waiting for
// the next: the message is put back, to be tried once more before the end.
func (n *Notifier) deliver(stop, work context.Context, notice Notice) {
	log := n.cfg.Logger.With().Str("kind", string(notice.Kind)).Str("group", string(notice.Group)).Logger()
	body := n.body.render(notice)
	waiting := stop
	if stop.Err() != nil {
		waiting = work
	}
	told := false
	_, err := backoff.Retry(waiting, func() (struct{}, error) { return struct{}{}, n.post(work, body) },
		backoff.WithBackOff(n.backOff()),
		backoff.WithMaxElapsedTime(n.cfg.Retry.Total),
		backoff.WithNotify(func(err error, wait time.Duration) {
			if !told { // an outage is told once
				log.Warn().Err(err).Dur("wait", wait).Msg("a notification was not taken, it is sent again")
			}
			told = true
		}))
	switch {
	case err == nil:
		n.sent.Add(1)
	case waiting.Err() != nil && err == context.Cause(waiting): // and not what the server said
		n.queue.back(notice, time.Now())
		return
	default:
		n.givenUp.Add(1)
		log.Error().Err(err).Msg("a notification is given up")
	}
	n.queue.told(notice, time.Now())
}

func (n *Notifier) backOff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = n.cfg.Retry.Base, n.cfg.Retry.Cap, 2
	return b
}
