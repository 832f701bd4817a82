package webhook_test

import (
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

func TestDriver_KeepsTheContract(t *testing.T) {
	restarttest.Run(t, func(t *testing.T) restarttest.Subject {
		s := newSite(t)
		server := httptest.NewServer(s.handler())
		t.Cleanup(server.Close)
		force := func(fate simulated.Fate) func() { return func() { s.fleet.Force(host, fate) } }
		nextBootIsUnready := func(from, to time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.unready = unready{s.fleet.BootsOf(host) + 1, from, to}
		}
		return restarttest.Subject{
			Driver:     newDriver(t, server.URL, nil),
			Host:       host,
			Boots:      func() int { return s.fleet.BootsOf(host) },
			Late:       maxDelay,
			Reboot:     func() { s.fleet.Reboot(host) },
			RefuseNext: force(simulated.Fate{Answer: simulated.Refused}),
			ForbidNext: force(simulated.Fate{Answer: simulated.Permanent}),
			LoseNext:   force(simulated.Fate{Answer: simulated.Lost}),
			HangNext:   force(simulated.Fate{Answer: simulated.Hangs, Ignored: true}),
			IgnoreNext: force(simulated.Fate{Ignored: true}),
			DelayNext:  func(d time.Duration) { s.fleet.Force(host, simulated.Fate{Late: d}) },
			FailProbes: func(n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.failProbes = n
			},
			HangProbe: func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.hangProbe = true
			},
			UnreadyNext: func(d time.Duration) { nextBootIsUnready(0, d) },
			FlapNext:    func(d time.Duration) { nextBootIsUnready(d, 2*d) },
		}
	})
}

// The compare alone would let a trigger in twice while its effect is yet to come.
func TestDriver_RepetitionIsKnownAgainByTheServerWhicheverAttemptItIs(t *testing.T) {
	s := newSite(t)
	s.remember = time.Hour
	d := serve(t, s.handler())
	s.fleet.Force(host, simulated.Fate{Late: time.Hour})
	first := trigger()
	first.From, first.Within = "1", time.Hour
	var wg sync.WaitGroup
	for n := 1; n <= 8; n++ {
		wg.Go(func() {
			again := first
			again.Attempt = n
			if err := d.Restart(t.Context(), again); err != nil {
				t.Errorf("attempt %d: got %v, want it taken", n, err)
			}
		})
	}
	wg.Wait()
	if got := s.fleet.CountsOf(host).Calls; got != 1 {
		t.Errorf("calls that reached the host: got %d, want 1 of 8", got)
	}
}
