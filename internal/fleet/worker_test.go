package fleet_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// A worker answers what a test has it answer.
type worker struct {
	name   string
	groups []restart.Group

	mu       sync.Mutex
	held     []fleet.Message
	load     fleet.Load
	control  fleet.Control
	outcomes map[uuid.UUID]restart.Outcome
	broken   error         // of its store
	hang     chan struct{} // if it is not nil, status and outcome wait until it is closed
	calls    int

	stop func() // and wait until it has ended
}

func (w *worker) config(nc *nats.Conn) fleet.Config {
	return fleet.Config{
		Conn: nc, Worker: w.name, Version: "v1.2.3", Groups: w.groups,
		InFlight: func() []fleet.Message {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.held)
		},
		Load: func() fleet.Load { return w.load },
		Control: func() fleet.Control {
			w.block(context.Background())
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.control
		},
		Outcome: func(ctx context.Context, id uuid.UUID) (restart.Outcome, bool, error) {
			w.block(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			o, found := w.outcomes[id]
			return o, found, w.broken
		},
	}
}

func (w *worker) block(ctx context.Context) {
	w.mu.Lock()
	w.calls++
	hang := w.hang
	w.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
		}
	}
}

func (w *worker) askedSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

func (w *worker) confirm(revision uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.control = fleet.Control{Revision: revision, ConfirmedAt: time.Now()}
}

// start starts a worker, and returns when it answers.
func start(t *testing.T, nc *nats.Conn, w *worker) *worker {
	t.Helper()
	if w.groups == nil {
		w.groups = []restart.Group{"web"}
	}
	s, err := fleet.New(w.config(nc))
	if err != nil {
		t.Fatal(err)
	}
	subscriptions := nc.NumSubscriptions()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s does not end", w.name)
		}
	})
	t.Cleanup(w.stop)
	eventually(t, w.name+" listens", func() bool { return nc.NumSubscriptions() >= subscriptions+12 })
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return w
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("after %s it is not so that %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func names(workers []fleet.WorkerStatus) []string {
	names := []string{}
	for _, w := range workers {
		names = append(names, w.Worker)
	}
	return names
}

func instanceNames(instances []fleet.Instance) []string {
	names := []string{}
	for _, i := range instances {
		names = append(names, i.Worker)
	}
	return names
}

func check[T any](t *testing.T, what string, got, want T, options ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, options...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func mustWorkers(t *testing.T, nc *nats.Conn, wait time.Duration) ([]fleet.WorkerStatus, []fleet.Instance) {
	t.Helper()
	workers, silent, err := fleet.Workers(t.Context(), nc, wait)
	if err != nil {
		t.Fatal(err)
	}
	return workers, silent
}

// bareServer runs a server with options of a test's own, and returns what connects to it as a user.
func bareServer(t *testing.T, options server.Options) (connect func(user string) *nats.Conn) {
	t.Helper()
	options.Host, options.Port, options.NoSigs, options.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not accept connections")
	}
	return func(user string) *nats.Conn {
		t.Helper()
		closed := make(chan struct{})
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "secret"),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default writes to stderr
			nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			nc.Close()
			select {
			case <-closed:
			case <-time.After(patience):
				t.Error("the connection did not close")
			}
		})
		return nc
	}
}

var errBroken = errors.New("the database is away")
