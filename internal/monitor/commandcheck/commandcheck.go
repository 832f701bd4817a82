// Package commandcheck is the check that runs a program: good if it exits with 0, bad otherwise.
//
// The program is run as it stands, with its arguments as a list and never through a shell. It sees PATH, HOME, LANG, TZ,
// TMPDIR and the variables that the configuration names. Of its output only the end is kept.
//
// When its time is over, or the run has ended, it is killed with its whole process group; and so is what it has left in
// the background of that group when it has ended by itself. What remains possible: what leaves the group, or runs as
// another user, is not killed. If this process itself is killed, then on Linux the program is killed too, but not what
// the program has started; elsewhere it goes on.
package commandcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// FactExit is the status with which the program has exited, if it has exited by itself.
const FactExit = "exit"

const (
	maxOutput = 4 << 10
	// pipeWait is how long the output of a program that has ended may be held open by what it has left behind. It is
	// shorter than what a check may overrun its timeout by.
	pipeWait = 500 * time.Millisecond
)

// Config says which program is run.
type Config struct {
	// Command is a program, as a path or to be found in PATH, and its arguments.
	Command []string

	// Env names variables of this process that are passed on to the program. What is not set is not passed on.
	Env []string

	// Input is what the program can read. It need not.
	Input []byte
}

type check struct {
	path              string
	argv, environment []string
	input             []byte
}

// New returns a check that has run nothing yet. An error begins with the name of the field that is wrong, and never
// quotes an argument, which may be a password. The variables that are passed on are those of now.
func New(cfg Config) (monitor.Check, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, errors.New("command: is missing; it takes a program and its arguments, as a list")
	}
	for i, arg := range cfg.Command {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("command: argument %d has a NUL byte", i)
		}
	}
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, fmt.Errorf("command: cannot find the program: %w", err)
	}
	c := &check{
		path: path, argv: slices.Clone(cfg.Command), input: cfg.Input,
		environment: []string{}, // nil would pass everything on
	}
	for _, name := range append([]string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}, cfg.Env...) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, errors.New("env: takes names of variables, and no values")
		}
		if value, ok := os.LookupEnv(name); ok {
			c.environment = append(c.environment, name+"="+value)
		}
	}
	return c, nil
}

// Check implements [monitor.Check].
func (c *check) Check(ctx context.Context) monitor.Result {
	out := &tail{}
	cmd := exec.CommandContext(ctx, c.path)
	cmd.Args, cmd.Env = c.argv, c.environment
	if len(c.input) > 0 {
		cmd.Stdin = bytes.NewReader(c.input)
	}
	cmd.Stdout, cmd.Stderr = out, out // the same, so that the last line is the last on either
	cmd.SysProcAttr, cmd.WaitDelay = groupOfItsOwn(), pipeWait
	cmd.Cancel = func() error { return killGroup(cmd.Process) }

	// Where the kernel kills the program with its parent, it takes the thread that has started it for the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return judge(ctx, monitor.Result{Verdict: monitor.Bad, Seen: fmt.Sprintf("cannot run the program: %v", err)})
	}
	err := cmd.Wait()
	_ = killGroup(cmd.Process) // what is left of it; mostly nothing is

	state := cmd.ProcessState
	if state == nil || !state.Exited() {
		return judge(ctx, monitor.Result{Verdict: monitor.Bad, Seen: fmt.Sprintf("%v%s", err, out.lastLine())})
	}
	r := monitor.Result{
		Verdict: monitor.Good,
		Seen:    state.String() + out.lastLine(),
		Facts:   []monitor.Fact{{Name: FactExit, Value: int64(state.ExitCode())}},
	}
	if !state.Success() {
		r.Verdict = monitor.Bad
	}
	return r
}

// judge makes a bad result unknown that may come from our own hand.
func judge(ctx context.Context, r monitor.Result) monitor.Result {
	if ctx.Err() != nil {
		r.Verdict = monitor.Unknown
	}
	return r
}

// killGroup kills the program's process group. A group's number is not given to another while one of it is left. Where
// none is, all numbers would have to be used up since then for this to hit anyone else.
func killGroup(p *os.Process) error {
	err := syscall.Kill(-p.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// A tail keeps the end of what is written to it, so that a program may print without end.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, n-maxOutput):]
	over := max(0, len(t.kept)+len(p)-maxOutput)
	t.kept = append(t.kept[:copy(t.kept, t.kept[over:])], p...)
	return n, nil
}

// lastLine quotes the last line with something on it, so that what a program prints can neither forge lines of a log
// nor reach a terminal as it is.
func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.kept)
	if len(text) == 0 {
		return ""
	}
	return fmt.Sprintf(": %.200q", text[bytes.LastIndexAny(text, "\r\n")+1:])
}
