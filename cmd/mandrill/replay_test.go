package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// newReplay returns options of a replay called x.
func newReplay() replayOptions {
	out := outputText
	return replayOptions{name: "x", askAgain: askAgain{requestedBy: "me"}, out: &out}
}

func newPlan(db store.Store, o replayOptions) *replayPlan {
	return &replayPlan{db: db, name: o.name, again: o.again}
}

// planned returns the plan's steps as "status host oldid", with the ids by their numbers.
func planned(t *testing.T, p *replayPlan) []string {
	t.Helper()
	var lines []string
	for s, err := range p.steps(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := restart.ReplayID(s.Old.ID, p.name); s.ID != want {
			t.Errorf("%s: got new id %s, want %s", s.Old.ID, s.ID, want)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", s.Status, s.Old.Host, strings.TrimLeft(s.Old.ID.String()[24:], "0")))
	}
	return lines
}

func wantPlan(t *testing.T, p *replayPlan, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, planned(t, p)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

var allBefore = noon.Add(time.Hour)

func TestReplay_NewRequestIsTheOldOneAskedForNow(t *testing.T) {
	t.Parallel()
	old := stored(1, "a.example.net")
	old.Instance, old.MinUptime, old.Campaign, old.RequeuedFrom = "a", restart.Duration(time.Hour), "c", "q"
	old.Raw = []byte(`{"colour":"red"}`)
	now := noon.Add(400 * 24 * time.Hour)
	o := newReplay()
	want := restart.Request{
		ID: restart.ReplayID(old.ID, "x"), ReplayOf: old.ID.String(),
		Instance: "a", Host: "a.example.net", Group: "web", MinUptime: restart.Duration(time.Hour),
		Reason: "leaks", RequestedBy: "me", RequestedAt: now, NotAfter: now.Add(24 * time.Hour),
	}
	for _, tt := range []struct {
		name   string
		change func()
	}{
		{"as it was", func() {}},
		{"another reason", func() { o.reason, want.Reason = "once more", "once more" }},
		{"another end", func() { o.notAfter, want.NotAfter = "2h", now.Add(2*time.Hour) }},
	} {
		tt.change()
		got, err := o.again(old, now)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: request (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A host takes one request at a time: a second would be sent as soon as the first has ended, and restart it again.
func TestReplay_SendsOnlyTheLatestOfAHost(t *testing.T) {
	t.Parallel()
	requests := []restart.Request{
		stored(1, "a.example.net"), stored(2, "b.example.net"), stored(3, "a.example.net"), stored(4, "a.example.net"),
	}
	requests[0].Group = "other" // a host is the same host in every group
	db := newMemory(t, requests)
	p := newPlan(db, newReplay())
	p.chooseFilter(store.Filter{}, allBefore)
	want := []string{
		"would_publish a.example.net 4", "superseded a.example.net 3", "would_publish b.example.net 2", "superseded a.example.net 1",
	}
	wantPlan(t, p, want...)
	wantPlan(t, p, want...) // once to count, once to send

	byID := newPlan(db, newReplay())
	if err := byID.chooseIDs(t.Context(), []uuid.UUID{idOf(1), idOf(3), idOf(2), idOf(3)}); err != nil {
		t.Fatal(err)
	}
	wantPlan(t, byID, "would_publish a.example.net 3", "would_publish b.example.net 2", "superseded a.example.net 1")
}

// The replay's own requests are saved into the same database, while it runs and before it is run again. To choose them
// too would restart every host once more with every run.
func TestReplay_RunAgainChoosesTheSame(t *testing.T) {
	t.Parallel()
	o := newReplay()
	a, b := stored(1, "a.example.net"), stored(2, "b.example.net")
	began := noon.Add(time.Minute)
	newA, err := o.again(a, began)
	if err != nil {
		t.Fatal(err)
	}
	newB, err := o.again(b, began)
	if err != nil {
		t.Fatal(err)
	}
	meanwhile := stored(90, "c.example.net") // somebody else's, between counting and sending
	db := newMemory(t, []restart.Request{a, b, newA, newB, meanwhile}, ended(newA, restart.Restarted, restart.ReasonVerified))
	for _, filter := range []store.Filter{{}, {Limit: 2}, {Since: noon}, {Until: noon.Add(365 * 24 * time.Hour)}} {
		during := newPlan(db, o)
		during.chooseFilter(filter, began)
		wantPlan(t, during, "would_publish b.example.net 2", "already_done a.example.net 1")
		filter.Until = began
		later := newPlan(db, o)
		later.chooseFilter(filter, began.Add(time.Hour))
		wantPlan(t, later, "would_publish b.example.net 2", "already_done a.example.net 1")
	}
	p := newPlan(db, o)
	if err := p.chooseIDs(t.Context(), []uuid.UUID{newA.ID}); err == nil || !strings.Contains(err.Error(), newA.ID.String()) {
		t.Errorf("got %v, want an error that names the id of what this replay made", err)
	}

	// Under another name, the replays are requests like others, and the latest.
	o.name = "y"
	other := newPlan(db, o)
	other.chooseFilter(store.Filter{Until: began.Add(time.Second)}, began.Add(time.Hour))
	if got := planned(t, other); len(got) != 4 || strings.Count(strings.Join(got, "\n"), "superseded") != 2 {
		t.Errorf("got %q, want two to be sent, and two superseded", got)
	}
}

// Where the latest request of a host is done, an earlier one must not take its place.
func TestReplay_HostThatIsDoneIsDone(t *testing.T) {
	t.Parallel()
	o := newReplay()
	earlier, later := stored(1, "a.example.net"), stored(2, "a.example.net")
	again, err := o.again(later, noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	db := newMemory(t, []restart.Request{earlier, later}, ended(again, restart.Dead, restart.ReasonNotReady))
	p := newPlan(db, o)
	p.chooseFilter(store.Filter{}, allBefore)
	wantPlan(t, p, "already_done a.example.net 2", "superseded a.example.net 1")
}

func TestReplay_SkipsWhatCannotBeAskedForAgain(t *testing.T) {
	t.Parallel()
	foreign, good := stored(1, "NOT a host"), stored(2, "b.example.net")
	foreign.Group = "web"
	unread := restart.Outcome{ID: idOf(3), Host: "b.example.net", Group: "web", Kind: restart.Dead, Reason: restart.ReasonMalformed, At: noon}
	db := newMemory(t, []restart.Request{foreign, good}, unread)
	p := newPlan(db, newReplay())
	if err := p.chooseIDs(t.Context(), []uuid.UUID{idOf(1), idOf(2), idOf(3)}); err != nil {
		t.Fatal(err)
	}
	wantPlan(t, p, "would_publish b.example.net 2", "skipped NOT a host 1", "skipped b.example.net 3")
	if n, err := p.count(t.Context()); n != 1 || err != nil {
		t.Errorf("got %d to send, %v, want 1", n, err)
	}
	if err := p.chooseIDs(t.Context(), []uuid.UUID{idOf(2), idOf(9)}); err == nil || !strings.Contains(err.Error(), idOf(9).String()) {
		t.Errorf("got %v, want an error that names the unknown id", err)
	}
}

// A database that fails must not look like one that has less.
func TestReplay_PlanEndsWithTheDatabasesError(t *testing.T) {
	t.Parallel()
	for _, method := range []string{storetest.History, storetest.Outcome} {
		db := newMemory(t, []restart.Request{stored(1, "a.example.net")})
		db.Before = func(_ context.Context, c storetest.Call) error {
			if c.Method == method {
				return errBroken
			}
			return nil
		}
		p := newPlan(db, newReplay())
		p.chooseFilter(store.Filter{}, allBefore)
		if _, err := p.count(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("%s: got %v", method, err)
		}
	}
}

// A door is a publisher and its stream.
type door struct {
	mu     sync.Mutex
	sent   []time.Time
	answer func(publisher.Request) publisher.Result
}

func (d *door) publish(ctx context.Context, r publisher.Request, report func(publisher.Result)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, time.Now())
	result := publisher.Result{Request: r, Status: publisher.Confirmed}
	if d.answer != nil {
		result = d.answer(r)
	}
	go report(result)
	return nil
}

func newSender(d *door, o replayOptions, report *replayReport) *replaySender {
	return &replaySender{
		publish: d.publish, again: o.again, pace: newPace(o.rate), report: report.add,
	}
}

// stepsOf returns n steps to be sent.
func stepsOf(n int) iter.Seq2[replayStep, error] {
	return func(yield func(replayStep, error) bool) {
		for i := range n {
			old := stored(i, restart.Host(fmt.Sprintf("host-%d.example.net", i)))
			if !yield(replayStep{Old: old, ID: restart.ReplayID(old.ID, "x"), Status: replayPlanned}, nil) {
				return
			}
		}
	}
}

func TestReplay_KeepsToItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, o := &door{}, newReplay()
		o.rate = 10
		report := newReplayReport(&bytes.Buffer{}, o)
		slow := func(yield func(replayStep, error) bool) {
			n := 0
			for s, err := range stepsOf(100) {
				if n++; n == 50 {
					time.Sleep(time.Minute) // a database that is away for a moment
				}
				if !yield(s, err) {
					return
				}
			}
		}
		if err := newSender(d, o, report).run(t.Context(), slow, report.add); err != nil {
			t.Fatal(err)
		}
		if len(d.sent) != 100 {
			t.Fatalf("got %d sent, want 100", len(d.sent))
		}
		for i, at := range d.sent[1:] {
			if gap := at.Sub(d.sent[i]); gap < 100*time.Millisecond {
				t.Errorf("request %d was sent %s after the one before", i+1, gap)
			}
		}
	})
}

// Whoever stops a replay wants it stopped now, and to know how far it came.
func TestReplay_StoppedReportsHowFarItCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("stopped by SIGINT")
		ctx, stop := context.WithCancelCause(t.Context())
		d, o := &door{}, newReplay()
		o.rate = 1
		time.AfterFunc(4500*time.Millisecond, func() { stop(cause) })
		var w bytes.Buffer
		report := newReplayReport(&w, o)
		began := time.Now()
		stopped := newSender(d, o, report).run(ctx, stepsOf(100), report.add)
		if took := time.Since(began); !errors.Is(stopped, cause) || took != 4500*time.Millisecond {
			t.Errorf("got %v after %s", stopped, took)
		}
		err := report.result(stopped)
		if exitCode(err) != exitPartly || !strings.Contains(err.Error(), "--name x") {
			t.Errorf("got %v, want a partly done that says how to go on", err)
		}
		if !strings.HasSuffix(w.String(), "\npublished 5, already queued 0, already done 0, superseded 0, skipped 0, failed 0\n") {
			t.Errorf("got %q", w.String())
		}
	})
}

