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

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
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

	// newDriver makes the driver of a worker. A test puts hosts of its own there, which outlive the worker.
	newDriver func(config.Config) (restart.Driver, error)
}

func newApp() *app {
	return &app{
		environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		newDriver: newSimulated,
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
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
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
