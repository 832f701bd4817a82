package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// The steps of a message's life at which a worker can be told to hold every message, so that it can be killed there. A
// takeover counts as a trigger: what it comes upon is held too.
const (
	stepPulled      = "Pulled"      // nothing was done yet
	stepSaved       = "Saved"       // Save has returned; the restart goes on beside it
	stepBeforeFence = "BeforeFence" // the host was probed, and the fence is about to be appended
	stepFenced      = "Fenced"      // the fence has been appended, and nothing triggered
	stepTriggering  = "Triggering"  // the driver was called, and has not been waited for
	stepTriggered   = "Triggered"   // the driver has returned, and nobody has looked at the host
	stepHostDown    = "HostDown"    // the first look at the host has been answered, with whatever it was
	stepHostBack    = "HostBack"    // a probe has seen another boot
	stepVerified    = "Verified"    // Finish is about to be called
	stepTerminal    = "Terminal"    // a terminal event has been appended
	stepFinished    = "Finished"    // Finish has returned
	stepAcked       = "Acked"       // the settlement was sent
)

const (
	holdVariable = "MANDRILL_TEST_HOLD" // at which step a worker holds every message, for ever
	heldAtStep   = "held at step"       // what it then says of each
)

// A holder stands between the parts of a worker that is going to be killed, and holds every message that reaches the
// step. Nothing is held in Restart, because the lease bounds that call, and the message would go on without it: what
// comes after is held at the next probe, for which the worker has been given a long time.
type holder struct {
	step string
	log  zerolog.Logger

	mu sync.Mutex // guards what follows
	// open has the epochs for life of the hosts with a trigger that this process has given or taken over; given, those
	// whose driver has returned, too.
	open  map[restart.Host]restart.Epoch
	given map[restart.Host]bool
	held  map[restart.Host]bool
}

func newHolder(step string) *holder {
	return &holder{
		step: step, log: zerolog.New(os.Stderr).With().Timestamp().Logger(),
		open: map[restart.Host]restart.Epoch{}, given: map[restart.Host]bool{}, held: map[restart.Host]bool{},
	}
}

// seams returns what puts the holder between the parts.
func (h *holder) seams() seams {
	return seams{
		endpoint: func(e endpoint) endpoint { return e },
		driver:   func(d restart.Driver) restart.Driver { return heldDriver{d, h} },
		store:    func(s store.Store) store.Store { return heldStore{s, h} },
		journal:  func(j handler.Journal) handler.Journal { return heldJournal{j, h} },
		delivery: func(d handler.Delivery) handler.Delivery { return &heldDelivery{Delivery: d, holder: h} },
		progress: func(s campaign.Store) campaign.Store { return &heldProgress{Store: s, holder: h} },
		requests: func(r campaign.Requests) campaign.Requests { return heldRequests{r, h} },
	}
}

// hold never returns if this is the step.
func (h *holder) hold(step string, host restart.Host) {
	if step == h.step {
		h.mu.Lock()
		h.held[host] = true
		h.mu.Unlock()
		h.say(host)
		select {}
	}
}

func (h *holder) holds(host restart.Host) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[host]
}

func (h *holder) say(host restart.Host) {
	h.log.Info().Str("host", string(host)).Msg(heldAtStep)
}

// opened notes a trigger that is about to be given, or that was taken over.
func (h *holder) opened(host restart.Host, from restart.Epoch, takeover bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[host] = from
	h.given[host] = h.given[host] || takeover
}

func (h *holder) gave(host restart.Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.given[host] = true
}

// trigger returns the epoch for life of a host with an open trigger, and whether that was given.
func (h *holder) trigger(host restart.Host) (from restart.Epoch, given bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[host], h.given[host]
}

type heldDriver struct {
	restart.Driver
	*holder
}

func (d heldDriver) Restart(ctx context.Context, t restart.Trigger) error {
	if d.step == stepTriggering {
		d.say(t.Host)
	}
	err := d.Driver.Restart(ctx, t)
	if !errors.Is(err, restart.ErrRefused) && !errors.Is(err, restart.ErrPermanent) {
		d.gave(t.Host)
	}
	return err
}

func (d heldDriver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	from, given := d.trigger(host)
	if given {
		if d.step == stepTriggering {
			select {} // it is said already
		}
		d.hold(stepTriggered, host)
	}
	state, err := d.Driver.Probe(ctx, host)
	if given {
		d.hold(stepHostDown, host)
		if err == nil && state.Epoch != from {
			d.hold(stepHostBack, host)
		}
	}
	return state, err
}

type heldStore struct {
	store.Store
	*holder
}

func (s heldStore) Save(ctx context.Context, r restart.Request) error {
	err := s.Store.Save(ctx, r)
	if err == nil {
		s.hold(stepSaved, r.Host)
	}
	return err
}

func (s heldStore) Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error) {
	s.hold(stepVerified, o.Host)
	standing, err := s.Store.Finish(ctx, o)
	if err == nil {
		s.hold(stepFinished, o.Host)
	}
	return standing, err
}

type heldJournal struct {
	handler.Journal
	*holder
}

func (j heldJournal) Append(ctx context.Context, key journal.Key, last, next journal.Event) (journal.Event, error) {
	fence := next.Kind == journal.Restarting && !next.Takeover
	if fence {
		j.hold(stepBeforeFence, key.Host)
	}
	appended, err := j.Journal.Append(ctx, key, last, next)
	if err != nil {
		return appended, err
	}
	if next.Kind == journal.Restarting {
		j.opened(key.Host, next.From, next.Takeover)
	}
	if fence {
		j.hold(stepFenced, key.Host)
	}
	if next.Kind.Terminal() {
		j.hold(stepTerminal, key.Host)
	}
	return appended, nil
}

type heldDelivery struct {
	handler.Delivery
	holder *holder
	begun  sync.Once
}

// Deliveries is the first thing that is asked by the goroutine that works on the message.
func (d *heldDelivery) Deliveries() int {
	d.begun.Do(func() {
		if d.holder.holds(d.host()) {
			select {} // its lease was lost on a machine that is slow, and it goes no further by that
		}
		d.holder.hold(stepPulled, d.host())
	})
	return d.Delivery.Deliveries()
}

func (d *heldDelivery) host() restart.Host {
	envelope, _ := d.Envelope() // every message of these tests can be read
	return envelope.Host
}

func (d *heldDelivery) Ack(ctx context.Context) error {
	err := d.Delivery.Ack(ctx)
	if err == nil {
		d.holder.hold(stepAcked, d.host())
	}
	return err
}
