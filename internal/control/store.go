// Package control is what steers the workers of a fleet, as the control bucket says: for each group what holds it back, how
// many of its messages may be held at once, the row of hosts that did not come back, and which database its workers
// remember in.
//
// The bucket is the truth. A consumer's pause and its limit are derived from it, and set again whenever they differ. A
// worker triggers nothing unless it knows what the bucket says now: see [Watcher].
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// ErrOtherStore is returned where the workers of a group remember in another database. Two databases would both accept
// an outcome for one request.
var ErrOtherStore = errors.New("the group's workers remember in another database")

// A StoreClaim says which database the workers of a group remember in.
type StoreClaim struct {
	Identity uuid.UUID `json:"identity"` // of the database, which it has from its making
	Shown    string    `json:"database"` // where it is, for people, without secrets
	Worker   string    `json:"worker"`   // who said so first
	At       time.Time `json:"at"`
}

// ClaimStore makes a database the one that the workers of a group remember in, unless one is claimed already. Where that
// is another, it returns an error that wraps ErrOtherStore, or, told to adopt, replaces it. Of several workers that claim
// at once, one wins.
func ClaimStore(ctx context.Context, kv jetstream.KeyValue, group restart.Group, claim StoreClaim, adopt bool) error {
	data, err := json.Marshal(claim)
	if err != nil {
		return fmt.Errorf("cannot encode store claim: %w", err)
	}
	key := stream.StoreKey(group)
	for {
		entry, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = kv.Create(ctx, key, data)
		case err != nil:
		default:
			var held StoreClaim
			held, err = parseClaim(entry)
			switch {
			case err == nil && held.Identity == claim.Identity:
				return nil
			case adopt: // whatever stands there
				_, err = kv.Update(ctx, key, data, entry.Revision())
			case err == nil:
				return otherStore(group, held)
			}
		}
		if errors.Is(err, jetstream.ErrKeyExists) || stream.IsWrongSequence(err) {
			continue // somebody else was faster: look at what they said
		}
		if err != nil {
			return fmt.Errorf("cannot claim the store of group %q: %w", group, err)
		}
		return nil
	}
}

// watchRetry is how long a watch waits that could not be set up, or broke, before it is tried again.
const watchRetry = time.Second

// WatchStore returns an error that wraps ErrOtherStore once the group's workers are to remember in another database than
// the one of that identity, or nil when ctx ends. While the server is away it waits.
func WatchStore(ctx context.Context, kv jetstream.KeyValue, group restart.Group, identity uuid.UUID) error {
	for {
		if err := watchStore(ctx, kv, group, identity); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchRetry):
		}
	}
}

// watchStore returns nil when the watch can tell no more.
func watchStore(ctx context.Context, kv jetstream.KeyValue, group restart.Group, identity uuid.UUID) error {
	watcher, err := kv.Watch(ctx, stream.StoreKey(group))
	if err != nil {
		return nil
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, open := <-watcher.Updates():
			if !open {
				return nil
			}
			if entry == nil || entry.Operation() != jetstream.KeyValuePut { // all is told, or nobody claims it
				continue
			}
			held, err := parseClaim(entry)
			if err != nil {
				return fmt.Errorf("cannot read the store of group %q: %w", group, err)
			}
			if held.Identity != identity {
				return otherStore(group, held)
			}
		}
	}
}

func parseClaim(entry jetstream.KeyValueEntry) (claim StoreClaim, err error) {
	if err := json.Unmarshal(entry.Value(), &claim); err != nil {
		return claim, fmt.Errorf("%s, revision %d, is no store claim: %w", entry.Key(), entry.Revision(), err)
	}
	return claim, nil
}

func otherStore(group restart.Group, held StoreClaim) error {
	return fmt.Errorf("group %q: %w: %s, as worker %s said at %s; use that one, or, where it is gone for good, start once with --adopt-store",
		group, ErrOtherStore, held.Shown, held.Worker, held.At.UTC().Format(time.RFC3339))
}
