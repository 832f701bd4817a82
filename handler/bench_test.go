package handler

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
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
			h := newIdleHandler(b, &quickHost{}, Config{Labels: labels, SlowPhase: time.Minute})
			d := newDelivery(newRequest(b))
			data, err := d.request.Encode()
			if err != nil {
				b.Fatal(err)
			}
			d.data = data
			b.ReportAllocs()
			for b.Loop() {
				d.settlements = d.settlements[:0]
				handle(h, b.Context(), d)
				if d.settled() != "ack" {
					b.Fatal(d.settled())
				}
			}
		})
	}
}

// BenchmarkInFlight is what each message takes while all wait for their hosts at once: the stack of its goroutine, and
// the heap. The time is that until all wait.
func BenchmarkInFlight(b *testing.B) {
	var all inPhase
	h := newIdleHandler(b, deafHost{}, Config{SlowPhase: time.Minute, Observer: &all})
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	request := newRequest(b)
	data, err := request.Encode()
	if err != nil {
		b.Fatal(err)
	}
	deliveries := make([]*fakeDelivery, b.N)
	for i := range deliveries {
		deliveries[i] = newDelivery(request)
		deliveries[i].data = data
	}
	memory := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.GC() // the first frees no stacks of goroutines that have only just ended
		runtime.ReadMemStats(&m)
		return m
	}
	before := memory()
	b.ResetTimer()
	var held sync.WaitGroup
	for _, d := range deliveries {
		held.Add(1)
		h.Begin(ctx, d, held.Done)
	}
	for all.verifying.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	time.Sleep(3 * time.Second)
	after := memory()
	per := func(after, before uint64) float64 { return (float64(after) - float64(before)) / float64(b.N) }
	b.ReportMetric(per(after.StackInuse, before.StackInuse), "stack-B/message")
	b.ReportMetric(per(after.HeapAlloc, before.HeapAlloc), "heap-B/message")
	stop()
	held.Wait()
}

// inPhase counts the messages that wait for their hosts.
type inPhase struct {
	noObserver
	verifying atomic.Int64
}

func (p *inPhase) Moved(_, to Phase) {
	if to == PhaseVerify {
		p.verifying.Add(1)
	}
}

// deafHost is a host that takes every restart, and does nothing.
type deafHost struct{}

func (deafHost) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtEffect, MaxDelay: time.Hour}
}

func (deafHost) Probe(context.Context, restart.Host) (restart.State, error) {
	return restart.State{Epoch: "1", Ready: true}, nil
}

func (deafHost) Restart(context.Context, restart.Trigger) error { return nil }

// newIdleHandler returns a handler whose surroundings answer at once and remember nothing.
func newIdleHandler(t testing.TB, driver restart.Driver, cfg Config) *Handler {
	t.Helper()
	restarter := restarterConfig()
	restarter.ProbeInterval = time.Minute
	restarter.Control, restarter.Journal, restarter.Store = &fakeControl{}, nowhere{}, nowhere{}
	var err error
	restarter.Driver, err = bounded.New(bounded.Config{
		Driver: driver, Slots: 2000, ProbeTimeout: 10 * time.Second, RestartTimeout: 2 * time.Minute,
	})
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
