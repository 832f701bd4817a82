package handler

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// BenchmarkHandle is what the handler itself costs a message, from its delivery to its settlement, where nothing around
// it takes time, with and without labels for profiles.
func BenchmarkHandle(b *testing.B) {
	for _, labels := range []bool{false, true} {
		b.Run(fmt.Sprintf("labels=%t", labels), func(b *testing.B) {
			h := newIdleHandler(b, Config{Labels: labels, SlowPhase: time.Minute})
			d := newDelivery(newRequest(b))
			data, err := d.request.Encode()
			if err != nil {
				b.Fatal(err)
			}
			d.data = data
			b.ReportAllocs()
			for b.Loop() {
				d.settlements = d.settlements[:0]
				h.Handle(b.Context(), d)
				if d.settled() != "ack" {
					b.Fatal(d.settled())
				}
			}
		})
	}
}

// newIdleHandler returns a handler whose surroundings answer at once and remember nothing.
func newIdleHandler(t testing.TB, cfg Config) *Handler {
	t.Helper()
	restarter := restarterConfig()
	restarter.Control, restarter.Journal, restarter.Store = &fakeControl{}, nowhere{}, nowhere{}
	var err error
	restarter.Driver, err = bounded.New(boundedConfig(&quickHost{}))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Work, err = NewRestarter(restarter)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DeadLetters, cfg.MaxLease, cfg.Retry = &letters{}, time.Hour, restarter.Retry
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// nowhere is a journal and a store that forget.
type nowhere struct{}

func (nowhere) Covers(time.Time) bool { return true }

func (nowhere) Last(context.Context, journal.Key) (journal.Event, error) { return journal.Event{}, nil }

func (nowhere) Append(_ context.Context, _ journal.Key, _, next journal.Event) (journal.Event, error) {
	return next, nil
}

func (nowhere) Save(context.Context, Request) error { return nil }

func (nowhere) Finish(_ context.Context, o Outcome) (Outcome, error) { return o, nil }

func (nowhere) Attempted(context.Context, restart.Attempt) error { return nil }

func (nowhere) Outcome(context.Context, uuid.UUID) (Outcome, error) {
	return Outcome{}, store.ErrNotFound
}

// quickHost is a driver whose hosts, which are all one, boot at once.
type quickHost struct{ boots atomic.Int64 }

func (h *quickHost) Traits() restart.Traits { return restart.Traits{Compare: restart.CompareAtEffect} }

func (h *quickHost) Probe(context.Context, restart.Host) (restart.State, error) {
	return restart.State{Epoch: restart.Epoch(strconv.FormatInt(h.boots.Load(), 10)), Ready: true}, nil
}

func (h *quickHost) Restart(context.Context, restart.Trigger) error {
	h.boots.Add(1)
	return nil
}
