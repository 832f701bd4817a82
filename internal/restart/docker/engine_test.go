package docker_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
)

// childEnv tells the test binary to be a worker that restarts the host it names, and epochEnv and endpointEnv how.
const (
	childEnv    = "MANDRILL_TEST_DOCKER_CHILD"
	epochEnv    = "MANDRILL_TEST_DOCKER_EPOCH"
	endpointEnv = "MANDRILL_TEST_DOCKER_ENDPOINT"
)

// A realHost is one in a real engine, with a driver of that engine.
type realHost struct {
	*dockertest.Engine
	driver *docker.Driver
	id     string // of the container
	name   string
}

func startReal(t *testing.T, o dockertest.Options, cfg docker.Config) *realHost {
	t.Helper()
	h := &realHost{Engine: shared.Engine(t), name: dockertest.NewName("host")}
	h.id = h.Run(t, h.name, o)
	cfg.Endpoint = h.Endpoint()
	h.driver = newDriver(t, cfg)
	return h
}

func (h *realHost) probe(t *testing.T) restart.State {
	t.Helper()
	state, err := h.driver.Probe(t.Context(), restart.Host(h.name))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (h *realHost) await(t *testing.T, what string, is func(restart.State) bool) restart.State {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		state := h.probe(t)
		if is(state) {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("host %q is not %s after %s: %+v", h.name, what, patience, state)
		}
	}
}

func (h *realHost) trigger(from restart.Epoch) restart.Trigger {
	t := trigger(from)
	t.Host = restart.Host(h.name)
	return t
}

func (h *realHost) restart(t *testing.T, from restart.Epoch) error {
	t.Helper()
	return h.driver.Restart(t.Context(), h.trigger(from))
}

func (h *realHost) wantBoots(t *testing.T, want int) {
	t.Helper()
	if got := h.Boots(h.name); got != want {
		t.Errorf("boots of the host: got %d, want %d", got, want)
	}
}

func TestRealEngine_HostThatIgnoresTheSignalIsKilledAfterTheStopTimeout(t *testing.T) {
	const stopTimeout = 2 * time.Second
	h := startReal(t, dockertest.Options{IgnoresTerm: true}, docker.Config{StopTimeout: stopTimeout})
	former, called := h.probe(t).Epoch, time.Now()
	if err := h.restart(t, former); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(called); took < stopTimeout || took > h.driver.Traits().MaxDelay {
		t.Errorf("the restart took %s, want more than %s and less than %s", took, stopTimeout, h.driver.Traits().MaxDelay)
	}
	h.AwaitBoots(t, h.name, 2)
	if now := h.probe(t); now.Epoch == former {
		t.Errorf("epoch: got %q as before", now.Epoch)
	}
}

// A bad image is "restarted, and never ready": if the probe failed instead, or told of the former boot, it would be
// restarted again and again.
func TestRealEngine_HostThatExitsAtOnceIsAnotherBootNotReady(t *testing.T) {
	h := startReal(t, dockertest.Options{ExitsFrom: 2}, docker.Config{})
	former := h.probe(t)
	if err := h.restart(t, former.Epoch); err != nil {
		t.Fatal(err)
	}
	h.AwaitBoots(t, h.name, 2)
	now := h.await(t, "down", func(s restart.State) bool { return !s.Ready })
	if now.Epoch == former.Epoch || !now.Since.After(former.Since) {
		t.Errorf("got %+v, want another boot than %+v", now, former)
	}
	wantClass(t, h.restart(t, former.Epoch), restart.ErrChanged)
	h.wantBoots(t, 2)
}

