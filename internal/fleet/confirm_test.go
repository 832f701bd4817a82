package fleet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

type confirmed struct {
	fleet.Confirmation
	err error
}

func confirming(t *testing.T, nc *nats.Conn, want fleet.Wanted) <-chan confirmed {
	t.Helper()
	result := make(chan confirmed, 1)
	go func() {
		c, err := fleet.Confirmed(t.Context(), nc, want)
		result <- confirmed{c, err}
	}()
	return result
}

func awaitConfirmed(t *testing.T, result <-chan confirmed) (confirmed, missing []string) {
	t.Helper()
	select {
	case c := <-result:
		if c.err != nil {
			t.Fatal(c.err)
		}
		return names(c.Confirmed), instanceNames(c.Missing)
	case <-time.After(patience):
		t.Fatal("it has not returned")
		panic("unreachable")
	}
}

// A pause that returns before the last worker knows of it is one after which a host is still restarted.
func TestConfirmed_WaitsForTheLastWorker(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	one := start(t, s.Connect(t), &worker{name: "worker-1"})
	two := start(t, s.Connect(t), &worker{name: "worker-2"})
	one.confirm(8)
	two.confirm(6)
	asked := two.askedSoFar()
	result := confirming(t, s.Connect(t), fleet.Wanted{Group: "web", Revision: 7, Within: patience})
	eventually(t, "worker-2 was asked more than once", func() bool { return two.askedSoFar() > asked+5 })
	select {
	case c := <-result:
		t.Fatalf("it returned %v before worker-2 had confirmed", c)
	default:
	}
	two.confirm(7)
	got, missing := awaitConfirmed(t, result)
	check(t, "confirmed", got, []string{"worker-1", "worker-2"})
	check(t, "missing", missing, []string{})
}

func TestConfirmed_NamesWhoHasNot(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	hang := make(chan struct{})
	defer close(hang)
	one := start(t, s.Connect(t), &worker{name: "worker-1"})
	start(t, s.Connect(t), &worker{name: "worker-2"})             // knows nothing
	start(t, s.Connect(t), &worker{name: "worker-3", hang: hang}) // says nothing
	one.confirm(7)
	begun := time.Now()
	got, missing := awaitConfirmed(t, confirming(t, s.Connect(t), fleet.Wanted{Group: "web", Revision: 7, Within: time.Second}))
	if took := time.Since(begun); took < time.Second {
		t.Errorf("it took %s, want no less than the time that was given", took)
	}
	check(t, "confirmed", got, []string{"worker-1"})
	check(t, "missing", missing, []string{"worker-2", "worker-3"})
}

func TestConfirmed_WaitsForNoOtherGroup(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	one := start(t, s.Connect(t), &worker{name: "worker-1", groups: []restart.Group{"db", "web"}})
	start(t, s.Connect(t), &worker{name: "worker-2", groups: []restart.Group{"batch"}})
	one.confirm(7)
	begun := time.Now()
	got, missing := awaitConfirmed(t, confirming(t, nc, fleet.Wanted{Group: "web", Revision: 7, Within: patience}))
	check(t, "confirmed", got, []string{"worker-1"})
	check(t, "missing", missing, []string{})
	got, _ = awaitConfirmed(t, confirming(t, nc, fleet.Wanted{Group: "nobodys", Revision: 7, Within: patience}))
	check(t, "confirmed", got, []string{})
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s, though everybody had confirmed", took)
	}
	_, missing = awaitConfirmed(t, confirming(t, nc, fleet.Wanted{Revision: 7, Within: time.Second})) // all groups
	check(t, "missing", missing, []string{"worker-2"})
}

// A fleet is paused because something burns, and that may be the server.
func TestConfirmed_GoesOnThroughAnOutage(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	w := start(t, s.Connect(t), &worker{name: "worker-1"})
	asked := w.askedSoFar()
	result := confirming(t, nc, fleet.Wanted{Group: "web", Revision: 7, Within: patience})
	eventually(t, "it was asked", func() bool { return w.askedSoFar() > asked })
	s.Stop(t)
	eventually(t, "the server is away", func() bool { return !nc.IsConnected() })
	w.confirm(7)
	s.StartAgain(t)
	got, missing := awaitConfirmed(t, result)
	check(t, "confirmed", got, []string{"worker-1"})
	check(t, "missing", missing, []string{})
}

func TestConfirmed_AcrossAClusterThatLosesANode(t *testing.T) {
	t.Parallel()
	c := natsdtest.StartCluster(t, 3)
	one, two := start(t, c.Connect(t), &worker{name: "worker-1"}), start(t, c.Connect(t), &worker{name: "worker-2"})
	nc := c.Node(0).Connect(t)
	eventually(t, "both are found", func() bool {
		workers, _, err := fleet.Workers(t.Context(), nc, time.Second)
		return err == nil && len(workers) == 2
	})
	result := confirming(t, nc, fleet.Wanted{Group: "web", Revision: 7, Within: patience})
	one.confirm(7)
	asked := two.askedSoFar()
	eventually(t, "worker-2 was asked", func() bool { return two.askedSoFar() > asked })
	c.Node(1).Stop(t)
	c.Node(2).Stop(t) // wherever the workers were, they are at the node that is left
	two.confirm(7)
	got, missing := awaitConfirmed(t, result)
	check(t, "confirmed", got, []string{"worker-1", "worker-2"})
	check(t, "missing", missing, []string{})
}

func TestConfirmed_ErrOutageThatLastsSaysSo(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	s.Stop(t)
	eventually(t, "the server is away", func() bool { return !nc.IsConnected() })
	if _, err := fleet.Confirmed(t.Context(), nc, fleet.Wanted{Revision: 7, Within: 500 * time.Millisecond}); err == nil {
		t.Error("it was confirmed by nobody")
	}
	nc.Close()
	if _, err := fleet.Confirmed(t.Context(), nc, fleet.Wanted{Revision: 7, Within: patience}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
	}
}

func TestConfirmed_EndsWithItsContextAndSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	w := start(t, s.Connect(t), &worker{name: "worker-1"})
	start(t, s.Connect(t), &worker{name: "worker-2"})
	w.confirm(7)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("second signal")
	time.AfterFunc(time.Second, func() { cancel(cause) })
	c, err := fleet.Confirmed(ctx, s.Connect(t), fleet.Wanted{Revision: 7, Within: patience})
	if !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	check(t, "confirmed", names(c.Confirmed), []string{"worker-1"})
	check(t, "missing", instanceNames(c.Missing), []string{"worker-2"})
}

func TestConfirmed_ErrNoTime(t *testing.T) {
	t.Parallel()
	if _, err := fleet.Confirmed(t.Context(), natsdtest.Start(t).Connect(t), fleet.Wanted{Revision: 7}); err == nil {
		t.Error("it had no time, and no error")
	}
}
