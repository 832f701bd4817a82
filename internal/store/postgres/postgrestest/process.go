package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A process is a server's first process, which starts all others.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // of its end; read after ended is closed
}

// startProcess starts a process and waits for its end in the background.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// A process is told of its parent's death when the thread that started it dies.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// killAll kills the process and its children, each of which is in a group of its own, and returns when they are gone: a
// new server refuses data that an old one still uses.
func (p *process) killAll() error {
	if err := p.signal(syscall.SIGSTOP); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return err
	}
	children := childrenOf(p.cmd.Process.Pid) // it starts no more
	for _, child := range append(children, p.cmd.Process.Pid) {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	<-p.ended
	deadline := time.Now().Add(patience)
	for _, child := range children {
		for syscall.Kill(child, 0) == nil && !isDead(child) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d is there after %s", child, patience)
			}
			time.Sleep(time.Millisecond) // it is no child of ours that could be waited for
		}
	}
	return nil
}
