package main

import (
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// Real containers of a real engine: each boots once more, and one that exits at once is told from one that never booted.
func TestProcess_ContainersAreRestartedOnceAndOneThatExitsAtOnceIsNotReady(t *testing.T) {
	t.Parallel()
	const count = 20
	engine := dockertest.Start(t)
	var all []string
	for range count {
		instance := dockertest.NewName("docker")
		engine.Run(t, string(hostOf(instance)), dockertest.Options{HealthCheck: true})
		all = append(all, instance)
	}
	broken := dockertest.NewName("broken")
	engine.Run(t, string(hostOf(broken)), dockertest.Options{ExitsFrom: 2})
	all = append(all, broken)

	// A busy engine says for a while of a container that exits at once that it runs: stable_for is what finds it out.
	s := newScene(t, simulated.Config{})
	w := s.startWorkerWith(t, "worker", []string{realVariable + "=1"}, "--driver-kind", "docker", "--docker-endpoint", engine.Endpoint(),
		"--docker-stop-timeout", "2s", "--stable-for", "5s", "--verify-timeout", "30s", "--budget", "10")
	s.publish(t, all)
	s.awaitEmpty(t)
	w.stop(t)

	ended := map[restart.Host]restart.Outcome{}
	for _, o := range s.outcomes(t) {
		ended[o.Host] = o
	}
	for _, instance := range all {
		host := hostOf(instance)
		want := restart.ReasonVerified
		if instance == broken {
			want = restart.ReasonNotReady
		}
		if o := ended[host]; o.Reason != want {
			t.Errorf("%s: got outcome %s %s (%s), want %s", host, o.Kind, o.Reason, o.Detail, want)
		}
		if n := engine.Boots(string(host)) - 1; n != 1 { // the first was the test's
			t.Errorf("%s: got %d boots, want 1", host, n)
		}
	}
	if len(ended) != len(all) {
		t.Errorf("got %d hosts with an outcome, want %d", len(ended), len(all))
	}
}
