package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Fear: a worker lost its lease, and a child of its restart script restarts the host all the same.
func TestRestart_KillsTheWholeGroup(t *testing.T) {
	// The pipe is held open by the shell, by a child and by a grandchild that ignores what can be ignored.
	const script = `exec 3>"$1"; (trap '' HUP INT TERM; sleep 1000; sleep 1000) & sleep 1000`

	t.Run("WhenTheContextEnds", func(t *testing.T) {
		w := newWitness(t)
		d := newDriver(t, Config{Restart: sh(script, w.path)})
		ctx, cancel := context.WithCancelCause(t.Context())
		lost := errors.New("the lease is lost")
		answer := make(chan error, 1)
		go func() { answer <- d.Restart(ctx, trigger("1")) }()
		w.wantBegun(t)
		cancel(lost)
		err := wantAnswer(t, answer)
		wantClass(t, err, nil)
		if !errors.Is(err, lost) {
			t.Errorf("got %v, want it to wrap the cause", err)
		}
		w.wantGone(t)
	})
	t.Run("WhenItsTimeIsOver", func(t *testing.T) {
		w := newWitness(t)
		d := newDriver(t, Config{Restart: sh(script, w.path)})
		tr := trigger("1")
		tr.Within = time.Second
		answer := make(chan error, 1)
		go func() { answer <- d.Restart(t.Context(), tr) }()
		w.wantBegun(t)
		err := wantAnswer(t, answer)
		wantClass(t, err, nil)
		if !errors.Is(err, errTimeOver) {
			t.Errorf("got %v, want it to say that its time is over", err)
		}
		w.wantGone(t)
	})
	t.Run("OfAProbeToo", func(t *testing.T) {
		w := newWitness(t)
		d := newDriver(t, Config{Probe: sh("echo 1; "+script, w.path)})
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() {
			_, err := d.Probe(ctx, host)
			answer <- err
		}()
		w.wantBegun(t)
		cancel()
		wantClass(t, wantAnswer(t, answer), nil)
		w.wantGone(t)
	})
}

// What has left the group cannot be killed with it. It must not hold the worker up, too.
func TestRestart_IsNotHeldUpByWhatHasLeftItsGroup(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no setsid here")
	}
	w := newWitness(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	d := newDriver(t, Config{Restart: sh(`setsid sleep 1000 & echo $! >"$2"; exec 3>"$1"; sleep 1000`, w.path, pidFile)})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- d.Restart(ctx, trigger("1")) }()
	w.wantBegun(t)
	cancel()
	wantClass(t, wantAnswer(t, answer), nil)
	w.wantGone(t)

	text, err := os.ReadFile(pidFile)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the process that left the group: %v; the test proves nothing", err)
	}
}

// A script may hand the restart on to a process in the background and say that it was taken. That process is the
// restart.
func TestRestart_LeavesAloneWhatATakenOneLeftBehind(t *testing.T) {
	for name, redirect := range map[string]string{"ItsOutputElsewhere": ">/dev/null 2>&1", "ItsOutputHeld": ""} {
		t.Run(name, func(t *testing.T) {
			w, start := newWitness(t), filepath.Join(t.TempDir(), "start")
			must(t, syscall.Mkfifo(start, 0o600))
			const script = `{ read line <"$2"; echo done >"$1"; } `
			d := newDriver(t, Config{Restart: sh(script+redirect+" & exit 0", w.path, start)})
			ctx, cancel := context.WithCancel(t.Context())
			if err := d.Restart(ctx, trigger("1")); err != nil {
				t.Errorf("got %v, want it taken", err)
			}
			cancel()
			must(t, os.WriteFile(start, []byte("now\n"), 0))
			w.wantBegun(t)
			if got := w.wantGone(t); got != "done\n" {
				t.Errorf("what was left behind wrote %q, want it to have lived on", got)
			}
		})
	}
}

// An epoch that is perhaps cut short would count as another boot.
func TestProbe_OutputThatIsHeldOpenIsUnknown(t *testing.T) {
	w := newWitness(t)
	d := newDriver(t, Config{Probe: sh(`echo 1; { read line <"$1.start"; exec 3>"$1"; } & exit 0`, w.path)})
	must(t, syscall.Mkfifo(w.path+".start", 0o600))
	state, err := d.Probe(t.Context(), host)
	if err == nil {
		t.Errorf("got %+v, want an error", state)
	}
	must(t, os.WriteFile(w.path+".start", []byte("now\n"), 0))
	w.wantBegun(t)
	w.wantGone(t)
}

