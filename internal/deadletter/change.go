package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// markPatience bounds how long a mark is tried again that others' letters get in the way of.
const markPatience = 5 * time.Second

// Mark writes onto a letter that a request has taken its place, unless that stands there already. A letter that was
// removed needs no mark.
func (b *Box) Mark(ctx context.Context, e Entry, as uuid.UUID, at time.Time) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := b.tryMark(ctx, e, as, at)
		if err != nil && !stream.IsWrongSequence(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 10 * time.Millisecond, MaxInterval: 500 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5,
	}), backoff.WithMaxElapsedTime(markPatience))
	if err != nil {
		return fmt.Errorf("cannot mark dead letter %s as requeued: %w", e.Subject, err)
	}
	return nil
}

// tryMark puts the letter onto its subject again, with the mark. The copy without it is not removed: between the two a
// process may die.
func (b *Box) tryMark(ctx context.Context, e Entry, as uuid.UUID, at time.Time) error {
	last, err := b.stream.GetLastMsgForSubject(ctx, e.Subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l, there, err := b.find(ctx, e.Subject, e.Stored)
	if err != nil || !there || l.Requeued() {
		return err
	}
	l.RequeuedAs, l.RequeuedAt = as, at.UTC()
	data, err := encode(l, b.js.Conn().MaxPayload()-headerRoom)
	if err != nil {
		return err
	}
	return b.put(ctx, e.Subject, data, last.Sequence)
}

// Remove removes a letter, and reports whether it was there. An error leaves it open: Remove it again.
func (b *Box) Remove(ctx context.Context, e Entry) (removed bool, err error) {
	// The mark goes last: without it, a letter would be there again that looks as if it had not been requeued.
	for _, sequence := range e.Sequences {
		err := b.stream.DeleteMsg(ctx, sequence)
		if err == nil {
			removed = true
			continue
		}
		// The library's error does not say whether there was nothing to delete.
		if _, gone := b.stream.GetMsg(ctx, sequence); !errors.Is(gone, jetstream.ErrMsgNotFound) {
			return false, fmt.Errorf("cannot remove dead letter %s, sequence %d: %w", e.Subject, sequence, err)
		}
		removed = false
	}
	return removed, nil
}
