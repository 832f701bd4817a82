package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// A requeued is the JSON that a requeue prints.
type requeued struct {
	DryRun          bool `json:"dry_run"`
	WouldRequeue    int  `json:"would_requeue"`
	Requeued        int  `json:"requeued"`
	AlreadyRequeued int  `json:"already_requeued"`
	AlreadyQueued   int  `json:"already_queued"`
	Refused         int  `json:"refused"`
	Failed          int  `json:"failed"`
	Letters         []requeueLine
}

func (m *morgue) requeue(t *testing.T, code int, args ...string) (r requeued) {
	t.Helper()
	stdout := m.mustRun(t, code, append([]string{"dead", "requeue", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return r
}

// counts returns the counts alone.
func (r requeued) counts() requeued {
	r.Letters = nil
	return r
}

func wantCounts(t *testing.T, want, got requeued) {
	t.Helper()
	if diff := cmp.Diff(want, got.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s%+v", diff, got.Letters)
	}
}

func TestDeadRequeue_MakesANewRequestOfTheOldOne(t *testing.T) {
	t.Parallel()
	old := stored(1, "a.example.net")
	old.Instance, old.MinUptime, old.Campaign, old.ReplayOf, old.RequeuedFrom = "a", restart.Duration(time.Hour), "c", "r", "q"
	m := newMorgue(t, letterOf(t, 1, old))
	before := time.Now()
	wantCounts(t, requeued{Requeued: 1}, m.requeue(t, exitDone, old.ID.String(), "--requested-by", "me", "--not-after", "2h"))
	got := m.requests(t)
	if len(got) != 1 {
		t.Fatalf("got %d requests, want 1", len(got))
	}
	at := got[0].RequestedAt
	if at.Before(before) || at.After(time.Now()) {
		t.Errorf("requested at %s, which is not now", at)
	}
	want := restart.Request{
		ID: restart.RequeueID(old.ID), RequeuedFrom: old.ID.String(), Instance: "a", Host: "a.example.net", Group: "web",
		Reason: "leaks", MinUptime: restart.Duration(time.Hour), RequestedBy: "me", RequestedAt: at, NotAfter: got[0].NotAfter,
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if lifetime := got[0].NotAfter.Sub(at).Round(time.Second); lifetime != 2*time.Hour {
		t.Errorf("expires %s after it was asked for, want 2h", lifetime)
	}
}

// A letter must never be requeued twice: neither by a second run, nor by one that follows a crash, nor by two at once.
func TestDeadRequeue_LetterIsRequeuedOnce(t *testing.T) {
	t.Parallel()
	const count = 20
	var letters []deadletter.Letter
	for n := range count {
		letters = append(letters, deadHost(t, n+1))
	}
	wantOnce := func(t *testing.T, m *morgue) {
		t.Helper()
		ids := map[uuid.UUID]bool{}
		for _, r := range m.requests(t) {
			ids[r.ID] = true
		}
		if info, err := m.work.Info(t.Context()); err != nil || info.State.LastSeq != count || len(ids) != count {
			t.Errorf("got %d requests with %d ids, %v, want %d", info.State.LastSeq, len(ids), err, count)
		}
		for _, e := range m.letters(t) {
			if e.RequeuedAs != restart.RequeueID(e.Outcome.ID) || !ids[e.RequeuedAs] {
				t.Errorf("%s is marked as requeued as %s", e.Subject, e.RequeuedAs)
			}
		}
	}
	t.Run("a second run", func(t *testing.T) {
		t.Parallel()
		m := newMorgue(t, letters...)
		wantCounts(t, requeued{Requeued: count}, m.requeue(t, exitDone, "--all"))
		wantCounts(t, requeued{AlreadyRequeued: count}, m.requeue(t, exitDone, "--all"))
		wantCounts(t, requeued{AlreadyRequeued: 1}, m.requeue(t, exitDone, idOf(1).String()))
		wantOnce(t, m)
	})
	t.Run("a run that died before the marks", func(t *testing.T) {
		t.Parallel()
		m := newMorgue(t, letters...)
		wantCounts(t, requeued{Requeued: count}, m.requeue(t, exitDone, "--all"))
		for _, e := range m.letters(t) {
			if err := m.dead.DeleteMsg(t.Context(), e.Sequences[1]); err != nil {
				t.Fatal(err)
			}
		}
		wantCounts(t, requeued{Requeued: count}, m.requeue(t, exitDone, "--all"))
		wantOnce(t, m)
	})
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		m := newMorgue(t, letters...)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				got := m.requeue(t, exitDone, "--all")
				wantCounts(t, requeued{Requeued: count - got.AlreadyRequeued, AlreadyRequeued: got.AlreadyRequeued}, got)
			})
		}
		wg.Wait()
		wantOnce(t, m)
		if info, err := m.dead.Info(t.Context()); err != nil || info.State.Msgs != 2*count {
			t.Errorf("got %d messages, %v, want each letter and one mark of it", info.State.Msgs, err)
		}
	})
}