func TestDriver_OutputWithoutEndDoesNoHarm(t *testing.T) {
	for name, program := range map[string][]string{
		"OnStdout": {"yes", strings.Repeat("y", 1000)},
		"OnStderr": sh("exec yes >&2"),
		"OneLine":  sh("exec cat /dev/zero"),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, Config{Probe: program, Restart: program})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := d.Probe(ctx, host)
			wantClass(t, err, nil)
			wantShort(t, err)
			tr := trigger("1")
			tr.Within = 300 * time.Millisecond
			err = d.Restart(t.Context(), tr)
			wantClass(t, err, nil)
			wantShort(t, err)
		})
	}
	t.Run("MoreThanIsKeptIsNoState", func(t *testing.T) {
		d := newDriver(t, Config{Probe: sh("echo 1; yes '' | head -c 4095"), Output: 4096})
		_, err := d.Probe(t.Context(), host)
		if err == nil || !strings.Contains(err.Error(), "more than 4096 bytes") {
			t.Errorf("got %v, want it to say that there was too much", err)
		}
	})
}

func wantShort(t *testing.T, err error) {
	t.Helper()
	if n := len(err.Error()); n > 1200 {
		t.Errorf("got an error of %d bytes", n)
	}
}

// Fear: a worker is killed, another takes over, and the first one's restart program is still at work.
func TestRestart_EndsWithAWorkerThatIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a process with its parent")
	}
	began, ended := make(chan struct{}), make(chan struct{})
	url := serve(t, func(ctx context.Context, _ call) answer {
		close(began)
		<-ctx.Done()
		close(ended)
		return answer{}
	})
	worker := exec.CommandContext(t.Context(), os.Args[0], asWorker, url)
	var out strings.Builder
	worker.Stdout = &out
	must(t, worker.Start())
	wantClosed(t, began, "the program does not begin")
	must(t, worker.Process.Kill())
	_ = worker.Wait() // the error says that it was killed
	wantClosed(t, ended, "the program lives on after its worker")
	if out.Len() != 0 {
		t.Error(&out)
	}
}

// The kernel ends a program with the thread that started it, and threads end while the process lives.
func TestRestart_OutlivesThreadsOfTheWorker(t *testing.T) {
	const programs = 300 // with fewer it is seldom seen; with these, in most runs
	begun, proceed := newPipe(t), newPipe(t)
	d := newDriver(t, Config{Restart: sh(`echo >"$1"; read line <"$2"`, begun.Name(), proceed.Name())})

	// Goroutines move to other threads only where there is something else to do.
	busy, calm := context.WithCancel(t.Context())
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			for busy.Err() == nil {
			}
		}()
	}
	answers := make(chan error, programs)
	for range programs {
		go func() { answers <- d.Restart(t.Context(), trigger("1")) }()
	}
	_, err := io.ReadFull(begun, make([]byte, programs))
	must(t, err)
	calm()

	// Once half of them have ended, the threads that waited for those are idle, and may have started others.
	for n := range programs {
		if n == programs/2 {
			endThreads(2 * programs)
		}
		_, err := proceed.WriteString("\n")
		must(t, err)
		if err := wantAnswer(t, answers); err != nil {
			t.Errorf("got %v, want it taken", err)
		}
	}
}

// newPipe returns a named pipe that is open at both ends, so that nobody who opens it waits.
func newPipe(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	must(t, f.SetDeadline(time.Now().Add(patience)))
	return f
}

// endThreads ends that many threads of the process, idle ones first.
func endThreads(n int) {
	var locked, ended sync.WaitGroup
	locked.Add(n)
	for range n {
		ended.Go(func() {
			runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
			locked.Done()
			locked.Wait()
		})
	}
	ended.Wait()
}

func wantClosed(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal(what)
	}
}

func wantAnswer(t *testing.T, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(patience):
		t.Fatal("there is no answer")
		return nil
	}
}

// A witness is a named pipe: it says when the first of many processes has opened it for writing, and when the last of
// them that held it open is gone.
type witness struct {
	path   string
	opened chan *os.File
	file   *os.File
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{path: filepath.Join(t.TempDir(), "witness"), opened: make(chan *os.File, 1)}
	must(t, syscall.Mkfifo(w.path, 0o600))
	go func() {
		f, _ := os.Open(w.path) // blocks until somebody writes
		w.opened <- f
	}()
	t.Cleanup(func() {
		if w.file == nil {
			// Nobody came: let the goroutine go.
			if f, err := os.OpenFile(w.path, os.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
				defer f.Close()
			}
			w.file = <-w.opened
		}
		_ = w.file.Close()
	})
	return w
}

func (w *witness) wantBegun(t *testing.T) {
	t.Helper()
	select {
	case w.file = <-w.opened:
	case <-time.After(patience):
		t.Fatal("the program does not begin")
	}
}

// wantGone returns what was written.
func (w *witness) wantGone(t *testing.T) string {
	t.Helper()
	must(t, w.file.SetReadDeadline(time.Now().Add(patience)))
	text, err := io.ReadAll(w.file)
	if err != nil {
		t.Fatalf("a process is not gone: %v", err)
	}
	return string(text)
}
