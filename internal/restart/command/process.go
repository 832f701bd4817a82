package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// pipeWait is how long the output of a program that has ended is waited for. It has all been printed by then; only a
// process that the program left behind can keep it open.
const pipeWait = time.Second

const exitUnknown = -1 // the program did not end by itself

// errNotStarted marks errors after which nothing was run.
var errNotStarted = errors.New("the program cannot be run")

// run runs the program until it ends, or until its process group is killed because ctx has ended. Without an error it
// has exited with 0 and all its output is there. With one, exit is the status by which it ended by itself, also 0, or
// exitUnknown.
//
// The one wait without a bound is for a program that SIGKILL does not end: one that runs as another user, or hangs in
// the kernel. To return earlier would leave a process without an owner.
func (p program) run(ctx context.Context, argv, environment []string, stdout, stderr *output) (exit int, err error) {
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Args, cmd.Env = argv, environment
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr, cmd.WaitDelay = groupOfItsOwn(), pipeWait
	killed := false
	cmd.Cancel = func() error {
		// The group's number is not given to others before the program has been waited for. That may happen just now, but
		// all numbers would have to be used up in the same moment for this signal to hit anyone else.
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		killed = err == nil
		return err
	}

	// The kernel ends the program when the thread that started it ends, not the process. A thread of the runtime's ends
	// with a goroutine that was locked to it, so it is kept to this one until the program has ended. That costs nothing:
	// waiting for a process occupies a thread anyway.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return exitUnknown, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	err = cmd.Wait()
	switch {
	case killed:
		// Whatever its status: other processes of its group may have been at work.
		return exitUnknown, fmt.Errorf("the program was killed: %w", context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		err = errors.New("what the program left in the background holds its output open")
	}
	return cmd.ProcessState.ExitCode(), err
}
