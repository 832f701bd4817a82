package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const takenUp = "campaign taken up" // what a worker says when it begins to drive one

// roll begins a campaign over the instances, in another process.
func (s *scene) roll(t *testing.T, instances []string, args ...string) (id uuid.UUID) {
	t.Helper()
	args = append([]string{"roll", "--stdin", "--yes", "--output", "json", "--nats", s.url, "--settle", "0s"}, args...)
	p := run(t, "roll", nil, strings.Join(instances, "\n"), args...)
	p.wantExit(t, exitDone)
	var begun struct {
		Campaign uuid.UUID `json:"campaign"`
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &begun); err != nil || begun.Campaign == uuid.Nil {
		t.Fatalf("roll printed %q: %v", p.stdout.Bytes(), err)
	}
	return begun.Campaign
}

// campaigns are the documents of the campaigns, as the test sees them for itself.
func (s *scene) campaigns(t *testing.T) (docs *campaign.Documents) {
	t.Helper()
	eventually(t, "documents of the campaigns", func() bool { // also from a server that has just been started
		campaigns, err := s.js.KeyValue(t.Context(), stream.CampaignBucket)
		if err != nil {
			return false
		}
		control, err := s.js.KeyValue(t.Context(), stream.Control)
		if err == nil {
			docs, err = campaign.NewDocuments(s.js, campaigns, control)
		}
		return err == nil
	})
	return docs
}

// awaitCampaign waits until a campaign is as it should be, for as long as it takes a large one.
func (s *scene) awaitCampaign(t *testing.T, id uuid.UUID, what string, ready func(campaign.Progress) bool) campaign.Campaign {
	t.Helper()
	docs := s.campaigns(t)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * poll) { // each look loads all of it
		c, err := docs.Load(t.Context(), id)
		switch {
		case err == nil && ready(c.Progress):
			return c
		case time.Now().After(deadline):
			t.Fatalf("campaign %s is not %s within %s: %+v, %v", id, what, patience, c.Progress, err)
		}
	}
}

func isOver(p campaign.Progress) bool { return p.State.Final() }

// report is what the program says has become of a campaign's hosts.
func (s *scene) report(t *testing.T, id uuid.UUID) (r campaign.Report) {
	t.Helper()
	text := s.do(t, "campaign", "report", id.String(), "--output", "json", "--database", s.database)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("cannot read the report: %v: %s", err, text)
	}
	return r
}

// wantExactReport wants the report to say of each host what the host itself says. It returns how many ended how.
func (s *scene) wantExactReport(t *testing.T, id uuid.UUID, instances []string) (ended map[string]int) {
	t.Helper()
	ended = map[string]int{}
	rows := map[restart.Host]campaign.Row{}
	for _, row := range s.report(t, id).Rows {
		ended[strings.TrimSuffix(row.Outcome+" "+string(row.Reason), " ")]++
		rows[row.Host] = row
	}
	for _, instance := range instances {
		row, there := rows[hostOf(instance)]
		boots := 0
		if row.Outcome == string(restart.Restarted) || row.Reason == restart.ReasonNotReady {
			boots = 1
		}
		if n := s.fleet.BootsOf(hostOf(instance)); !there || n != boots || n == 1 && row.From == row.To {
			t.Errorf("%s booted %d times, and the report has %+v", instance, n, row)
		}
	}
	return ended
}

// A driverHunt kills the workers that drive a campaign.
type driverHunt struct {
	scene   *scene
	args    []string
	steps   []string // at which those stand still that are still to come
	workers []*process
	started int
}

func (h *driverHunt) start(t *testing.T) {
	t.Helper()
	var environ []string
	if h.started < len(h.steps) && h.steps[h.started] != "" {
		environ = []string{holdVariable + "=" + h.steps[h.started]}
	}
	h.started++
	h.workers = append(h.workers, h.scene.startWorkerWith(t, fmt.Sprintf("worker %d", h.started), environ, h.args...))
}

