package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// restored are the streams that come back after a disaster, in the order in which they are backed up: what asks for work
// first, the journal, which has to know of it, last.
var restored = []string{stream.Work, stream.CampaignBucketStream, stream.ControlStream, stream.Dead, stream.Journal}

var backupArgs = []string{"--ack-wait", "2s", "--budget", "10", "--max-in-flight", "10", "--grace", "0s"}

func newLoadedScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, simulated.Config{RestartMin: 50 * time.Millisecond, RestartMax: 200 * time.Millisecond})
	s.usePostgres(t)
	return s
}

// elsewhere is the scene's hosts with another server, whose folder is that, and another database, which holds the dump.
func (s *scene) elsewhere(t *testing.T, data string, dump []byte) *scene {
	t.Helper()
	next := &scene{fleet: s.fleet, hosts: s.hosts, data: data, workerData: t.TempDir()}
	next.startServer(t)
	next.connect(t)
	next.database = postgrestest.Start(t).NewDatabase(t)
	load(t, next.database, dump)
	return next
}

// copyData returns a copy of the folder of the server, which must be stopped.
func (s *scene) copyData(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(s.data)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A move: everything is stopped, the server's folder is copied and the database dumped, and both begin again elsewhere, where
// they go on with what was in flight and with what was queued.
func TestProcess_MovedElsewhereGoesOnWithNoHostBootedTwice(t *testing.T) {
	t.Parallel()
	s := newLoadedScene(t)
	w := s.startWorker(t, "worker", backupArgs...)
	hosts := instances("host", 150)
	s.publish(t, hosts)
	s.awaitBoots(t, 60)
	w.kill(t) // in the middle of it, which is worse than stopping
	s.server.stop(t)

	next := s.elsewhere(t, s.copyData(t), dump(t, s.database))
	if n, err := next.queued(t); err != nil || n == 0 {
		t.Fatalf("got %d requests, %v; the test wants some that were not done", n, err)
	}
	again := next.startWorker(t, "worker elsewhere", backupArgs...)
	next.awaitEmpty(t)
	again.stop(t)
	next.wantEachRestartedOnce(t, hosts)
}

// A disaster: workers went on after the backup, and nobody knows what else they have triggered. A journal that was restored
// vouches only for what is stored after that, so what it does not know of is not triggered; and it knows more than the work
// that was backed up before it.
func TestProcess_AfterADisasterNoHostIsBootedTwice(t *testing.T) {
	t.Parallel()
	s := newLoadedScene(t)
	w := s.startWorker(t, "worker", backupArgs...)
	hosts := instances("host", 150)
	s.publish(t, hosts)
	s.awaitBoots(t, 30)
	streams := map[string]*snapshot{}
	for i, name := range restored {
		streams[name] = backUp(t, s.js.Conn(), name)
		s.awaitBoots(t, 30+5*i) // it works all the while
	}
	database := dump(t, s.database)
	s.awaitBoots(t, 90)
	w.kill(t)
	s.server.kill(t)
	boots := s.fleet.Boots()

	next := s.elsewhere(t, t.TempDir(), database)
	began := time.Now()
	for _, name := range restored {
		restore(t, next.js.Conn(), name, streams[name])
	}
	// That the server makes it so is what all of this stands on, and what the manual says to look at.
	if info, err := next.streamInfo(t, stream.Journal); err != nil || info.Created.Before(began) {
		t.Fatalf("got journal %v, %v, want one that was created when it was restored", info, err)
	}
	again := next.startWorker(t, "worker elsewhere", backupArgs...)
	next.awaitEmpty(t)
	again.stop(t)
	repair := run(t, "repair", nil, "", "history", "repair", "--nats", next.url, "--database", next.database, "--data", next.workerData)
	repair.wantExit(t, exitDone)
	for _, host := range hosts {
		if n := s.fleet.BootsOf(hostOf(host)); n > 1 {
			t.Errorf("%s: got %d boots, want no more than 1", host, n)
		}
	}
	ended := map[restart.Kind]int{}
	for _, o := range next.outcomes(t) {
		ended[o.Kind]++
		if o.Kind == restart.Dead && o.Reason != restart.ReasonJournalHorizon {
			t.Errorf("%s: got outcome dead, reason %s", o.Host, o.Reason)
		}
	}
	t.Logf("%d boots before the disaster and %d after the restoration, outcomes %v", boots, s.fleet.Boots()-boots, ended)
	if n := ended[restart.Restarted] + ended[restart.Dead] + ended[restart.Unknown]; n != len(hosts) || ended[restart.Restarted] < 30 {
		t.Errorf("got outcomes %v, want one for each of %d requests", ended, len(hosts))
	}

	fresh := instances("fresh", 5)
	again = next.startWorker(t, "worker afterwards", backupArgs...)
	next.publish(t, fresh)
	next.awaitEmpty(t)
	again.stop(t)
	if n := s.bootsOf(fresh); n != len(fresh) {
		t.Errorf("got %d boots of what was asked for since, want %d", n, len(fresh))
	}
}

// Why a copy of the folder is for a move alone: its journal is older than what hosts have been through, and says that it is
// not. If this passes no longer, docs/backup.md has something better to say.
func TestProcess_AnOlderCopyOfTheFolderIsUnsafe(t *testing.T) {
	t.Parallel()
	s := newLoadedScene(t)
	s.startWorker(t, "worker", append([]string{"--dry-run"}, backupArgs...)...).stop(t) // it has created the streams
	hosts := instances("host", 5)
	s.publish(t, hosts)
	s.server.stop(t)
	older, database := s.copyData(t), dump(t, s.database)
	s.startServer(t)
	s.connect(t)
	w := s.startWorker(t, "worker", backupArgs...)
	s.awaitEmpty(t)
	w.stop(t)
	s.server.stop(t)

	next := s.elsewhere(t, older, database)
	again := next.startWorker(t, "worker on the older copy", backupArgs...)
	next.awaitEmpty(t)
	again.stop(t)
	if n := s.fleet.Boots(); n != 2*len(hosts) {
		t.Errorf("got %d boots, want %d", n, 2*len(hosts))
	}
}

// On a cluster too, the journal that comes back says when it did.
func TestBackup_OfAReplicatedJournalVouchesForNothingOlder(t *testing.T) {
	t.Parallel()
	old := natsdtest.StartCluster(t, 3)
	js := old.JetStream(t)
	patiently(t, "create the streams", func() error {
		_, err := stream.Ensure(t.Context(), js, stream.Settings{Replicas: 3})
		return err
	})
	patiently(t, "append an event", func() error {
		_, err := js.Publish(t.Context(), "mandrill.journal.web.id.h", []byte("event"), jetstream.WithMsgID("once"))
		return err
	})
	taken := backUp(t, js.Conn(), stream.Journal)

	next := natsdtest.StartCluster(t, 3).JetStream(t)
	began := time.Now()
	restore(t, next.Conn(), stream.Journal, taken)
	eventually(t, "restored journal", func() bool {
		s, err := next.Stream(t.Context(), stream.Journal)
		if err != nil {
			return false
		}
		info := s.CachedInfo()
		if info.Created.Before(began) {
			t.Fatalf("got a journal that was created at %s, want one that was created when it was restored, after %s", info.Created, began)
		}
		return info.State.Msgs == 1
	})
}
