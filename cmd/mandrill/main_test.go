package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
)

// The test binary is also the program, and a worker whose hosts live in the test's process, where they survive it.
const (
	roleVariable  = "MANDRILL_TEST_ROLE"         // "worker": be the program, with hosts elsewhere
	fleetVariable = "MANDRILL_TEST_FLEET"        // where the hosts are
	stopVariable  = "MANDRILL_TEST_STOP_TRIGGER" // if set, the process stops itself (SIGSTOP) right before its first trigger
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "worker" {
		os.Exit(workerWithHostsElsewhere())
	}
	testscript.Main(m, map[string]func(){"mandrill": main})
}

func workerWithHostsElsewhere() int {
	setLogFormat()
	a := newApp()
	a.newDriver = func(config.Config) (restart.Driver, error) {
		url := os.Getenv(fleetVariable)
		if url == "" {
			return nil, errors.New(fleetVariable + " is not set")
		}
		driver := restart.Driver(fleettest.NewClient(url))
		if os.Getenv(stopVariable) != "" {
			driver = &stopBeforeTrigger{Driver: driver}
		}
		return driver, nil
	}
	return a.run(os.Args[1:])
}

// stopBeforeTrigger stops the whole process between fence and trigger, after the handler's last look at its lease.
type stopBeforeTrigger struct {
	restart.Driver
	stopped bool
}

func (d *stopBeforeTrigger) Restart(ctx context.Context, host restart.Host, from restart.Epoch, within time.Duration) error {
	if !d.stopped {
		d.stopped = true
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			return err
		}
	}
	// The process is on its way to the host now, whatever has happened to its lease: so is this call.
	return d.Driver.Restart(context.WithoutCancel(ctx), host, from, within)
}
