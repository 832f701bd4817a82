package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// markLife is how long an abort mark is kept at least: as long as its campaign, or a request of it, may do anything.
const markLife = MaxLife + 24*time.Hour

// Wish implements Steering.
func (d *Documents) Wish(ctx context.Context, id uuid.UUID) (w Wish, err error) {
	if w.Aborted, err = markOf(ctx, d.control, stream.AbortPrefix+id.String()); err == nil {
		w.Paused, err = markOf(ctx, d.campaigns, pausePrefix+id.String())
	}
	return w, err
}

// markOf returns the mark under a key, or nil. One that cannot be read counts: what it asks for is harmless.
func markOf(ctx context.Context, kv jetstream.KeyValue, key string) (*Mark, error) {
	entry, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read %s of bucket %q: %w", key, kv.Bucket(), err)
	}
	m := &Mark{}
	if err := json.Unmarshal(entry.Value(), m); err != nil {
		m = &Mark{By: "somebody", Why: fmt.Sprintf("entry %s cannot be read: %v", key, err)}
	}
	return m, nil
}

// Abort implements Steering. It lets go of marks that no request can meet any more.
func (d *Documents) Abort(ctx context.Context, id uuid.UUID, m Mark) (revision uint64, err error) {
	key := stream.AbortPrefix + id.String()
	data, err := json.Marshal(m)
	if err == nil {
		revision, err = d.control.Create(ctx, key, data)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		revision, err = standing(ctx, d.control, key)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot abort campaign %s: %w", id, err)
	}
	d.forgetMarks(ctx, m.At)
	return revision, nil
}

// standing returns the revision of an entry that is known to be there: a node that is behind is asked again.
func standing(ctx context.Context, kv jetstream.KeyValue, key string) (revision uint64, err error) {
	for try := 1; ; try++ {
		entry, err := kv.Get(ctx, key)
		if err == nil {
			return entry.Revision(), nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) || try == patience {
			return 0, err
		}
		if err := sleep(ctx, behind(try)); err != nil {
			return 0, err
		}
	}
}

// forgetMarks removes old marks. A campaign whose mark is so old has ended, or ends by what its progress says; where
// removing fails, the next abort tries again.
func (d *Documents) forgetMarks(ctx context.Context, now time.Time) {
	keys, err := stream.KeysOf(ctx, d.js, d.control.Bucket(), stream.AbortPrefix)
	for _, key := range keys {
		entry, getErr := d.control.Get(ctx, key)
		if errors.Is(getErr, jetstream.ErrKeyNotFound) { // forgotten already
			continue
		}
		if err != nil || getErr != nil {
			return
		}
		if now.Sub(entry.Created()) > markLife {
			_ = d.control.Delete(ctx, key, jetstream.LastRevision(entry.Revision()))
		}
	}
}

// Pause has nothing more asked for by a campaign until it is resumed. What was asked for goes on. Whoever drives it heeds
// it once it has stored a paused progress of a later revision than is returned.
func (d *Documents) Pause(ctx context.Context, id uuid.UUID, m Mark) (revision uint64, err error) {
	data, err := json.Marshal(m)
	if err == nil {
		revision, err = d.campaigns.Put(ctx, pausePrefix+id.String(), data)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot pause campaign %s: %w", id, err)
	}
	return revision, nil
}

// Resume takes back a Pause, and reports whether there was one.
func (d *Documents) Resume(ctx context.Context, id uuid.UUID) (was bool, err error) {
	key := pausePrefix + id.String()
	m, err := markOf(ctx, d.campaigns, key)
	if err == nil && m != nil {
		err = d.campaigns.Delete(ctx, key)
	}
	if err != nil {
		return false, fmt.Errorf("cannot resume campaign %s: %w", id, err)
	}
	return m != nil, nil
}
