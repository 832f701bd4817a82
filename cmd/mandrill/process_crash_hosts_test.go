package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// crashHosts are the hosts of one cell of the matrix, and how a worker comes to restart them.
type crashHosts struct {
	instances []string
	boots     func(instance string) int // since the cell began, as the host counted them
	environ   []string
	args      []string
	// settled, unless nil, returns when nothing that was taken can still take effect.
	settled func()
}

// crashFleet is down for long enough that the first probe finds it so.
var crashFleet = simulated.Config{RestartMin: 100 * time.Millisecond, RestartMax: 200 * time.Millisecond}

// simulatedHosts are restarted by the driver of a fleet in the test's process.
func simulatedHosts(t *testing.T, s *scene, step string) crashHosts {
	t.Helper()
	hosts := crashHosts{
		instances: instances("crash", crashes*crashBatch),
		boots:     func(instance string) int { return s.fleet.BootsOf(hostOf(instance)) },
	}
	if step == stepTerminal {
		for _, instance := range hosts.instances {
			s.fleet.ForceBoots(hostOf(instance), simulated.Lapse{For: time.Hour})
		}
	}
	return hosts
}

// commandHosts are the same, restarted by programs that ask the fleet to.
func commandHosts(t *testing.T, s *scene, step string) crashHosts {
	t.Helper()
	hosts := simulatedHosts(t, s, step)
	// A program that has not come to its trigger within the lease restarts nothing, and on a busy machine those of a batch,
	// which begin together, take more than a second.
	return hosts.byCommand(t, s.hosts.URL, "--command-compare", "at_effect", "--ack-wait", "3s")
}

// lateHosts are restarted by programs whose compare holds at acceptance alone: each restart that was taken boots the
// host later, whatever boot is running by then.
func lateHosts(t *testing.T, s *scene, step string) crashHosts {
	t.Helper()
	// The effect comes after a lease of one second has run out and another worker has watched for as long again, and
	// before what the settings say is over.
	const late, maxDelay = 3500 * time.Millisecond, 4 * time.Second
	open := &lateRestarts{fleet: s.fleet, after: late}
	hosts := simulatedHosts(t, s, step)
	hosts.settled = open.wait
	return hosts.byCommand(t, open.start(t),
		"--command-compare", "at_acceptance", "--command-max-delay", maxDelay.String())
}

func (h crashHosts) byCommand(t *testing.T, url string, args ...string) crashHosts {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	list := func(args ...string) string {
		text, err := json.Marshal(append([]string{self, hostProgram, url}, args...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	h.environ = []string{realVariable + "=1"}
	h.args = append([]string{
		"--driver-kind", "command", "--command-probe", list("probe", "{host}"),
		"--command-restart", list("restart", "{host}", "{epoch}", "{within}"),
	}, args...)
	return h
}

// A lateRestarts serves a fleet as fleettest does, and compares before it waits.
type lateRestarts struct {
	fleet *simulated.Fleet
	after time.Duration
	open  sync.WaitGroup
}

func (l *lateRestarts) start(t *testing.T) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	serve := func(pattern string, do func(ctx context.Context, host restart.Host, from restart.Epoch) any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var asked struct {
				Host restart.Host  `json:"host"`
				From restart.Epoch `json:"from"`
			}
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				return // the program was killed
			}
			_ = json.NewEncoder(w).Encode(do(r.Context(), asked.Host, asked.From)) // as above
		})
	}
	serve("POST /probe", func(ctx context.Context, host restart.Host, _ restart.Epoch) any {
		state, err := l.fleet.Probe(ctx, host)
		if err != nil {
			return map[string]string{"error": err.Error()}
		}
		return map[string]restart.State{"state": state}
	})
	serve("POST /restart", func(ctx context.Context, host restart.Host, from restart.Epoch) any {
		switch state, err := l.fleet.Probe(ctx, host); {
		case err != nil:
			return map[string]string{"class": "refused", "error": err.Error()}
		case state.Epoch != from:
			return map[string]string{"class": "changed", "error": "it runs in " + string(state.Epoch)}
		}
		l.open.Add(1)
		time.AfterFunc(l.after, func() { l.fleet.Reboot(host); l.open.Done() })
		return struct{}{}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		l.wait()
	})
	return server.URL
}

func (l *lateRestarts) wait() { l.open.Wait() }

// runHostProgram is the program by which the command driver asks a fleet.
func runHostProgram(url string, args []string) (exit int) {
	client := fleettest.NewClient(url)
	ctx, host := context.Background(), restart.Host(args[1])
	if args[0] == "probe" {
		state, err := client.Probe(ctx, host)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		ready := map[bool]string{true: "yes", false: "no"}[state.Ready]
		fmt.Printf("%s\nsince: %s\nready: %s\n", state.Epoch, state.Since.Format(time.RFC3339Nano), ready)
		return 0
	}
	within, err := time.ParseDuration(args[3] + "s")
	if err == nil {
		err = client.Restart(ctx, restart.Trigger{Host: host, From: restart.Epoch(args[2]), Within: within})
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	switch {
	case errors.Is(err, restart.ErrRefused):
		return 75
	case errors.Is(err, restart.ErrChanged):
		return 76
	case errors.Is(err, restart.ErrPermanent):
		return 78
	}
	return 1
}

// startContainers starts containers to be hosts.
func startContainers(t *testing.T, engine *dockertest.Engine, o dockertest.Options) (instances []string) {
	t.Helper()
	for range crashes * crashBatch {
		instance := dockertest.NewName("crash")
		engine.Run(t, string(hostOf(instance)), o)
		instances = append(instances, instance)
	}
	return instances
}

// containerHosts are containers of a real engine.
func containerHosts(engine *dockertest.Engine, instances []string, stopTimeout time.Duration) crashHosts {
	before := map[string]int{}
	for _, instance := range instances {
		before[instance] = engine.Boots(string(hostOf(instance)))
	}
	return crashHosts{
		instances: instances,
		boots:     func(instance string) int { return engine.Boots(string(hostOf(instance))) - before[instance] },
		environ:   []string{realVariable + "=1"},
		args: []string{
			"--driver-kind", "docker", "--docker-endpoint", engine.Endpoint(), "--docker-stop-timeout", stopTimeout.String(),
		},
	}
}