func TestRealEngine_StoppedHostKeepsItsEpochAndIsStarted(t *testing.T) {
	h := startReal(t, dockertest.Options{HealthCheck: true}, docker.Config{})
	former := h.probe(t)
	if _, err := h.API().ContainerStop(t.Context(), h.id, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	if now := h.probe(t); now.Epoch != former.Epoch || now.Ready {
		t.Errorf("stopped: got %+v, want epoch %q, not ready", now, former.Epoch)
	}
	if err := h.restart(t, former.Epoch); err != nil {
		t.Fatal(err)
	}
	h.await(t, "up again", func(s restart.State) bool { return s.Ready && s.Epoch != former.Epoch })
	h.wantBoots(t, 2)
}

func TestRealEngine_HostIsNotReadyWhileItsHealthCheckFails(t *testing.T) {
	h := startReal(t, dockertest.Options{NeverReady: true}, docker.Config{})
	if err := h.restart(t, h.probe(t).Epoch); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found, err := h.API().ContainerInspect(t.Context(), h.id, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if state := h.probe(t); state.Ready {
			t.Fatalf("got %+v, want it not ready", state)
		}
		if found.Container.State.Health.Status == container.Unhealthy {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the engine has not run the health check after %s: %+v", patience, found.Container.State.Health)
		}
	}
}

func TestRealEngine_HostIsFoundByItsLabel(t *testing.T) {
	const label = "com.example.mandrill-host"
	name := dockertest.NewName("labelled") + ".example.net"
	h := startReal(t, dockertest.Options{Labels: map[string]string{label: name}, HealthCheck: true}, docker.Config{Label: label})
	container := h.name
	h.name = name
	former := h.probe(t).Epoch
	if err := h.restart(t, former); err != nil {
		t.Fatal(err)
	}
	h.await(t, "up again", func(s restart.State) bool { return s.Ready && s.Epoch != former })
	h.name = container // which it counts by
	h.wantBoots(t, 2)
	_, err := h.driver.Probe(t.Context(), restart.Host(container))
	wantClass(t, err, restart.ErrPermanent)
}

func TestRealEngine_BeginningOfAnIDIsNoName(t *testing.T) {
	h := startReal(t, dockertest.Options{}, docker.Config{})
	epoch := h.probe(t).Epoch
	for _, name := range []string{h.id, h.id[:12]} {
		if _, err := h.API().ContainerInspect(t.Context(), name, client.ContainerInspectOptions{}); err != nil {
			t.Fatalf("the engine does not take %q for the container: %v", name, err)
		}
		_, err := h.driver.Probe(t.Context(), restart.Host(name))
		wantClass(t, err, restart.ErrPermanent)
		by := h.trigger(epoch)
		by.Host = restart.Host(name)
		wantClass(t, h.driver.Restart(t.Context(), by), restart.ErrPermanent)
	}
	if now := h.probe(t).Epoch; now != epoch {
		t.Errorf("epoch: got %q, want %q as before", now, epoch)
	}
}

func TestRealEngine_HostThatIsGoneIsPermanentAndMadeAnewIsChanged(t *testing.T) {
	h := startReal(t, dockertest.Options{}, docker.Config{})
	former := h.probe(t).Epoch
	if _, err := h.API().ContainerRename(t.Context(), h.id, client.ContainerRenameOptions{NewName: h.name + "-old"}); err != nil {
		t.Fatal(err)
	}
	_, err := h.driver.Probe(t.Context(), restart.Host(h.name))
	wantClass(t, err, restart.ErrPermanent)
	wantClass(t, h.restart(t, former), restart.ErrPermanent)

	h.Run(t, h.name, dockertest.Options{})
	wantClass(t, h.restart(t, former), restart.ErrChanged)
}

// Whoever asked may be cancelled or die while the container takes its time to end. The engine goes on: the answer is
// unknown, and the restart happens once.
func TestRealEngine_FinishesTheRestartOfWhoeverIsGone(t *testing.T) {
	if name := os.Getenv(childEnv); name != "" {
		d := newDriver(t, docker.Config{Endpoint: os.Getenv(endpointEnv), StopTimeout: 2 * time.Second})
		by := trigger(restart.Epoch(os.Getenv(epochEnv)))
		by.Host = restart.Host(name)
		t.Fatal(d.Restart(t.Context(), by))
	}
	for name, restartAndGo := range map[string]func(*testing.T, *realHost, restart.Epoch){
		"Cancelled": cancelInTheMiddle,
		"Killed":    killInTheMiddle,
	} {
		t.Run(name, func(t *testing.T) {
			h := startReal(t, dockertest.Options{IgnoresTerm: true}, docker.Config{StopTimeout: 2 * time.Second})
			former := h.probe(t).Epoch
			restartAndGo(t, h, former)
			if now := h.probe(t).Epoch; now != former {
				t.Fatalf("epoch: got %q, want %q, or this proves nothing", now, former)
			}
			h.await(t, "in another boot", func(s restart.State) bool { return s.Ready && s.Epoch != former })
			h.AwaitBoots(t, h.name, 2)
			wantClass(t, h.restart(t, former), restart.ErrChanged)
			h.wantBoots(t, 2)
		})
	}
}

func cancelInTheMiddle(t *testing.T, h *realHost, from restart.Epoch) {
	ctx, cancel := context.WithCancelCause(t.Context())
	answer := make(chan error)
	go func() { answer <- h.driver.Restart(ctx, h.trigger(from)) }()
	h.AwaitAsked(t, h.name)
	cancel(errLease)
	err := <-answer
	wantClass(t, err, nil)
	if !errors.Is(err, errLease) {
		t.Errorf("got %v, want %v", err, errLease)
	}
}

func killInTheMiddle(t *testing.T, h *realHost, from restart.Epoch) {
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealEngine_FinishesTheRestartOfWhoeverIsGone$")
	child.Env = append(os.Environ(), childEnv+"="+h.name, epochEnv+"="+string(from), endpointEnv+"="+h.Endpoint())
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	h.AwaitAsked(t, h.name)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says that it was killed
}
