package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// An operator who stops a benchmark must not be left with a server that nobody knows of, nor with its folder; nor with
// the server where the benchmark was killed.
func TestProcessBench_LeavesNothingBehindHoweverItEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal os.Signal
		exit   int
		says   string
	}{
		"Stopped": {syscall.SIGINT, exitFailed, "mandrill: stopped by SIGINT\n"},
		"Killed":  {syscall.SIGKILL, -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scratch := t.TempDir()
			p := run(t, "bench", []string{"TMPDIR=" + scratch}, "", "bench", "inflight", "-n", "20", "--hold", "1h", "--bare")
			var parts []int
			eventually(t, "server and worker", func() bool { parts = children(t, p.cmd.Process.Pid); return len(parts) == 2 })
			p.signal(t, c.signal)
			p.wantExit(t, c.exit)
			if got := p.text(); got != c.says {
				t.Errorf("got %q, want %q", got, c.says)
			}
			for _, pid := range parts {
				eventually(t, "end of process "+strconv.Itoa(pid), func() bool { return gone(pid) })
			}
			left, err := filepath.Glob(filepath.Join(scratch, "mandrill-bench-*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 && c.signal != syscall.SIGKILL {
				t.Errorf("%v was left behind", left)
			}
		})
	}
}

// children returns the processes whose parent is that one.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && string(fields[1]) == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone reports whether a process has ended, even if nobody has asked how.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[0][0] == 'Z'
}

// A benchmark on a server that is in use must neither see nor change what is there, and must leave nothing.
func TestProcessBench_KeepsAwayFromRealStreams(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{})
	worker := s.startWorker(t, "worker")
	s.publish(t, []string{benchInstance(1), benchInstance(2)}) // whose names are also the benchmark's
	worker.awaitCount(t, 2, "settled")
	worker.stop(t)
	s.publish(t, []string{benchInstance(1)})
	before := s.allStreams(t)

	p := run(t, "bench", []string{"TMPDIR=" + t.TempDir()}, "", "bench", "pipeline", "-n", "200", "--runs", "1", "--nats", s.url)
	p.wantExit(t, exitDone)
	// Whenever it is stopped: while it makes its streams, and while they are used.
	for _, more := range []int{1, len(benchStreams)} {
		p = run(t, "bench", []string{"TMPDIR=" + t.TempDir()}, "", "bench", "restart", "-n", "20", "--in-flight", "20", "--latency", "1h", "--nats", s.url)
		eventually(t, "more streams", func() bool { return len(s.allStreams(t)) >= len(before)+more })
		p.signal(t, syscall.SIGINT)
		p.wantExit(t, exitFailed)
		if diff := cmp.Diff(before, s.allStreams(t)); diff != "" {
			t.Errorf("streams (-before +after):\n%s", diff)
		}
	}
}

// allStreams returns what every stream of the server holds, and the consumers of it.
func (s *scene) allStreams(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	streams := s.js.ListStreams(t.Context())
	for info := range streams.Info() {
		all[info.Config.Name] = fmt.Sprintf("%d messages to %d, %d deleted, %d consumers",
			info.State.Msgs, info.State.LastSeq, info.State.NumDeleted, info.State.Consumers)
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