// driver returns the worker that drives the campaign. The others that have said so are dead.
func (h *driverHunt) driver(t *testing.T) (driver *process) {
	t.Helper()
	eventually(t, "a worker drives the campaign", func() bool {
		i := slices.IndexFunc(h.workers, func(w *process) bool { return len(w.said(says(takenUp))) > 0 })
		if i >= 0 {
			driver = h.workers[i]
		}
		return i >= 0
	})
	return driver
}

func (h *driverHunt) kill(t *testing.T, w *process) {
	t.Helper()
	w.kill(t)
	h.workers = slices.DeleteFunc(h.workers, func(other *process) bool { return other == w })
}

// The fear: whoever drives a campaign dies, and its hosts are forgotten, restarted twice, or all down at once.
func TestProcess_CampaignComesToItsEndHoweverOftenItsDriverIsKilled(t *testing.T) {
	t.Parallel()
	const (
		count, workers = 300, 3
		most           = 20
		down           = 300 * time.Millisecond
	)
	s := newScene(t, simulated.Config{RestartMin: down, RestartMax: down})
	s.usePostgres(t)
	hunt := &driverHunt{
		scene: s, args: []string{"--log-level", "info", "--ack-wait", "2s", "--budget", "100"},
		steps: []string{
			stepBatchWritten, stepBatchPublishing, "", stepBatchPublishing, stepBatchWritten, "", stepBatchWritten, "", stepBatchPublishing, "",
		},
	}
	for range workers {
		hunt.start(t)
	}
	hosts := instances("rolled", count)
	id := s.roll(t, hosts, "--batch", "1,5%,25%", "--max-unavailable", fmt.Sprint(most))

	const kills = 10
	held := 0
	for range kills {
		driver := hunt.driver(t)
		if holds := slices.ContainsFunc(driver.cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, holdVariable) }); holds {
			driver.awaitLine(t, "the driver stands still", says(heldAtStep))
			held++
		} else {
			time.Sleep(rand.N(1500 * time.Millisecond)) // any moment will do
		}
		hunt.kill(t, driver)
		hunt.start(t)
	}
	if c, err := s.campaigns(t).Load(t.Context(), id); err != nil || isOver(c.Progress) {
		t.Fatalf("the campaign was over before all were killed: %+v, %v", c.Progress, err)
	}
	// Those that are left may be told to stand still too.
	for range workers {
		hunt.kill(t, hunt.workers[0])
		hunt.start(t)
	}
	c := s.awaitCampaign(t, id, "over", isOver)
	s.awaitEmpty(t)
	for _, w := range hunt.workers {
		w.stop(t)
	}
	if n := c.Progress.Counts().Ended[restart.Restarted]; c.Progress.State != campaign.Ended || n != count {
		t.Errorf("the campaign is %s, with %d of %d restarted", c.Progress.State, n, count)
	}
	s.wantEachRestartedOnce(t, hosts)
	if n := s.mostDownAtOnce(t, hosts, down); n > most {
		t.Errorf("%d hosts were down at once, want %d at most", n, most)
	} else {
		t.Logf("%d drivers were killed, %d of them at a step; %d hosts were down at once at most", kills, held, n)
	}
	s.wantExactReport(t, id, hosts)
}

