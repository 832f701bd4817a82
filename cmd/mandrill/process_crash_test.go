package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	crashes    = 3 // workers killed in each cell
	crashBatch = 7 // messages that each of them is the first to get
)

// A crashStep is where workers are killed, and what is true then of every message that its worker was the first to get.
type crashStep struct {
	name     string
	boots    int // of its host; either: nobody knows
	outcomes int // on record
}

const either = -1

var crashSteps = []crashStep{
	{stepPulled, 0, 0},
	{stepSaved, either, 0},
	{stepBeforeFence, 0, 0},
	{stepFenced, 0, 0},
	{stepTriggering, either, 0},
	{stepTriggered, 1, 0},
	{stepHostDown, 1, 0},
	{stepHostBack, 1, 0},
	{stepVerified, 1, 0},
	{stepTerminal, 1, 0},
	{stepFinished, 1, 1},
	{stepAcked, 1, 1},
}

// Whatever a worker has done for a message when it is killed, and whoever restarts the host: the host boots once, and
// the request has one outcome. Every worker but the last is killed while it holds messages at the step.
func TestProcess_CrashMatrix(t *testing.T) {
	t.Parallel()
	began := time.Now()
	t.Cleanup(func() { t.Logf("the whole matrix took %s", time.Since(began).Round(time.Second)) })
	t.Run("docker_slow", testOwnContainers)
	t.Run("docker", testSharedContainers)
	for _, kind := range []struct {
		name  string
		hosts func(t *testing.T, s *scene, step string) crashHosts
		steps []crashStep
	}{
		{"command_at_acceptance", lateHosts, []crashStep{
			{stepFenced, 0, 0}, {stepTriggering, either, 0}, {stepTriggered, either, 0}, {stepHostDown, either, 0},
		}},
		{"command", commandHosts, crashSteps},
		{"simulated", simulatedHosts, crashSteps},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			for _, step := range kind.steps {
				t.Run(step.name, func(t *testing.T) {
					t.Parallel()
					s := newScene(t, crashFleet)
					testCrashes(t, s, step, kind.hosts(t, s, step.name))
				})
			}
		})
	}
}

// ownContainers are the steps that want containers of another kind, or after which a trigger is repeated, for which all
// of the engine's delay has to pass. They have containers of their own, and run beside each other.
var ownContainers = map[string]dockertest.Options{
	stepSaved:      {},
	stepFenced:     {},
	stepTriggering: {IgnoresTerm: true},
	stepTerminal:   {ExitsFrom: 2},
}

// testSharedContainers uses the same containers for one step after the other.
func testSharedContainers(t *testing.T) {
	t.Parallel()
	engine := dockertest.Start(t)
	instances := startContainers(t, engine, dockertest.Options{})
	all, steps := containerHosts(engine, instances, time.Second), 0
	for _, step := range crashSteps {
		if _, own := ownContainers[step.name]; own {
			continue
		}
		t.Run(step.name, func(t *testing.T) {
			steps++ // not of those that -run leaves out
			testCrashes(t, newScene(t, crashFleet), step, containerHosts(engine, instances, time.Second))
		})
	}
	for _, instance := range instances {
		if n := all.boots(instance); n != steps {
			t.Errorf("%s: got %d boots in %d steps", instance, n, steps)
		}
	}
}

func testOwnContainers(t *testing.T) {
	t.Parallel()
	engine := dockertest.Start(t)
	for _, step := range crashSteps {
		options, own := ownContainers[step.name]
		if !own {
			continue
		}
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			stopTimeout := time.Second
			if options.IgnoresTerm {
				stopTimeout = 3 * time.Second // so that the next worker has taken over when the restart takes effect
			}
			hosts := containerHosts(engine, startContainers(t, engine, options), stopTimeout)
			testCrashes(t, newScene(t, crashFleet), step, hosts)
		})
	}
}

