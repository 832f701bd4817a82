package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// A signalError is the cause of a context that a signal ended.
type signalError struct {
	signal os.Signal
}

func (e *signalError) Error() string { return fmt.Sprintf("stopped by %s", signalName(e.signal)) }

func signalName(s os.Signal) string {
	switch s {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGHUP:
		return "SIGHUP"
	default:
		return s.String()
	}
}

// takeSignals returns a context that the first signal ends, with a *signalError as its cause. The second signal ends
// the process at once. Nothing is ever reloaded.
func (a *app) takeSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					fmt.Fprintf(a.stderr, "mandrill: %s again, gone at once\n", signalName(s))
					os.Exit(exitSecondSignal)
				}
				cancel(&signalError{s})
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		watch.Wait()
		cancel(nil)
	}
}
