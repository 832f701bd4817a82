package campaign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// ErrOther is returned by Submit for an id under which another campaign stands.
var ErrOther = errors.New("another campaign has this id")

// The keys of the bucket of campaigns, before the campaign's id or, of a plan, before what was asked for.
const (
	specPrefix     = "spec."
	progressPrefix = "progress."
	pausePrefix    = "pause."
	planPrefix     = "plan."
)

// markLife is how long an abort mark is kept at least: as long as its campaign, or a request of it, may do anything.
const markLife = MaxLife + 24*time.Hour

// Documents are the documents of all campaigns, in buckets. They are a [Store] and [Steering].
type Documents struct {
	js        jetstream.JetStream
	campaigns jetstream.KeyValue
	control   jetstream.KeyValue
}

var (
	_ Store    = (*Documents)(nil)
	_ Steering = (*Documents)(nil)
)

// NewDocuments returns the documents in the bucket of campaigns. Abort marks are in the control bucket, with all else
// that those who trigger have to know of.
func NewDocuments(js jetstream.JetStream, campaigns, control jetstream.KeyValue) (*Documents, error) {
	if js == nil || campaigns == nil || control == nil {
		return nil, errors.New("campaign: a connection, the bucket of campaigns or the control bucket is missing")
	}
	return &Documents{js, campaigns, control}, nil
}

// Submit stores a campaign and hands it to the workers. Asked again with the same spec, it changes nothing; under an
// id that another campaign has, it returns ErrOther.
func (d *Documents) Submit(ctx context.Context, s Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot encode campaign %s: %w", s.ID, err)
	}
	if _, err = d.campaigns.Create(ctx, specPrefix+s.ID.String(), data); errors.Is(err, jetstream.ErrKeyExists) {
		var stands Spec
		if stands, err = d.Spec(ctx, s.ID); err == nil {
			if was, _ := json.Marshal(stands); !bytes.Equal(was, data) {
				err = ErrOther
			}
		}
	}
	if err == nil {
		err = d.enqueue(ctx, stream.CampaignSubject(s.Group, s.ID), s.ID)
	}
	if err != nil {
		return fmt.Errorf("cannot submit campaign %s: %w", s.ID, err)
	}
	return nil
}

func (d *Documents) enqueue(ctx context.Context, subject string, id uuid.UUID) error {
	msg := nats.NewMsg(subject)
	msg.Header.Set(stream.VersionHeader, restart.WireVersion)
	_, err := d.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id.String()))
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != codeStoreFailed {
		return err
	}
	// The server gives this code to more than one refusal: only what is there tells that it is queued already.
	queue, lookErr := d.js.Stream(ctx, stream.Campaigns)
	if lookErr == nil {
		_, lookErr = queue.GetLastMsgForSubject(ctx, subject)
	}
	if lookErr != nil {
		return err
	}
	return nil
}

// codeStoreFailed is what a full subject gives, among others; nats.go has no name for it.
const codeStoreFailed jetstream.ErrorCode = 10077

// Spec implements Store.
func (d *Documents) Spec(ctx context.Context, id uuid.UUID) (s Spec, err error) {
	_, err = d.read(ctx, specPrefix+id.String(), &s)
	return s, err
}

// Progress implements Store.
func (d *Documents) Progress(ctx context.Context, id uuid.UUID) (p Progress, err error) {
	revision, err := d.read(ctx, progressPrefix+id.String(), &p)
	if errors.Is(err, ErrNotFound) {
		return Progress{}, nil
	}
	p.Revision = revision
	return p, err
}

func (d *Documents) read(ctx context.Context, key string, v any) (revision uint64, err error) {
	entry, err := d.campaigns.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, ErrNotFound
	case err != nil:
		return 0, fmt.Errorf("cannot read %s of bucket %q: %w", key, stream.CampaignBucket, err)
	}
	if err := json.Unmarshal(entry.Value(), v); err != nil {
		return 0, fmt.Errorf("%s of bucket %q %w: %w", key, stream.CampaignBucket, ErrUnreadable, err)
	}
	return entry.Revision(), nil
}

