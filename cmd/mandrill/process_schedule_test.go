package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// schedule adds a schedule, as an operator does.
func (s *scene) schedule(t *testing.T, name string, args ...string) {
	t.Helper()
	run(t, "schedule add", nil, "", append([]string{"schedule", "add", name, "--nats", s.url}, args...)...).wantExit(t, exitDone)
}

// pauseSchedule ends a schedule's runs, and keeps their results.
func (s *scene) pauseSchedule(t *testing.T, name string) {
	t.Helper()
	s.do(t, "schedule", "pause", name)
}

// schedules returns what is known of schedules.
func (s *scene) schedules(t *testing.T) *schedule.Store {
	t.Helper()
	held, err := stream.EnsureSchedules(t.Context(), s.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	known, err := schedule.NewStore(s.js, held)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// shortenLeases makes a firing that a killed worker held come back soon.
func (s *scene) shortenLeases(t *testing.T) {
	t.Helper()
	c, err := stream.EnsureScheduleConsumer(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.CachedInfo().Config
	cfg.AckWait = 2 * time.Second
	if _, err := s.js.UpdateConsumer(t.Context(), stream.Schedules, cfg); err != nil {
		t.Fatal(err)
	}
}

// resultsOf returns the results of a schedule by planned time, and wants no two to be of one.
func resultsOf(t *testing.T, known *schedule.Store, name string) []schedule.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	results, err := known.Results(ctx, name)
	if err != nil {
		return nil // the server is away
	}
	slices.SortFunc(results, func(a, b schedule.Result) int { return a.Planned.Compare(b.Planned) })
	for i := range results[min(1, len(results)):] {
		if results[i].Planned.Equal(results[i+1].Planned) || results[i].ID == results[i+1].ID {
			t.Fatalf("the run of %s is on record twice", results[i].Planned)
		}
	}
	return results
}

func (s *scene) awaitResults(t *testing.T, known *schedule.Store, name string, n int) (results []schedule.Result) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d results of schedule %s", n, name), func() bool {
		results = resultsOf(t, known, name)
		return len(results) >= n
	})
	return results
}

func started(results []schedule.Result) (all []schedule.Result) {
	for _, r := range results {
		if r.Outcome == schedule.Started {
			all = append(all, r)
		}
	}
	return all
}

// awaitStarted returns the results once n runs were started.
func (s *scene) awaitStarted(t *testing.T, known *schedule.Store, name string, n int) (results []schedule.Result) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d runs of schedule %s", n, name), func() bool {
		results = resultsOf(t, known, name)
		return len(started(results)) >= n
	})
	return results
}

// wantOneBootForEachStarted stops the worker, and wants as many requests on record, each restarted, and as many boots as
// runs were started. The results are those from before the schedule was removed.
func (s *scene) wantOneBootForEachStarted(t *testing.T, w *process, results []schedule.Result) {
	t.Helper()
	s.awaitEmpty(t)
	w.stop(t)
	outcomes := s.outcomes(t)
	for _, r := range started(results) {
		id, err := uuid.Parse(r.Made)
		if err != nil {
			t.Fatal(err)
		}
		if o := outcomes[id]; id != r.ID || o.Kind != restart.Restarted {
			t.Errorf("the run of %s made request %s, which ended %q", r.Planned, r.Made, o.Kind)
		}
	}
	if boots := s.fleet.Boots(); boots != len(outcomes) {
		t.Errorf("got %d boots by %d requests", boots, len(outcomes))
	}
}

// wantNoGaps wants a result for every second between the first and the last.
func wantNoGaps(t *testing.T, results []schedule.Result) {
	t.Helper()
	for i, r := range results {
		if want := results[0].Planned.Add(time.Duration(i) * time.Second); !r.Planned.Equal(want) {
			t.Fatalf("result %d is of %s, and nothing is known of %s", i, r.Planned, want)
		}
	}
}

func TestProcess_ScheduleOfOneSecondMakesARequestEachTime(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
	w := s.startWorker(t, "worker")
	known := s.schedules(t)
	s.schedule(t, "often", "--every", "1s", "--", "restart", "cattle-1", "--reason", "it leaks")
	s.awaitStarted(t, known, "often", 10)
	s.pauseSchedule(t, "often")
	results := resultsOf(t, known, "often")
	wantNoGaps(t, results)
	for _, r := range results {
		if r.ID != schedule.FiringID("often", r.Planned) {
			t.Errorf("%s: got id %s", r.Planned, r.ID)
		}
		if r.Outcome != schedule.Started && (r.Outcome != schedule.Skipped || !strings.Contains(r.Why, "already")) {
			t.Errorf("%s: got %+v", r.Planned, r)
		}
	}
	s.wantOneBootForEachStarted(t, w, results)
	for e, err := range s.open(t).History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		r := e.Request
		if r.Reason != "it leaks" || !strings.HasPrefix(r.RequestedBy, "schedule often, by ") {
			t.Errorf("got request %+v", r)
		}
		if life := r.NotAfter.Sub(r.RequestedAt); life > time.Hour || life < 59*time.Minute {
			t.Errorf("request %s lives for %s, want the schedule's hour", r.ID, life)
		}
	}
}

