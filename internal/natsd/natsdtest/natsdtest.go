// Package natsdtest gives tests a real NATS server with JetStream, or a cluster of them, in their own process.
//
// Nothing outlives the test: when its cleanups have run, servers and connections have ended, goroutines included.
package natsdtest

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd"
)

const (
	// syncInterval is long, because a test that ends its server does not end its machine: what was written is there.
	syncInterval = time.Minute

	reconnectWait = 20 * time.Millisecond
	closeTimeout  = 10 * time.Second
)

// A Server is one server, which a test may stop and start again.
type Server struct {
	dir   string
	url   string
	start func(t testing.TB) (stop func())
	stop  func() // nil while it is stopped
}

// Start runs a server without authentication on a free port, with its store in a temporary folder. Its errors and
// warnings go to the test's log.
func Start(t testing.TB) *Server {
	t.Helper()
	cfg := natsd.Config{
		Dir:          t.TempDir(),
		Listen:       net.JoinHostPort(loopback, strconv.Itoa(freePort(t))),
		SyncInterval: syncInterval,
		Name:         "natsdtest",
		Logger:       zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
	s := &Server{dir: cfg.Dir}
	s.start = func(t testing.TB) func() {
		t.Helper()
		server, err := natsd.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.url = server.URL()
		return server.Close
	}
	s.stop = s.start(t)
	t.Cleanup(s.close)
	return s
}

// URL returns where clients connect. It stays the same when the server is started again.
func (s *Server) URL() string { return s.url }

// Dir returns the folder of the server's store; empty for the node of a cluster.
func (s *Server) Dir() string { return s.dir }

// Connect returns a connection that lasts as long as the test: it reconnects for ever, quickly, and what is sent during
// an outage fails at once.
func (s *Server) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	return connect(t, s.url)
}

// JetStream returns JetStream over a connection of its own.
func (s *Server) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	return overJetStream(t, s.Connect(t))
}

// Stop begins an outage: it shuts the server down, and returns when it has ended. Its folder and port are kept.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.stop == nil {
		t.Fatal("the server is stopped already")
	}
	s.close()
}

// StartAgain ends an outage.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	if s.stop != nil {
		t.Fatal("the server is running already")
	}
	s.stop = s.start(t)
}

// Restart stops the server and starts it again on the same port and folder.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.StartAgain(t)
}

func (s *Server) close() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func connect(t testing.TB, urls ...string) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(strings.Join(urls, ","),
		nats.Name(t.Name()),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.ReconnectBufSize(-1),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default writes to stderr
	)
	if err != nil {
		t.Fatalf("cannot connect to %s: %v", strings.Join(urls, ","), err)
	}
	t.Cleanup(func() {
		nc.Close()
		select {
		case <-closed:
		case <-time.After(closeTimeout):
			t.Error("the connection did not close")
		}
	})
	return nc
}

func overJetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
