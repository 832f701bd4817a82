package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/ask"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

var (
	// ErrConflict is returned by Append when another event stands where the new one was to go. It was not appended; or
	// it was, its answer was lost, and another's event stands on it already. Either way the request is another's now.
	ErrConflict = errors.New("another event was there first")

	// ErrIDReused is returned by Last for an id under which another host or group has events.
	ErrIDReused = errors.New("id belongs to another host's request")
)

// maxPending bounds the events that are published and not yet answered, over all requests of a worker. One more waits.
const maxPending = 16384

// horizonMargin is how much younger than the journal's age limit a work message must be, for an empty journal to prove
// that nothing was triggered for it. It covers the time between the look and the trigger, and the clocks' difference.
const horizonMargin = time.Hour

// Config says which journal a Journal appends to.
type Config struct {
	Conn *nats.Conn // without reconnect buffer, so that nothing is appended late
	// Created and MaxAge are the journal's own, as the broker tells them. A MaxAge of zero means that it forgets
	// nothing.
	Created time.Time
	MaxAge  time.Duration
	// AnswerTimeout is how long one append waits for its answer before it is unknown, or up to an eighth longer, and how
	// long a read does. Zero means 5 s.
	AnswerTimeout time.Duration
}

// A Journal appends to and reads from the journal stream. Its methods are called from many goroutines at once.
type Journal struct {
	cfg   Config
	asker *ask.Asker
	raw   rawStream

	stream  jetstream.Stream
	pending chan struct{} // has an entry for each append that is on its way
	headers sync.Pool     // of *expectation
	buffers sync.Pool     // of *[]byte, in which events are encoded
}

// rawStream is the one thing that is asked of the stream itself.
type rawStream interface {
	GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error)
}

// Open returns the journal behind the connection. The stream must be there.
func Open(ctx context.Context, cfg Config) (*Journal, error) {
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = 5 * time.Second
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot use JetStream: %w", err)
	}
	s, err := js.Stream(ctx, stream.Journal)
	if err != nil {
		return nil, fmt.Errorf("cannot open journal %s: %w", stream.Journal, err)
	}
	return &Journal{
		cfg: cfg, raw: s, stream: s,
		asker:   ask.New(ask.Config{Conn: cfg.Conn, Patience: cfg.AnswerTimeout}),
		pending: make(chan struct{}, maxPending),
		headers: sync.Pool{New: func() any { return newExpectation() }},
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}, nil
}

// Covers reports whether an empty journal proves that nothing was triggered for a work message stored at that time.
func (j *Journal) Covers(stored time.Time) bool {
	remembered := j.cfg.MaxAge == 0 || time.Since(stored) < j.cfg.MaxAge-horizonMargin
	return remembered && !stored.Before(j.cfg.Created)
}

// Last returns the latest event of a request; the zero Event if there is none; ErrIDReused if another host's or
// group's events stand under its id. It takes no longer than AnswerTimeout.
func (j *Journal) Last(ctx context.Context, key Key) (Event, error) {
	// The library waits as long as the context does, which may be for a whole lease: a leader that dies does not answer.
	ctx, cancel := context.WithTimeout(ctx, j.cfg.AnswerTimeout)
	defer cancel()
	msg, err := j.raw.GetLastMsgForSubject(ctx, stream.JournalByID(key.ID))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Event{}, nil
	}
	if err != nil {
		return Event{}, fmt.Errorf("cannot read journal of %s: %w", key.ID, err)
	}
	group, _, host, err := stream.ParseJournalSubject(msg.Subject)
	if err != nil {
		return Event{}, err
	}
	if group != key.Group || host != key.Host {
		return Event{}, fmt.Errorf("%w: host %s in group %s", ErrIDReused, host, group)
	}
	var last Event
	if err := json.Unmarshal(msg.Data, &last); err != nil {
		return Event{}, fmt.Errorf("cannot read journal of %s, sequence %d: %w", key.ID, msg.Sequence, err)
	}
	if !last.Kind.known() {
		return Event{}, fmt.Errorf("cannot read journal of %s, sequence %d: unknown event %q", key.ID, msg.Sequence, last.Kind)
	}
	last.Sequence = msg.Sequence
	return last, nil
}