func TestProcess_ScheduleOfOneSecondMakesACampaignEachTime(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
	s.startWorker(t, "worker")
	known := s.schedules(t)
	s.schedule(t, "rolling", "--every", "1s", "--", "roll", "cattle-1", "--settle", "0s")
	s.awaitStarted(t, known, "rolling", 10)
	s.pauseSchedule(t, "rolling")
	results := resultsOf(t, known, "rolling")
	wantNoGaps(t, results)

	docs := s.campaignsMade(t)
	made := map[string]bool{}
	for _, r := range results {
		switch r.Outcome {
		case schedule.Started:
			made[r.Made] = true
		case schedule.Skipped:
			if !strings.Contains(r.Why, "is not over") {
				t.Errorf("%s: got %+v", r.Planned, r)
			}
		default:
			t.Errorf("%s: got %+v", r.Planned, r)
		}
	}
	ids, err := docs.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(started(results)); len(made) != n || len(ids) != n {
		t.Errorf("%d runs were started, with %d ids, and there are %d campaigns", n, len(made), len(ids))
	}
	for _, id := range ids {
		if !made[id.String()] {
			t.Errorf("no run has made campaign %s", id)
		}
		eventually(t, "the campaign is over", func() bool {
			p, err := docs.Progress(t.Context(), id)
			return err == nil && p.State == campaign.Ended
		})
	}
	if boots := s.fleet.Boots(); boots != len(ids) {
		t.Errorf("got %d boots by %d campaigns of one host", boots, len(ids))
	}
}

