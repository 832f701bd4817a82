package main

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// What a worker pulls with.
const nextMessage = "$JS.API.CONSUMER.MSG.NEXT.MANDRILL.mandrill-default"

// guarded returns the options of a server whose user "worker" may publish everything but what is denied. The user
// "test" may do anything.
func guarded(dir string, port int, denied ...string) *server.Options {
	return &server.Options{
		Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		SyncInterval: time.Minute, // no machine dies in this test
		Users: []*server.User{
			{Username: "test", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: denied},
			}},
		},
	}
}

// newGuardedScene runs a server in the test's own process, since only there its configuration can be reloaded.
func newGuardedScene(t *testing.T, denied ...string) (s *scene, reload func(denied ...string)) {
	t.Helper()
	dir := t.TempDir()
	nats, err := server.NewServer(guarded(dir, server.RANDOM_PORT, denied...))
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	})
	if !nats.ReadyForConnections(patience) {
		t.Fatal("the server does not accept connections")
	}
	address := nats.Addr().(*net.TCPAddr)
	s = newHosts(t, simulated.Config{RestartMax: 100 * time.Millisecond})
	s.url = "nats://test:secret@" + address.String()
	s.connect(t)
	s.url = "nats://worker:secret@" + address.String()
	return s, func(denied ...string) {
		t.Helper()
		if err := nats.ReloadOptions(guarded(dir, address.Port, denied...)); err != nil {
			t.Fatal(err)
		}
	}
}

// M51: a worker that may not pull would otherwise wait for ever, and look idle.
func TestProcess_PermissionToPullThatIsMissingEndsTheWorkerAndIsNamed(t *testing.T) {
	t.Parallel()
	s, _ := newGuardedScene(t, nextMessage)
	w := s.startWorker(t, "worker")
	w.wantExit(t, exitFailed)
	w.lastLine(t)
	wantText(t, w, "a permission that a worker needs is missing")
	wantText(t, w, nextMessage)
}

func TestProcess_PermissionToPullThatIsWithdrawnEndsTheWorkerAndIsNamed(t *testing.T) {
	t.Parallel()
	s, reload := newGuardedScene(t)
	w := s.startWorker(t, "worker", "--ack-wait", "1s")
	hosts := instances("before", 20)
	s.publish(t, hosts)
	s.awaitEmpty(t)

	reload(nextMessage)
	w.wantExit(t, exitFailed)
	w.lastLine(t)
	wantText(t, w, "a permission that a worker needs is missing")
	wantText(t, w, nextMessage)

	more := instances("after", 20)
	s.publish(t, more)
	reload()
	again := s.startWorker(t, "worker again")
	s.awaitEmpty(t)
	again.stop(t)
	s.wantEachRestartedOnce(t, slices.Concat(hosts, more))
}
