package commandcheck_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/commandcheck"
)

// asProgram is the first argument that makes the test binary a program that is checked by; the next says what it does.
const asProgram = "as-program"

// patience bounds what a test waits for.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == asProgram {
		syscall.Exit(program(os.Args[2], os.Args[3:])) // not os.Exit, which waits for a second under the race detector
	}
	goleak.VerifyTestMain(m)
}

// program does as it is told, and returns its exit status.
func program(what string, args []string) int {
	switch what {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		return code
	case "print": // on stdout, then on stderr
		fmt.Print(args[0])
		fmt.Fprint(os.Stderr, args[1])
		return 1
	case "flood":
		for range 1000 {
			fmt.Println(strings.Repeat("x", 4096))
		}
		fmt.Println("the end")
		return 0
	case "environment":
		for _, variable := range os.Environ() {
			if strings.HasPrefix(variable, "MONITOR_TEST_") {
				fmt.Print(variable, " ")
			}
		}
		return 0
	case "input":
		in, err := io.ReadAll(os.Stdin)
		fmt.Println(len(in), err)
		return 0
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "leave": // a child behind that holds the pipe named by its path, and our output
		child := exec.Command(os.Args[0], asProgram, "hang", args[0])
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return 99
		}
		awaitFile(args[0] + ".open")
		return 0
	case "hang", "hang with child":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		if what != "hang" {
			child := exec.Command(os.Args[0], asProgram, "hang", args[0])
			if err := child.Start(); err != nil {
				return 99
			}
			awaitFile(args[0] + ".open")
			_ = os.WriteFile(args[0]+".both", nil, 0o600)
		} else if _, err := os.OpenFile(args[0], os.O_WRONLY, 0); err != nil {
			return 99
		}
		_ = os.WriteFile(args[0]+".open", nil, 0o600)
		time.Sleep(time.Hour)
	}
	return 98
}

// awaitFile is only for use by programs, which have no other way to hear of each other.
func awaitFile(path string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
}

func ask(args ...string) []string { return append([]string{os.Args[0], asProgram}, args...) }

func newCheck(t *testing.T, cfg commandcheck.Config) monitor.Check {
	t.Helper()
	c, err := commandcheck.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		want string
		cfg  commandcheck.Config
	}{
		{"command: is missing", commandcheck.Config{}},
		{"command: is missing", commandcheck.Config{Command: []string{""}}},
		{"command: argument 1 has a NUL byte", commandcheck.Config{Command: []string{"true", "hunter2\x00"}}},
		{"command: cannot find the program: ", commandcheck.Config{Command: []string{"no-such-program", "hunter2"}}},
		{"env: takes names of variables", commandcheck.Config{Command: []string{os.Args[0]}, Env: []string{"TOKEN=hunter2"}}},
		{"env: takes names of variables", commandcheck.Config{Command: []string{os.Args[0]}, Env: []string{""}}},
	} {
		c, err := commandcheck.New(tt.cfg)
		if err == nil || c != nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New: got %v, want an error that begins with %q", err, tt.want)
		}
	}
}

func TestCheck_JudgesTheExit(t *testing.T) {
	t.Setenv("MONITOR_TEST_PASSED", "1")
	t.Setenv("MONITOR_TEST_SECRET", "hunter2")
	exit := func(code int64) []monitor.Fact { return []monitor.Fact{{Name: commandcheck.FactExit, Value: code}} }
	for _, tt := range []struct {
		name    string
		command []string
		want    monitor.Result
	}{
		{"Zero", ask("exit", "0"), monitor.Result{Verdict: monitor.Good, Seen: "exit status 0", Facts: exit(0)}},
		{"NotZero", ask("exit", "3"), monitor.Result{Verdict: monitor.Bad, Seen: "exit status 3", Facts: exit(3)}},
		{"LastLine", ask("print", "loading\n", "no disk left\n\n"), monitor.Result{Verdict: monitor.Bad, Seen: `exit status 1: "no disk left"`, Facts: exit(1)}},
		{"ForATerminal", ask("print", "", "50%\r\x1b[2J"), monitor.Result{Verdict: monitor.Bad, Seen: `exit status 1: "\x1b[2J"`, Facts: exit(1)}},
		{"Flood", ask("flood"), monitor.Result{Verdict: monitor.Good, Seen: `exit status 0: "the end"`, Facts: exit(0)}},
		{"Environment", ask("environment"), monitor.Result{Verdict: monitor.Good, Seen: `exit status 0: "MONITOR_TEST_PASSED=1"`, Facts: exit(0)}},
		{"NoInput", ask("input"), monitor.Result{Verdict: monitor.Good, Seen: `exit status 0: "0 <nil>"`, Facts: exit(0)}},
		{"KilledByAnother", ask("kill"), monitor.Result{Verdict: monitor.Bad, Seen: "signal: killed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newCheck(t, commandcheck.Config{Command: tt.command, Env: []string{"MONITOR_TEST_PASSED"}}).Check(t.Context())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Result (-want +got):\n%s", diff)
			}
		})
	}
}

// The fear: a program that does not read what it is given makes the check hang, or bad.
func TestCheck_ProgramMayReadItsInputOrNot(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		command    []string
	}{
		{"Read", `exit status 0: "1048576 <nil>"`, ask("input")},
		{"NotRead", "exit status 0", ask("exit", "0")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newCheck(t, commandcheck.Config{Command: tt.command, Input: make([]byte, 1<<20)}).Check(t.Context())
			if got.Verdict != monitor.Good || got.Seen != tt.want {
				t.Errorf("got %s, %s, want good, %s", got.Verdict, got.Seen, tt.want)
			}
		})
	}
}

// The fear: a monitor whose program was removed falls silent, or looks good.
func TestCheck_AProgramThatCannotBeRunAnyMoreIsBad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCheck(t, commandcheck.Config{Command: []string{path}})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := c.Check(t.Context()); got.Verdict != monitor.Bad || !strings.HasPrefix(got.Seen, "cannot run the program: ") {
		t.Errorf("got %+v", got)
	}
}

// The fear: a check that hangs leaves processes behind, at every beat some more.
func TestCheck_KillsTheWholeGroupWhenItsContextEnds(t *testing.T) {
	pipe, gone := newPipe(t)
	c := newCheck(t, commandcheck.Config{Command: ask("hang with child", pipe)})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan monitor.Result, 1)
	go func() { answer <- c.Check(ctx) }()
	awaitFile(pipe + ".both")
	cancel()
	select {
	case got := <-answer:
		if got.Verdict != monitor.Unknown {
			t.Errorf("got %+v, want unknown", got)
		}
	case <-time.After(patience):
		t.Fatal("no answer after the context has ended")
	}
	wantClosed(t, gone)
}

func TestCheck_KillsWhatTheProgramLeavesBehind(t *testing.T) {
	pipe, gone := newPipe(t)
	got := newCheck(t, commandcheck.Config{Command: ask("leave", pipe)}).Check(t.Context())
	if got.Verdict != monitor.Good || got.Seen != "exit status 0" {
		t.Errorf("got %+v", got)
	}
	wantClosed(t, gone)
}

// newPipe returns the path of a pipe, and a channel that is closed when all that have opened it have ended.
func newPipe(t *testing.T) (path string, gone <-chan struct{}) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f, err := os.Open(path) // waits for the first that opens it
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		_, _ = io.Copy(io.Discard, f)
	}()
	return path, closed
}

func wantClosed(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("a process that the check has started still runs")
	}
}
