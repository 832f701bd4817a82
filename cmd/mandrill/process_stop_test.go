package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

func wantText(t *testing.T, p *process, want string) {
	t.Helper()
	p.exitCode(t)
	if !strings.Contains(p.text(), want) {
		t.Errorf("%s has not said %q", p.name, want)
	}
}

// slowHosts take long enough for a stop to come in between.
var slowHosts = simulated.Config{RestartMin: time.Second, RestartMax: 20 * time.Second}

// M41, M42, M44: leases of 30 s show that the second worker is given the messages, and does not wait for them.
func TestProcess_StopFinishesWhatEndsInGraceAndHandsTheRestBackWithinASecond(t *testing.T) {
	t.Parallel()
	const (
		count = 200
		grace = 5 * time.Second
	)
	s := newScene(t, slowHosts)
	s.usePostgres(t)
	first := s.startWorker(t, "first worker", "--grace", grace.String())
	hosts := instances("stop", count)
	s.publish(t, hosts)
	s.awaitBoots(t, count)
	second := s.startWorker(t, "second worker")

	first.signal(t, syscall.SIGTERM)
	first.wantExit(t, exitPartly)
	last := first.lastLine(t)
	if last.Restarted < count/20 || last.Unverified == 0 || last.Restarted+last.Unverified != count || last.HandedBack+last.LeasesLost != 0 {
		t.Errorf("first worker: got last line %+v, want some restarted, and the other ones of %d unverified", last, count)
	}

	stopping := first.awaitLine(t, "stopping", func(l logLine) bool { return strings.HasPrefix(l.Message, "stopping") })
	second.awaitCount(t, last.Unverified, "took over")
	held := second.said(says("consumed"))
	if len(held) != last.Unverified {
		t.Errorf("second worker was given %d messages, want %d", len(held), last.Unverified)
	}
	after := held[len(held)-1].Time.Sub(stopping.Time.Add(grace))
	t.Logf("%d of %d ended in grace; the second worker held the last of the rest %s after the end of grace",
		last.Restarted, count, after.Round(time.Millisecond))
	if after > time.Second {
		t.Errorf("the second worker held the last message %s after the end of grace, want at most 1s", after)
	}

	s.awaitEmpty(t)
	second.stop(t)
	if n := s.outcomesOf(t, first); n != last.Restarted {
		t.Errorf("first worker has recorded %d outcomes, and acked %d", n, last.Restarted)
	}
	s.wantEachRestartedOnce(t, hosts)
}

// M71: the kill comes while some messages are triggered, some fenced, and some neither.
func TestProcess_KilledWorkersMessagesAreRedeliveredAndDone(t *testing.T) {
	t.Parallel()
	const count = 200
	s := newScene(t, slowHosts)
	first := s.startWorker(t, "first worker", "--ack-wait", "2s", "--driver-slots", "10")
	hosts := instances("kill", count)
	s.publish(t, hosts)
	s.awaitBoots(t, count/2)
	first.kill(t)
	c, err := s.consumerInfo(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("killed with %d of %d hosts booted and %d messages in flight", s.fleet.Boots(), count, c.NumAckPending)
	if c.NumAckPending != count {
		t.Errorf("got %d messages in flight at the kill, want %d", c.NumAckPending, count)
	}

	second := s.startWorker(t, "second worker")
	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

func TestProcess_SecondSignalEndsTheWorkerAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMin: 20 * time.Second, RestartMax: 20 * time.Second})
	first := s.startWorker(t, "first worker", "--ack-wait", "1s", "--grace", "1h")
	hosts := instances("twice", 20)
	s.publish(t, hosts)
	s.awaitBoots(t, len(hosts))
	first.signal(t, syscall.SIGTERM)
	first.awaitLine(t, "stopping", func(l logLine) bool { return l.Cause == "stopped by SIGTERM" })
	began := time.Now()
	first.signal(t, syscall.SIGTERM)
	first.wantExit(t, exitSecondSignal)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want at once", took)
	}
	wantText(t, first, "SIGTERM again, gone at once")

	second := s.startWorker(t, "second worker")
	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

// M40, on a worker with a server of its own, which closes last.
func TestProcess_EachSignalStopsTheWorkerAfterWhatItHasTriggered(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{
		"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newHosts(t, simulated.Config{RestartMin: time.Second, RestartMax: time.Second})
			data := t.TempDir()
			s.database = filepath.Join(data, databaseFile)
			w := s.startBare(t, "worker", nil, "--data", data)
			hosts := instances("signal", 3)
			wantPublished(t, s.startPublish(t, hosts, "--data", data), len(hosts))
			s.awaitBoots(t, len(hosts))

			w.signal(t, signal)
			w.wantExit(t, exitDone)
			w.awaitLine(t, "its name", func(l logLine) bool { return l.Cause == "stopped by "+name })
			if last := w.lastLine(t); last.Restarted != len(hosts) {
				t.Errorf("got last line %+v, want %d restarted", last, len(hosts))
			}
			s.wantEachRestartedOnce(t, hosts)
		})
	}
}

func TestProcess_IdleWorkerStopsPromptly(t *testing.T) {
	t.Parallel()
	s := newHosts(t, simulated.Config{})
	w := s.startBare(t, "worker", nil, "--data", t.TempDir(), "--grace", "1h")
	began := time.Now()
	w.signal(t, syscall.SIGTERM)
	w.wantExit(t, exitDone)
	w.lastLine(t)
	took := time.Since(began)
	t.Logf("took %s", took.Round(time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("took %s, want promptly", took)
	}
}

// M45: signals are taken over before the first connection. A worker that still waits for a server which says nothing
// ends by its own hand, in bounded time, and has its exit code.
func TestProcess_SignalBeforeTheFirstConnectionIsTakenOver(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := silent.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	s := newHosts(t, simulated.Config{})
	w := run(t, "worker", []string{fleetVariable + "=" + s.hosts.URL}, "",
		"worker", "--data", t.TempDir(), "--nats", "nats://"+silent.Addr().String())
	conn, err := silent.Accept()
	if err != nil {
		t.Fatalf("the worker has not tried to connect: %v", err)
	}
	defer conn.Close()
	w.signal(t, syscall.SIGTERM)
	w.wantExit(t, exitFailed)
}
