package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// childEnv tells the test binary to be a process that has a server, says which, and hangs.
const childEnv = "MANDRILL_TEST_POSTGRES_CHILD"

func TestServer_KeepsWhatIsCommittedOverStopAndKill(t *testing.T) {
	s := Start(t)
	url := s.NewDatabase(t)
	Exec(t, url, "CREATE TABLE rounds (n int)")
	for i := range 4 {
		Exec(t, url, fmt.Sprintf("INSERT INTO rounds VALUES (%d)", i))
		if i%2 == 0 {
			s.Stop(t)
		} else {
			s.Kill(t)
		}
		if err := execute(url, "SELECT 1"); err == nil {
			t.Error("the server answers, though it was ended")
		}
		s.StartAgain(t)
	}
	if got := queryText(t, url, "SELECT count(*)::text FROM rounds"); got != "4" {
		t.Errorf("got %s rows, want 4", got)
	}
}

func TestServer_IsDurableAndHasDatabasesApart(t *testing.T) {
	s := Start(t)
	one, two := s.NewDatabase(t), s.NewDatabase(t)
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if got := queryText(t, one, "SHOW "+setting); got != "on" {
			t.Errorf("%s: got %s, want on", setting, got)
		}
	}
	Exec(t, one, "CREATE TABLE t ()")
	if err := execute(two, "SELECT FROM t"); err == nil {
		t.Error("two databases are one")
	}
}

// A server that outlives its test would be there until the machine is started again.
func TestServer_NothingIsLeftWhenItsProcessIsKilled(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		s := Start(t)
		fmt.Printf("pid %d dir %s\n", s.process.cmd.Process.Pid, s.dir)
		select {}
	}
	if _, err := find(); err != nil {
		Start(t) // says why not
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	for line := make([]byte, 4096); pid == 0; {
		n, err := out.Read(line)
		if err != nil {
			t.Fatalf("the child said nothing: %v", err)
		}
		if _, said, ok := strings.Cut(string(line[:n]), "pid "); ok {
			fmt.Sscanf(said, "%d dir %s", &pid, &dir)
		}
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	children := childrenOf(pid)
	if len(children) == 0 {
		t.Error("the server has no processes")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	for _, p := range append(children, pid) {
		for deadline := time.Now().Add(10 * time.Second); syscall.Kill(p, 0) == nil && !isDead(p); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", p)
			}
		}
	}
}

func TestServer_RemovesItsDataAndItsMemory(t *testing.T) {
	var s *Server
	var memory int
	t.Run("Using", func(t *testing.T) {
		s = Start(t)
		s.Kill(t)
		var ok bool
		if memory, ok = s.sharedMemory(); !ok {
			t.Error("a killed server left no shared memory: the test means nothing")
		}
	})
	if s == nil {
		t.Skip("PostgreSQL is not installed")
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want the folder gone", err)
	}
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Skipf("cannot see shared memory here: %v", err)
	}
	for line := range strings.Lines(string(segments)) {
		if fields := strings.Fields(line); fields[1] == strconv.Itoa(memory) {
			t.Errorf("shared memory is left: %s", line)
		}
	}
}

func queryText(t *testing.T, url, query string) (text string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, query).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}