// The host has a request already. The letter keeps, so that it is not lost.
func TestDeadRequeue_LetterOfAHostWithAnotherRequestKeeps(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1), deadHost(t, 2))
	m.mustRun(t, exitDone, "publish", "host-1.example.net", "--group", "web")
	queued := m.requests(t)[0].ID
	got := m.requeue(t, exitDone, "--all")
	wantCounts(t, requeued{Requeued: 1, AlreadyQueued: 1}, got)
	for _, l := range got.Letters {
		if l.Host == "host-1.example.net" && (l.QueuedID != queued || l.QueuedPhase != publisher.PhaseQueued) {
			t.Errorf("got %+v, want it to say that %s is queued", l, queued)
		}
	}
	if err := m.work.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, requeued{Requeued: 1, AlreadyRequeued: 1}, m.requeue(t, exitDone, "--all"))
	if got := m.requests(t); len(got) != 1 || got[0].Host != "host-1.example.net" {
		t.Errorf("got %+v, want the one that waited", got)
	}
}

// Five dead requests for a host must not become five restarts, one after another, as fast as the workers are.
func TestDeadRequeue_SendsOneLetterForEachHost(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	for n := range 5 {
		m.bury(t, letterOf(t, n+1, stored(n+1, "a.example.net")))
	}
	for _, dry := range []bool{true, false} {
		args, want := []string{"--all"}, requeued{Requeued: 1, AlreadyQueued: 4}
		if dry {
			args, want = append(args, "--dry-run"), requeued{DryRun: true, WouldRequeue: 1, AlreadyQueued: 4}
		}
		got := m.requeue(t, exitDone, args...)
		wantCounts(t, want, got)
		for _, l := range got.Letters {
			latest := l.Status == requeuePlanned || l.Status == requeueDone
			if latest != (l.RequeuedFrom == idOf(5)) || !latest && l.QueuedID != restart.RequeueID(idOf(5)) {
				t.Errorf("got %+v, want only the latest to be sent", l)
			}
		}
	}
	if got := m.requests(t); len(got) != 1 || got[0].RequeuedFrom != idOf(5).String() {
		t.Errorf("got %+v, want the latest", got)
	}
}

// The stream takes what has the same id for the same request, whatever its host.
func TestDeadRequeue_LettersUnderOneIDAreNotTakenForOne(t *testing.T) {
	t.Parallel()
	owner, thief := deadHost(t, 1), deadHost(t, 2)
	thief.Outcome.ID, thief.Outcome.Reason = idOf(1), restart.ReasonIDReused
	m := newMorgue(t, owner, thief)
	wantCounts(t, requeued{Requeued: 2}, m.requeue(t, exitDone, idOf(1).String()))
	got := m.requests(t)
	if len(got) != 2 || got[0].ID == got[1].ID || got[0].RequeuedFrom != idOf(1).String() || got[1].RequeuedFrom != idOf(1).String() {
		t.Errorf("got %+v, want a request for each host, with ids of their own", got)
	}
	wantCounts(t, requeued{AlreadyRequeued: 2}, m.requeue(t, exitDone, "--all"))
}

// Its sender has sent the very same request twice: that is one request, and none of its letters is left to be requeued.
func TestDeadRequeue_TwoLettersOfOneRequestAreOneRequest(t *testing.T) {
	t.Parallel()
	first, second := deadHost(t, 1), deadHost(t, 1)
	second.WorkSequence, second.Stored = 9, second.Stored.Add(time.Hour)
	m := newMorgue(t, first, second)
	wantCounts(t, requeued{Requeued: 2}, m.requeue(t, exitDone, "--all"))
	if got := m.requests(t); len(got) != 1 {
		t.Errorf("got %+v, want one", got)
	}
	wantCounts(t, requeued{AlreadyRequeued: 2}, m.requeue(t, exitDone, "--all"))
}

