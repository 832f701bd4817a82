package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestWorkers_AllAreFoundWithWhatTheySay(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	confirmed := time.Now().UTC()
	start(t, s.Connect(t), &worker{
		name: "worker-2", groups: []restart.Group{"web", "db"},
		load: fleet.Load{Lag: 1500 * time.Millisecond, Overloaded: true}, control: fleet.Control{Revision: 7, ConfirmedAt: confirmed},
		held: []fleet.Message{{Group: "web", Phase: "verify"}, {Group: "web", Phase: "verify"}, {Group: "web", Phase: "save"}},
	})
	start(t, s.Connect(t), &worker{name: "worker-1"})
	begun := time.Now()
	workers, silent := mustWorkers(t, s.Connect(t), patience)
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s, though all had answered", took)
	}
	check(t, "silent", len(silent), 0)
	check(t, "workers", workers, []fleet.WorkerStatus{
		{Worker: "worker-1", Version: "v1.2.3", Groups: []fleet.GroupStatus{{Group: "web"}}},
		{
			Worker: "worker-2", Version: "v1.2.3", LagSeconds: 1.5, Overloaded: true, ControlRevision: 7, ConfirmedAt: confirmed,
			Groups: []fleet.GroupStatus{{Group: "db"}, {Group: "web", InFlight: 3, Phases: map[string]int{"verify": 2, "save": 1}}},
		},
	}, cmpopts.IgnoreFields(fleet.WorkerStatus{}, "Instance", "Started"), cmpopts.EquateEmpty())
	for _, w := range workers {
		if w.Instance == "" || time.Since(w.Started) > patience {
			t.Errorf("got instance %q, started %s", w.Instance, w.Started)
		}
	}
}

// Two workers in one process, on one connection, must not answer for each other.
func TestWorkers_TwoOnOneConnection(t *testing.T) {
	t.Parallel()
	nc := natsdtest.Start(t).Connect(t)
	first := start(t, nc, &worker{name: "worker-1"})
	start(t, nc, &worker{name: "worker-2"})
	workers, _ := mustWorkers(t, nc, patience)
	check(t, "workers", names(workers), []string{"worker-1", "worker-2"})
	first.stop()
	workers, _ = mustWorkers(t, nc, patience)
	check(t, "workers", names(workers), []string{"worker-2"})
}

func TestWorkers_AcrossACluster(t *testing.T) {
	t.Parallel()
	c := natsdtest.StartCluster(t, 3)
	for i := range 3 {
		start(t, c.Node(i).Connect(t), &worker{name: fmt.Sprintf("worker-%d", i)})
	}
	for i := range 3 {
		nc := c.Node(i).Connect(t)
		eventually(t, "all are found", func() bool { // a node learns of the others' subscriptions a little later
			workers, silent, err := fleet.Workers(t.Context(), nc, time.Second)
			return err == nil && len(workers) == 3 && len(silent) == 0
		})
	}
}

// Somebody who looks at the fleet because a worker hangs must not be held up by it, and must be told which.
func TestWorkers_OneThatHangsIsNamedAndHidesNobody(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	start(t, s.Connect(t), &worker{name: "worker-1"})
	hang := make(chan struct{})
	start(t, s.Connect(t), &worker{name: "worker-2", hang: hang})
	start(t, s.Connect(t), &worker{name: "worker-3"})
	workers, silent := mustWorkers(t, nc, time.Second)
	check(t, "workers", names(workers), []string{"worker-1", "worker-3"})
	check(t, "silent", instanceNames(silent), []string{"worker-2"})
	close(hang)
	workers, silent = mustWorkers(t, nc, patience)
	check(t, "workers", names(workers), []string{"worker-1", "worker-2", "worker-3"})
	check(t, "silent", instanceNames(silent), []string{})
}

func TestWorkers_NobodyIsThere(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	workers, silent := mustWorkers(t, natsdtest.Start(t).Connect(t), patience)
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s, though the server says that nobody is there", took)
	}
	check(t, "workers", len(workers)+len(silent), 0)
}

