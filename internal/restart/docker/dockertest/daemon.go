package dockertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	pollEvery = 20 * time.Millisecond

	lastWordsLen = 4096
)

// A daemon is an engine of the test's own.
type daemon struct {
	cmd   *exec.Cmd
	log   string        // its file
	ended chan struct{} // closed when it has ended
	err   error         // of its end; read after ended is closed
}

// findDaemon returns the program, or a *missingError.
func findDaemon() (string, error) {
	program, err := exec.LookPath("dockerd")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/dockerd") // which is not in everybody's PATH
	}
	switch {
	case err != nil:
		return "", &missingError{"none is running that answers, and dockerd is not installed"}
	case os.Getuid() != 0:
		return "", &missingError{"none is running that answers, and only root can start dockerd"}
	}
	return program, nil
}

// startDaemon starts an engine that has nothing in common with another one on the same machine, and leaves the
// machine's network alone.
func startDaemon(program, dir, endpoint string, attributes *syscall.SysProcAttr) (*daemon, error) {
	settings := filepath.Join(dir, "daemon.json") // instead of those of the machine
	if err := os.WriteFile(settings, []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{log: filepath.Join(dir, "dockerd.log"), ended: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	d.cmd = exec.Command(program,
		"--config-file", settings, "--host", endpoint, "--pidfile", filepath.Join(dir, "docker.pid"),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--bridge", "none", "--iptables=false", "--ip-masq=false", "--ip-forward=false")
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = attributes

	started := make(chan error)
	go func() {
		// A process is told of its parent's death when the thread that started it dies.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := d.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	return d, <-started
}

func (d *daemon) stop() error {
	select {
	case <-d.ended:
		return d.err
	default:
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.ended:
		return d.err
	case <-time.After(patience):
		return fmt.Errorf("dockerd, process %d, is there %s after it was asked to end", d.cmd.Process.Pid, patience)
	}
}

// lastWords returns the end of the log.
func (d *daemon) lastWords() string {
	log, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-lastWordsLen):])
}
