package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// An Entry is a letter as it lies in the box.
type Entry struct {
	Letter
	Subject   string
	Sequences []uint64 // of all its copies, the oldest first; the last one is the letter
}

// An UnreadableError says which letter cannot be read. The Entry beside it has only Subject and Sequences.
type UnreadableError struct {
	Subject  string
	Sequence uint64
	Err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("cannot read dead letter %.300q, sequence %d: %v", e.Subject, e.Sequence, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// A Filter chooses letters. The zero value matches all.
type Filter struct {
	Group    restart.Group  // empty: any
	Host     restart.Host   // empty: any
	Reason   restart.Reason // empty: any
	IDs      []uuid.UUID    // of the requests that were given up; empty: any
	Since    time.Time      // given up at or after; zero: no bound
	Until    time.Time      // given up before; zero: no bound
	Requeued bool           // only those that were requeued
}

func (f Filter) matches(l Letter) bool {
	o := l.Outcome
	return (f.Group == "" || o.Group == f.Group) &&
		(f.Host == "" || o.Host == f.Host) &&
		(f.Reason == "" || o.Reason == f.Reason) &&
		(len(f.IDs) == 0 || slices.Contains(f.IDs, o.ID)) &&
		(f.Since.IsZero() || !o.At.Before(f.Since)) &&
		(f.Until.IsZero() || o.At.Before(f.Until)) &&
		(!f.Requeued || l.Requeued())
}

// Letters returns the letters that match, as they are when it begins, the one that was written first first: a requeued
// letter was written when it was marked. It holds a few letters at a time. A letter that cannot be read is an
// *UnreadableError, whatever the filter, after which the sequence goes on; any other error ends it.
func (b *Box) Letters(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		info, err := b.stream.Info(ctx)
		if err != nil {
			yield(Entry{}, fmt.Errorf("cannot look at stream %q: %w", stream.Dead, err))
			return
		}
		marks, err := b.marks(ctx, info.State)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		earlier := map[message][]uint64{}
		for msg, err := range b.scan(ctx, info.State) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			l, err := decode(msg.subject, msg.data)
			if err != nil {
				unreadable := &UnreadableError{msg.subject, msg.sequence, err}
				if !yield(Entry{Subject: msg.subject, Sequences: []uint64{msg.sequence}}, unreadable) {
					return
				}
				continue
			}
			m := messageOf(l)
			if msg.sequence < marks[m] {
				earlier[m] = append(earlier[m], msg.sequence)
				continue
			}
			e := Entry{Letter: l, Subject: msg.subject, Sequences: append(earlier[m], msg.sequence)}
			if f.matches(l) && !yield(e, nil) {
				return
			}
		}
	}
}

// LettersOf returns the letters of one host, in no order. Unlike Letters it creates no consumer, and has only the last of what
// is on one subject: of a letter its last copy, and of several, which earlier work streams have left, the one written last.
func (b *Box) LettersOf(ctx context.Context, group restart.Group, host restart.Host) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		// What follows the host is one token, the sequence, so no other host's letters match.
		subjects, err := stream.SubjectsOf(ctx, b.stream, stream.DeadFilter(group, host))
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, subject := range subjects {
			msg, err := b.stream.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) { // purged meanwhile
				continue
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("cannot read stream %q: %w", stream.Dead, err))
				return
			}
			e := Entry{Subject: subject, Sequences: []uint64{msg.Sequence}}
			if e.Letter, err = decode(subject, msg.Data); err != nil {
				err = &UnreadableError{subject, msg.Sequence, err}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A message is the work message of a letter. Its sequence alone could be that of an earlier stream's.
type message struct {
	subject  string
	sequence uint64
	stored   int64
}

func messageOf(l Letter) message { return message{l.WorkSubject, l.WorkSequence, l.Stored.UnixNano()} }

// marks returns where the last marked letter of each message is: what lies before it is the same letter, not yet marked.
// There are none while every letter has a subject of its own.
func (b *Box) marks(ctx context.Context, state jetstream.StreamState) (map[message]uint64, error) {
	if state.Msgs == state.NumSubjects {
		return nil, nil
	}
	marks := map[message]uint64{}
	for msg, err := range b.scan(ctx, state) {
		if err != nil {
			return nil, err
		}
		if l, err := decode(msg.subject, msg.data); err == nil && l.Requeued() {
			marks[messageOf(l)] = msg.sequence
		}
	}
	return marks, nil
}

type stored struct {
	subject  string
	sequence uint64
	data     []byte
}

// scan returns what lay in the stream when it was in that state.
func (b *Box) scan(ctx context.Context, state jetstream.StreamState) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		if state.Msgs == 0 {
			return
		}
		for msg, err := range stream.Scan(ctx, b.stream, "", false) {
			if err != nil {
				yield(stored{}, err)
				return
			}
			meta, err := msg.Metadata()
			if err != nil {
				yield(stored{}, fmt.Errorf("cannot read stream %q: %w", stream.Dead, err))
				return
			}
			if meta.Sequence.Stream > state.LastSeq || !yield(stored{msg.Subject(), meta.Sequence.Stream, msg.Data()}, nil) {
				return
			}
		}
	}
}
