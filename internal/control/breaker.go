package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A Row is the hosts of a group that did not come back from their restart, one after the other, without one between that
// did. It is the fleet's, not a worker's.
type Row []Fallen

// A Fallen is a host that did not come back.
type Fallen struct {
	ID     uuid.UUID      `json:"id"` // of its request
	Host   restart.Host   `json:"host"`
	Reason restart.Reason `json:"reason"`
	At     time.Time      `json:"at"`
}

// extend adds the host to the group's row, unless it is there already or the row is full, and returns the row.
func extend(ctx context.Context, kv jetstream.KeyValue, group restart.Group, f Fallen, full int) (Row, error) {
	return changeRow(ctx, kv, group, func(row Row) Row {
		if len(row) >= full || slices.ContainsFunc(row, func(other Fallen) bool { return other.ID == f.ID }) {
			return row
		}
		return append(row, f)
	})
}

// changeRow changes the group's row by compare-and-set.
func changeRow(ctx context.Context, kv jetstream.KeyValue, group restart.Group, change func(Row) Row) (Row, error) {
	key := stream.RowPrefix + string(group)
	for {
		var row Row
		var revision uint64
		entry, err := kv.Get(ctx, key)
		switch {
		case err == nil:
			revision = entry.Revision()
			if row, err = parse[Row](key, entry.Value()); err != nil {
				row = nil // nobody can read it, and it must not hold up what has happened since
			}
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return nil, fmt.Errorf("cannot read the row of group %q: %w", group, err)
		}
		next := change(slices.Clone(row))
		if len(next) == len(row) {
			return row, nil
		}
		data, err := json.Marshal(next)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the row of group %q: %w", group, err)
		}
		if revision == 0 {
			_, err = kv.Create(ctx, key, data)
		} else {
			_, err = kv.Update(ctx, key, data, revision)
		}
		switch {
		case err == nil:
			return next, nil
		case errors.Is(err, jetstream.ErrKeyExists), stream.IsWrongSequence(err): // somebody else was faster
		default:
			return nil, fmt.Errorf("cannot write the row of group %q: %w", group, err)
		}
	}
}