func TestReplay_ExitCodeTellsWhatFailed(t *testing.T) {
	t.Parallel()
	failing := func(publisher.Request) publisher.Result {
		return publisher.Result{Status: publisher.Failed, Err: errBroken}
	}
	second := func(r publisher.Request) publisher.Result {
		if strings.HasPrefix(string(r.Host), "host-1.") {
			return failing(r)
		}
		return publisher.Result{Request: r, Status: publisher.AlreadyQueued, QueuedID: idOf(9), QueuedPhase: publisher.PhaseRestarting}
	}
	for _, tt := range []struct {
		name   string
		n      int
		answer func(publisher.Request) publisher.Result
		want   int
	}{
		{"nothing to do", 0, nil, exitDone},
		{"all published", 3, nil, exitDone},
		{"some failed", 3, second, exitPartly},
		{"all failed", 3, failing, exitFailed},
	} {
		d, o := &door{answer: tt.answer}, newReplay()
		report := newReplayReport(&bytes.Buffer{}, o)
		err := report.result(newSender(d, o, report).run(t.Context(), stepsOf(tt.n), report.add))
		if got := exitCode(err); got != tt.want {
			t.Errorf("%s: got exit code %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
}

func TestReplay_WhatAnEarlierRunHasSentIsAlreadyQueued(t *testing.T) {
	t.Parallel()
	d, o := &door{answer: func(r publisher.Request) publisher.Result {
		return publisher.Result{Request: r, Status: publisher.Confirmed, Duplicate: r.Host == "host-1.example.net"}
	}}, newReplay()
	var w bytes.Buffer
	report := newReplayReport(&w, o)
	if err := report.result(newSender(d, o, report).run(t.Context(), stepsOf(2), report.add)); err != nil {
		t.Error(err)
	}
	id := restart.ReplayID(idOf(1), "x").String()
	for _, want := range []string{
		"host-1.example.net\talready_queued\t" + id + "\t" + id + " is queued\n", "\npublished 1, already queued 1, ",
	} {
		if !strings.Contains("\n"+w.String(), want) {
			t.Errorf("want %q in\n%s", want, w.String())
		}
	}
}

func TestReplayReport_JSONIsOneObject(t *testing.T) {
	t.Parallel()
	type told struct {
		Name     string       `json:"name"`
		DryRun   bool         `json:"dry_run"`
		Requests []replayLine `json:"requests"`
	}
	for _, dryRun := range []bool{false, true} {
		for n := range 3 {
			o := newReplay()
			*o.out, o.dryRun = outputJSON, dryRun
			var w bytes.Buffer
			report := newReplayReport(&w, o)
			for s := range stepsOf(n) {
				if !dryRun {
					s.Status = replayPublished
				}
				report.add(newReplayLine(s))
			}
			if err := report.end(); err != nil {
				t.Fatal(err)
			}
			var got told
			var counts map[string]any
			if err := errors.Join(json.Unmarshal(w.Bytes(), &got), json.Unmarshal(w.Bytes(), &counts)); err != nil {
				t.Fatalf("%v: %s", err, w.String())
			}
			key := "published"
			if dryRun {
				key = "would_publish"
			}
			if got.Name != "x" || got.DryRun != dryRun || len(got.Requests) != n || counts[key] != float64(n) {
				t.Errorf("dry run %t: got %+v of %d", dryRun, counts, n)
			}
		}
	}
}
