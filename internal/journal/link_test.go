package journal_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A link is the way between a client and its server. While it is held, what the server says does not arrive.
type link struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while answers may pass
	conns map[net.Conn]bool
	ended bool
}

func newLink(t *testing.T, serverURL string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{
		listener: listener, server: strings.TrimPrefix(serverURL, "nats://"),
		open: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	close(l.open)
	l.running.Go(l.accept)
	t.Cleanup(func() {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		listener.Close()
		l.cut()
		l.running.Wait()
	})
	return l
}

func (l *link) url() string { return "nats://" + l.listener.Addr().String() }

// hold keeps back every answer from now on.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = make(chan struct{})
}

// release lets all answers pass, those that were kept back too.
func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.openUp()
}

// cut breaks all connections, so that answers which were kept back are lost, and holds back nothing more.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
	l.openUp()
}

func (l *link) openUp() {
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

func (l *link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.server)
		if err != nil {
			client.Close()
			continue
		}
		if !l.add(client, server) {
			return
		}
		l.running.Go(func() { l.pipe(client, server, func() {}) })
		l.running.Go(func() { l.pipe(server, client, l.wait) })
	}
}

func (l *link) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = true
		if l.ended {
			c.Close()
		}
	}
	return !l.ended
}

func (l *link) wait() {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	<-open
}

func (l *link) pipe(from, to net.Conn, before func()) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		before()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// connect returns a connection like that of natsdtest, which stays on the link.
func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(url,
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.IgnoreDiscoveredServers(),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		await(t, closed)
	})
	return nc
}
