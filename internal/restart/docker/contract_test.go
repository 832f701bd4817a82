package docker_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
)

func TestDriver_KeepsTheContract(t *testing.T) { restarttest.Run(t, openFake) }

func TestDriver_KeepsTheContractOnARealEngine(t *testing.T) {
	shared.Engine(t) // a skip is told once
	restarttest.Run(t, openReal)
}

func openFake(t *testing.T) restarttest.Subject {
	c := &fakeContainer{id: "0a1b2c", name: "web-1.example.net"}
	fake := newFake(c)
	f, endpoint := serve(t, fake)
	s := subject(f, newDriver(t, docker.Config{Endpoint: endpoint}), c.name)
	s.Late = 200 * time.Millisecond
	s.Boots = func() int { return fake.boots(c) }
	s.Reboot = func() { fake.do(c.boot) }
	s.UnreadyNext = func(d time.Duration) {
		fake.do(func() { c.next = func(from time.Time) []time.Time { return []time.Time{from, from.Add(d)} } })
	}
	s.FlapNext = func(d time.Duration) {
		fake.do(func() { c.next = func(from time.Time) []time.Time { return []time.Time{from.Add(d), from.Add(2 * d)} } })
	}
	return s
}

func openReal(t *testing.T) restarttest.Subject {
	engine, name := shared.Engine(t), dockertest.NewName("host")
	engine.Run(t, name, dockertest.Options{HealthCheck: true})
	f, endpoint := serve(t, through(t, engine.Endpoint()))
	s := subject(f, newDriver(t, docker.Config{Endpoint: endpoint}), name)
	s.Patience = time.Minute
	s.Late = 2 * time.Second
	s.Boots = func() int { return engine.Boots(name) }
	s.Reboot = func() { engine.Restart(t, name) }
	s.UnreadyNext = func(d time.Duration) { engine.UnreadyNext(t, name, d) }
	s.FlapNext = func(d time.Duration) { engine.FlapNext(t, name, d) }
	return s
}

// subject has what the faults before an engine can do.
func subject(f *faults, d restart.Driver, name string) restarttest.Subject {
	return restarttest.Subject{
		Driver:     d,
		Host:       restart.Host(name),
		RefuseNext: func() { f.nextRestart(answers(http.StatusBadRequest)) },
		ForbidNext: func() { f.nextRestart(answers(http.StatusForbidden)) },
		LoseNext:   func() { f.nextRestart(f.loses) },
		HangNext:   func() { f.nextRestart(hangs) },
		DelayNext:  func(d time.Duration) { f.nextRestart(f.late(d)) },
		IgnoreNext: func() { f.nextRestart(answers(http.StatusNoContent)) },
		FailProbes: func(n int) { f.nextProbes(n, answers(http.StatusInternalServerError)) },
		HangProbe:  func() { f.nextProbes(1, hangs) },
	}
}

func newDriver(t testing.TB, cfg docker.Config) *docker.Driver {
	t.Helper()
	d, err := docker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
