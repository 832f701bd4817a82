package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintf(a.stderr, "mandrill: %v\n", err)
		if code == exitUsage {
			fmt.Fprintln(a.stderr, "Run 'mandrill --help', or the verb's own, for usage.")
		}
	}
	return code
}

// errReported is wrapped by an error of which everything was said already.
var errReported = errors.New("see above")

func exitCode(err error) int {
	var usage *config.UsageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errPartly):
		return exitPartly
	default:
		return exitFailed
	}
}
