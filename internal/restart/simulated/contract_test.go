package simulated_test

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host restart.Host = "cattle-a1b2.example.net"

func TestFleet_KeepsTheContract(t *testing.T) {
	t.Run("Healthy", func(t *testing.T) { testContract(t, simulated.Config{}) })
	t.Run("SlowFlappingAndHardToProbe", func(t *testing.T) {
		testContract(t, simulated.Config{Seed: 3, SlowRate: 1, SlowFactor: 3, FlapRate: 0.5, ProbeFailureRate: 0.5})
	})
}

func testContract(t *testing.T, cfg simulated.Config) {
	restarttest.RunInBubble(t, func(t *testing.T) restarttest.Subject {
		f := newFleet(t, cfg)
		force := func(fate simulated.Fate) func() { return func() { f.Force(host, fate) } }
		return restarttest.Subject{
			Driver:     f,
			Host:       host,
			Boots:      func() int { return f.BootsOf(host) },
			Reboot:     func() { f.Reboot(host) },
			RefuseNext: force(simulated.Fate{Answer: simulated.Refused}),
			ForbidNext: force(simulated.Fate{Answer: simulated.Permanent}),
			LoseNext:   force(simulated.Fate{Answer: simulated.Lost}),
			HangNext:   force(simulated.Fate{Answer: simulated.Hangs, Ignored: true}),
			DelayNext:  func(d time.Duration) { f.Force(host, simulated.Fate{Late: d}) },
			IgnoreNext: force(simulated.Fate{Ignored: true}),

			FailProbes:  func(n int) { f.ForceProbes(host, slices.Repeat([]simulated.ProbeFault{simulated.ProbeFails}, n)...) },
			HangProbe:   func() { f.ForceProbes(host, simulated.ProbeHangs) },
			UnreadyNext: func(d time.Duration) { f.ForceBoots(host, simulated.Lapse{For: d}) },
			FlapNext:    func(d time.Duration) { f.ForceBoots(host, simulated.Lapse{After: d, For: d}) },
		}
	})
}

func newFleet(t testing.TB, cfg simulated.Config) *simulated.Fleet {
	t.Helper()
	f, err := simulated.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
