package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// pause pauses the group by hand, and returns when that is stored.
func (s *scene) pause(t *testing.T) {
	t.Helper()
	_, err := control.Put(t.Context(), s.bucket(t), control.Pause{
		Group: restart.DefaultGroup, Cause: control.ByHand, Since: time.Now().UTC(), By: "ann", Why: "a release",
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lift takes the pause away, and returns when it did.
func (s *scene) lift(t *testing.T) time.Time {
	t.Helper()
	lifted := time.Now()
	if err := control.Lift(t.Context(), s.bucket(t), restart.DefaultGroup, control.ByHand); err != nil {
		t.Fatal(err)
	}
	return lifted
}

// wantBootedSince wants the hosts to have booted, and none before that.
func (s *scene) wantBootedSince(t *testing.T, since time.Time, hosts []string) {
	t.Helper()
	for _, instance := range hosts {
		state, err := s.fleet.Probe(t.Context(), hostOf(instance))
		if err != nil {
			t.Fatal(err)
		}
		if state.Since.Before(since) {
			t.Errorf("%s was restarted %s before it was allowed", instance, since.Sub(state.Since))
		}
	}
}

// replaceConsumer deletes the group's consumer, and returns the one that a worker has created in its place.
func (s *scene) replaceConsumer(t *testing.T) *jetstream.ConsumerInfo {
	t.Helper()
	var before, after *jetstream.ConsumerInfo
	var err error
	eventually(t, "somebody who pulls", func() bool {
		before, err = s.consumerInfo(t)
		return err == nil && before.NumWaiting > 0
	})
	if err := s.js.DeleteConsumer(t.Context(), stream.Work, before.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another consumer", func() bool {
		after, err = s.consumerInfo(t)
		return err == nil && after.Created.After(before.Created)
	})
	return after
}

// The bucket is the truth, and the consumer only follows it: whatever becomes of the consumer, a paused group stays so.
func TestProcess_ControlPauseOutlivesItsConsumer(t *testing.T) {
	t.Parallel()
	const count = 20
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	w := s.startWorker(t, "worker", "--retry-base", "10ms", "--retry-cap", "10ms", "--max-deliveries", "1000000")
	s.pause(t)
	s.awaitPaused(t, true)
	hosts := instances("paused", count)
	s.publish(t, hosts)

	if c := s.replaceConsumer(t); !c.Paused {
		t.Error("the consumer came back, and hands out")
	}
	// Somebody who knows NATS and not Mandrill lets the consumer go on: the gates hold what it hands out.
	if _, err := s.js.ResumeConsumer(t.Context(), stream.Work, stream.ConsumerName(restart.DefaultGroup)); err != nil {
		t.Fatal(err)
	}
	held := func(l logLine) bool {
		return l.Message == "settled" && l.Fate == "retried" && strings.Contains(l.Error, "held back by pause") && strings.Contains(l.Error, "a release")
	}
	w.await(t, "messages that were held back", func() bool { return len(w.matching(held)) >= 3*count })
	s.awaitPaused(t, true)
	if n := s.fleet.Boots(); n != 0 {
		t.Errorf("%d hosts were restarted under a pause", n)
	}

	lifted := s.lift(t)
	s.awaitEmpty(t)
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	s.wantBootedSince(t, lifted, hosts)
}

// The fear: a paused group begins to restart because the server was killed, or all workers were replaced, at night.
func TestProcess_ControlPauseOutlivesServerAndWorkers(t *testing.T) {
	t.Parallel()
	const count = 20
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	first := s.startWorker(t, "first worker")
	s.pause(t)
	s.awaitPaused(t, true)
	hosts := instances("paused", count)
	s.publish(t, hosts)

	s.server.kill(t)
	s.startServer(t)
	first.stop(t)
	second := s.startWorker(t, "second worker")
	s.server.stop(t)
	s.startServer(t)
	eventually(t, "the test's own connection", func() bool { _, err := s.consumerInfo(t); return err == nil })
	s.awaitAgreed(t)
	s.awaitPaused(t, true)
	if n := s.fleet.Boots(); n != 0 {
		t.Errorf("%d hosts were restarted under a pause", n)
	}
	lifted := s.lift(t)
	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	s.wantBootedSince(t, lifted, hosts)
}

// A worker that starts under a pause knows of it before its first message.
func TestProcess_ControlPauseHoldsAWorkerThatStartsUnderIt(t *testing.T) {
	t.Parallel()
	const count = 20
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	s.startWorker(t, "first worker").stop(t)
	s.pause(t)
	if err := s.js.DeleteConsumer(t.Context(), stream.Work, stream.ConsumerName(restart.DefaultGroup)); err != nil {
		t.Fatal(err)
	}
	hosts := instances("paused", count)
	s.publish(t, hosts)
	second := s.startWorker(t, "second worker")
	c, err := s.consumerInfo(t)
	if err != nil || !c.Paused {
		t.Errorf("got paused %v, %v, when the worker is ready, want true", c.Paused, err)
	}
	time.Sleep(2 * time.Second) // the pause itself
	lifted := s.lift(t)
	s.awaitEmpty(t)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	s.wantBootedSince(t, lifted, hosts)
}

// The budget that an operator has set belongs to the fleet, and not to the worker that happens to start last.
func TestProcess_ControlBudgetIsNotUndoneByAWorkersConfiguration(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	s.usePostgres(t)
	first := s.startWorker(t, "first worker", "--budget", "7")
	wantBudget := func(want int, c *jetstream.ConsumerInfo) {
		t.Helper()
		if got := c.Config.MaxAckPending; got != want {
			t.Errorf("got budget %d, want %d", got, want)
		}
	}
	wantBudget(7, s.replaceConsumer(t))
	s.do(t, "budget", "default", "5")
	second := s.startWorker(t, "second worker", "--budget", "100")
	c, err := s.consumerInfo(t)
	if err != nil {
		t.Fatal(err)
	}
	wantBudget(5, c)
	first.stop(t)
	wantBudget(5, s.replaceConsumer(t))

	hosts := instances("budget", 20)
	s.publish(t, hosts)
	s.awaitEmpty(t)
	if c, err = s.consumerInfo(t); err != nil {
		t.Fatal(err)
	}
	wantBudget(5, c)
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	var line struct{ Budget int }
	if text := s.do(t, "budget", "default", "--output", "json"); json.Unmarshal([]byte(text), &line) != nil || line.Budget != 5 {
		t.Errorf("budget printed %q, want 5", text)
	}
}

// Of what is in flight when the pause comes, that which was triggered is verified, and the rest is not triggered, though
// it was long handed out, and only waited for the driver.
func TestProcess_ControlPauseLetsEndWhatWasTriggeredAndNoMore(t *testing.T) {
	t.Parallel()
	const (
		count = 20
		slots = 5
	)
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	arrived, carryOn := make(chan struct{}, count), make(chan struct{})
	s.hosts = fleettest.Start(t, fleettest.Config{Fleet: s.fleet, BeforeRestart: func(restart.Host) {
		arrived <- struct{}{}
		<-carryOn
	}})
	released := false
	release := func() {
		if !released {
			released = true
			close(carryOn)
		}
	}
	t.Cleanup(release)
	w := s.startWorker(t, "worker", "--driver-slots", fmt.Sprint(slots))
	hosts := instances("flight", count)
	s.publish(t, hosts)
	for range slots {
		select {
		case <-arrived:
		case <-time.After(patience):
			t.Fatal("nothing was triggered")
		}
	}
	w.awaitCount(t, count, "consumed")
	s.pause(t)
	s.awaitPaused(t, true) // which only this worker can have done, so it knows

	release()
	w.await(t, "end of all that was in flight", func() bool { return len(w.matching(says("settled"))) >= count })
	fates := map[string]int{}
	for _, l := range w.said(says("settled")) {
		fates[l.Fate]++
	}
	if fates["acked"] != slots || fates["retried"] != count-slots {
		t.Errorf("got fates %v, want %d acked and %d retried", fates, slots, count-slots)
	}
	if n := s.fleet.Boots(); n != slots {
		t.Errorf("got %d boots, want those %d that were triggered before the pause", n, slots)
	}
	if n := len(s.outcomes(t)); n != slots {
		t.Errorf("got %d outcomes, want %d", n, slots)
	}

	s.lift(t)
	s.awaitEmpty(t)
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
}

// printedPauses are what the verb prints.
type printedPauses struct {
	Lifted, Holds []struct {
		Cause control.Cause
		Until time.Time
	}
}

// Hours are the owners' word, and not what an operator waves away with a pause.
func TestProcess_ControlResumeDoesNotOpenTheWindow(t *testing.T) {
	t.Parallel()
	const count = 20
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	// Eleven hours away from now on either side, over midnight or not.
	now := time.Now().UTC()
	window := now.Add(11*time.Hour).Format("15:04") + "-" + now.Add(13*time.Hour).Format("15:04")
	w := s.startWorker(t, "worker", "--window-open", window)
	s.pause(t)
	hosts := instances("window", count)
	s.publish(t, hosts)
	eventually(t, "both pauses", func() bool { return len(s.pauses(t)) == 2 })

	var printed printedPauses
	text := s.do(t, "resume", "default", "--output", "json")
	if err := json.Unmarshal([]byte(text), &printed); err != nil {
		t.Fatalf("cannot read %q: %v", text, err)
	}
	if len(printed.Lifted) != 1 || printed.Lifted[0].Cause != control.ByHand {
		t.Errorf("resume has lifted %+v, want the pause by hand", printed.Lifted)
	}
	if len(printed.Holds) != 1 || printed.Holds[0].Cause != control.ByWindow {
		t.Fatalf("resume says that there hold on %+v, want the window", printed.Holds)
	}
	if opens := printed.Holds[0].Until; opens.Before(now.Add(10*time.Hour)) || opens.After(now.Add(11*time.Hour)) {
		t.Errorf("the window opens at %s, want it in eleven hours from %s", opens, now)
	}
	if c := s.replaceConsumer(t); !c.Paused {
		t.Error("the consumer came back outside the window, and hands out")
	}
	time.Sleep(2 * time.Second) // the closed window itself
	w.stop(t)

	opened := time.Now()
	w = s.startWorker(t, "worker without a window")
	s.awaitEmpty(t)
	w.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	s.wantBootedSince(t, opened, hosts)
}
