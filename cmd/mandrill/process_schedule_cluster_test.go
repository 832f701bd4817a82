package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/porttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

// clusterNode, as the first argument, makes the test binary one node of a NATS cluster: one in the test's own process
// cannot be killed.
const clusterNode = "as-cluster-node"

// A nodeConfig is the second argument of a node.
type nodeConfig struct {
	Number int      `json:"number"`
	Dir    string   `json:"dir"`
	Ports  []int    `json:"ports"`  // for clients, of all nodes
	Routes []string `json:"routes"` // of all nodes
}

func runClusterNode(config string) int {
	var c nodeConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	routes := make([]*url.URL, len(c.Routes))
	for i, address := range c.Routes {
		routes[i] = &url.URL{Scheme: "nats", Host: address}
	}
	port, err := strconv.Atoi(routes[c.Number].Port())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	node, err := server.NewServer(&server.Options{
		ServerName: nodeName(c.Number), Host: "127.0.0.1", Port: c.Ports[c.Number], NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: c.Dir, SyncInterval: time.Minute, // the process dies, and not the machine
		Routes: routes, Cluster: server.ClusterOpts{Name: "scheduled", Host: "127.0.0.1", Port: port},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	node.Start()
	<-stop
	node.Shutdown()
	node.WaitForShutdown()
	return exitDone
}

// A cluster is three nodes, each in a process of its own.
type cluster struct {
	nodes   []nodeConfig
	running []*process
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	const size = 3
	ports := freePorts(t, 2*size)
	routes := make([]string, size)
	for i := range routes {
		routes[i] = fmt.Sprintf("127.0.0.1:%d", ports[size+i])
	}
	c := &cluster{running: make([]*process, size)}
	for i := range size {
		c.nodes = append(c.nodes, nodeConfig{i, t.TempDir(), ports[:size], routes})
	}
	c.startAll(t)
	return c
}

func (c *cluster) startAll(t *testing.T) {
	t.Helper()
	for i := range c.nodes {
		c.start(t, i)
	}
}

func (c *cluster) start(t *testing.T, node int) {
	t.Helper()
	config, err := json.Marshal(c.nodes[node])
	if err != nil {
		t.Fatal(err)
	}
	c.running[node] = run(t, fmt.Sprintf("node %d", node), nil, "", clusterNode, string(config))
}

// kill ends a node as kill -9 does.
func (c *cluster) kill(t *testing.T, node int) {
	t.Helper()
	c.running[node].signal(t, syscall.SIGKILL)
	c.running[node].exitCode(t)
}

// nodeName is what a node calls itself.
func nodeName(node int) string { return fmt.Sprintf("node%d", node) }

// killAll ends all nodes as a power cut would, one right after the other.
func (c *cluster) killAll(t *testing.T) {
	t.Helper()
	for _, p := range c.running {
		p.signal(t, syscall.SIGKILL)
	}
	for _, p := range c.running {
		p.exitCode(t)
	}
}

func (c *cluster) urls() string {
	urls := make([]string, len(c.nodes))
	for i, port := range c.nodes[0].Ports {
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", port)
	}
	return strings.Join(urls, ",")
}

// freePorts returns ports of the nodes' own: every node must know the others' beforehand.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = porttest.Free(); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

// All three nodes are killed at the same time, before a run is due and after it, and the second time the worker too: each
// run is done once.
func TestProcess_ScheduleSurvivesTheKillOfAWholeCluster(t *testing.T) {
	t.Parallel()
	const (
		every = 20 * time.Second // until the next there is time to elect leaders, and to see what was not fired
		runs  = 4
	)
	c := startCluster(t)
	s := newHosts(t, simulated.Config{RestartMax: 100 * time.Millisecond})
	s.url = c.urls()
	c.awaitReady(t, s)
	w := s.startWorker(t, "worker", "--ack-wait", "5s")
	known := s.schedules(t)
	s.shortenLeases(t)
	s.schedule(t, "often", "--every", every.String(), "--valid-for", "5m", "--", "restart", "cattle-1")

	first := s.awaitResults(t, known, "often", 1)[0].Planned
	for i, before := range []time.Duration{500 * time.Millisecond, -200 * time.Millisecond} {
		due := first.Add(time.Duration(i+1) * every)
		time.Sleep(time.Until(due.Add(-before))) // what the server has noted by then is what the kill is about
		if i == 1 {
			w.kill(t)
		}
		c.killAll(t)
		time.Sleep(time.Until(due.Add(time.Second))) // the outage
		c.startAll(t)
		if i == 1 {
			c.awaitReady(t, s)
			w = s.startWorker(t, "worker 2", "--ack-wait", "5s")
		}
	}
	s.awaitResults(t, known, "often", runs)
	s.pauseSchedule(t, "often")
	results := resultsOf(t, known, "often")
	for i, r := range results {
		if want := first.Add(time.Duration(i) * every); !r.Planned.Equal(want) {
			t.Errorf("result %d is of %s, want that of %s: one is lost or doubled", i, r.Planned, want)
		}
		if r.Outcome != schedule.Started || r.Made != schedule.FiringID("often", r.Planned).String() {
			t.Errorf("the run of %s: got %+v", r.Planned, r)
		}
	}
	s.wantOneBootForEachStarted(t, w, results)
}

// awaitReady returns when the nodes have elected leaders.
func (c *cluster) awaitReady(t *testing.T, s *scene) {
	t.Helper()
	eventually(t, "a node accepts connections", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.nodes[0].Ports[0]))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if s.js == nil {
		s.connect(t)
	}
	eventually(t, "the cluster has a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "READY", Replicas: len(c.nodes)})
		return err == nil
	})
}