// Where asking is not permitted, nobody answers. That must not look as if nobody were there: a pause would rest on it.
func TestWorkers_ErrSilenceWhereAskingIsNotPermitted(t *testing.T) {
	t.Parallel()
	connect := bareServer(t, server.Options{Users: []*server.User{
		{Username: "worker", Password: "secret"},
		{Username: "stranger", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$SRV.>", "mandrill.>"}},
		}},
	}})
	start(t, connect("worker"), &worker{name: "worker-1"})
	nc := connect("stranger")
	if workers, _, err := fleet.Workers(t.Context(), nc, time.Second); !errors.Is(err, fleet.ErrSilence) {
		t.Errorf("got %v, %v, want %v", workers, err, fleet.ErrSilence)
	}
	if _, _, err := fleet.InFlight(t.Context(), nc, time.Second); !errors.Is(err, fleet.ErrSilence) {
		t.Errorf("in flight: got %v, want %v", err, fleet.ErrSilence)
	}
	if _, err := fleet.Outcome(t.Context(), nc, uuid.New(), time.Second); !errors.Is(err, fleet.ErrSilence) {
		t.Errorf("outcome: got %v, want %v", err, fleet.ErrSilence)
	}
	if _, err := fleet.Confirmed(t.Context(), nc, fleet.Wanted{Within: time.Second}); !errors.Is(err, fleet.ErrSilence) {
		t.Errorf("confirmed: got %v, want %v", err, fleet.ErrSilence)
	}
}

