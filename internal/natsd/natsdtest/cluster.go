package natsdtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/porttest"
)

const (
	loopback = "127.0.0.1"

	// clusterTimeout bounds how long nodes may take to find one another and to elect a leader. It takes them one to
	// four seconds on an idle machine.
	clusterTimeout = time.Minute
)

// A Cluster is several servers that hold JetStream together.
type Cluster struct{ nodes []*Server }

// StartCluster runs n clustered servers, and returns when streams with a replica on each of them, up to five, can be
// made.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	routes := make([]*url.URL, n)
	for i := range routes {
		routes[i] = &url.URL{Scheme: "nats", Host: net.JoinHostPort(loopback, strconv.Itoa(freePort(t)))}
	}
	c := &Cluster{}
	for i := range n {
		c.nodes = append(c.nodes, startNode(t, i, routes))
	}
	c.waitReady(t)
	return c
}

// URLs returns where clients connect, one for each node.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, node := range c.nodes {
		urls[i] = node.url
	}
	return urls
}

// Node returns the i-th node.
func (c *Cluster) Node(i int) *Server { return c.nodes[i] }

// Connect returns a connection like that of Server.Connect, to whichever node is up.
func (c *Cluster) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	return connect(t, c.URLs()...)
}

// JetStream returns JetStream over a connection of its own.
func (c *Cluster) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	return overJetStream(t, c.Connect(t))
}

// waitReady makes a stream as wide as the cluster, which takes a meta leader and all nodes in its view, and deletes it.
func (c *Cluster) waitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterTimeout)
	defer cancel()
	js := c.JetStream(t)
	const name = "READY"
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := js.CreateStream(attempt, jetstream.StreamConfig{Name: name, Replicas: min(len(c.nodes), 5)})
		if err == nil {
			err = js.DeleteStream(attempt, name)
		}
		cancel()
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the cluster is not ready after %s: %v", clusterTimeout, err)
		}
	}
}

func startNode(t testing.TB, i int, routes []*url.URL) *Server {
	t.Helper()
	port, err := strconv.Atoi(routes[i].Port())
	if err != nil {
		t.Fatal(err)
	}
	dir, clientPort := t.TempDir(), freePort(t)
	s := &Server{}
	s.start = func(t testing.TB) func() {
		t.Helper()
		node, err := server.NewServer(&server.Options{
			ServerName:   fmt.Sprintf("node%d", i),
			Host:         loopback,
			Port:         clientPort,
			NoSigs:       true,
			NoLog:        true,
			JetStream:    true,
			StoreDir:     dir,
			SyncInterval: syncInterval,
			Routes:       routes,
			Cluster:      server.ClusterOpts{Name: "natsdtest", Host: loopback, Port: port},
		})
		if err != nil {
			t.Fatal(err)
		}
		stop := func() {
			node.Shutdown()
			node.WaitForShutdown()
		}
		node.Start()
		if !node.ReadyForConnections(clusterTimeout) {
			stop()
			t.Fatalf("node %d does not accept connections", i)
		}
		s.url = node.ClientURL()
		return stop
	}
	s.stop = s.start(t)
	t.Cleanup(s.close)
	return s
}

// freePort returns a port for a node that must be known before the node listens, and stays its own while it is away.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