// The fear: the driver hangs, people give the campaign up, and then it comes back and restarts the next batch.
func TestProcess_DriverThatWasStoppedTriggersNothingAfterTheAbort(t *testing.T) {
	t.Parallel()
	const count = 40
	s := newScene(t, simulated.Config{RestartMin: 50 * time.Millisecond, RestartMax: 100 * time.Millisecond})
	s.usePostgres(t)
	// The third batch is written down, and not yet published, when the process stops.
	args := []string{"--log-level", "info", "--ack-wait", "2s"}
	stopped := s.startWorkerWith(t, "driver", []string{stopPublishVariable + "=3"}, args...)
	hosts := instances("given-up", count)
	id := s.roll(t, hosts, "--batch", "1,3,8", "--max-unavailable", "8")
	stopped.awaitCount(t, 1, takenUp)
	other := s.startWorker(t, "other worker", args...)
	s.awaitBoots(t, 4)
	s.awaitCampaign(t, id, "at its third batch", func(p campaign.Progress) bool { return len(p.Batches) == 3 })

	s.do(t, "campaign", "abort", id.String(), "--reason", "wrong image", "--database", s.database)
	before := s.fleet.Boots()
	c := s.awaitCampaign(t, id, "over", isOver)
	if c.Progress.State != campaign.Aborted {
		t.Errorf("the campaign is %s: %s", c.Progress.State, c.Progress.Why)
	}
	published := s.messagesEver(t)
	stopped.signal(t, syscall.SIGCONT)
	eventually(t, "the driver publishes its batch", func() bool { return s.messagesEver(t) > published })
	s.awaitEmpty(t)
	if after := s.fleet.Boots(); after != before {
		t.Errorf("%d hosts booted after the abort", after-before)
	}
	for _, o := range s.outcomes(t) {
		if o.Kind != restart.Restarted && o.Reason != restart.ReasonAborted {
			t.Errorf("%s ended %s: %s", o.Host, o.Kind, o.Detail)
		}
	}
	ended := s.wantExactReport(t, id, hosts)
	if ended["restarted verified"] != before || ended["cancelled aborted"] != 8 || ended[campaign.NotAsked] != count-before-8 {
		t.Errorf("got %v, want %d restarted, the batch of 8 cancelled and no other asked for", ended, before)
	}
	stopped.stop(t)
	other.stop(t)
}

// messagesEver returns how many requests the work stream has ever taken.
func (s *scene) messagesEver(t *testing.T) uint64 {
	t.Helper()
	info, err := s.streamInfo(t, stream.Work)
	if err != nil {
		return 0
	}
	return info.State.LastSeq
}

// The fear: the service burns, and the campaign goes on.
func TestProcess_CheckThatTurnsBadStopsTheCampaign(t *testing.T) {
	const (
		count = 80
		cause = control.Cause("monitor-checkout")
	)
	for _, then := range []string{"Resumed", "Aborted"} {
		t.Run(then, func(t *testing.T) {
			t.Parallel()
			service := startWatched(t)
			s := newScene(t, simulated.Config{RestartMin: 300 * time.Millisecond, RestartMax: 600 * time.Millisecond})
			s.usePostgres(t)
			file := configFile(t, fmt.Sprintf(`
monitors:
  checkout: {type: http, url: %q, every: %s, failures: %d}
`, service.URL, checkEvery, checkFailures))
			var all []*process
			for i := range 3 {
				all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--log-level", "info", "--ack-wait", "2s", "--config", file))
			}
			hosts := instances("checked", count)
			id := s.roll(t, hosts, "--batch", "2,4,60%", "--max-unavailable", "5", "--settle", "500ms")
			s.awaitCampaign(t, id, "in its third batch", func(p campaign.Progress) bool { return len(p.Batches) == 3 })
			s.awaitBoots(t, 10)

			service.bad.Store(true)
			turned := time.Now()
			s.wantPausedWithin(t, cause, turned, pausedWithin)
			s.awaitAgreed(t)
			before := s.fleet.Boots()
			if before >= count {
				t.Fatal("there was nothing left to stop")
			}
			c := s.awaitCampaign(t, id, "paused", func(p campaign.Progress) bool { return p.State == campaign.Paused })
			if !strings.Contains(c.Progress.Waits, string(cause)) {
				t.Errorf("the campaign waits for %q, which does not name the check", c.Progress.Waits)
			}
			time.Sleep(time.Second) // in which nothing must happen
			if after := s.fleet.Boots(); after != before {
				t.Errorf("%d hosts booted after the pause was confirmed", after-before)
			}

			if then == "Aborted" {
				s.do(t, "campaign", "abort", id.String(), "--reason", "it burns", "--database", s.database)
				c := s.awaitCampaign(t, id, "over", isOver)
				ended := s.wantExactReport(t, id, hosts)
				if ended["restarted verified"] != before || len(ended) > 3 ||
					ended["restarted verified"]+ended["cancelled aborted"]+ended[campaign.NotAsked] != count || c.Progress.State != campaign.Aborted {
					t.Errorf("the campaign is %s, and hosts ended %v, want it aborted, with %d restarted", c.Progress.State, ended, before)
				}
			}
			service.bad.Store(false)
			s.do(t, "resume", string(restart.DefaultGroup))
			s.awaitEmpty(t)
			want := before
			if then == "Resumed" {
				if c := s.awaitCampaign(t, id, "over", isOver); c.Progress.State != campaign.Ended {
					t.Errorf("the campaign is %s: %s", c.Progress.State, c.Progress.Why)
				}
				want = count
			}
			for _, w := range all {
				w.stop(t)
			}
			if n := s.wantExactReport(t, id, hosts)["restarted verified"]; n != want || s.fleet.Boots() != want {
				t.Errorf("%d hosts are reported as restarted and %d booted, want %d", n, s.fleet.Boots(), want)
			}
		})
	}
}