// CompareAndSet implements Store.
func (d *Documents) CompareAndSet(ctx context.Context, p Progress) (revision uint64, err error) {
	key := progressPrefix + p.Campaign.String()
	data, err := json.Marshal(p)
	if err != nil {
		return 0, fmt.Errorf("cannot encode progress: %w", err)
	}
	if p.Revision == 0 {
		revision, err = d.campaigns.Create(ctx, key, data)
	} else {
		revision, err = d.campaigns.Update(ctx, key, data, p.Revision)
	}
	if !errors.Is(err, jetstream.ErrKeyExists) && !stream.IsWrongSequence(err) {
		if err != nil {
			err = fmt.Errorf("cannot write progress of campaign %s: %w", p.Campaign, err)
		}
		return revision, err
	}
	stands, err := d.Progress(ctx, p.Campaign)
	switch {
	case err != nil:
		return 0, err
	case stands.Driver == p.Driver && stands.Write == p.Write:
		return stands.Revision, nil // an earlier try has arrived, and its answer was lost
	case stands.Revision <= p.Revision:
		return 0, fmt.Errorf("cannot write progress of campaign %s: it was refused, and what stands there cannot be read yet", p.Campaign)
	}
	return 0, ErrConflict
}

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
		var stands jetstream.KeyValueEntry
		if stands, err = d.control.Get(ctx, key); err == nil {
			revision = stands.Revision()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("cannot abort campaign %s: %w", id, err)
	}
	d.forgetMarks(ctx, m.At)
	return revision, nil
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

// Pause has nothing more asked for by a campaign until it is resumed. What was asked for goes on.
func (d *Documents) Pause(ctx context.Context, id uuid.UUID, m Mark) error {
	data, err := json.Marshal(m)
	if err == nil {
		_, err = d.campaigns.Put(ctx, pausePrefix+id.String(), data)
	}
	if err != nil {
		return fmt.Errorf("cannot pause campaign %s: %w", id, err)
	}
	return nil
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

// A Campaign is all that is known of one.
type Campaign struct {
	Spec     Spec
	Progress Progress
	Wish     Wish
}

// Load returns a campaign, or ErrNotFound.
func (d *Documents) Load(ctx context.Context, id uuid.UUID) (c Campaign, err error) {
	if c.Spec, err = d.Spec(ctx, id); err != nil {
		return c, err
	}
	if c.Progress, err = d.Progress(ctx, id); err != nil {
		return c, err
	}
	if c.Progress.Revision == 0 {
		c.Progress = newProgress(&c.Spec)
	}
	if err := c.Progress.fits(&c.Spec); err != nil {
		return c, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	c.Wish, err = d.Wish(ctx, id)
	return c, err
}

// List returns the ids of all campaigns, the latest first.
func (d *Documents) List(ctx context.Context) ([]uuid.UUID, error) {
	keys, err := stream.KeysOf(ctx, d.js, d.campaigns.Bucket(), specPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list campaigns: %w", err)
	}
	var ids []uuid.UUID
	for _, key := range keys {
		if id, err := uuid.Parse(strings.TrimPrefix(key, specPrefix)); err == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(b[:], a[:]) }) // a UUIDv7 begins with its time
	return ids, nil
}

// SavePlan stores the plan of a dry run under what was asked for, in the place of an earlier one.
func (d *Documents) SavePlan(ctx context.Context, asked string, p Plan) error {
	data, err := json.Marshal(p)
	if err == nil && len(data) > maxDocument {
		p.Batches = nil // which can be made again from the rest
		data, err = json.Marshal(p)
	}
	if err == nil {
		_, err = d.campaigns.Put(ctx, planKey(asked), data)
	}
	if err != nil {
		return fmt.Errorf("cannot store the plan: %w", err)
	}
	return nil
}

// LoadPlan returns the latest plan of a dry run that asked for the same, or ErrNotFound.
func (d *Documents) LoadPlan(ctx context.Context, asked string) (p Plan, err error) {
	_, err = d.read(ctx, planKey(asked), &p)
	return p, err
}

// planKey returns a key of what may be any text.
func planKey(asked string) string {
	return planPrefix + fmt.Sprintf("%x", sha256.Sum256([]byte(asked)))
}
