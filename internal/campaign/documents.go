package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// ErrOther is returned by Submit for an id under which another campaign stands.
var ErrOther = errors.New("another campaign has this id")

// The keys of the bucket of campaigns, before the campaign's id or, of a plan, before what was asked for or, of a turn,
// before its name.
const (
	specPrefix     = "spec."
	progressPrefix = "progress."
	pausePrefix    = "pause."
	planPrefix     = "plan."
	turnPrefix     = "turn."
)

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
		err = d.enqueue(ctx, stream.CampaignSubject(s.Group, s.ID))
	}
	if err != nil {
		return fmt.Errorf("cannot submit campaign %s: %w", s.ID, err)
	}
	return nil
}

func (d *Documents) enqueue(ctx context.Context, subject string) error {
	msg := nats.NewMsg(subject)
	msg.Header.Set(stream.VersionHeader, restart.WireVersion)
	_, err := d.js.PublishMsg(ctx, msg) // without an id: the server would take it for a double also when it is gone
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

// Withdraw ends a campaign that no worker has taken up, so that none does any more, and reports whether it has ended so: by
// the same compare-and-set as that of a worker which takes it up. Nothing is restarted by it then, wherever its message is.
func (d *Documents) Withdraw(ctx context.Context, s Spec, m Mark) (done bool, err error) {
	p := newProgress(&s)
	p.State, p.Why, p.Over, p.At, p.Driver = Aborted, m.String(), m.At, m.At, withdrawn
	switch _, err := d.CompareAndSet(ctx, p); {
	case errors.Is(err, ErrConflict):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot withdraw campaign %s: %w", s.ID, err)
	}
	return true, nil
}

// withdrawn is the driver of a campaign that has none. It is no worker's: their names are followed by an id.
const withdrawn = "withdrawn"

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
