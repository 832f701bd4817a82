package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

// A systemd is a socket that hears what a service tells.
type systemd struct {
	conn   *net.UnixConn
	socket string
}

func newSystemd(t *testing.T) systemd {
	t.Helper()
	folder, err := os.MkdirTemp("", "systemd-") // shorter than that of the test: the name of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); os.RemoveAll(folder) })
	return systemd{conn, socket}
}

// hear returns the next message, or "" if there is none within d.
func (s systemd) hear(t *testing.T, d time.Duration) string {
	t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := s.conn.Read(message)
	if err != nil {
		return ""
	}
	return string(message[:n])
}

// await returns when a message has a line.
func (s systemd) await(t *testing.T, line string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		message := s.hear(t, 10*time.Second)
		if strings.Contains("\n"+message+"\n", "\n"+line+"\n") {
			return
		}
		if strings.HasPrefix(line, "READY") && strings.Contains(message, "STOPPING") {
			t.Fatalf("it stops, and was never ready: %q", message)
		}
	}
	t.Fatalf("%s was not told", line)
}

func (s systemd) environment(watchdogMicros string) func(string) string {
	return func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": s.socket, "WATCHDOG_USEC": watchdogMicros}[name]
	}
}

func newTestSupervisor(t *testing.T, s systemd, problems func() []ops.Problem) *supervisor {
	t.Helper()
	told, err := newSupervisor(s.environment("60000000"), problems, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { told.close() })
	return told
}

// A worker that systemd takes for ready too early is one behind which the next is stopped.
func TestSupervisor_IsReadyOnceAndOnlyWhenNothingKeepsItFromItsWork(t *testing.T) {
	t.Parallel()
	s := newSystemd(t)
	var problems []ops.Problem
	told := newTestSupervisor(t, s, func() []ops.Problem { return problems })
	for _, step := range []struct {
		problems []ops.Problem
		want     string
	}{
		{[]ops.Problem{{Name: "nats", Detail: "not connected"}}, "WATCHDOG=1\nSTATUS=not connected"},
		{nil, "STATUS=working\nREADY=1"},
		{nil, ""}, // all is said
		{[]ops.Problem{{Name: "overloaded", Detail: "late", Advisory: true}}, ""},
		{[]ops.Problem{{Name: "nats", Detail: "not connected"}}, "STATUS=not connected"},
		{nil, "STATUS=working"},
	} {
		problems = step.problems
		told.beat()
		wait := 50 * time.Millisecond // what was told is there already
		if got := s.hear(t, wait); got != step.want {
			t.Errorf("with %v: got %q, want %q", step.problems, got, step.want)
		}
	}
	told.stop()
	if got := s.hear(t, patience); got != "STOPPING=1\nSTATUS=stopping" {
		t.Errorf("got %q", got)
	}
}

// A ticker of its own would go on for ever in a process that does nothing any more.
func TestSupervisor_AProcessThatHangsIsNotCalledAlive(t *testing.T) {
	t.Parallel()
	s := newSystemd(t)
	held := make(chan struct{})
	told := newTestSupervisor(t, s, func() []ops.Problem { <-held; return nil })
	beaten := make(chan struct{})
	go func() { told.beat(); close(beaten) }()
	if got := s.hear(t, 200*time.Millisecond); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	close(held)
	<-beaten
	if got := s.hear(t, patience); !strings.HasPrefix(got, "WATCHDOG=1") {
		t.Errorf("got %q, want it alive", got)
	}
}

func TestSupervisor_AWrongEnvironmentIsWrongUse(t *testing.T) {
	t.Parallel()
	_, err := newSupervisor(newSystemd(t).environment("soon"), nil, zerolog.Nop())
	if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "WATCHDOG_USEC: ") {
		t.Errorf("got %v, want wrong use of WATCHDOG_USEC", err)
	}
}

func TestProcess_WorkerAndMonitorTellSystemdThatTheyAreReadyLiveAndStop(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"worker", "monitor"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := newSystemd(t)
			dir := t.TempDir()
			file := filepath.Join(dir, "mandrill.yaml")
			monitors := "monitors:\n  port:\n    type: tcp\n    address: 127.0.0.1:1\n    every: 1s\n"
			if err := os.WriteFile(file, []byte(monitors), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{verb, "--config", file}
			if verb == "worker" {
				args = []string{verb, "--data", dir}
			}
			p := run(t, verb, []string{realVariable + "=1", "NOTIFY_SOCKET=" + s.socket, "WATCHDOG_USEC=2000000"}, "", args...)
			s.await(t, "READY=1")
			for range 3 {
				s.await(t, "WATCHDOG=1")
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.await(t, "STOPPING=1")
			<-p.ended
			if code := p.cmd.ProcessState.ExitCode(); code != exitDone {
				t.Errorf("got exit code %d, want %d", code, exitDone)
			}
		})
	}
}
