package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// maxSweep bounds how many messages one sweep looks at.
const maxSweep = 1000

// sweep removes what was settled and is on the stream all the same: a server that was killed, or whose disk was full,
// may remember that a message was settled and not that it was removed. Nothing delivers such a message again, and its
// host would be "already queued" for ever.
//
// A message at or below the consumer's acknowledgement floor is removed at the second sweep that sees it, because the
// first may have seen it on its way out, and only if Recorded says that its request has ended. So nothing is removed
// that no worker has settled.
func (c *Consumer) sweep(ctx context.Context, work jetstream.Stream, floor uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	seen := make(map[uint64]int)
	defer func() { c.seen = seen }() // of a sweep that was cut short, too: the next one gets further
	next := uint64(1)
	for range maxSweep {
		raw, err := work.GetMsg(ctx, next, jetstream.WithGetMsgSubject(stream.WorkFilter(c.cfg.Group)))
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && raw.Sequence > floor {
			break
		}
		if err != nil {
			return fmt.Errorf("cannot look for settled messages: %w", err)
		}
		next = raw.Sequence + 1
		before := c.seen[raw.Sequence]
		seen[raw.Sequence] = before + 1
		if before == 0 {
			continue
		}
		if err := c.remove(ctx, work, raw, before == 1); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the message if its outcome is on record, and otherwise complains, the first time.
func (c *Consumer) remove(ctx context.Context, work jetstream.Stream, raw *jetstream.RawStreamMsg, first bool) error {
	log := c.cfg.Logger.With().Str("subject", raw.Subject).Uint64("sequence", raw.Sequence).Logger()
	recorded, err := c.cfg.Recorded(ctx, &Delivery{
		source:  &source{created: c.created},
		subject: raw.Subject, version: raw.Header.Get(stream.VersionHeader), data: raw.Data,
		sequence: raw.Sequence, stored: raw.Time,
	})
	if err != nil {
		return fmt.Errorf("cannot tell whether a settled message has ended: %w", err)
	}
	if !recorded {
		if first {
			log.Error().Msg("settled by somebody, and left on the stream without an outcome in this worker's database")
		}
		return nil
	}
	err = work.DeleteMsg(ctx, raw.Sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return nil // most likely another worker has, and if not, the next sweep sees it again
	}
	if err != nil {
		return fmt.Errorf("cannot remove a settled message: %w", err)
	}
	log.Info().Msg("removed a message that was settled, and that the server had kept")
	return nil
}
