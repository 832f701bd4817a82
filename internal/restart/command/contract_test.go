package command

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

func TestDriver_KeepsTheContract(t *testing.T) {
	t.Run("CompareAtEffect", func(t *testing.T) {
		t.Parallel()
		testContract(t, Config{Compare: restart.CompareAtEffect})
	})
	t.Run("CompareAtAcceptance", func(t *testing.T) {
		t.Parallel()
		testContract(t, Config{Compare: restart.CompareAtAcceptance, MaxDelay: time.Minute})
	})
}

func testContract(t *testing.T, cfg Config) {
	restarttest.Run(t, func(t *testing.T) restarttest.Subject {
		h := newSimulatedHost(t)
		url := serve(t, h.answer)
		cfg.Probe = askTest(url, "probe", "{host}")
		cfg.Restart = askTest(url, "restart", "{host}", "{epoch}", "{within}")
		force := func(fate simulated.Fate) func() { return func() { h.fleet.Force(host, fate) } }
		return restarttest.Subject{
			Driver:     newDriver(t, cfg),
			Host:       host,
			Boots:      func() int { return h.fleet.BootsOf(host) },
			Reboot:     func() { h.fleet.Reboot(host) },
			RefuseNext: force(simulated.Fate{Answer: simulated.Refused}),
			ForbidNext: force(simulated.Fate{Answer: simulated.Permanent}),
			LoseNext:   force(simulated.Fate{Answer: simulated.Lost}),
			HangNext:   force(simulated.Fate{Answer: simulated.Hangs, Ignored: true}),
			DelayNext:  func(d time.Duration) { h.fleet.Force(host, simulated.Fate{Late: d}) },
			IgnoreNext: force(simulated.Fate{Ignored: true}),
			FailProbes: func(n int) { h.set(func() { h.failing = n }) },
			HangProbe:  func() { h.set(func() { h.hangs = true }) },
			UnreadyNext: func(d time.Duration) {
				h.nextBoot(func(age time.Duration) bool { return age >= d })
			},
			FlapNext: func(d time.Duration) {
				h.nextBoot(func(age time.Duration) bool { return age < d || age >= 2*d })
			},
		}
	})
}

// A simulatedHost decides, for programs that were run for it, what they print and how they exit.
type simulatedHost struct {
	fleet *simulated.Fleet

	mu      sync.Mutex // guards what follows
	failing int        // how many of the next probes fail
	hangs   bool       // whether the next probe does
	boots   int        // from this boot on, ready says by the boot's age whether the host is
	ready   func(age time.Duration) bool
}

func newSimulatedHost(t *testing.T) *simulatedHost {
	t.Helper()
	f, err := simulated.New(simulated.Config{RestartMax: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return &simulatedHost{fleet: f}
}

func (h *simulatedHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *simulatedHost) nextBoot(ready func(age time.Duration) bool) {
	h.set(func() { h.boots, h.ready = h.fleet.BootsOf(host)+1, ready })
}

func (h *simulatedHost) answer(ctx context.Context, c call) answer {
	name := restart.Host(c.Args[1])
	if c.Args[0] == "probe" {
		return h.probe(ctx, name)
	}
	within, err := time.ParseDuration(c.Args[3] + "s")
	if err != nil {
		return answer{Exit: exitPermanent, Stderr: err.Error()}
	}
	answered, err := h.fleet.Deliver(name, restart.Epoch(c.Args[2]), within)
	if !answered {
		<-ctx.Done()
	}
	switch {
	case err == nil:
		return answer{Exit: exitTaken}
	case errors.Is(err, restart.ErrRefused):
		return answer{Exit: exitRefused, Stderr: err.Error()}
	case errors.Is(err, restart.ErrChanged):
		return answer{Exit: exitChanged, Stderr: err.Error()}
	case errors.Is(err, restart.ErrPermanent):
		return answer{Exit: exitPermanent, Stderr: err.Error()}
	}
	return answer{Exit: 1, Stderr: err.Error()}
}

func (h *simulatedHost) probe(ctx context.Context, name restart.Host) answer {
	var fails, hangs bool
	h.set(func() {
		fails, hangs = h.failing > 0, h.hangs
		h.failing, h.hangs = max(0, h.failing-1), false
	})
	if hangs {
		<-ctx.Done()
	}
	state, err := h.fleet.Probe(ctx, name)
	if fails || err != nil {
		return answer{Exit: 1, Stderr: "no route to host\n"}
	}
	h.set(func() {
		if h.ready != nil && h.fleet.BootsOf(name) >= h.boots {
			state.Ready = h.ready(time.Since(state.Since))
		}
	})
	printed := string(state.Epoch) + "\nsince: " + state.Since.Format(time.RFC3339Nano) + "\n"
	if !state.Ready {
		printed += "ready: no\n"
	}
	return answer{Stdout: printed}
}