// testCrashes kills a worker at the step with each batch of requests, and lets the last worker finish them all.
func testCrashes(t *testing.T, s *scene, step crashStep, hosts crashHosts) {
	args := append([]string{
		"--ack-wait", "1s", "--retry-base", "100ms", "--retry-cap", "500ms", "--max-deliveries", "1000",
		"--budget", "1000", "--driver-slots", "1000", "--stop-after", "1000", "--stable-for", "0s", "--probe-timeout", "10m",
		"--probe-interval", "100ms",
	}, hosts.args...)
	if step.name == stepTerminal {
		// A container that exits at once may be seen running, for seconds on a busy machine.
		args = append(args, "--verify-timeout", "10s", "--stable-for", "8s")
	}
	number, holding := 0, append(slices.Clone(hosts.environ), holdVariable+"="+step.name)
	for batch := range slices.Chunk(hosts.instances, crashBatch) {
		number++
		w := s.startWorkerWith(t, fmt.Sprintf("worker %d", number), holding, args...)
		s.publish(t, batch)
		awaitHeld(t, w, batch)
		w.kill(t)
		wantAtCrash(t, s, step, hosts, batch)
	}
	last := s.startWorkerWith(t, "last worker", hosts.environ, args...)
	s.awaitEmpty(t)
	last.stop(t)
	wantAllOnce(t, s, step, hosts)
}

// awaitHeld returns when the worker has said of each instance's message that it is held.
func awaitHeld(t *testing.T, w *process, instances []string) {
	t.Helper()
	w.await(t, fmt.Sprintf("%d messages held", len(instances)), func() bool {
		held := map[restart.Host]bool{}
		for _, line := range w.matching(says(heldAtStep)) {
			held[restart.Host(line.Host)] = true
		}
		return !slices.ContainsFunc(instances, func(instance string) bool { return !held[hostOf(instance)] })
	})
}

// wantAtCrash wants the messages to have come as far as the step, and no further.
func wantAtCrash(t *testing.T, s *scene, step crashStep, hosts crashHosts, batch []string) {
	t.Helper()
	if queued, err := s.queued(t); err != nil || queued < len(batch) && step.name != stepAcked {
		t.Errorf("got %d messages left at the kill, %v, want %d or more", queued, err, len(batch))
	}
	outcomes := outcomesByHost(t, s)
	for _, instance := range batch {
		if n := len(outcomes[hostOf(instance)]); n != step.outcomes {
			t.Errorf("%s: got %d outcomes at the kill, want %d", instance, n, step.outcomes)
		}
		switch step.boots {
		case 0:
			if n := hosts.boots(instance); n != 0 {
				t.Errorf("%s: got %d boots at the kill, want none", instance, n)
			}
		case 1: // it may be on its way
			eventually(t, "boot of "+instance, func() bool { return hosts.boots(instance) >= 1 })
		}
	}
}

// wantAllOnce wants one boot of each host and one outcome of each request.
func wantAllOnce(t *testing.T, s *scene, step crashStep, hosts crashHosts) {
	t.Helper()
	kind, reasons, letters := restart.Restarted, []restart.Reason{restart.ReasonVerified}, 0
	if step.name == stepTerminal {
		// Unconfirmed, if the machine was so busy that nobody has seen the boot in time.
		kind, reasons, letters = restart.Dead, []restart.Reason{restart.ReasonNotReady, restart.ReasonUnconfirmed}, len(hosts.instances)
	}
	if hosts.settled != nil {
		hosts.settled()
	}
	outcomes := outcomesByHost(t, s)
	for _, instance := range hosts.instances {
		eventually(t, "boot of "+instance, func() bool { return hosts.boots(instance) >= 1 }) // a container counts its own, once it runs
		if n := hosts.boots(instance); n != 1 {
			t.Errorf("%s: got %d boots, want 1", instance, n)
		}
		all := outcomes[hostOf(instance)]
		if len(all) != 1 {
			t.Errorf("%s: got %d outcomes, want 1: %+v", instance, len(all), all)
			continue
		}
		if o := all[0]; o.Kind != kind || !slices.Contains(reasons, o.Reason) {
			t.Errorf("%s: got outcome %s (%s: %s), want %s %v", instance, o.Kind, o.Reason, o.Detail, kind, reasons)
		}
	}
	if len(outcomes) != len(hosts.instances) {
		t.Errorf("got outcomes of %d hosts, want %d", len(outcomes), len(hosts.instances))
	}
	info, err := s.streamInfo(t, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(info.State.Msgs); got != letters {
		t.Errorf("got %d dead letters, want %d", got, letters)
	}
}

// outcomesByHost returns every outcome on record; a host of a scene has one request.
func outcomesByHost(t *testing.T, s *scene) map[restart.Host][]restart.Outcome {
	t.Helper()
	found := map[restart.Host][]restart.Outcome{}
	for e, err := range s.open(t).History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Outcome.Kind != "" {
			found[e.Outcome.Host] = append(found[e.Outcome.Host], e.Outcome)
		}
	}
	return found
}
