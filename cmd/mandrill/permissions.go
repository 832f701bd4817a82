package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// neededRole returns the role of the manual's chapter on security that a verb needs.
func neededRole(verb string) string {
	switch verb {
	case "worker":
		return "worker"
	case "publish":
		return "publisher"
	case "status", "explain", "campaign list", "campaign show", "campaign report":
		return "viewer"
	default:
		return "operator"
	}
}

// A deniedError is what NATS has refused; its text names the subject.
type deniedError struct {
	verb string
	err  error
}

func (e *deniedError) Error() string {
	return fmt.Sprintf("NATS refuses what the role %q of docs/security.md may do, which is missing here: %s",
		neededRole(e.verb), strings.TrimPrefix(e.err.Error(), nats.ErrPermissionViolation.Error()+": "))
}

func (e *deniedError) Unwrap() error { return e.err }

// denial returns the first thing that NATS has refused, or nil. It may be asked again.
func (c *connection) denial() error {
	select {
	case err := <-c.denied:
		c.denied <- err // the server's later complaints find no room
		return err
	default:
		return nil
	}
}

// explainDenial says why a verb got no answer where NATS has refused its question: the server answers nothing then.
func (c *connection) explainDenial(verb string, err error) error {
	if err == nil {
		return nil
	}
	denial := c.denial()
	switch {
	case denial != nil:
		return fmt.Errorf("%v: %w", &deniedError{verb, denial}, err)
	case errors.Is(err, nats.ErrPermissionViolation): // which the error handler has yet to hear of
		return &deniedError{verb, err}
	default:
		return err
	}
}

// untilDenied returns a context that ends when NATS refuses something, with that as its cause. stop gives back what it
// takes, and must be called.
func (c *connection) untilDenied(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case err := <-c.denied:
			cancel(&deniedError{"worker", err})
			select {
			case c.denied <- err: // for whoever watches the connection later
			default:
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// ackTimeout is how long a server may take to refuse an acknowledgement.
const ackTimeout = 5 * time.Second

// checkAck sends what says of no message that it is still being worked on, and returns an error if the server refuses
// that. A worker that may pull and not acknowledge would hold and restart, and the server would hand out the same again:
// nothing else tells it before that. No answer is none: a cluster that has yet to elect the consumer's leader has nobody
// to answer, and asks for the permission all the same.
func (c *connection) checkAck(above context.Context, streamName, consumer string) error {
	ctx, cancel := context.WithTimeout(above, ackTimeout)
	defer cancel()
	const noMessage = uint64(1) << 62
	subject := fmt.Sprintf("$JS.ACK.%s.%s.1.%d.1.1.0", streamName, consumer, noMessage)
	_, err := c.RequestWithContext(ctx, subject, []byte("+WPI"))
	unanswered := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && above.Err() == nil
	if err != nil && !unanswered {
		return fmt.Errorf("cannot find out whether this worker may acknowledge what consumer %q of stream %q hands out (publish to %s): %w",
			consumer, streamName, subject, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

func (c *connection) checkAcks(ctx context.Context, group restart.Group) error {
	if err := c.checkAck(ctx, stream.Work, stream.ConsumerName(group)); err != nil {
		return err
	}
	return c.checkAck(ctx, stream.Campaigns, stream.CampaignConsumerName(group))
}
