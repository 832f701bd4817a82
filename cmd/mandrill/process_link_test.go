package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// startWorkerOver starts a worker whose way to the server is the link, and to everything else is its own.
func (s *scene) startWorkerOver(t *testing.T, l *cable, name string, args ...string) *process {
	t.Helper()
	return s.startBare(t, name, nil,
		append([]string{"--data", s.workerData, "--database", s.database, "--nats", l.over(t, s.url)}, args...)...)
}

// fencesOf counts the events that a worker has appended to the journal for some hosts.
func (s *scene) fencesOf(t *testing.T, w *process, instances []string) (n int) {
	t.Helper()
	name := w.awaitLine(t, "its name", says("worker is ready")).Worker
	of := setOf(instances)
	found, err := s.js.Stream(t.Context(), stream.Journal)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= found.CachedInfo().State.LastSeq; sequence++ {
		msg, err := found.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		_, _, host, err := stream.ParseJournalSubject(msg.Subject)
		if err != nil {
			t.Fatal(err)
		}
		var e journal.Event
		if err := json.Unmarshal(msg.Data, &e); err != nil {
			t.Fatal(err)
		}
		if of[string(host)] && e.Worker == name {
			n++
		}
	}
	return n
}

// setOf returns the hosts of instances, as logs name them.
func setOf(instances []string) map[string]bool {
	of := map[string]bool{}
	for _, instance := range instances {
		of[string(hostOf(instance))] = true
	}
	return of
}

// awaitServing publishes requests until the worker is given one, and returns their instances. What it had written to its
// connection before has arrived by then.
func (s *scene) awaitServing(t *testing.T, w *process) (published []string) {
	t.Helper()
	const rounds = 100
	for round := range rounds {
		more := instances(fmt.Sprintf("more%d", round), 5)
		s.publish(t, more)
		published = append(published, more...)
		eventually(t, "all is handed out", func() bool {
			c, err := s.consumerInfo(t)
			return err == nil && c.NumPending == 0
		})
		if len(saidOf(w, "consumed", published)) > 0 {
			return published
		}
	}
	t.Fatalf("%s was given nothing in %d rounds", w.name, rounds)
	return nil
}

// saidOf returns what a process has said of some hosts.
func saidOf(p *process, message string, instances []string) []logLine {
	of := setOf(instances)
	return p.said(func(l logLine) bool { return l.Message == message && of[l.Host] })
}

// wantLeft wants the worker to let go of each of the hosts' messages, because it has lost it, and to settle none.
func wantLeft(t *testing.T, w *process, hosts []string) {
	t.Helper()
	of := setOf(hosts)
	w.await(t, "end of the work that it has lost", func() bool {
		return len(w.matching(func(l logLine) bool { return l.Message == "settled" && of[l.Host] })) >= len(hosts)
	})
	for _, message := range []string{"lease lost", "settled"} {
		if n := len(saidOf(w, message, hosts)); n != len(hosts) {
			t.Errorf("%s has said %q of %d messages, want %d", w.name, message, n, len(hosts))
		}
	}
	for _, l := range saidOf(w, "settled", hosts) {
		if l.Fate != "left" {
			t.Errorf("%s: %s was %s, want it left", w.name, l.Host, l.Fate)
		}
	}
}

// A worker that is cut off does not know what the others know: that its messages are theirs. It ends the work by its own
// clock while it is still cut off, another one takes over, and when the link is back, nothing that it had begun to say
// does harm, however late it arrives.
func TestProcess_LostLinkEndsTheWorkAndNothingArrivesLate(t *testing.T) {
	for name, how := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const (
				count   = 20
				ackWait = 2 * time.Second
			)
			s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
			s.usePostgres(t)
			moods := s.makeMoody(t, mute) // so that nobody verifies anything before the link is back
			l := newCable(t, s.listen)
			first := s.startWorkerOver(t, l, "first worker", "--ack-wait", ackWait.String())
			hosts := instances("lost", count)
			s.publish(t, hosts)
			s.awaitBoots(t, count)
			second := s.startWorker(t, "second worker")

			l.set(how)
			cut := time.Now()
			wantLeft(t, first, hosts)
			second.awaitCount(t, count, "took over")
			time.Sleep(time.Until(cut.Add(3 * ackWait))) // the outage itself: it waits for nothing

			l.set(cableUp)
			more := s.awaitServing(t, first)
			wantLeft(t, first, hosts)
			if n := s.fencesOf(t, first, hosts); n != count {
				t.Errorf("first worker has appended %d events, want its %d fences", n, count)
			}
			if queued, err := s.queued(t); err != nil || queued != count+len(more) {
				t.Errorf("got %d messages, %v, want all %d: somebody has settled what was not verified", queued, err, count+len(more))
			}
			if n := len(s.outcomes(t)); n != 0 {
				t.Errorf("got %d outcomes of what was not verified", n)
			}

			moods.setMood(answering)
			s.awaitEmpty(t)
			first.stop(t)
			second.stop(t)
			s.wantEachRestartedOnce(t, append(more, hosts...))
			if last := first.lastLine(t); last.LeasesLost != count {
				t.Errorf("first worker: got %d leases lost, want %d", last.LeasesLost, count)
			}
			s.wantDoneBy(t, second, hosts, 1)
		})
	}
}

