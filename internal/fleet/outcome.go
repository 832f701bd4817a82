package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ErrNoOutcome means that all workers have answered, and none has an outcome of the request in its store.
var ErrNoOutcome = errors.New("no worker has an outcome of it")

// Outcome returns what came of a request, from the first worker whose store has it. Any error but ErrNoOutcome means that
// it is not known. It takes no longer than wait.
func Outcome(ctx context.Context, nc *nats.Conn, id uuid.UUID, wait time.Duration) (restart.Outcome, error) {
	o, err := askOutcome(ctx, nc, id, wait)
	if err != nil {
		return restart.Outcome{}, fmt.Errorf("cannot get the outcome of request %s: %w", id, err)
	}
	return o, nil
}

func askOutcome(ctx context.Context, nc *nats.Conn, id uuid.UUID, wait time.Duration) (found restart.Outcome, err error) {
	c, err := newCall(nc)
	if err != nil {
		return found, err
	}
	defer c.close()
	if err := c.ask(outcomeSubject, outcomeQuestion{id}); err != nil {
		return found, err
	}
	answers := make(map[string]error) // by instance: why it cannot tell, nil if it has no outcome
	known := false
	take := func(from string, msg *nats.Msg) bool {
		var a outcomeAnswer
		answers[from] = parseAnswer(msg, &a)
		if known = answers[from] == nil && a.Found; known {
			found = a.Outcome
		}
		return known
	}
	answered := func(id string) bool {
		_, ok := answers[id]
		return ok
	}
	done := func() bool { return len(c.silent(answered)) == 0 }
	if err := c.gather(ctx, time.Now().Add(wait), done, take); err != nil || known {
		return found, err
	}
	if err := c.silence(); err != nil && len(answers) == 0 {
		return found, err
	}
	for from, err := range answers {
		if err != nil {
			return found, fmt.Errorf("worker %q cannot tell: %w", c.known[from].Worker, err)
		}
	}
	if silent := c.silent(answered); len(silent) > 0 {
		return found, fmt.Errorf("worker %q does not answer", silent[0].Worker)
	}
	return found, ErrNoOutcome
}
