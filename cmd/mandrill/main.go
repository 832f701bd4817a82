package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	_ "time/tzdata" // windows name time zones, and a container may have none

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// The exit codes of every verb.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2   // wrong use or configuration; nothing was started
	exitPartly       = 3   // drain incomplete, some publishes failed, or an outcome that was not wished for
	exitSecondSignal = 130 // gone at once
)

// errPartly is wrapped by what ends with exitPartly.
var errPartly = errors.New("partly done")

func main() {
	setLogFormat()
	os.Exit(newApp().run(os.Args[1:]))
}

// An app is the program with all that it takes from outside, so that a test can be that outside.
type app struct {
	environ []string
	stdin   *os.File
	stdout  io.Writer
	stderr  *os.File

	// newDriver makes the driver of a group. A test puts hosts of its own there, which outlive the worker.
	newDriver func(config.Config, restart.Group) (restart.Driver, error)
	// between is where a test puts itself between the parts of a worker.
	between seams
}

// seams pass on what each is given, unless a test or a benchmark sees to it.
type seams struct {
	endpoint func(endpoint) endpoint
	driver   func(restart.Driver) restart.Driver
	store    func(store.Store) store.Store
	journal  func(handler.Journal) handler.Journal
	delivery func(handler.Delivery) handler.Delivery
	progress func(campaign.Store) campaign.Store
	requests func(campaign.Requests) campaign.Requests
}

func newSeams() seams {
	return seams{
		endpoint: func(e endpoint) endpoint { return e },
		driver:   func(d restart.Driver) restart.Driver { return d },
		store:    func(s store.Store) store.Store { return s },
		journal:  func(j handler.Journal) handler.Journal { return j },
		delivery: func(d handler.Delivery) handler.Delivery { return d },
		progress: func(s campaign.Store) campaign.Store { return s },
		requests: func(r campaign.Requests) campaign.Requests { return r },
	}
}

func newApp() *app {
	return &app{
		environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		newDriver: newDriver, between: newSeams(),
	}
}

// run executes a command line and returns the exit code. Signals are taken over before anything else begins.
func (a *app) run(args []string) int {
	ctx, stop := a.takeSignals(context.Background())
	defer stop()
	result := &resultWriter{w: a.stdout}
	a.stdout = result
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = result.err
	}
	code := exitCode(err)
	if err != nil {
		fmt.Fprintf(a.stderr, "mandrill: %v\n", err)
		if code == exitUsage {
			fmt.Fprintln(a.stderr, "Run 'mandrill --help', or the verb's own, for usage.")
		}
	}
	return code
}

// stdoutIsTerminal reports whether results go to a person's screen.
func (a *app) stdoutIsTerminal() bool {
	result, ok := a.stdout.(*resultWriter)
	if !ok {
		return false
	}
	f, ok := result.w.(*os.File)
	return ok && isTerminal(f)
}

// A resultWriter keeps the first error of standard output, so that a result which was lost is not taken for one that
// was told, whoever wrote it.
type resultWriter struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (r *resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil {
		err = fmt.Errorf("cannot write the result: %w", err)
		r.mu.Lock()
		r.err = cmp.Or(r.err, err)
		r.mu.Unlock()
	}
	return n, err
}

func exitCode(err error) int {
	var usage *config.UsageError
	var monitors *monitorsError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &monitors):
		return monitors.code
	case onlyPartly(err):
		return exitPartly
	default:
		return exitFailed
	}
}

// onlyPartly reports whether an error wraps errPartly, and nothing worse is joined to it.
func onlyPartly(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Is(err, errPartly)
	}
	return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !onlyPartly(err) })
}