func TestDeadRequeue_RefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	cut, version, subject := deadHost(t, 2), deadHost(t, 3), deadHost(t, 4)
	cut.DataSize = len(cut.Data) + 1
	version.Version = "7"
	subject.WorkSubject = "mandrill.restart.nothing"
	m := newMorgue(t, malformedLetter(1, []byte("hello")), cut, version, subject)
	got := m.requeue(t, exitFailed, "--all")
	wantCounts(t, requeued{Refused: 4}, got)
	var why []string
	for _, l := range got.Letters {
		why = append(why, l.Why)
	}
	for _, want := range []string{"not a request", "only the beginning was kept", `version "7"`, "names no host"} {
		if !slices.ContainsFunc(why, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("there is no %q in %q", want, why)
		}
	}
	m.bury(t, deadHost(t, 5))
	wantCounts(t, requeued{Refused: 4, Requeued: 1}, m.requeue(t, exitPartly, "--all"))
	wantCounts(t, requeued{DryRun: true, Refused: 4, AlreadyRequeued: 1}, m.requeue(t, exitDone, "--all", "--dry-run"))
	for _, e := range m.letters(t) {
		if e.Requeued() != (e.Outcome.ID == idOf(5)) {
			t.Errorf("%s: requeued %t", e.Subject, e.Requeued())
		}
	}
}

// What is dead for a reason of its host's is requeued though a worker could not do it.
func TestDeadRequeue_TakesEveryReason(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	for i, reason := range deadReasons {
		l := deadHost(t, i+1)
		l.Outcome.Reason = reason
		m.bury(t, l)
	}
	wantCounts(t, requeued{Requeued: len(deadReasons)}, m.requeue(t, exitDone, "--all"))
}

func TestDeadRequeue_DryRunChangesNothing(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1), deadHost(t, 2))
	got := m.requeue(t, exitDone, "--reason", "attempts", "--dry-run")
	wantCounts(t, requeued{DryRun: true, WouldRequeue: 2}, got)
	if len(got.Letters) != 2 || got.Letters[0].ID != restart.RequeueID(idOf(2)) {
		t.Errorf("got %+v, want the new ids, of the latest first", got.Letters)
	}
	for _, s := range []string{stream.Work, stream.Dead} {
		if info, err := m.js.Stream(t.Context(), s); err != nil || info.CachedInfo().State.LastSeq != map[string]uint64{stream.Dead: 2}[s] {
			t.Errorf("%s was written to: %+v, %v", s, info.CachedInfo().State, err)
		}
	}
}

func TestDeadRequeue_IDWithoutALetterSendsNothing(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1))
	code, stdout, stderr := m.run(t, "dead", "requeue", idOf(1).String(), idOf(2).String())
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, idOf(2).String()+"; nothing was sent") {
		t.Errorf("got exit code %d, %q and %q", code, stdout, stderr)
	}
	if got := m.requests(t); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// The dead letters are there, the stream for work is not: somebody has deleted it.
func TestDeadRequeue_WithoutAWorkStreamEndsAtTheFirst(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	for n := range 100 {
		m.bury(t, deadHost(t, n+1))
	}
	if err := m.js.DeleteStream(t.Context(), stream.Work); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := m.run(t, "dead", "requeue", "--all", "--rate", "1000")
	if code != exitFailed || !strings.Contains(stderr, publisher.ErrNoStream.Error()) {
		t.Errorf("got exit code %d and %q", code, stderr)
	}
	for _, e := range m.letters(t) {
		if e.Requeued() {
			t.Errorf("%s is marked", e.Subject)
		}
	}
}

// newRequeueSender returns one whose publishes are confirmed, and what it has reported.
func newRequeueSender() (*requeueSender, *[]requeueLine) {
	var mu sync.Mutex
	lines := &[]requeueLine{}
	return &requeueSender{
		publish: func(_ context.Context, r restart.Request, report func(publisher.Result)) error {
			go report(publisher.Result{Request: r, Status: publisher.Confirmed})
			return nil
		},
		mark:  func(context.Context, deadletter.Entry, uuid.UUID, time.Time) error { return nil },
		asked: (&askAgain{requestedBy: "me"}).ask,
		pace:  newPace(0),
		report: func(l requeueLine) {
			mu.Lock()
			defer mu.Unlock()
			*lines = append(*lines, l)
		},
	}, lines
}

func requeueStepsOf(t *testing.T, count int) (steps []requeueStep) {
	t.Helper()
	for n := range count {
		steps = append(steps, newRequeueStep(deadletter.Entry{Letter: deadHost(t, n+1)}))
	}
	return steps
}

