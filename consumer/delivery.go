package consumer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/ask"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A source is what the deliveries of one fetch have in common.
type source struct {
	conn    *nats.Conn
	asker   *ask.Asker // on conn
	ackWait time.Duration
	asked   time.Time // when the messages were
	created time.Time // the work stream
	intake  context.Context
}

// A Delivery is one delivery of a work message. Many are held for long: it keeps what is needed of what nats.go knows of
// a message, which is a third of it.
type Delivery struct {
	*source
	subject, reply string
	version        string // of the message's form
	data           []byte
	sequence       uint64 // in the work stream
	deliveries     int    // this one included
	stored         time.Time
}

// newDelivery returns a delivery of a message. An error means that the server does not say of it what it says of each.
func newDelivery(from *source, msg *nats.Msg) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("cannot read what the server says of a message: %w", err)
	}
	return &Delivery{
		source: from, subject: msg.Subject, reply: msg.Reply, version: strings.Clone(msg.Header.Get(stream.VersionHeader)),
		data: msg.Data, sequence: meta.Sequence.Stream, deliveries: int(meta.NumDelivered), stored: meta.Timestamp,
	}, nil
}

// Data returns the message as it came. The caller must not change it.
func (d *Delivery) Data() []byte { return d.data }

// Subject returns the message's subject.
func (d *Delivery) Subject() string { return d.subject }

// Sequence returns the message's place in the work stream.
func (d *Delivery) Sequence() uint64 { return d.sequence }

// Deliveries returns how often the message was delivered, this time included.
func (d *Delivery) Deliveries() int { return d.deliveries }

// AckWait returns how long the broker waits for an extension or a settlement.
func (d *Delivery) AckWait() time.Duration { return d.ackWait }

// Asked returns when the message was asked for: it was not handed out before.
func (d *Delivery) Asked() time.Time { return d.asked }

// Intake returns a context that is done when nothing new may be begun.
func (d *Delivery) Intake() context.Context { return d.intake }

// Envelope returns what the broker knows of the message. An error means that the subject cannot be read; the time of
// storing and the fallback id are there all the same.
func (d *Delivery) Envelope() (restart.Envelope, error) {
	group, host, err := stream.ParseWorkSubject(d.subject)
	return restart.Envelope{
		Version: d.version, Group: group, Host: host, Stored: d.stored,
		FallbackID: stream.FallbackID(d.created.UnixNano(), d.sequence),
	}, err
}

// Extend asks for another AckWait, and returns at once. The answer is told to then: nil if the server has confirmed it.
// That is done once, from a goroutine that must not be kept waiting, and not within Extend; nor if Extend returns an
// error, nor if cancel was in time, which it reports.
func (d *Delivery) Extend(then func(error)) (cancel func() bool, err error) {
	q, err := d.asker.Send(d.reply, nil, []byte("+WPI"), func(_ *nats.Msg, err error) { then(err) })
	if err != nil {
		return nil, err
	}
	return q.Cancel, nil
}

// Ack acknowledges the message. It is sent, not confirmed: a lost acknowledgement leads to another delivery, which the
// journal makes harmless.
func (d *Delivery) Ack(context.Context) error { return d.conn.Publish(d.reply, []byte("+ACK")) }

// Nak gives the message back, to be delivered again after the delay, and returns nil once the server has answered: a
// loss would keep the message from everybody for AckWait. So would a nak that names no delay, which the server
// forgets when it is restarted or its leader changes; a delay is stored, and be it none.
func (d *Delivery) Nak(ctx context.Context, delay time.Duration) error {
	_, err := d.asker.Ask(ctx, d.reply, nil, fmt.Appendf(nil, `-NAK {"delay": %d}`, max(delay, 0)))
	return err
}

// Term removes the message for good.
func (d *Delivery) Term(_ context.Context, reason string) error {
	return d.conn.Publish(d.reply, []byte("+TERM "+reason))
}