// wantDoneBy wants the outcomes of the hosts' requests to be a worker's, after so many restart calls in all.
func (s *scene) wantDoneBy(t *testing.T, w *process, hosts []string, calls int) {
	t.Helper()
	name := w.awaitLine(t, "its name", says("worker is ready")).Worker
	of := map[restart.Host]bool{}
	for _, instance := range hosts {
		of[hostOf(instance)] = true
		if n := s.fleet.CountsOf(hostOf(instance)).Calls; n != calls {
			t.Errorf("%s: got %d restart calls, want %d", instance, n, calls)
		}
	}
	for _, o := range s.outcomes(t) {
		if of[o.Host] && o.Receipt.Worker != name {
			t.Errorf("%s: outcome is of worker %s, want %s", o.Host, o.Receipt.Worker, name)
		}
	}
}

// The trigger has left the worker when the link is lost, and arrives when the message is long another's, who has given
// the trigger again.
func TestProcess_LostLinkBetweenFenceAndTriggerBootsTheHostOnce(t *testing.T) {
	for name, how := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
			s.usePostgres(t)
			l := newCable(t, s.listen)
			arrived, carryOn := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			s.hosts = fleettest.Start(t, fleettest.Config{Fleet: s.fleet, BeforeRestart: func(restart.Host) {
				if calls.Add(1) == 1 {
					l.set(how)
					close(arrived)
					<-carryOn
				}
			}})
			late := sync.OnceFunc(func() { close(carryOn) })
			t.Cleanup(late)
			first := s.startWorkerOver(t, l, "first worker", "--ack-wait", "2s")
			hosts := instances("fenced", 1)
			s.publish(t, hosts)
			select {
			case <-arrived:
			case <-time.After(patience):
				t.Fatal("nothing was triggered")
			}

			second := s.startWorker(t, "second worker")
			wantLeft(t, first, hosts)
			s.awaitEmpty(t)
			if n := s.fleet.BootsOf(hostOf(hosts[0])); n != 1 {
				t.Fatalf("got %d boots before the first trigger has arrived, want 1", n)
			}
			late()
			eventually(t, "the late trigger", func() bool { return s.fleet.CountsOf(hostOf(hosts[0])).Changed == 1 })

			l.set(cableUp)
			more := s.awaitServing(t, first)
			s.awaitEmpty(t)
			first.stop(t)
			second.stop(t)
			wantLeft(t, first, hosts)
			if n := s.fencesOf(t, first, hosts); n != 1 {
				t.Errorf("first worker has appended %d events, want its fence", n)
			}
			s.wantEachRestartedOnce(t, append(more, hosts...))
			s.wantDoneBy(t, second, hosts, 2)
		})
	}
}

// The fence has arrived, and the answer has not: the worker must not trigger on it, not even when the answer comes late.
func TestProcess_LostLinkUnderTheFenceTriggersNothing(t *testing.T) {
	for name, how := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
			s.usePostgres(t)
			l := newCable(t, s.listen)
			first := s.startWorkerOver(t, l, "first worker", "--ack-wait", "2s")
			hosts := instances("unanswered", 1)
			l.setAfter("PUB "+strings.TrimSuffix(stream.JournalByGroup(restart.DefaultGroup), ">"), how)
			s.publish(t, hosts)
			eventually(t, "the fence", func() bool {
				info, err := s.streamInfo(t, stream.Journal)
				return err == nil && info.State.Msgs == 1
			})

			second := s.startWorker(t, "second worker")
			wantLeft(t, first, hosts)
			s.awaitEmpty(t)
			l.set(cableUp)
			more := s.awaitServing(t, first)
			s.awaitEmpty(t)
			first.stop(t)
			second.stop(t)
			wantLeft(t, first, hosts)
			if n := s.fencesOf(t, first, hosts); n != 1 {
				t.Errorf("first worker has appended %d events, want its fence", n)
			}
			s.wantEachRestartedOnce(t, append(more, hosts...))
			s.wantDoneBy(t, second, hosts, 1)
		})
	}
}