// Append appends next on last, which is the zero Event where nothing is expected, and returns next with its own id and
// sequence. What MayFollow refuses is never sent. ErrConflict means that another event stands last. Any other error
// means that this is not known; it comes only when ctx has ended, because until then an append without an answer is
// tried again, and known by its id if it had arrived. Nothing is sent once ctx has ended.
func (j *Journal) Append(ctx context.Context, key Key, last, next Event) (Event, error) {
	if err := MayFollow(last, next); err != nil {
		return Event{}, err
	}
	next.ID = newEventID()
	buf := j.buffers.Get().(*[]byte)
	defer j.buffers.Put(buf)
	data, err := next.encodeInto(*buf)
	if err != nil {
		return Event{}, fmt.Errorf("cannot encode event: %w", err)
	}
	*buf = data
	appended, err := j.tryAppend(ctx, key, data, last, next)
	if err == nil {
		return appended, nil
	}
	return j.appendAgain(ctx, key, data, last, next, err)
}

// appendAgain goes on where the first try ended with err.
func (j *Journal) appendAgain(ctx context.Context, key Key, data []byte, last, next Event, err error) (Event, error) {
	return backoff.Retry(ctx, func() (Event, error) {
		if first := err; first != nil {
			err = nil
			return Event{}, first
		}
		return j.tryAppend(ctx, key, data, last, next)
	}, backoff.WithBackOff(appendBackOff()), backoff.WithMaxElapsedTime(0))
}

func appendBackOff() backoff.BackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 20 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5,
	}
}

func (j *Journal) tryAppend(ctx context.Context, key Key, data []byte, last, next Event) (Event, error) {
	sequence, err := j.publish(ctx, key, data, last.Sequence)
	if err == nil {
		next.Sequence = sequence
		return next, nil
	}
	if !stream.IsWrongSequence(err) {
		return Event{}, fmt.Errorf("no answer from journal: %w", err)
	}
	// Refused: by somebody else's event, or by this very one, if an earlier try arrived and its answer was lost.
	stands, err := j.Last(ctx, key)
	switch {
	case errors.Is(err, ErrIDReused):
		return Event{}, backoff.Permanent(ErrConflict)
	case err != nil:
		return Event{}, err
	case stands.ID == next.ID:
		return stands, nil
	case stands.Sequence == last.Sequence:
		// A member that is behind has answered, or an append of somebody else's is still on its way.
		return Event{}, errors.New("refused, and nothing else is there yet")
	default:
		return Event{}, backoff.Permanent(ErrConflict)
	}
}

// publish sends the event expecting that sequence to be the last under the request's id, whatever host and group: a
// second host under one id is refused by the same compare.
func (j *Journal) publish(ctx context.Context, key Key, data []byte, expect uint64) (uint64, error) {
	select {
	case j.pending <- struct{}{}:
		defer func() { <-j.pending }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	e := j.headers.Get().(*expectation)
	defer j.headers.Put(e)
	answer, err := j.asker.Ask(ctx, stream.JournalSubject(key.Group, key.ID, key.Host), e.header(expect, key.ID), data)
	if err != nil {
		return 0, err
	}
	return parseAnswer(answer.Data)
}

// An Entry is a request's latest event.
type Entry struct {
	Key  Key
	Last Event
}

// Latest returns the latest event of every request that the journal remembers; of one group, unless group is empty. What
// is appended meanwhile may be missing. The first error ends the sequence.
func (j *Journal) Latest(ctx context.Context, group restart.Group) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for msg, err := range stream.Scan(ctx, j.stream, stream.JournalByGroup(group), true) {
			var e Entry
			if err == nil {
				e, err = entryOf(msg)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func entryOf(msg jetstream.Msg) (e Entry, err error) {
	if e.Key.Group, e.Key.ID, e.Key.Host, err = stream.ParseJournalSubject(msg.Subject()); err != nil {
		return Entry{}, err
	}
	if err := json.Unmarshal(msg.Data(), &e.Last); err != nil {
		return Entry{}, fmt.Errorf("cannot read journal of %s: %w", e.Key.ID, err)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return Entry{}, err
	}
	e.Last.Sequence = meta.Sequence.Stream
	return e, nil
}
