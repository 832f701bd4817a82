package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// M28, M29: without extensions the message would be handed out again nine times.
func TestProcess_RestartThatOutlastsTheLeaseTenTimesIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMin: 20 * time.Second, RestartMax: 20 * time.Second})
	w := s.startWorker(t, "worker", "--ack-wait", "2s")
	hosts := instances("slow", 1)
	s.publish(t, hosts)

	settled := w.awaitLine(t, "settled", says("settled"))
	if settled.Fate != "acked" || settled.Deliveries != 1 || settled.Extended < 20 {
		t.Errorf("got %s after %d deliveries and %d extensions, want acked after 1 and at least 20",
			settled.Fate, settled.Deliveries, settled.Extended)
	}
	s.awaitEmpty(t)
	c, err := s.consumerInfo(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.Delivered.Consumer != 1 || c.NumRedelivered != 0 {
		t.Errorf("server counts %d deliveries and %d redelivered, want 1 and 0", c.Delivered.Consumer, c.NumRedelivered)
	}
	if n := s.fleet.CountsOf(hostOf(hosts[0])).Calls; n != 1 {
		t.Errorf("got %d restart calls, want 1", n)
	}
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

// A worker that sleeps between fence and trigger wakes when its message is long another's, and its trigger goes out:
// nothing can stop it any more. It is harmless because the other one's next trigger is from the same epoch; one from
// the epoch that the other one saw last would boot the host again.
func TestProcess_StaleWorkersTriggerDoesNotBootTheHostTwice(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMin: 200 * time.Millisecond, RestartMax: 200 * time.Millisecond})
	hosts := instances("stale", 1)
	host := hostOf(hosts[0])
	s.usePostgres(t)
	s.hosts.RefuseNext(host, 1)
	// The pause after the refusal is drawn from up to retry.base. It is long, so that the stale trigger comes within it.
	args := []string{"--ack-wait", "1s", "--retry-base", "8s"}
	stale := s.startWorkerWith(t, "stale worker", []string{stopVariable + "=1"}, args...)
	s.publish(t, hosts)
	eventually(t, "the fence", func() bool {
		info, err := s.streamInfo(t, stream.Journal)
		return err == nil && info.State.Msgs == 1
	})

	// It cannot get the message from one who is awake, so the first has stopped for longer than ack_wait when it does.
	second := s.startWorker(t, "second worker", args...)
	second.awaitLine(t, "took over", says("took over"))
	eventually(t, "the second worker's refusal", func() bool { return s.fleet.CountsOf(host).Refused == 1 })
	if boots := s.fleet.BootsOf(host); boots != 0 {
		t.Fatalf("got %d boots before the stale worker has woken, want 0", boots)
	}

	stale.signal(t, syscall.SIGCONT)
	acked := func(l logLine) bool { return l.Message == "settled" && l.Fate == "acked" }
	left := stale.awaitLine(t, "settled", says("settled"))
	if left.Fate != "left" {
		t.Errorf("stale worker's delivery was %s, want left", left.Fate)
	}
	if c := s.fleet.CountsOf(host); c.Calls < 2 || s.fleet.BootsOf(host) == 0 {
		t.Errorf("the stale trigger has not arrived: %+v", c)
	}
	// It goes on with what is its own.
	for round := 0; len(stale.said(acked)) == 0; round++ {
		if round == 50 {
			t.Fatal("the stale worker has done nothing since it woke")
		}
		more := instances(fmt.Sprintf("more%d", round), 20)
		s.publish(t, more)
		s.awaitBoots(t, len(hosts)+len(more))
		hosts = append(hosts, more...)
	}
	stale.stop(t)
	if last := stale.lastLine(t); last.LeasesLost != 1 {
		t.Errorf("stale worker: got %d leases lost, want 1", last.LeasesLost)
	}
	again := stale.said(func(l logLine) bool { return l.Host == string(host) && l.Message == "consumed" })
	name := stale.awaitLine(t, "its name", says("worker is ready")).Worker
	for _, o := range s.outcomes(t) {
		if o.Host == host && o.Receipt.Worker == name && len(again) == 1 {
			t.Errorf("stale worker has recorded %s of a message that it had lost", o.Kind)
		}
	}

	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

// What no message owns ends the worker, and says so. (M51)
func TestProcess_DeletedWorkStreamEndsTheWorker(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMin: 5 * time.Second, RestartMax: 5 * time.Second})
	w := s.startWorker(t, "worker", "--grace", "1s")
	s.publish(t, instances("gone", 10))
	s.awaitBoots(t, 10)
	if err := s.js.DeleteStream(t.Context(), stream.Work); err != nil {
		t.Fatal(err)
	}
	w.wantExit(t, exitFailed)
	w.lastLine(t)
	wantText(t, w, "work stream is gone: MANDRILL was deleted")

	// It is not made again behind the operator's back.
	if _, err := s.js.Stream(t.Context(), stream.Work); err != jetstream.ErrStreamNotFound {
		t.Errorf("got %v when looking for the stream, want %v", err, jetstream.ErrStreamNotFound)
	}
}