// A signal between publish and mark must not leave a letter that looks as if it had not been requeued.
func TestRequeueSender_MarksWhatWasPublishedThoughItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	s, lines := newRequeueSender()
	interrupted := errors.New("interrupted")
	s.publish = func(_ context.Context, r restart.Request, report func(publisher.Result)) error {
		cancel(interrupted)
		go report(publisher.Result{Request: r, Status: publisher.Confirmed})
		return nil
	}
	marks := 0
	s.mark = func(ctx context.Context, _ deadletter.Entry, _ uuid.UUID, _ time.Time) error {
		if _, bounded := ctx.Deadline(); ctx.Err() != nil || !bounded {
			t.Errorf("the mark's context: bounded %t, %v", bounded, ctx.Err())
		}
		marks++
		return nil
	}
	s.pace = newPace(0.001)
	if err := s.run(ctx, requeueStepsOf(t, 3)); !errors.Is(err, interrupted) {
		t.Errorf("got %v, want %v", err, interrupted)
	}
	if len(*lines) != 1 || (*lines)[0].Status != requeueDone || marks != 1 {
		t.Errorf("got %+v and %d marks, want one", *lines, marks)
	}
}

// What was published and not marked has to be run again, and an operator has to know that this is safe.
func TestRequeueSender_SaysThatALetterIsPublishedAndNotMarked(t *testing.T) {
	t.Parallel()
	s, lines := newRequeueSender()
	s.mark = func(context.Context, deadletter.Entry, uuid.UUID, time.Time) error {
		return errors.New("the stream is full")
	}
	if err := s.run(t.Context(), requeueStepsOf(t, 1)); err != nil {
		t.Fatal(err)
	}
	got := (*lines)[0]
	if got.Status != requeueFailed || !strings.Contains(got.Why, "it was published, but: the stream is full; requeue it again") {
		t.Errorf("got %+v", got)
	}
}

func TestRequeueSender_FailedPublishIsNotMarked(t *testing.T) {
	t.Parallel()
	for _, result := range []publisher.Result{
		{Status: publisher.Failed, Err: errors.New("no answer")},
		{Status: publisher.AlreadyQueued, QueuedID: idOf(7)},
	} {
		s, lines := newRequeueSender()
		s.publish = func(_ context.Context, _ restart.Request, report func(publisher.Result)) error {
			go report(result)
			return nil
		}
		s.mark = func(context.Context, deadletter.Entry, uuid.UUID, time.Time) error {
			t.Errorf("%s was marked", result.Status)
			return nil
		}
		if err := s.run(t.Context(), requeueStepsOf(t, 1)); err != nil || string((*lines)[0].Status) != string(result.Status) {
			t.Errorf("got %+v, %v", *lines, err)
		}
	}
}

func TestRequeueSender_SendsNoMoreThanItMaySecondBySecond(t *testing.T) {
	t.Parallel()
	steps := requeueStepsOf(t, 21)
	synctest.Test(t, func(t *testing.T) {
		s, lines := newRequeueSender()
		s.pace = newPace(10)
		began := time.Now()
		if err := s.run(t.Context(), steps); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); len(*lines) != 21 || took != 2*time.Second {
			t.Errorf("sent %d in %s, want 21 in 2s", len(*lines), took)
		}
	})
}

func TestRequeueReport_ExitCodeTellsWhatWasDone(t *testing.T) {
	t.Parallel()
	stopped := errors.New("interrupted")
	for _, tt := range []struct {
		counts     map[requeueStatus]int
		unreadable int
		stopped    error
		want       int
	}{
		{nil, 0, nil, exitDone},
		{map[requeueStatus]int{requeueDone: 1, requeueAlreadyDone: 1, requeueAlreadyQueued: 1}, 0, nil, exitDone},
		{map[requeueStatus]int{requeueRefused: 1}, 0, nil, exitFailed},
		{map[requeueStatus]int{requeueFailed: 1}, 0, nil, exitFailed},
		{nil, 1, nil, exitFailed},
		{map[requeueStatus]int{requeueDone: 1, requeueRefused: 1}, 0, nil, exitPartly},
		{map[requeueStatus]int{requeueAlreadyQueued: 1, requeueFailed: 1}, 0, nil, exitPartly},
		{map[requeueStatus]int{requeueDone: 1}, 1, nil, exitPartly},
		{nil, 0, stopped, exitFailed},
		{map[requeueStatus]int{requeueDone: 1}, 0, stopped, exitPartly},
	} {
		r := requeueReport{counts: tt.counts, unreadable: tt.unreadable}
		if got := exitCode(r.result(tt.stopped)); got != tt.want {
			t.Errorf("%s: got exit code %d, want %d", fmt.Sprint(tt), got, tt.want)
		}
	}
}
