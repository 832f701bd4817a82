package consumer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/ask"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A Delivery is one delivery of a work message.
type Delivery struct {
	conn    *nats.Conn
	asker   *ask.Asker // on conn
	msg     *nats.Msg
	meta    *nats.MsgMetadata
	ackWait time.Duration
	created time.Time // the work stream
	intake  context.Context

	read       sync.Once // what follows
	envelope   restart.Envelope
	unreadable error
}

// Data returns the message as it came. The caller must not change it.
func (d *Delivery) Data() []byte { return d.msg.Data }

// Subject returns the message's subject.
func (d *Delivery) Subject() string { return d.msg.Subject }

// Sequence returns the message's place in the work stream.
func (d *Delivery) Sequence() uint64 { return d.meta.Sequence.Stream }

// Deliveries returns how often the message was delivered, this time included.
func (d *Delivery) Deliveries() int { return int(d.meta.NumDelivered) }

// AckWait returns how long the broker waits for an extension or a settlement.
func (d *Delivery) AckWait() time.Duration { return d.ackWait }

// Intake returns a context that is done when nothing new may be begun.
func (d *Delivery) Intake() context.Context { return d.intake }

// Envelope returns what the broker knows of the message. An error means that the subject cannot be read; the time of
// storing and the fallback id are there all the same.
func (d *Delivery) Envelope() (restart.Envelope, error) {
	d.read.Do(func() {
		var group restart.Group
		var host restart.Host
		group, host, d.unreadable = stream.ParseWorkSubject(d.msg.Subject)
		d.envelope = restart.Envelope{
			Version: d.msg.Header.Get(stream.VersionHeader),
			Group:   group, Host: host,
			Stored:     d.meta.Timestamp,
			FallbackID: stream.FallbackID(d.created.UnixNano(), d.meta.Sequence.Stream),
		}
	})
	return d.envelope, d.unreadable
}

// Extend asks for another AckWait, and returns nil once the server has answered.
func (d *Delivery) Extend(ctx context.Context) error {
	_, err := d.asker.Ask(ctx, d.msg.Reply, nil, []byte("+WPI"))
	return err
}

// Ack acknowledges the message. It is sent, not confirmed: a lost acknowledgement leads to another delivery, which the
// journal makes harmless.
func (d *Delivery) Ack(context.Context) error { return d.conn.Publish(d.msg.Reply, []byte("+ACK")) }

// Nak gives the message back, to be delivered again after the delay, and returns nil once the server has answered: a
// loss would keep the message from everybody for AckWait. So would a nak that names no delay, which the server
// forgets when it is restarted or its leader changes; a delay is stored, and be it none.
func (d *Delivery) Nak(ctx context.Context, delay time.Duration) error {
	_, err := d.asker.Ask(ctx, d.msg.Reply, nil, fmt.Appendf(nil, `-NAK {"delay": %d}`, max(delay, 0)))
	return err
}

// Term removes the message for good.
func (d *Delivery) Term(_ context.Context, reason string) error {
	return d.conn.Publish(d.msg.Reply, []byte("+TERM "+reason))
}
