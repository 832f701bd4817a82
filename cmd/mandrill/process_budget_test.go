package main

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// do runs a verb against the scene's server, and returns what it printed.
func (s *scene) do(t *testing.T, args ...string) string {
	t.Helper()
	p := run(t, args[0], nil, "", append(args, "--nats", s.url)...)
	p.wantExit(t, exitDone)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// mostDownAtOnce returns how many of the hosts were down together at most. Each has booted once and was down for that
// long; when it began, the host itself says, so no moment is missed.
func (s *scene) mostDownAtOnce(t *testing.T, instances []string, down time.Duration) (most int) {
	t.Helper()
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	for _, instance := range instances {
		state, err := s.fleet.Probe(t.Context(), hostOf(instance))
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, change{state.Since, +1}, change{state.Since.Add(down), -1})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by)) })
	now := 0
	for _, c := range changes {
		now += c.by
		most = max(most, now)
	}
	return most
}

// A budget is the fleet's: three workers share it, whatever each has in its configuration, and so does the work of one
// that dies with hosts down.
func TestProcess_BudgetIsNeverExceededAtTheHosts(t *testing.T) {
	t.Parallel()
	const (
		count  = 200
		budget = 5
		down   = 200 * time.Millisecond
	)
	s := newScene(t, simulated.Config{RestartMin: down, RestartMax: down})
	s.usePostgres(t)
	args := []string{"--ack-wait", "2s", "--budget", "100"}
	first := s.startWorker(t, "first worker", args...)
	if text := s.do(t, "budget", "default", "5"); !strings.Contains(text, "budget 5 ") {
		t.Errorf("budget printed %q", text)
	}
	second, third := s.startWorker(t, "second worker", args...), s.startWorker(t, "third worker", args...)
	hosts := instances("budget", count)
	s.publish(t, hosts)
	s.awaitBoots(t, count/2)
	first.kill(t)

	s.awaitEmpty(t)
	second.stop(t)
	third.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	if most := s.mostDownAtOnce(t, hosts, down); most != budget {
		t.Errorf("%d hosts were down at once, want the budget, %d, and no more", most, budget)
	}
}

// bucket is the control bucket, which the first worker has created.
func (s *scene) bucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	kv, err := s.js.KeyValue(t.Context(), stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// pauses returns what holds the group back now, by cause.
func (s *scene) pauses(t *testing.T) map[control.Cause]control.Pause {
	t.Helper()
	state, err := control.Read(t.Context(), s.bucket(t), restart.DefaultGroup)
	if err != nil {
		t.Fatal(err)
	}
	found := map[control.Cause]control.Pause{}
	for _, p := range state.InForce(time.Now()) {
		found[p.Cause] = p
	}
	return found
}

// awaitPaused waits until the consumer hands nothing out, or does again.
func (s *scene) awaitPaused(t *testing.T, want bool) {
	t.Helper()
	eventually(t, "the consumer is paused, or is not any more", func() bool {
		c, err := s.consumerInfo(t)
		return err == nil && c.Paused == want
	})
}

// The image is bad: no host comes back. It must not take the fleet down one budget at a time.
func TestProcess_BudgetAndBreakerKeepABadImageFromTheRestOfTheFleet(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mood   mood
		reason restart.Reason
	}{
		{"NeverReady", unready, restart.ReasonNotReady},
		{"NeverAnswer", mute, restart.ReasonUnconfirmed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const (
				count     = 60
				budget    = 5
				stopAfter = 3
			)
			s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
			s.usePostgres(t)
			moods := s.makeMoody(t, tt.mood)
			var workers []*process
			for _, name := range []string{"first worker", "second worker", "third worker"} {
				workers = append(workers, s.startWorker(t, name, "--budget", "5", "--stop-after", "3", "--verify-timeout", "2s"))
			}
			hosts := instances("bad", count)
			s.publish(t, hosts)

			eventually(t, "the breaker", func() bool { return s.pauses(t)[control.ByBreaker].Why != "" })
			s.awaitPaused(t, true)
			eventually(t, "a dead letter for each host that is down", func() bool {
				letters, err := s.streamInfo(t, stream.Dead)
				return err == nil && int(letters.State.Msgs) == s.fleet.Boots()
			})
			fallen := s.fleet.Boots() // none of which has come back
			t.Logf("%d hosts are down: %s", fallen, s.pauses(t)[control.ByBreaker].Why)
			if fallen < budget || fallen > budget+stopAfter {
				t.Errorf("%d hosts are down, want %d to %d", fallen, budget, budget+stopAfter)
			}
			if why := s.pauses(t)[control.ByBreaker].Why; !strings.Contains(why, "did not come back") || !strings.Contains(why, string(tt.reason)) {
				t.Errorf("the group is paused because %q, which does not say why", why)
			}
			time.Sleep(4 * time.Second) // the pause itself, which is longer than a host has to come back
			if n := s.fleet.Boots(); n != fallen {
				t.Errorf("%d hosts more went down while the group was paused", n-fallen)
			}
			if queued, err := s.queued(t); err != nil || queued != count-fallen {
				t.Errorf("got %d messages queued, %v, want %d", queued, err, count-fallen)
			}

			moods.setMood(answering)
			if text := s.do(t, "resume", "default"); !strings.Contains(text, "lifted\tbreaker") {
				t.Errorf("resume printed %q", text)
			}
			s.awaitEmpty(t)
			for _, w := range workers {
				w.stop(t)
			}
			s.wantBad(t, hosts, fallen, tt.reason)
		})
	}
}

// wantBad wants one boot of each host and one outcome of each request: of that many dead for the reason, and of the
// others restarted.
func (s *scene) wantBad(t *testing.T, hosts []string, dead int, reason restart.Reason) {
	t.Helper()
	for _, instance := range hosts {
		if n := s.fleet.BootsOf(hostOf(instance)); n != 1 {
			t.Errorf("%s: got %d boots, want 1", instance, n)
		}
	}
	ended := map[restart.Reason]int{}
	for _, o := range s.outcomes(t) {
		ended[o.Reason]++
	}
	if ended[reason] != dead || ended[restart.ReasonVerified] != len(hosts)-dead {
		t.Errorf("got outcomes %v, want %d %s and %d verified", ended, dead, reason, len(hosts)-dead)
	}
	for request, n := range s.saved(t) {
		if n != 1 {
			t.Errorf("request %s is on record %d times", request, n)
		}
	}
}