// The package comment lists permissions: with these and no others everything works.
func TestPermissions_ThoseOfThePackageCommentAreEnough(t *testing.T) {
	t.Parallel()
	allow := func(subjects ...string) *server.SubjectPermission { return &server.SubjectPermission{Allow: subjects} }
	serve := []string{"mandrill.worker.>"}
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		serve = append(serve, "$SRV."+verb, "$SRV."+verb+".mandrill-worker", "$SRV."+verb+".mandrill-worker.*")
	}
	connect := bareServer(t, server.Options{Users: []*server.User{
		{Username: "worker", Password: "secret", Permissions: &server.Permissions{
			Publish: allow(), Subscribe: allow(serve...), Response: &server.ResponsePermission{},
		}},
		{Username: "asker", Password: "secret", Permissions: &server.Permissions{
			Publish:   allow("$SRV.PING.mandrill-worker", "mandrill.worker.status", "mandrill.worker.in_flight.*", "mandrill.worker.outcome"),
			Subscribe: allow("_INBOX.>"),
		}},
	}})
	id := uuid.New()
	asker := connect("asker")
	w := &worker{
		name: "worker-1", groups: []restart.Group{"web"}, held: []fleet.Message{{ID: id, Group: "web"}},
		outcomes: map[uuid.UUID]restart.Outcome{id: {ID: id}},
	}
	s, err := fleet.New(w.config(connect("worker")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	eventually(t, "it is found", func() bool {
		workers, _, err := fleet.Workers(t.Context(), asker, time.Second)
		return err == nil && len(workers) == 1
	})
	if messages, silent, err := fleet.InFlight(t.Context(), asker, patience); err != nil || len(messages) != 1 || len(silent) != 0 {
		t.Errorf("got %v, %v, %v, want one message", messages, silent, err)
	}
	if o, err := fleet.Outcome(t.Context(), asker, id, patience); err != nil || o.ID != id {
		t.Errorf("got %v, %v, want the outcome", o, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWorkers_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	hang := make(chan struct{})
	defer close(hang)
	start(t, s.Connect(t), &worker{name: "worker-1", hang: hang})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("second signal")
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	if _, _, err := fleet.Workers(ctx, s.Connect(t), patience); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestServer_AnswersAgainAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	start(t, s.Connect(t), &worker{name: "worker-1"})
	before, _ := mustWorkers(t, nc, patience)
	s.Restart(t)
	eventually(t, "it is found again", func() bool {
		after, _, err := fleet.Workers(t.Context(), nc, time.Second) // a question that fell into the outage is never answered
		return err == nil && len(after) == 1 && after[0].Instance == before[0].Instance
	})
}

// A worker's stop must not hang on a server that is not there.
func TestServer_StopsDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	w := start(t, s.Connect(t), &worker{name: "worker-1"})
	s.Stop(t)
	w.stop()
	s.StartAgain(t)
}

func TestServer_StartsDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	s.Stop(t)
	eventually(t, "it is away", func() bool { return !nc.IsConnected() })
	server, err := fleet.New((&worker{name: "worker-1", groups: []restart.Group{"web"}}).config(nc))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	s.StartAgain(t)
	other := s.Connect(t)
	eventually(t, "it is found", func() bool {
		workers, _, err := fleet.Workers(t.Context(), other, time.Second)
		return err == nil && len(workers) == 1
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServer_ConnectionThatIsClosedForGoodIsAnError(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	server, err := fleet.New((&worker{name: "worker-1", groups: []restart.Group{"web"}}).config(nc))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(t.Context()) }()
	other := s.Connect(t)
	eventually(t, "it is found", func() bool {
		workers, _, err := fleet.Workers(t.Context(), other, time.Second)
		return err == nil && len(workers) == 1
	})
	nc.Close()
	for range 2 { // and so it is when it is closed already
		select {
		case err := <-ended:
			if !errors.Is(err, nats.ErrConnectionClosed) {
				t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
			}
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
		go func() { ended <- server.Run(t.Context()) }()
	}
	<-ended
}

// What the answers are made from is closed after Run has returned.
func TestServer_NothingIsAskedOfTheWorkerAfterItsEnd(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc, asker := s.Connect(t), s.Connect(t)
	hang := make(chan struct{})
	w := start(t, nc, &worker{name: "worker-1", hang: hang})
	for range 100 { // one is being answered, the others wait behind it
		if err := asker.PublishRequest("mandrill.worker.status", "nobody", nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one is being answered", func() bool { return w.askedSoFar() > 0 })
	ended := make(chan struct{})
	go func() { w.stop(); close(ended) }()
	eventually(t, "it takes no more questions", func() bool {
		_, err := asker.Request("$SRV.PING.mandrill-worker", nil, time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	select {
	case <-ended:
		t.Error("it ended while it was answering")
	default:
	}
	close(hang)
	<-ended
	calls := w.askedSoFar()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	check(t, "calls after the end", w.askedSoFar()-calls, 0)
}

func TestServer_RunsOnceAtATimeAndAgain(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	server, err := fleet.New((&worker{name: "worker-1", groups: []restart.Group{"web"}}).config(nc))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- server.Run(ctx) }()
		eventually(t, "it is found, once", func() bool {
			workers, silent, err := fleet.Workers(t.Context(), nc, time.Second)
			return err == nil && len(workers) == 1 && len(silent) == 0
		})
		if err := server.Run(ctx); err == nil {
			t.Error("it ran twice")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestServer_BadQuestionsAreRefused(t *testing.T) {
	t.Parallel()
	nc := natsdtest.Start(t).Connect(t)
	start(t, nc, &worker{name: "worker-1"})
	workers, _ := mustWorkers(t, nc, patience)
	inFlight := "mandrill.worker.in_flight." + workers[0].Instance
	for _, tc := range []struct{ subject, question, code string }{
		{"mandrill.worker.status", "what?", ""}, // there is nothing to be said in it
		{inFlight, "", ""},
		{inFlight, `{"limit": 1, "after": "zzz"}`, ""},
		{inFlight, `{"limit": -1}`, "400"},
		{inFlight, `{"limit": "1"}`, "400"},
		{inFlight, "\n[", "400"},
		{"mandrill.worker.outcome", "", "400"},
		{"mandrill.worker.outcome", `{"id": "42"}`, "400"},
	} {
		msg, err := nc.Request(tc.subject, []byte(tc.question), patience)
		if err != nil {
			t.Fatal(err)
		}
		check(t, tc.subject+" "+tc.question, msg.Header.Get(micro.ErrorCodeHeader), tc.code)
		if tc.code == "" && !json.Valid(msg.Data) {
			t.Errorf("%s: got %q, want JSON", tc.question, msg.Data)
		}
	}
}

func manyMessages(n int) []fleet.Message {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	messages := make([]fleet.Message, n)
	for i := range messages {
		messages[i] = fleet.Message{
			ID: uuid.New(), Host: restart.Host(fmt.Sprintf("cattle-%d.%s.example.net", i, strings.Repeat("x", 200))),
			Group: "web", Phase: "verify", Since: begun.Add(time.Duration(n-i) * time.Second), Attempt: 1 + i%3,
		}
	}
	return messages
}

func TestInFlight_ThousandsAreListedInPagesOnceEach(t *testing.T) {
	t.Parallel()
	for name, maxPayload := range map[string]int32{"default bound": 0, "small bound": 16 << 10} {
		t.Run(name, func(t *testing.T) {
			connect := bareServer(t, server.Options{MaxPayload: maxPayload})
			held := manyMessages(2000)
			start(t, connect(""), &worker{name: "worker-1", held: held[:1500]})
			start(t, connect(""), &worker{name: "worker-2", held: held[1500:]})
			start(t, connect(""), &worker{name: "worker-3"})
			got, silent, err := fleet.InFlight(t.Context(), connect(""), patience)
			if err != nil {
				t.Fatal(err)
			}
			check(t, "silent", len(silent), 0)
			want := slices.Clone(held)
			for i := range want {
				want[i].Worker = "worker-1"
				if i >= 1500 {
					want[i].Worker = "worker-2"
				}
			}
			slices.Reverse(want) // the oldest first
			check(t, "messages", got, want)
		})
	}
}

// A worker that dies while it is being asked must not hide what the others hold.
func TestInFlight_WorkerThatDoesNotTellIsNamed(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	start(t, s.Connect(t), &worker{name: "worker-1", held: manyMessages(3)})
	impostor := s.Connect(t)
	svc, err := micro.AddService(impostor, micro.Config{
		Name: "mandrill-worker", Version: "1.0.0", Metadata: map[string]string{"worker": "worker-2", "groups": "web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := impostor.SubscribeSync("mandrill.worker.in_flight." + svc.Info().ID); err != nil { // and nobody reads it
		t.Fatal(err)
	}
	if err := impostor.Flush(); err != nil {
		t.Fatal(err)
	}
	messages, silent, err := fleet.InFlight(t.Context(), s.Connect(t), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "messages", len(messages), 3)
	check(t, "silent", instanceNames(silent), []string{"worker-2"})
}

func TestOutcome_IsFoundAtWhicheverWorkerHasIt(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	nc := s.Connect(t)
	want := restart.Outcome{
		ID: uuid.New(), Host: "cattle-a1b2.example.net", Group: "web", Kind: restart.Restarted, Reason: restart.ReasonVerified,
		At: time.Now().UTC(), Receipt: restart.Receipt{Worker: "worker-2", Down: restart.Duration(time.Second)},
	}
	start(t, s.Connect(t), &worker{name: "worker-1"})
	start(t, s.Connect(t), &worker{name: "worker-2", outcomes: map[uuid.UUID]restart.Outcome{want.ID: want}})
	got, err := fleet.Outcome(t.Context(), nc, want.ID, patience)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "outcome", got, want)
	if _, err := fleet.Outcome(t.Context(), nc, uuid.New(), patience); !errors.Is(err, fleet.ErrNoOutcome) {
		t.Errorf("got %v, want %v", err, fleet.ErrNoOutcome)
	}

	// That none has it is known only if all have answered.
	hang := make(chan struct{})
	defer close(hang)
	start(t, s.Connect(t), &worker{name: "worker-3", hang: hang})
	if got, err := fleet.Outcome(t.Context(), nc, want.ID, patience); err != nil || got.ID != want.ID {
		t.Errorf("got %v, %v, want the outcome all the same", got, err)
	}
	_, err = fleet.Outcome(t.Context(), nc, uuid.New(), time.Second)
	if err == nil || errors.Is(err, fleet.ErrNoOutcome) || !strings.Contains(err.Error(), "worker-3") {
		t.Errorf("got %v, want that worker-3 does not answer", err)
	}
}

func TestOutcome_StoreThatIsAwayDoesNotMeanThatThereIsNone(t *testing.T) {
	t.Parallel()
	s := natsdtest.Start(t)
	start(t, s.Connect(t), &worker{name: "worker-1"})
	start(t, s.Connect(t), &worker{name: "worker-2", broken: errBroken})
	_, err := fleet.Outcome(t.Context(), s.Connect(t), uuid.New(), patience)
	if err == nil || errors.Is(err, fleet.ErrNoOutcome) || !strings.Contains(err.Error(), "worker-2") || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Errorf("got %v, want that worker-2's store is away", err)
	}
}

func TestNew_ErrBadConfig(t *testing.T) {
	t.Parallel()
	nc := natsdtest.Start(t).Connect(t)
	for _, tc := range []struct {
		want   string
		change func(*fleet.Config)
	}{
		{"Conn is missing", func(c *fleet.Config) { c.Conn = nil }},
		{"Worker is missing", func(c *fleet.Config) { c.Worker = "" }},
		{"Version is missing", func(c *fleet.Config) { c.Version = "" }},
		{"Groups are missing", func(c *fleet.Config) { c.Groups = nil }},
		{"group: ", func(c *fleet.Config) { c.Groups = []restart.Group{"a,b"} }},
		{"Outcome is missing", func(c *fleet.Config) { c.Outcome = nil }},
	} {
		cfg := (&worker{name: "worker-1", groups: []restart.Group{"web"}}).config(nc)
		tc.change(&cfg)
		if _, err := fleet.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
}
