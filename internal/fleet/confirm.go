package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// askEvery is how often workers are asked again what they have confirmed.
const askEvery = 200 * time.Millisecond

// Wanted is what is to be confirmed, and by whom.
type Wanted struct {
	Group    restart.Group // whose workers; empty: all workers
	Revision uint64        // of the control bucket
	Within   time.Duration // for how long at most to wait; it must be positive
}

// A Confirmation is who has confirmed a revision and who has not, as far as they are known to be there.
type Confirmation struct {
	Confirmed []WorkerStatus
	Missing   []Instance
}

// Confirmed returns when every worker of the group that is there has confirmed the revision or a later one, or the time is
// over. A worker that is missing is no error. If an error is returned, the confirmation says how far it had come.
//
// While the server is away it goes on asking.
func Confirmed(ctx context.Context, nc *nats.Conn, want Wanted) (Confirmation, error) {
	if want.Within <= 0 {
		return Confirmation{}, fmt.Errorf("fleet: Within: %s is not positive", want.Within)
	}
	c, err := newStatusCall(nc)
	if err != nil {
		return Confirmation{}, notConfirmed(want, err)
	}
	defer c.close()
	err = c.confirm(ctx, want)
	result := Confirmation{Missing: c.silent(func(id string) bool { return !c.missing(id, want) })}
	for _, s := range c.sorted() {
		if s.instance().serves(want.Group) && !c.missing(s.Instance, want) {
			result.Confirmed = append(result.Confirmed, s)
		}
	}
	if err != nil {
		return result, notConfirmed(want, err)
	}
	return result, nil
}

func notConfirmed(want Wanted, err error) error {
	return fmt.Errorf("cannot tell whether the workers know revision %d: %w", want.Revision, err)
}

func (c *statusCall) missing(id string, want Wanted) bool {
	return c.known[id].serves(want.Group) && (!c.answered(id) || c.status[id].ControlRevision < want.Revision)
}

// confirm asks, again and again.
func (c *statusCall) confirm(ctx context.Context, want Wanted) error {
	end := time.Now().Add(want.Within)
	done := func() bool { return len(c.silent(func(id string) bool { return !c.missing(id, want) })) == 0 }
	for {
		asked := c.ask(statusSubject, nil)
		if errors.Is(asked, nats.ErrConnectionClosed) {
			return asked
		}
		round := time.Now().Add(askEvery)
		if round.After(end) {
			round = end
		}
		if err := c.gather(ctx, round, func() bool { return false }, c.take); err != nil {
			return err
		}
		now := time.Now()
		switch settled := !now.Before(c.last.Add(quiet)); {
		case settled && done() && c.silence() == nil:
			return nil
		case !now.Before(end) && asked != nil:
			return asked
		case !now.Before(end):
			return c.silence()
		}
	}
}
