package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A desk is where all announcers of a fleet tell.
type desk struct {
	mu   sync.Mutex
	told []control.Announcement
}

func (d *desk) tell(a control.Announcement) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, a)
}

func (d *desk) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := []string{}
	for _, a := range d.told {
		verb := "resumed"
		if a.Paused {
			verb = "paused"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", verb, a.Pause.Group, a.Pause.Cause, a.Pause.Why))
	}
	return lines
}

func (d *desk) want(t *testing.T, lines ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		if diff := cmp.Diff(lines, d.lines()); diff != "" {
			t.Fatalf("told (-want +got):\n%s", diff)
		}
	}()
	for deadline := time.Now().Add(patience); len(d.lines()) < len(lines) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// announce runs an announcer beside the watcher of a worker of its own.
func (f *fleet) announce(t *testing.T, d *desk) (stop func()) {
	t.Helper()
	w := f.worker(t, "worker", policy.Rules{})
	a, err := control.NewAnnouncer(control.AnnouncerConfig{
		Watcher: w.Watcher, KV: f.kv, Tell: d.tell, Logger: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Watcher.Run(ctx) })
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func (f *fleet) pause(t *testing.T, group restart.Group, cause control.Cause, why string) control.Pause {
	t.Helper()
	p := control.Pause{Group: group, Cause: cause, Since: time.Now().UTC(), By: "ann", Why: why}
	var err error
	if p.Revision, err = control.Put(t.Context(), f.kv, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func (f *fleet) lift(t *testing.T, group restart.Group, cause control.Cause) {
	t.Helper()
	if err := control.Lift(t.Context(), f.kv, group, cause); err != nil {
		t.Fatal(err)
	}
}

// settled waits until nothing was told that is not: another news has been told since, which nobody may tell before.
func (f *fleet) settled(t *testing.T, d *desk, before ...string) {
	t.Helper()
	f.pause(t, "marker", control.ByHand, "last")
	d.want(t, append(before, "paused marker manual: last")...)
}

// A weakBucket refuses the first thing that the announcer says.
type weakBucket struct {
	jetstream.KeyValue
	refused bool
}

func (b *weakBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if !b.refused {
		b.refused = true
		return 0, errors.New("no leader")
	}
	return b.KeyValue.Update(ctx, key, value, revision)
}

// Fear: what could not be told at once is told when the next pause comes, tomorrow.
func TestAnnouncer_WhatIsRefusedIsTriedAgainThoughNothingChanges(t *testing.T) {
	f, d := newFleet(t), &desk{}
	kv := f.kv
	f.kv = &weakBucket{KeyValue: kv}
	f.announce(t, d)
	f.kv = kv
	f.pause(t, group, control.ByHand, "a release")
	d.want(t, "paused default manual: a release")
}

// Fear: people are told of each pause by every worker of the fleet.
func TestAnnouncer_OfAllWorkersOneTellsEachPauseAndEachResumption(t *testing.T) {
	f, d := newFleet(t), &desk{}
	for range 5 {
		f.announce(t, d)
	}
	var want []string
	for i, cause := range []control.Cause{control.ByHand, control.ByBreaker, control.ByMonitor("api")} {
		for _, g := range []restart.Group{group, "web", control.AllGroups} {
			f.pause(t, g, cause, "looking")
			want = append(want, fmt.Sprintf("paused %s %s: looking", g, cause))
			d.want(t, want...)
			if i == 0 {
				f.lift(t, g, cause)
				want = append(want, fmt.Sprintf("resumed %s %s: looking", g, cause))
				d.want(t, want...)
			}
		}
	}
	f.settled(t, d, want...)
}

// Fear: a worker that is restarted tells people again of what they know.
func TestAnnouncer_ThatStartsLaterTellsOnlyWhatNobodyHasTold(t *testing.T) {
	f, d := newFleet(t), &desk{}
	stop := f.announce(t, d)
	f.pause(t, group, control.ByHand, "a release")
	f.pause(t, "web", control.ByHand, "a release")
	d.want(t, "paused default manual: a release", "paused web manual: a release")
	stop()
	f.lift(t, group, control.ByHand)
	f.pause(t, "db", control.ByBreaker, "too many")
	f.pause(t, "gone", control.ByHand, "over by now")
	f.lift(t, "gone", control.ByHand)
	over := control.Pause{Group: "over", Cause: control.ByHand, Since: time.Now().UTC(), Until: time.Now().UTC()}
	if _, err := control.Put(t.Context(), f.kv, over); err != nil {
		t.Fatal(err)
	}

	d = &desk{}
	stop = f.announce(t, d)
	news := []string{"paused db breaker: too many", "resumed default manual: a release"}
	d.want(t, news...)
	f.settled(t, d, news...)
	stop()

	d = &desk{}
	f.announce(t, d)
	f.lift(t, "marker", control.ByHand)
	d.want(t, "resumed marker manual: last")
}

// Fear: a monitor that refreshes its entry is told of at every beat; a person who changes a reason, not at all.
func TestAnnouncer_SameBeginningIsTheSamePause(t *testing.T) {
	f, d := newFleet(t), &desk{}
	f.announce(t, d)
	p := f.pause(t, group, control.ByMonitor("api"), "down")
	want := []string{"paused default monitor-api: down"}
	d.want(t, want...)
	for range 5 {
		var err error
		if p.Revision, err = control.Renew(t.Context(), f.kv, p); err != nil {
			t.Fatal(err)
		}
	}
	f.pause(t, group, control.ByHand, "a release")
	want = append(want, "paused default manual: a release")
	d.want(t, want...)
	f.pause(t, group, control.ByHand, "another release")
	want = append(want, "paused default manual: another release")
	d.want(t, want...)
	f.lift(t, group, control.ByHand)
	want = append(want, "resumed default manual: another release")
	d.want(t, want...)
	f.settled(t, d, want...)
}

func TestAnnouncer_WindowsAreNotTold(t *testing.T) {
	f, d := newFleet(t), &desk{}
	f.announce(t, d)
	f.pause(t, group, control.ByWindow, "outside its window")
	f.settled(t, d)
	f.lift(t, group, control.ByWindow)
	f.lift(t, "marker", control.ByHand)
	d.want(t, "paused marker manual: last", "resumed marker manual: last")
}

func TestAnnouncer_WhatHappensWhileTheServerIsAwayIsToldOnceItIsBack(t *testing.T) {
	f, d := newFleet(t), &desk{}
	for range 2 {
		f.announce(t, d)
	}
	f.pause(t, group, control.ByHand, "a release")
	want := []string{"paused default manual: a release"}
	d.want(t, want...)
	f.server.Restart(t)
	eventually(t, "lifted", func() bool { return control.Lift(t.Context(), f.kv, group, control.ByHand) == nil })
	want = append(want, "resumed default manual: a release")
	d.want(t, want...)
	f.settled(t, d, want...)
}

// Fear: what is told piles up in the bucket, which every worker reads again and again; or keeps pause waiting.
func TestAnnouncer_WritesOnceForEachNewsAndKeepsNothingOfWhatIsOver(t *testing.T) {
	f, d := newFleet(t), &desk{}
	for range 3 {
		f.announce(t, d)
	}
	w := f.worker(t, "worker-1", policy.Rules{})
	w.run(t)
	before := f.lastRevision(t)
	var want []string
	for i := range 5 {
		why := fmt.Sprint("release ", i)
		revision := f.pause(t, group, control.ByHand, why).Revision
		eventually(t, "pause confirmed", func() bool { return w.Confirmed() >= revision })
		if _, _, err := w.Holds("", ackWait); err != nil {
			t.Error(err)
		}
		want = append(want, "paused default manual: "+why)
		d.want(t, want...)
		f.lift(t, group, control.ByHand)
		want = append(want, "resumed default manual: "+why)
		d.want(t, want...)
	}
	if got, want := f.lastRevision(t)-before, uint64(20); got != want {
		t.Errorf("the bucket was written to %d times, want %d: each pause and resumption, and that it was told", got, want)
	}
	keys, err := f.kv.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for key := range keys.Keys() {
		left = append(left, key)
	}
	if slices.ContainsFunc(left, func(key string) bool { return strings.HasPrefix(key, "told.") }) {
		t.Errorf("got %v, want nothing of what is over", left)
	}
}

func (f *fleet) lastRevision(t *testing.T) uint64 {
	t.Helper()
	s, err := f.js.Stream(t.Context(), stream.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// A lateBucket lets something happen just before the announcer says that it tells something.
type lateBucket struct {
	jetstream.KeyValue
	before func()
}

func (l *lateBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	l.before()
	return l.KeyValue.Update(ctx, key, value, revision)
}

// Fear: an announcer that is a step behind tells of a pause that was told and ended meanwhile.
func TestAnnouncer_ThatIsBehindTellsNothing(t *testing.T) {
	f, d, late := newFleet(t), &desk{}, &desk{}
	f.pause(t, group, control.ByHand, "a release")
	w := f.worker(t, "worker-1", policy.Rules{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, err := control.NewAnnouncer(control.AnnouncerConfig{
		Watcher: w.Watcher, Tell: late.tell, Logger: zerolog.Nop(),
		KV: &lateBucket{f.kv, func() {
			stop := f.announce(t, d)
			d.want(t, "paused default manual: a release")
			f.lift(t, group, control.ByHand)
			d.want(t, "paused default manual: a release", "resumed default manual: a release")
			stop()
			cancel()
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	late.want(t, []string{}...)
}

// Fear: one entry that somebody has broken by hand keeps everything from being told.
func TestAnnouncer_UnreadableEntriesAreInNobodysWay(t *testing.T) {
	f, d := newFleet(t), &desk{}
	for _, key := range []string{"told.default.manual", "told.other.manual", "told.x", "pause.web.manual"} {
		if _, err := f.kv.PutString(t.Context(), key, "[1"); err != nil {
			t.Fatal(err)
		}
	}
	f.pause(t, group, control.ByHand, "a release")
	f.announce(t, d)
	eventually(t, "both are told", func() bool { return len(d.lines()) == 2 })
	if got := d.lines(); got[0] != "paused default manual: a release" || !strings.HasPrefix(got[1], "paused web manual: entry pause.web.manual") {
		t.Errorf("got %q", got)
	}
	f.settled(t, d, d.lines()...)
}

func TestAnnouncer_RunsOnce(t *testing.T) {
	f, d := newFleet(t), &desk{}
	w := f.worker(t, "worker-1", policy.Rules{})
	a, err := control.NewAnnouncer(control.AnnouncerConfig{Watcher: w.Watcher, KV: f.kv, Tell: d.tell})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	f.pause(t, group, control.ByHand, "a release")
	w.look(t)
	d.want(t, "paused default manual: a release")
	if err := a.Run(ctx); err == nil {
		t.Error("Run while it runs: got nil, want an error")
	}
	cancel()
	running.Wait()
}

func TestPause_FirstOneStaysAndWhatWasReadIsRenewedOrLiftedOnlyIfItIsTheSame(t *testing.T) {
	f := newFleet(t)
	w := f.worker(t, "worker-1", policy.Rules{})
	read := func() control.Pause {
		t.Helper()
		w.look(t)
		state, _ := w.State(group)
		if len(state.Pauses) != 1 {
			t.Fatalf("got %+v, want one pause", state.Pauses)
		}
		return state.Pauses[0]
	}
	wantChanged := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, control.ErrChanged) {
			t.Errorf("%s: got %v, want %v", what, err, control.ErrChanged)
		}
	}
	first := control.Pause{Group: group, Cause: control.ByMonitor("api"), Since: time.Now().UTC(), By: "worker-1", Why: "down"}
	for range 2 { // also after another was taken away
		if _, err := control.PutFirst(t.Context(), f.kv, first); err != nil {
			t.Fatal(err)
		}
		second := first
		second.By = "worker-2"
		_, err := control.PutFirst(t.Context(), f.kv, second)
		wantChanged("another one", err)

		old := read()
		if diff := cmp.Diff(first, old, cmpopts.IgnoreFields(control.Pause{}, "Revision")); diff != "" {
			t.Errorf("read (-put +got):\n%s", diff)
		}
		revision, err := control.Renew(t.Context(), f.kv, old)
		if err != nil {
			t.Fatal(err)
		}
		if now := read(); now.Revision != revision || revision <= old.Revision || now.Since != old.Since || now.By != old.By {
			t.Errorf("renewed: got %+v, want revision %d of %+v", now, revision, old)
		}
		_, err = control.Renew(t.Context(), f.kv, old)
		wantChanged("renew what was renewed", err)
		wantChanged("lift what was renewed", control.LiftRead(t.Context(), f.kv, old))
		wantChanged("lift what was not read", control.LiftRead(t.Context(), f.kv, first))
		now := read()
		if err := control.LiftRead(t.Context(), f.kv, now); err != nil {
			t.Fatal(err)
		}
		wantChanged("lift what is gone", control.LiftRead(t.Context(), f.kv, now))
		_, err = control.Renew(t.Context(), f.kv, now)
		wantChanged("renew what is gone", err)
	}
}
