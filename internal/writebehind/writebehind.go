// Package writebehind has connections whose writers do not wait for the network.
//
// nats.go writes to the network under the lock that each publish needs. Where processors are few, such a write now and
// then takes milliseconds, for which everybody who publishes waits. On two processors, at 80 % of the worker's capacity, one
// acknowledgement in a hundred was sent 6.9 ms late, and is 1.0 ms late with this ('mandrill bench acklag', medians of six
// runs each, in turns).
package writebehind

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxPending is how many bytes may wait to be sent, unless they were written at once: those of a burst of 2,000
	// acknowledgements take 200 kB. Who writes more waits, as anybody does who writes to a peer that does not read.
	maxPending = 256 << 10

	// closeTimeout is how long Close waits for the rest to be sent.
	closeTimeout = time.Second
)

// A Dialer is a [net.Dialer] of such connections.
type Dialer struct{ net.Dialer }

// Dial dials. What is written to the connection is sent in the background, in order. A write thus does not say whether
// it was sent, but whether all before it could be. Close sends the rest, for which it waits for a second.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// A conn has a goroutine only while there is something to send: nats.go does not close a connection whose server did not
// answer while it reconnects, but forgets it.
type conn struct {
	net.Conn
	sender sync.WaitGroup // a send, or none

	mu       sync.Mutex // guards what follows
	room     sync.Cond  // there may be room, or the deadline may have passed, or there never will be room
	pending  []byte
	sent     []byte // or being sent
	sending  bool
	deadline time.Time // of those who wait for room
	closed   bool
	err      error // why nothing can be sent any more
}

func newConn(to net.Conn) *conn {
	c := &conn{Conn: to}
	c.room.L = &c.mu
	return c
}

// Write implements [net.Conn]. Of what it is given, it takes all or nothing.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.err != nil:
			return 0, c.err
		case c.closed:
			return 0, net.ErrClosed
		case len(c.pending) == 0 || len(c.pending)+len(p) <= maxPending:
			c.pending = append(c.pending, p...)
			if !c.sending {
				c.sending = true
				c.sender.Go(c.send)
			}
			return len(p), nil
		}
		if err := c.awaitRoom(); err != nil {
			return 0, err
		}
	}
}

// awaitRoom waits until it is worth another look. mu is held.
func (c *conn) awaitRoom() error {
	if !c.deadline.IsZero() {
		left := time.Until(c.deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		late := time.AfterFunc(left, c.lookAgain)
		defer late.Stop()
	}
	c.room.Wait()
	return nil
}

func (c *conn) lookAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room.Broadcast()
}

// send sends what is written. Whoever reads from the connection finds out when that fails, and may have been told before why
// the other end has closed it, so that it is not closed here.
func (c *conn) send() {
	for p := c.next(); len(p) > 0; p = c.next() {
		if _, err := c.Conn.Write(p); err != nil {
			c.fail(err)
			return
		}
	}
}

// next returns what is to be sent now. If that is nothing, nobody is sending from then on.
func (c *conn) next() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent, c.pending = c.pending, c.sent[:0]
	c.sending = len(c.sent) > 0
	c.room.Broadcast()
	return c.sent
}

func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.room.Broadcast()
}

// Close implements [net.Conn]. An error says that the rest could not be sent.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	err := c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.sender.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.err, err, c.Conn.Close())
}

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline implements [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.room.Broadcast()
	return nil
}