func (s *scene) campaignsMade(t *testing.T) *campaign.Documents {
	t.Helper()
	kv, err := s.js.KeyValue(t.Context(), stream.CampaignBucket)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := campaign.NewDocuments(s.js, kv, s.bucket(t))
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// Server and worker are stopped and started again, and killed and started again, while a schedule runs every second.
func TestProcess_ScheduleSurvivesRestartsAndKillsOfServerAndWorker(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
	known := s.schedules(t)
	s.shortenLeases(t)
	w := s.startWorker(t, "worker 0", "--ack-wait", "2s")
	s.schedule(t, "often", "--every", "1s", "--valid-for", "5m", "--", "restart", "cattle-1")
	results := s.awaitStarted(t, known, "often", 2)
	for i, end := range []struct {
		worker, server bool
		with           syscall.Signal
	}{
		{worker: true, server: true, with: syscall.SIGTERM},
		{worker: true, with: syscall.SIGKILL},
		{server: true, with: syscall.SIGKILL},
		{worker: true, server: true, with: syscall.SIGKILL},
	} {
		if end.worker {
			w.signal(t, end.with)
			w.exitCode(t)
		}
		if end.server {
			s.server.signal(t, end.with)
			s.server.exitCode(t)
			s.startServer(t)
		}
		if end.worker {
			w = s.startWorker(t, fmt.Sprintf("worker %d", i+1), "--ack-wait", "2s")
		}
		results = s.awaitStarted(t, known, "often", len(started(results))+3)
	}
	s.pauseSchedule(t, "often")
	eventually(t, "no firing waits", func() bool {
		c, err := s.js.Consumer(t.Context(), stream.Schedules, stream.ScheduleConsumer)
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
	})
	results = resultsOf(t, known, "often")
	lost := 0
	for i, r := range results[1:] {
		if r.Outcome != schedule.Started && r.Outcome != schedule.Skipped {
			t.Errorf("%s: got %+v", r.Planned, r)
		}
		lost += int(r.Planned.Sub(results[i].Planned)/time.Second) - 1
	}
	// The server makes one firing of those that were due while it was away.
	t.Logf("of %d runs, and %d that were due while the server was away, %d were started", len(results), lost, len(started(results)))
	if lost > 30 {
		t.Errorf("%d runs are not on record", lost)
	}
	s.wantOneBootForEachStarted(t, w, results)
}

// What was due while no worker ran is done by the first that comes within its time, and said to be missed after it.
func TestProcess_RunThatWasDueWithoutAWorker(t *testing.T) {
	t.Parallel()
	s := newScene(t, simulated.Config{RestartMax: 20 * time.Millisecond})
	due := time.Now().Add(3 * time.Second).Truncate(time.Second)
	at := due.Format(time.RFC3339)
	s.schedule(t, "soon", "--at", at, "--valid-for", "1s", "--", "restart", "cattle-1")
	s.schedule(t, "later", "--at", at, "--valid-for", "1h", "--", "restart", "cattle-2")
	time.Sleep(time.Until(due.Add(1500 * time.Millisecond))) // nobody is there
	w := s.startWorker(t, "worker")
	known := s.schedules(t)
	if r := s.awaitResults(t, known, "soon", 1)[0]; r.Outcome != schedule.Missed || !strings.Contains(r.Why, "no worker took it") {
		t.Errorf("got %+v", r)
	}
	r := s.awaitResults(t, known, "later", 1)
	if r[0].Outcome != schedule.Started || !r[0].Planned.Equal(due) {
		t.Errorf("got %+v", r)
	}
	s.awaitBoots(t, 1)
	s.wantOneBootForEachStarted(t, w, r)
	if n := s.fleet.BootsOf(hostOf("cattle-1")); n != 0 {
		t.Error("the run that was missed was done")
	}
}

// A worker that may not publish for a group says so in the run's result, and goes on.
func TestProcess_RunThatIsNotPermittedIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := newGuardedScene(t, "mandrill.restart.web.>", "mandrill.campaign.web.>")
	w := s.startWorker(t, "worker")
	for _, group := range []restart.Group{"web", restart.DefaultGroup} {
		if _, err := stream.EnsureConsumer(t.Context(), s.js, group, stream.Settings{AckWait: time.Minute, Budget: 1}); err != nil {
			t.Fatal(err)
		}
	}
	known := s.schedules(t)
	s.schedule(t, "single", "--every", "24h", "--", "restart", "cattle-1", "--group", "web")
	s.schedule(t, "rolling", "--every", "24h", "--", "roll", "cattle-2", "--group", "web")
	s.schedule(t, "allowed", "--every", "24h", "--", "restart", "cattle-3")
	for _, name := range []string{"single", "rolling", "allowed"} {
		s.do(t, "schedule", "run-now", name)
	}
	for _, name := range []string{"single", "rolling"} {
		if r := s.awaitResults(t, known, name, 1)[0]; r.Outcome != schedule.Refused || !strings.Contains(strings.ToLower(r.Why), "permission") {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	if r := s.awaitResults(t, known, "allowed", 1)[0]; r.Outcome != schedule.Started {
		t.Errorf("got %+v", r)
	}
	s.awaitBoots(t, 1)
	w.stop(t)
	s.wantWithdrawn(t, "permission")
}

// wantWithdrawn wants one campaign that is over, with nothing asked for, because of that.
func (s *scene) wantWithdrawn(t *testing.T, why string) {
	t.Helper()
	docs := s.campaigns(t)
	ids, err := docs.List(t.Context())
	if err != nil || len(ids) != 1 {
		t.Fatalf("got campaigns %v, %v; want one", ids, err)
	}
	c, err := docs.Load(t.Context(), ids[0])
	if err != nil || c.Progress.State != campaign.Aborted || !strings.Contains(strings.ToLower(c.Progress.Why), why) || c.Progress.Counts().Pending != 1 {
		t.Errorf("got %+v, %v; want it aborted, with nothing asked for", c.Progress, err)
	}
}

// Whoever may not hand a campaign in is told so, and leaves nothing behind that looks as if it were still to come.
func TestProcess_RollThatIsNotPermittedIsWithdrawn(t *testing.T) {
	t.Parallel()
	s, _ := newGuardedScene(t, "mandrill.campaign.default.>")
	w := s.startWorker(t, "worker")
	p := run(t, "roll", nil, "", "roll", "cattle-1", "--nats", s.url)
	p.wantExit(t, exitFailed)
	if text := p.stderr.String(); !strings.Contains(strings.ToLower(text), "permission") || !strings.Contains(text, "withdrawn") {
		t.Errorf("got %s", text)
	}
	w.stop(t)
	s.wantWithdrawn(t, "handed in")
}

// Whoever is given what the manual says, and nothing more, can do everything with schedules.
func TestPermissions_OfSchedulesSuffice(t *testing.T) {
	t.Parallel()
	s := &scene{url: startRestricted(t, allowedBy(t, "schedule"))}
	admin := &scene{url: strings.Replace(s.url, "publisher:", "admin:", 1)}
	admin.connect(t)
	admin.schedules(t)
	s.schedule(t, "often", "--every", "24h", "--", "roll", "cattle-1")
	for _, verb := range []string{"show", "pause", "resume", "run-now", "remove"} {
		s.do(t, "schedule", verb, "often")
	}
	if out := s.do(t, "schedule", "list", "--output", "json"); strings.TrimSpace(out) != `{"schedules":[]}` {
		t.Errorf("got %s", out)
	}
}