// The fear: no host comes back, and the campaign goes on to the next.
func TestProcess_CampaignEndsAfterTooManyFailures(t *testing.T) {
	t.Parallel()
	const count, batch = 100, 10
	s := newScene(t, simulated.Config{RestartMax: time.Nanosecond})
	s.usePostgres(t)
	s.makeMoody(t, unready)
	var all []*process
	for i := range 3 {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i),
			"--log-level", "info", "--ack-wait", "2s", "--budget", "2", "--stop-after", "1000", "--verify-timeout", "2s"))
	}
	hosts := instances("failing", count)
	id := s.roll(t, hosts, "--batch", fmt.Sprint(batch), "--max-unavailable", "20", "--stop-after", "5%")
	c := s.awaitCampaign(t, id, "over", isOver)
	booted := s.fleet.Boots()
	s.awaitEmpty(t)
	for _, w := range all {
		w.stop(t)
	}
	if c.Progress.State != campaign.Aborted || !strings.Contains(c.Progress.Why, "stop_after is 5%") {
		t.Errorf("the campaign is %s: %q", c.Progress.State, c.Progress.Why)
	}
	// With two at a time, six have failed before the fifth failure can be seen, and two more are on their way then.
	ended := s.wantExactReport(t, id, hosts)
	failed, cancelled := ended["dead not_ready"], ended["cancelled aborted"]
	if failed < 5 || failed > 8 || failed+cancelled != batch || ended[campaign.NotAsked] != count-batch || s.fleet.Boots() != booted || booted != failed {
		t.Errorf("%d hosts booted, %d of them after the campaign was over, and they ended %v; want 5 to 8 dead and the rest of the batch cancelled",
			s.fleet.Boots(), s.fleet.Boots()-booted, ended)
	}
}

