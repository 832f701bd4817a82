package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A Budget is how many messages of a group all workers together may hold at once.
type Budget struct {
	Messages int       `json:"messages"` // above zero
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// PutBudget gives the group a budget, whatever workers have in their configuration, and returns when that is stored.
func PutBudget(ctx context.Context, kv jetstream.KeyValue, group restart.Group, b Budget) error {
	if b.Messages <= 0 {
		return fmt.Errorf("cannot set the budget of group %q: %d is not above zero", group, b.Messages)
	}
	data, err := json.Marshal(b)
	if err == nil {
		_, err = kv.Put(ctx, stream.BudgetPrefix+string(group), data)
	}
	if err != nil {
		return fmt.Errorf("cannot set the budget of group %q: %w", group, err)
	}
	return nil
}
