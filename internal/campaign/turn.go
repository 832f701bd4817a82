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

// A Turn says which of many campaigns may run, where only one of them may at a time. It has a name, such as that of the
// schedule which makes them.
type Turn struct {
	Campaign uuid.UUID `json:"campaign"`
	Until    time.Time `json:"until"` // from then on a campaign that no worker has taken up has lost it

	revision uint64
}

// Turn returns whose turn it is; the zero Turn if it never was anybody's.
func (d *Documents) Turn(ctx context.Context, name string) (t Turn, err error) {
	t.revision, err = d.read(ctx, turnPrefix+name, &t)
	if errors.Is(err, ErrNotFound) {
		return Turn{}, nil
	}
	return t, err
}

// TakeTurn sets a turn in the place of the one that was read before. It returns ErrConflict if that is not the one that
// stands. Any other error means unknown.
func (d *Documents) TakeTurn(ctx context.Context, name string, before, t Turn) error {
	data, err := json.Marshal(t)
	if err == nil && before.revision == 0 {
		_, err = d.campaigns.Create(ctx, turnPrefix+name, data)
	} else if err == nil {
		_, err = d.campaigns.Update(ctx, turnPrefix+name, data, before.revision)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists), stream.IsWrongSequence(err):
		return ErrConflict
	case err != nil:
		return fmt.Errorf("cannot take the turn of %s: %w", name, err)
	}
	return nil
}
