package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pullWait is how long one fetch waits for messages. A stop waits for the fetch that is under way, because a message
	// on its way to a fetch that was given up would be held by nobody for AckWait. It is well under the second in which
	// another worker is to hold what this one hands back. And it is a tenth of AckWait at most, because the lease of
	// what comes counts from when it was asked for.
	pullWait = 500 * time.Millisecond

	// answerWait is how much later the server's word may come that a fetch is over.
	answerWait = time.Second

	nextPrefix = "$JS.API.CONSUMER.MSG.NEXT."
)

var errNoAnswer = errors.New("the server has not answered")

// fetch asks for n messages and starts those that come within pullWait. It is not cut short by ctx: see pullWait. What
// comes after ctx has ended is started when the fetch is over, not before: it would be given back at once, and be
// delivered to this same fetch, again and again, until it counts as poison.
//
// The Fetch of nats.go is not used, because it takes any message with a header "Status" and no body for the server's
// word: such a message, which anybody may publish, would end the fetch, never be seen, and come again for ever.
func (c *Consumer) fetch(ctx context.Context, n int, start func(*Delivery)) (started int, err error) {
	msgs := make(chan *nats.Msg, n+1) // with room for the server's word
	inbox := c.cfg.Conn.NewInbox()
	sub, err := c.cfg.Conn.ChanSubscribe(inbox, msgs)
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // which only a closed connection refuses
	wait := min(pullWait, c.ackWait/10)
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, n, wait)
	asked := time.Now()
	if err := c.cfg.Conn.PublishRequest(c.next, inbox, request); err != nil {
		return 0, err
	}
	silence := time.NewTimer(wait + answerWait)
	defer silence.Stop()

	from := &source{conn: c.cfg.Conn, asker: c.asker, ackWait: c.ackWait, asked: asked, created: c.created, intake: ctx}
	var late []*Delivery
	defer func() {
		for _, d := range late {
			start(d)
		}
	}()
	for started < n {
		select {
		case msg := <-msgs:
			if msg.Reply == "" { // only what is to be acknowledged has one
				return started, status(msg)
			}
			d, err := newDelivery(from, msg)
			if err != nil {
				return started, err
			}
			started++
			if ctx.Err() != nil {
				late = append(late, d)
			} else {
				start(d)
			}
		case <-silence.C:
			// A process that was suspended finds its time over before it has looked at what came, or even read it.
			_ = c.cfg.Conn.FlushTimeout(answerWait) // and if that fails, nothing comes any more
			if len(msgs) == 0 {
				return started, errNoAnswer
			}
			silence.Reset(answerWait)
		}
	}
	return started, nil
}

// status returns why the server ended a fetch, or nil if only because no more came.
func status(msg *nats.Msg) error {
	switch code := msg.Header.Get("Status"); code {
	case "404", "408":
		return nil
	default:
		return fmt.Errorf("status %s %s", code, msg.Header.Get("Description"))
	}
}