// The fear: a worker that is stopped keeps its campaign until its lease is over, or nobody hears that one has ended.
func TestProcess_CampaignOfAWorkerThatIsStoppedGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	const count = 20
	in := startInbox(t)
	s := newScene(t, simulated.Config{RestartMin: 50 * time.Millisecond, RestartMax: 100 * time.Millisecond})
	s.usePostgres(t)
	args := []string{"--log-level", "info", "--ack-wait", "1m", "--config", configFile(t, fmt.Sprintf("notify: {url: %q, every: 1ms}\n", in.URL))}
	first := s.startWorker(t, "first worker", args...)
	hosts := instances("handed-on", count)
	id := s.roll(t, hosts, "--batch", "1", "--max-unavailable", "1")
	first.awaitCount(t, 1, takenUp)
	s.awaitBoots(t, 2)
	second := s.startWorker(t, "second worker", args...)
	first.signal(t, syscall.SIGTERM)
	stopped := time.Now()
	taken := second.awaitLine(t, takenUp, says(takenUp))
	if took := taken.Time.Sub(stopped); took > 15*time.Second { // a second, and more on a busy machine; its lease is a minute
		t.Errorf("it was taken up after %s, want at once", took)
	}
	first.wantExit(t, exitDone)
	s.awaitCampaign(t, id, "over", isOver)
	s.awaitEmpty(t)
	eventually(t, "notification of the end", func() bool {
		return in.about("Campaign "+id.String(), "ended", fmt.Sprintf("%d restarted", count)) > 0
	})
	second.stop(t)
	s.wantEachRestartedOnce(t, hosts)
	if n := in.about("Campaign"); n != 1 {
		t.Errorf("people were told %d times, want once", n)
	}
}

// The fear: somebody asked for a host by hand, and the campaign restarts it a second time, or waits for it for ever.
func TestProcess_HostThatIsQueuedAlreadyCountsAsThatRequest(t *testing.T) {
	t.Parallel()
	const count, byHand = 12, 6
	s := newScene(t, simulated.Config{RestartMin: time.Second, RestartMax: time.Second})
	w := s.startWorker(t, "worker", "--log-level", "info", "--ack-wait", "2s", "--budget", "1")
	hosts := instances("asked", count)
	s.publish(t, hosts[:byHand]) // which takes the group six seconds
	id := s.roll(t, hosts, "--batch", "10", "--max-unavailable", "10")
	c := s.awaitCampaign(t, id, "over", isOver)
	s.awaitEmpty(t)
	w.stop(t)
	others := 0
	for i, row := range s.report(t, id).Rows {
		boots := 1
		switch {
		case row.Other:
			others++
		case i < byHand: // it had booted before the campaign came to it
			boots = 2
		}
		if n := s.fleet.BootsOf(row.Host); n != boots || row.Outcome != string(restart.Restarted) {
			t.Errorf("%s booted %d times, want %d, and the report has %+v", row.Host, n, boots, row)
		}
	}
	if others < byHand/2 || c.Progress.State != campaign.Ended {
		t.Errorf("the campaign is %s, and %d hosts count as other requests, want most of %d", c.Progress.State, others, byHand)
	}
}

// The fear: the server dies while a batch is published, and the campaign waits for ever, or begins anew.
func TestProcess_CampaignOutlivesTheServerThatIsKilled(t *testing.T) {
	t.Parallel()
	const (
		count, most = 120, 10
		down        = 200 * time.Millisecond
	)
	s := newScene(t, simulated.Config{RestartMin: down, RestartMax: down})
	s.usePostgres(t)
	var all []*process
	for i := range 2 {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--log-level", "info", "--ack-wait", "2s"))
	}
	hosts := instances("outlived", count)
	id := s.roll(t, hosts, "--batch", "10", "--max-unavailable", fmt.Sprint(most))
	for n := range 4 {
		s.awaitBoots(t, 10+20*n)
		time.Sleep(rand.N(time.Second)) // any moment will do
		s.server.kill(t)
		s.startServer(t)
	}
	c := s.awaitCampaign(t, id, "over", isOver)
	s.awaitEmpty(t)
	for _, w := range all {
		w.stop(t)
	}
	if c.Progress.State != campaign.Ended {
		t.Errorf("the campaign is %s: %s", c.Progress.State, c.Progress.Why)
	}
	s.wantEachRestartedOnce(t, hosts)
	if n := s.mostDownAtOnce(t, hosts, down); n > most {
		t.Errorf("%d hosts were down at once, want %d at most", n, most)
	}
	s.wantExactReport(t, id, hosts)
}
