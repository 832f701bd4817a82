// Package dockertest gives tests a Docker engine, and containers in it that stand for hosts: each counts its boots
// where the test can read them, and misbehaves on request.
//
// The engine is the one that runs on this machine, or else one of the test's own, which is private and gone with it. No
// registry is asked for anything: the one image is built here, from nothing.
package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/client"
)

// patience bounds everything that an engine is asked to do.
const patience = time.Minute

// An Engine is a Docker engine that has the image of hosts. Its methods may be called from many goroutines at once.
type Engine struct {
	endpoint string
	dir      string  // of everything that is written
	image    string  // of hosts
	daemon   *daemon // nil: somebody else's
	api      *client.Client
}

// Start gives an engine to one test. Where there is none and none can be started, the test is skipped, or fails if the
// environment has MANDRILL_TEST_ALL=1.
func Start(tb testing.TB) *Engine {
	tb.Helper()
	e := mustCreate(tb)
	tb.Cleanup(func() {
		if err := e.remove(); err != nil {
			tb.Errorf("cannot remove the engine: %v", err)
		}
	})
	return e
}

// StartApart gives one test an engine of its own, whatever else runs, in a network of its own: containers of one network
// reach each other there, whatever the machine's firewall says of forwarding, and reach nothing else.
func StartApart(tb testing.TB) *Engine {
	tb.Helper()
	program, err := findDaemon()
	var missing *missingError
	if errors.As(err, &missing) && os.Getenv("MANDRILL_TEST_ALL") != "1" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dockertest-")
	if err != nil {
		tb.Fatal(err)
	}
	e := &Engine{dir: dir, image: "dockertest-" + uuid.NewString()}
	tb.Cleanup(func() {
		if err := e.remove(); err != nil {
			tb.Errorf("cannot remove the engine: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.start(ctx, program, apart()); err != nil {
		tb.Fatal(err)
	}
	return e
}

// Endpoint is where the engine listens, as the environment's DOCKER_HOST has it.
func (e *Engine) Endpoint() string { return e.endpoint }

// API returns a client of the engine, for what else a test does to it. It is closed with the engine.
func (e *Engine) API() *client.Client { return e.api }

func mustCreate(tb testing.TB) *Engine {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e, err := create(ctx)
	var missing *missingError
	if errors.As(err, &missing) && os.Getenv("MANDRILL_TEST_ALL") != "1" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// A missingError says that this machine has no engine.
type missingError struct{ reason string }

func (e *missingError) Error() string { return "no Docker engine: " + e.reason }

func create(ctx context.Context) (*Engine, error) {
	dir, err := os.MkdirTemp("", "dockertest-")
	if err != nil {
		return nil, err
	}
	e := &Engine{dir: dir, image: "dockertest-" + uuid.NewString()}
	if err := e.connect(ctx); err != nil {
		return nil, errors.Join(err, e.remove())
	}
	if err := e.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot build the image of hosts: %w", err), e.remove())
	}
	return e, nil
}

// connect finds the engine that is running, or starts one. An engine of another machine does not do: it could not share
// a folder with the test.
func (e *Engine) connect(ctx context.Context) error {
	e.endpoint = os.Getenv(client.EnvOverrideHost)
	if !strings.HasPrefix(e.endpoint, "unix://") {
		e.endpoint = client.DefaultDockerHost
	}
	if err := e.ping(ctx); err == nil {
		return nil
	}
	program, err := findDaemon()
	if err != nil {
		return err
	}
	return e.start(ctx, program, endsWithParent())
}

// start starts an engine of the test's own.
func (e *Engine) start(ctx context.Context, program string, attributes *syscall.SysProcAttr) (err error) {
	e.endpoint = "unix://" + filepath.Join(e.dir, "docker.sock")
	if e.daemon, err = startDaemon(program, e.dir, e.endpoint, attributes); err != nil {
		return fmt.Errorf("cannot start a Docker engine: %w", err)
	}
	for {
		err := e.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-e.daemon.ended:
			return fmt.Errorf("the Docker engine ended: %w\n%s", e.daemon.err, e.daemon.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("the Docker engine does not answer: %w\n%s", err, e.daemon.lastWords())
		case <-time.After(pollEvery):
		}
	}
}

// ping connects to the endpoint.
func (e *Engine) ping(ctx context.Context) error {
	api, err := client.New(client.WithHost(e.endpoint))
	if err != nil {
		return err
	}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return errors.Join(err, api.Close())
	}
	e.api = api
	return nil
}

// remove undoes whatever has been done so far.
func (e *Engine) remove() error {
	var errs []error
	if e.api != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		errs = append(errs, e.removeImage(ctx), e.api.Close())
	}
	if e.daemon != nil {
		errs = append(errs, e.daemon.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}
