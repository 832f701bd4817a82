package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
)

// The test binary is also the program, and a worker whose hosts live in the test's process, where they survive it.
const (
	roleVariable        = "MANDRILL_TEST_ROLE"         // "worker": be the program, with hosts elsewhere
	fleetVariable       = "MANDRILL_TEST_FLEET"        // where the hosts are
	stopVariable        = "MANDRILL_TEST_STOP_TRIGGER" // if set, the process stops itself (SIGSTOP) right before its first trigger
	stopPublishVariable = "MANDRILL_TEST_STOP_PUBLISH" // the same right before it publishes a campaign's requests for that time
	realVariable        = "MANDRILL_TEST_REAL_DRIVER"  // if set, the worker's driver is the configured one
)

// hostProgram, as the first argument, makes the test binary a program that probes or restarts a host.
const hostProgram = "as-host-program"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == hostProgram {
		// Not os.Exit, which waits for a second under the race detector.
		syscall.Exit(runHostProgram(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 2 && os.Args[1] == clusterNode {
		os.Exit(runClusterNode(os.Args[2]))
	}
	if len(os.Args) > 2 && os.Args[1] == natsServer {
		os.Exit(runNATSServer(os.Args[2]))
	}
	if os.Getenv(roleVariable) == "worker" {
		os.Exit(workerWithHostsElsewhere())
	}
	testscript.Main(leakTest{m}, map[string]func(){"mandrill": main})
}

// leakTest runs the tests, and fails when goroutines are left after them. It is not asked in the process that is the
// program, whose flags are not the tests'.
type leakTest struct{ *testing.M }

func (m leakTest) Run() int {
	// Tests of processes wait more than they compute, so more of them at a time than there are processors is fine.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set("6"); err != nil {
			panic(err)
		}
	}
	code := m.M.Run()
	if code == 0 {
		// nats.go forgets this one of its own goroutines, for ever, where a publisher is cleaned up before the goroutine
		// has run for the first time, as a verb that publishes one request may do.
		forgotten := goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
		if err := goleak.Find(forgotten); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func workerWithHostsElsewhere() int {
	setLogFormat()
	a := newApp()
	if step := os.Getenv(holdVariable); step != "" {
		a.between = newHolder(step).seams()
	}
	if n, err := strconv.Atoi(os.Getenv(stopPublishVariable)); err == nil {
		a.between.requests = func(r campaign.Requests) campaign.Requests { return &stopBeforePublish{Requests: r, left: n} }
	}
	if os.Getenv(realVariable) != "" {
		return a.run(os.Args[1:])
	}
	a.newDriver = func(config.Config, restart.Group) (restart.Driver, error) {
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

func (d *stopBeforeTrigger) Restart(ctx context.Context, t restart.Trigger) error {
	if !d.stopped {
		d.stopped = true
		if err := stopSelf(); err != nil {
			return err
		}
	}
	// The process is on its way to the host now, whatever has happened to its lease: so is this call.
	return d.Driver.Restart(context.WithoutCancel(ctx), t)
}

// stopSelf stops the process, and returns when it has been continued.
func stopSelf() error {
	// The kernel may let this thread run on for a moment after it has stopped the process.
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCONT)
	defer signal.Stop(woken)
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	<-woken
	return nil
}

// stopBeforePublish stops the whole process right before requests of a campaign are published, after they were written
// down.
type stopBeforePublish struct {
	campaign.Requests
	left int // until it does
}

func (r *stopBeforePublish) Publish(ctx context.Context, requests []restart.Request) []campaign.Sent {
	if r.left--; r.left == 0 {
		if err := stopSelf(); err != nil {
			return make([]campaign.Sent, len(requests))
		}
	}
	// They are on their way now, whatever has happened to the lease.
	return r.Requests.Publish(context.WithoutCancel(ctx), requests)
}
