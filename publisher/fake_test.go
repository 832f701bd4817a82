package publisher

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// fakeBroker is a work stream of one message per subject, whose answers the test can bend. It records every attempt.
type fakeBroker struct {
	// before decides on an attempt, the n-th of all from 1; nil, or returning carryOn, means that nothing goes wrong.
	before func(n int, msg *nats.Msg) fault

	mu       sync.Mutex
	queued   map[string]*jetstream.RawStreamMsg // by subject
	ids      map[string]bool                    // the duplicate window
	attempts []string                           // their message ids
	cleaned  int
	replicas int
	absent   func() bool // whether the stream is not found; nil means that it is
}

// fault is what goes wrong with one attempt.
type fault struct {
	sendErr  error // not sent at all
	err      error // sent, and what the future says; not stored
	lose     bool  // sent, stored as far as the stream takes it, and the answer is lost
	silent   bool  // sent, and neither stored nor answered
	carryOn  bool
	answerIn time.Duration
}

var (
	fullSubject = &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum messages per subject exceeded"}
	busy        = &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "system temporarily unavailable"}
	sealed      = &jetstream.APIError{Code: 400, ErrorCode: 10109, Description: "invalid operation on sealed stream"}
)

// always returns the same fault for every attempt.
func always(f fault) func(int, *nats.Msg) fault { return func(int, *nats.Msg) fault { return f } }

// once returns a fault for the first attempt only.
func once(f fault) func(int, *nats.Msg) fault {
	return func(n int, _ *nats.Msg) fault {
		if n == 1 {
			return f
		}
		return fault{carryOn: true}
	}
}

func (b *fakeBroker) PublishMsgAsync(msg *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := msg.Header.Get(jetstream.MsgIDHeader)
	b.attempts = append(b.attempts, id)
	f := fault{carryOn: true}
	if b.before != nil {
		f = b.before(len(b.attempts), msg)
	}
	future := &fakeFuture{msg: msg, stored: make(chan *jetstream.PubAck, 1), failed: make(chan error, 1)}
	switch {
	case f.sendErr != nil:
		return nil, f.sendErr
	case f.err != nil:
		future.failed <- f.err
	case f.silent:
		time.AfterFunc(answerTimeout, func() { future.failed <- jetstream.ErrAsyncPublishTimeout })
	default:
		known := b.ids[id]
		err := b.store(id, msg)
		if f.lose {
			time.AfterFunc(answerTimeout, func() { future.failed <- jetstream.ErrAsyncPublishTimeout })
			break
		}
		time.AfterFunc(f.answerIn, func() {
			if err != nil {
				future.failed <- err
			} else {
				future.stored <- &jetstream.PubAck{Stream: stream.Work, Duplicate: known}
			}
		})
	}
	return future, nil
}

// store does what the server does: a known id is a duplicate before anything else is looked at.
func (b *fakeBroker) store(id string, msg *nats.Msg) error {
	if b.ids[id] {
		return nil
	}
	if b.queued[msg.Subject] != nil {
		return fullSubject
	}
	if b.queued == nil {
		b.queued, b.ids = map[string]*jetstream.RawStreamMsg{}, map[string]bool{}
	}
	b.queued[msg.Subject] = &jetstream.RawStreamMsg{
		Subject: msg.Subject, Sequence: uint64(len(b.ids) + 1), Header: msg.Header, Data: msg.Data, Time: time.Now(),
	}
	b.ids[id] = true
	return nil
}

// enqueue puts a request where it is in the way of others for its host.
func (b *fakeBroker) enqueue(t testing.TB, r Request) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	msg, err := message(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store(r.ID.String(), msg); err != nil {
		t.Fatal(err)
	}
}

// consume takes whatever is queued for a request's host, as a worker's ack does.
func (b *fakeBroker) consume(r Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.queued, stream.WorkSubject(r.Group, r.Host))
}

// forget ends the duplicate window.
func (b *fakeBroker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.ids)
}

func (b *fakeBroker) attempted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attempts)
}

func (b *fakeBroker) Stream(context.Context, string) (jetstream.Stream, error) {
	if b.absent != nil && b.absent() {
		return nil, jetstream.ErrStreamNotFound
	}
	return fakeStream{broker: b}, nil
}

func (b *fakeBroker) CleanupPublisher() { b.cleaned++ }

type fakeStream struct {
	jetstream.Stream
	broker *fakeBroker
}

func (s fakeStream) GetLastMsgForSubject(_ context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	if msg := s.broker.queued[subject]; msg != nil {
		return msg, nil
	}
	return nil, jetstream.ErrMsgNotFound
}

func (s fakeStream) CachedInfo() *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: s.broker.replicas}}
}

type fakeFuture struct {
	msg    *nats.Msg
	stored chan *jetstream.PubAck
	failed chan error
}

func (f *fakeFuture) Ok() <-chan *jetstream.PubAck { return f.stored }
func (f *fakeFuture) Err() <-chan error            { return f.failed }
func (f *fakeFuture) Msg() *nats.Msg               { return f.msg }

// fakePhases says the same of every request.
type fakePhases func() (Phase, error)

func (f fakePhases) Phase(context.Context, Group, uuid.UUID, Host) (Phase, error) { return f() }

// newFaked returns a Publisher on a fake broker. It must be closed.
func newFaked(t testing.TB, b *fakeBroker, cfg Config) *Publisher {
	t.Helper()
	cfg.Logger = zerolog.New(zerolog.NewTestWriter(t))
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return newPublisher(cfg, b, func() error { return nil })
}

// publishOne publishes a request and returns how it ended and how long that took. It closes the Publisher, by which it
// knows that there was no second report.
func publishOne(t testing.TB, p *Publisher, r Request) (Result, time.Duration) {
	t.Helper()
	start := time.Now()
	var results []Result
	var took time.Duration
	err := p.Publish(t.Context(), r, func(r Result) { results, took = append(results, r), time.Since(start) })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 {
		t.Fatalf("got %d reports, want 1", len(results))
	}
	return results[0], took
}
