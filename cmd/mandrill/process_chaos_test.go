package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// chaosSeed is drawn, unless the environment has the one of an earlier run.
func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	const variable = "MANDRILL_TEST_SEED"
	seed := rand.Uint64()
	if text := os.Getenv(variable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
	}
	t.Logf("%s=%d", variable, seed)
	return seed
}

// Everything but the hosts and the database dies, some of it again and again, and one worker sleeps while the others do
// its work.
func TestProcess_ChaosBootsEachHostOnceAndLosesNothing(t *testing.T) {
	t.Parallel()
	const (
		rounds  = 20
		batch   = 100 // requests for each round
		ackWait = time.Second
	)
	seed := chaosSeed(t)
	draw := rand.New(rand.NewPCG(seed, 0))
	s := newScene(t, simulated.Config{Seed: seed, RestartMax: time.Second})
	s.usePostgres(t)
	started := 0
	start := func() *process {
		started++
		// Deliveries are used up by those who die, and with them the pauses grow that follow upon a failure.
		return s.startWorker(t, fmt.Sprintf("worker %d", started), "--ack-wait", ackWait.String(), "--retry-cap", "5s")
	}
	workers := []*process{start(), start(), start()}
	all := append([]*process(nil), workers...)
	var publishers []*process
	var hosts []string
	var asleep *process
	var asleepSince time.Time
	lost := 0
	for round := range rounds {
		began := time.Now()
		more := instances(fmt.Sprintf("chaos%d", round), batch)
		hosts = append(hosts, more...)
		publishers = append(publishers, s.startPublish(t, more, "--nats", s.url))
		eventually(t, "some of the round's hosts booted", func() bool { return s.bootsOf(more) >= batch/10 })

		switch round {
		case 2, 8, 14:
			asleep, asleepSince = workers[draw.IntN(len(workers))], time.Now()
			asleep.signal(t, syscall.SIGSTOP)
		case 5, 11:
			s.server.signal(t, syscall.SIGTERM)
			s.server.wantExit(t, exitDone)
			s.startServer(t)
		case 17: // away for longer than leases last
			s.server.kill(t)
			time.Sleep(2 * ackWait) // the outage itself
			s.startServer(t)
		}
		if asleep != nil && time.Since(asleepSince) > 2*ackWait {
			asleep.signal(t, syscall.SIGCONT)
			asleep = nil
		}

		time.Sleep(time.Until(began.Add(time.Duration(draw.Int64N(int64(time.Second)))))) // the moment is drawn, not waited for
		victim := draw.IntN(len(workers))
		for workers[victim] == asleep {
			victim = draw.IntN(len(workers))
		}
		lost += len(workers[victim].said(says("lease lost")))
		workers[victim].kill(t)
		workers[victim] = start()
		all = append(all, workers[victim])
		time.Sleep(time.Until(began.Add(time.Second))) // the pace of the deaths
	}
	if asleep != nil {
		t.Fatal("a worker was left asleep")
	}

	for _, p := range publishers {
		wantPublished(t, p, batch)
	}
	s.awaitEmpty(t)
	for _, w := range workers {
		w.stop(t)
		lost += len(w.said(says("lease lost")))
	}
	s.wantSaved(t, all...)
	s.wantEachRestartedOnce(t, hosts)
	if lost == 0 {
		t.Error("no worker has lost a lease: the chaos was too tame to prove anything")
	}
	info, err := s.streamInfo(t, stream.Journal)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d workers died; the others lost %d leases; the journal has %d events of %d requests",
		started-len(workers), lost, info.State.Msgs, len(hosts))
}
