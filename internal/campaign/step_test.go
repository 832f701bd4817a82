package campaign

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// fleet is a model of what a campaign meets: hosts whose requests end one way or the other, a group that is paused and
// closed at times, and drivers that die at any moment. It notes what must never happen.
type fleet struct {
	*rapid.T
	spec *Spec
	now  time.Time

	stored   Progress
	queued   map[int]bool // requests on the stream or in work
	outcomes map[int]Sight
	waves    map[int]Wave      // as each host was first asked for
	endedAt  map[int]time.Time // as the campaign saw it
	aborted  *Mark
	quiet    bool // nothing gets in the way any more
}

func (f *fleet) facts() Facts {
	facts := Facts{Now: f.now, Sights: map[int]Sight{}, Wish: Wish{Aborted: f.aborted}}
	for _, host := range f.stored.open() {
		if o, ok := f.outcomes[host]; ok {
			facts.Sights[host] = o
		} else {
			facts.Sights[host] = Sight{Queued: f.queued[host]}
		}
	}
	facts.Good = began.Add(-time.Hour)
	if f.quiet {
		return facts
	}
	switch rapid.IntRange(0, 9).Draw(f.T, "weather") {
	case 0:
		facts.Paused = "paused by hand"
	case 1:
		facts.Closed = true
	case 2:
		facts.Good = time.Time{}
	case 3:
		facts.Good = f.now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(f.T, "good for")) * time.Second)
	case 4:
		facts.Wish.Paused = &Mark{By: "ops"}
	case 5:
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 60), 0, 3).Draw(f.T, "down") {
			facts.Down = append(facts.Down, restart.Host(fmt.Sprintf("web-%d.example.net", i)))
		}
	}
	return facts
}

// pass is one decision of a driver, who may die on the way.
func (f *fleet) pass() (ended bool) {
	facts := f.facts()
	before, err := json.Marshal(f.stored)
	if err != nil {
		f.Fatal(err)
	}
	d := Next(f.spec, f.stored, facts)
	if after, _ := json.Marshal(f.stored); string(before) != string(after) {
		f.Fatalf("the progress that was given has changed: %s, was %s", after, before)
	}
	const diesBefore, diesAfter, diesAmid = 1, 2, 3
	dies := 0
	if !f.quiet {
		dies = rapid.IntRange(0, 9).Draw(f.T, "dies")
	}
	if dies == diesBefore {
		return false
	}
	f.write(d.Progress, facts)
	if dies == diesAfter {
		return false
	}
	switch d.Action {
	case Publish:
		f.publish(d, facts, dies == diesAmid)
	case Abort:
		f.aborted = &Mark{By: "the campaign itself", Why: d.Why}
		if failures := d.Progress.Counts().Failed(); failures < min(f.spec.maxUnavailable(), f.stopAfter()) {
			f.Fatalf("it stops after %d failures", failures)
		}
	case Cancel:
		for _, host := range d.Hosts {
			if f.queued[host] && rapid.Bool().Draw(f.T, "not triggered yet") {
				delete(f.queued, host)
				f.outcomes[host] = Sight{Kind: restart.Cancelled, Reason: restart.ReasonByHand}
			}
		}
	case End:
		return true
	}
	return false
}

func (f *fleet) stopAfter() int {
	if f.spec.StopAfter.IsZero() {
		return len(f.spec.Hosts) + 1
	}
	return f.spec.StopAfter.atLeast(len(f.spec.Hosts))
}

// write is the compare-and-set. It checks what a written progress says of hosts that were asked for.
func (f *fleet) write(p Progress, facts Facts) {
	data, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	var read Progress
	if err := json.Unmarshal(data, &read); err != nil {
		f.Fatal(err)
	}
	if err := read.fits(f.spec); err != nil {
		f.Fatal(err)
	}
	if read.begun() < len(read.Hosts) && slices.ContainsFunc(read.Hosts[read.begun():], func(code byte) bool { return code != pending }) {
		f.Fatalf("hosts are not asked for in their order: %s", read.Hosts)
	}
	if len(p.Batches) > len(f.stored.Batches) && len(f.stored.Batches) > 0 {
		f.checkNextBatch(p, facts)
	}
	for i, code := range read.Hosts {
		if f.stored.Hosts[i] == open && code != open {
			f.endedAt[i] = f.now
		}
		if was := f.stored.Hosts[i]; was != open && was != pending && was != code {
			f.Fatalf("host %d ended as %c and again as %c", i, was, code)
		}
	}
	f.stored = read
}

// checkNextBatch holds that a batch begins only when the last has ended and settled, and has the size that follows
// from it.
func (f *fleet) checkNextBatch(p Progress, facts Facts) {
	first, end := f.stored.Batches[len(f.stored.Batches)-1], f.stored.BatchEnd
	var last time.Time
	restarted, failure := false, false
	for i := first; i < end; i++ {
		code := p.Hosts[i]
		if code == open || code == pending {
			f.Fatalf("batch %d begins before host %d of the last has ended", len(p.Batches), i)
		}
		if f.stored.Hosts[i] != open && f.endedAt[i].After(last) {
			last = f.endedAt[i]
		} else if f.stored.Hosts[i] == open {
			last = f.now
		}
		restarted = restarted || ending[code].kind == restart.Restarted
		failure = failure || failed(code)
	}
	if settle := time.Duration(f.spec.Settle); settle > 0 && (restarted || failure) {
		if f.now.Sub(last) < settle || facts.Good.IsZero() || f.now.Sub(facts.Good) < settle {
			f.Fatalf("batch %d begins %s after the last has ended, and %s after checks became good", len(p.Batches), f.now.Sub(last), f.now.Sub(facts.Good))
		}
	}
	want := f.stored.Step
	switch {
	case failure:
		want = 0
	case restarted:
		want = min(want+1, len(f.spec.Batches)-1)
	}
	size := min(f.spec.batchSize(want), len(f.spec.Hosts)-end)
	if p.Step != want || p.BatchEnd-end != size {
		f.Fatalf("batch %d has step %d and %d hosts, want step %d and %d", len(p.Batches), p.Step, p.BatchEnd-end, want, size)
	}
}

func (f *fleet) publish(d Decision, facts Facts, onlySome bool) {
	if facts.Paused != "" || facts.Closed || facts.Wish.Paused != nil || f.aborted != nil || !f.now.Before(f.spec.NotAfter) {
		f.Fatalf("hosts are asked for while nothing may be: %+v", facts)
	}
	for i, host := range d.Hosts {
		if onlySome && i >= len(d.Hosts)/2 {
			break
		}
		if f.stored.Hosts[host] != open {
			f.Fatalf("host %d is asked for, and the progress says %c", host, f.stored.Hosts[host])
		}
		if _, ended := f.outcomes[host]; ended || f.queued[host] {
			f.Fatalf("host %d is asked for twice", host)
		}
		wave := f.stored.wave(host)
		if was, asked := f.waves[host]; asked && !was.At.Equal(wave.At) {
			f.Fatalf("the request for host %d is another: %+v, was %+v", host, wave, was)
		}
		if !wave.NotAfter.After(wave.At) || wave.NotAfter.After(f.spec.NotAfter) {
			f.Fatalf("the request for host %d may be done until %s", host, wave.NotAfter)
		}
		f.waves[host] = wave
		f.queued[host] = true
	}
	unavailable := map[restart.Host]bool{}
	for _, h := range facts.Down {
		unavailable[h] = true
	}
	for i, h := range f.spec.Hosts {
		if f.queued[i] && f.stored.Hosts[i] == open || failed(f.stored.Hosts[i]) {
			unavailable[h] = true
		}
	}
	if most := f.spec.maxUnavailable(); len(d.Hosts) > 0 && len(unavailable) > most {
		f.Fatalf("%d hosts are unavailable, more than %d", len(unavailable), most)
	}
}

// work lets some requests end, in whatever way.
func (f *fleet) work() {
	f.now = f.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(f.T, "passes")) * time.Second)
	for i := range f.spec.Hosts {
		if !f.queued[i] || !f.quiet && !rapid.Bool().Draw(f.T, "ends") {
			continue
		}
		delete(f.queued, i)
		f.outcomes[i] = Sight{Kind: restart.Restarted, Reason: restart.ReasonVerified}
		if kind := rapid.IntRange(0, 11).Draw(f.T, "how"); kind < len(restart.Kinds) {
			f.outcomes[i] = Sight{Kind: restart.Kinds[kind]}
		}
	}
}

// The heart: whoever dies when, whatever fails, is paused, closed or down.
func TestNext_KeepsItsPromisesWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "hosts")
		s := newSpec(n, rapid.SampledFrom([]string{"1", "3", "5%", "100%", "1,5%,25%", "1,2,3"}).Draw(t, "batches"),
			rapid.SampledFrom([]string{"1", "2", "5", "30%", "100%"}).Draw(t, "max_unavailable"))
		s.Settle = restart.Duration(time.Duration(rapid.IntRange(0, 60).Draw(t, "settle")) * time.Second)
		if stop := rapid.SampledFrom([]string{"", "1", "3", "10%", "100%"}).Draw(t, "stop_after"); stop != "" {
			s.StopAfter, _ = ParseAmount(stop)
		}
		f := &fleet{
			T: t, spec: s, now: began, stored: newProgress(s), queued: map[int]bool{}, outcomes: map[int]Sight{}, waves: map[int]Wave{},
			endedAt: map[int]time.Time{},
		}
		troubled := rapid.IntRange(0, 120).Draw(t, "troubled for")
		abortAt := rapid.IntRange(0, 400).Draw(t, "aborted at")
		for i := 0; ; i++ {
			f.quiet = i >= troubled
			if i == abortAt && f.aborted == nil {
				f.aborted = &Mark{By: "ops"}
			}
			if f.pass() {
				break
			}
			if f.work(); i > troubled+10*n+400 {
				t.Fatalf("it does not end: %+v", f.stored)
			}
		}
		f.checkEnd()
	})
}

func (f *fleet) checkEnd() {
	p := f.stored
	counts := p.Counts()
	switch {
	case !p.State.Final() || p.Over.IsZero():
		f.Fatalf("it has ended in state %s", p.State)
	case counts.Open > 0 || len(p.Waves) > 0:
		f.Fatalf("it has ended with open hosts: %+v", p)
	case p.State == Ended && counts.Pending > 0 && f.now.Before(f.spec.NotAfter):
		f.Fatalf("it has ended before it asked for all: %+v", p)
	case p.State == Aborted && f.aborted == nil, p.State == Ended && f.aborted != nil && counts.Pending > 0:
		f.Fatalf("it is %s, and its mark is %v", p.State, f.aborted)
	}
	for i, code := range p.Hosts {
		if o, ok := f.outcomes[i]; ok && ending[code].kind != o.Kind {
			f.Fatalf("host %d ended %s, and the progress says %c", i, o.Kind, code)
		}
	}
}

// An operator who asks for 5 % of 100 hosts stops after the fifth, and what is queued then is cancelled.
func TestNext_StopsAfterSoManyFailuresAndCancelsWhatIsQueued(t *testing.T) {
	s := newSpec(100, "10", "100", func(s *Spec) { s.StopAfter = Amount{Percent: 5} })
	d := Next(s, newProgress(s), Facts{Now: began})
	if d.Action != Publish || len(d.Hosts) != 10 {
		t.Fatalf("got %s of %d, want publish of 10", d.Action, len(d.Hosts))
	}
	sights := map[int]Sight{}
	for i := range 10 {
		sights[i] = Sight{Queued: true}
		if i < 5 {
			sights[i] = Sight{Kind: restart.Dead, Reason: restart.ReasonNotReady}
		}
		d = Next(s, d.Progress, Facts{Now: began, Sights: sights})
		if want := i >= 4; (d.Action == Abort) != want {
			t.Fatalf("after %d failures: got %s", min(i+1, 5), d.Action)
		}
	}
	d = Next(s, d.Progress, Facts{Now: began, Sights: sights, Wish: Wish{Aborted: &Mark{By: "the campaign itself", Why: d.Why}}})
	if d.Action != Cancel || !slices.Equal(d.Hosts, []int{5, 6, 7, 8, 9}) || d.Progress.State != Aborting {
		t.Errorf("got %s of %v in state %s, want the five that are queued cancelled", d.Action, d.Hosts, d.Progress.State)
	}
}

// More hosts than may be unavailable have failed: it would wait until its time is over, with nobody told.
func TestNext_StopsWhereFailuresLeaveNoRoom(t *testing.T) {
	s := newSpec(10, "2", "2")
	d := Next(s, newProgress(s), Facts{Now: began})
	dead := Sight{Kind: restart.Dead}
	if d = Next(s, d.Progress, Facts{Now: began, Sights: map[int]Sight{0: dead, 1: dead}}); d.Action != Abort {
		t.Errorf("got %s (%s), want abort", d.Action, d.Why)
	}
}

func TestNext_ABatchLargerThanTheRoomIsAskedForBitByBit(t *testing.T) {
	s := newSpec(10, "5", "2")
	p := newProgress(s)
	seen := map[int]Sight{}
	var asked [][]int
	for p.State != Ended {
		d := Next(s, p, Facts{Now: began, Sights: seen})
		if d.Action == Publish {
			asked = append(asked, d.Hosts)
		}
		p = d.Progress
		for _, host := range p.open() {
			seen[host] = Sight{Kind: restart.Restarted}
		}
	}
	want := [][]int{{0, 1}, {2, 3}, {4}, {5, 6}, {7, 8}, {9}}
	if diff := cmp.Diff(want, asked); diff != "" || !slices.Equal(p.Batches, []int{0, 5}) {
		t.Errorf("batches at %v; asked (-want +got):\n%s", p.Batches, diff)
	}
}

// Hosts that somebody else is restarting are down as well.
func TestNext_CountsWhatIsDownElsewhereButNothingTwice(t *testing.T) {
	s := newSpec(10, "100%", "3")
	d := Next(s, newProgress(s), Facts{Now: began, Conditions: Conditions{Down: []restart.Host{"db-1.example.net", "web-7.example.net"}}})
	if d.Action != Publish || len(d.Hosts) != 1 {
		t.Fatalf("got %s of %v, want one host", d.Action, d.Hosts)
	}
	d = Next(s, d.Progress, Facts{
		Now: began, Sights: map[int]Sight{0: {Queued: true}}, Conditions: Conditions{Down: []restart.Host{"web-0.example.net"}},
	})
	if d.Action != Publish || len(d.Hosts) != 2 {
		t.Errorf("got %s of %v, want two more: the one that is down is its own", d.Action, d.Hosts)
	}
}

// A host whose request is somebody else's is not asked for again, and what becomes of it counts.
func TestNext_AHostThatWasQueuedAlreadyCountsAsThatRequest(t *testing.T) {
	s := newSpec(2, "1", "1")
	other := uuid.New()
	d := Next(s, newProgress(s), Facts{Now: began})
	d = Next(s, d.Progress, Facts{Now: began, Sights: map[int]Sight{0: {Other: other}}})
	if d.Action != Wait || d.Progress.Others[0] != other {
		t.Fatalf("got %s and others %v, want to wait for %s", d.Action, d.Progress.Others, other)
	}
	aborted := Next(s, d.Progress, Facts{Now: began, Sights: map[int]Sight{0: {Queued: true}}, Wish: Wish{Aborted: &Mark{By: "ops"}}})
	if aborted.Action != End || aborted.Progress.Hosts[0] != left {
		t.Errorf("aborted: got %s and %s, want it left to the other request, and not cancelled", aborted.Action, aborted.Progress.Hosts)
	}
	d = Next(s, d.Progress, Facts{Now: began, Sights: map[int]Sight{0: {Kind: restart.Restarted}}})
	if d.Action != Publish || !slices.Equal(d.Hosts, []int{1}) {
		t.Errorf("got %s of %v, want the next host", d.Action, d.Hosts)
	}
}

// A canary batch in which every host was skipped proves nothing.
func TestNext_ABatchInWhichNothingWasRestartedNeitherGrowsNorSettles(t *testing.T) {
	s := newSpec(20, "1,10", "20", func(s *Spec) { s.Settle = restart.Duration(time.Hour) })
	d := Next(s, newProgress(s), Facts{Now: began})
	d = Next(s, d.Progress, Facts{
		Now: began, Sights: map[int]Sight{0: {Kind: restart.Skipped, Reason: restart.ReasonMinUptime}}, Conditions: Conditions{Good: began},
	})
	if d.Action != Publish || !slices.Equal(d.Hosts, []int{1}) {
		t.Errorf("got %s of %v, want the next single host at once", d.Action, d.Hosts)
	}
}

// The window becomes each request's not_after, so that nothing is triggered after it closes.
func TestNext_ARequestMayBeDoneUntilTheWindowClosesOrTheCampaignsTimeIsOver(t *testing.T) {
	s := newSpec(1, "1", "1")
	for _, tt := range []struct{ closes, want time.Time }{
		{time.Time{}, s.NotAfter},
		{began.Add(time.Hour), began.Add(time.Hour)},
		{s.NotAfter.Add(time.Hour), s.NotAfter},
	} {
		d := Next(s, newProgress(s), Facts{Now: began, Conditions: Conditions{Until: tt.closes}})
		if got := d.Progress.Waves[0].NotAfter; !got.Equal(tt.want) {
			t.Errorf("closing at %s: got %s, want %s", tt.closes, got, tt.want)
		}
	}
	d := Next(s, newProgress(s), Facts{Now: began, Conditions: Conditions{Closed: true, Until: began.Add(time.Hour)}})
	if d.Action != Wait || !d.Until.Equal(began.Add(time.Hour)) || len(d.Progress.Waves) > 0 {
		t.Errorf("closed: got %s until %s, want to wait until it opens", d.Action, d.Until)
	}
}

func TestNext_EndsWhenItsTimeIsOverAndSaysWhatWasNotAskedFor(t *testing.T) {
	s := newSpec(5, "2", "5")
	d := Next(s, newProgress(s), Facts{Now: began})
	d = Next(s, d.Progress, Facts{Now: s.NotAfter, Sights: map[int]Sight{0: {Kind: restart.Restarted}, 1: {}}})
	if d.Action != End || d.Why != "its time was over with 3 hosts not asked for" || string(d.Progress.Hosts) != "Rx..." {
		t.Errorf("got %s, %q, %s", d.Action, d.Why, d.Progress.Hosts)
	}
}

// A document that finds no room in the bucket would stop a campaign in the middle.
func TestProgress_OfTenThousandHostsFitsIntoOneValueAtItsWorst(t *testing.T) {
	const n = 10_000
	s := newSpec(n, "1", "100%")
	p := newProgress(s)
	p.Others = map[int]uuid.UUID{}
	for i := range n {
		p.Hosts[i] = open
		p.Batches = append(p.Batches, i)
		p.Others[i] = uuid.New()
	}
	for i := range 1000 {
		p.Waves = append(p.Waves, Wave{From: i, To: i + 1, At: began.Add(time.Millisecond), NotAfter: began.Add(time.Hour)})
	}
	for what, document := range map[string]any{"progress": p, "spec": s} {
		data, err := json.Marshal(document)
		if err != nil || len(data) > maxDocument {
			t.Errorf("%s: got %d bytes, %v; want %d at most", what, len(data), err, maxDocument)
		}
		t.Logf("%s: %d bytes", what, len(data))
	}
}

func TestStates_RefusesWhatALaterVersionHasWritten(t *testing.T) {
	var s States
	if err := s.UnmarshalText([]byte("v.Z")); err == nil {
		t.Error("got no error")
	}
}

func TestCodeOf_TellsEveryOutcomeFromEveryOther(t *testing.T) {
	for code, e := range ending {
		if got := codeOf(e.kind, e.reason); got != code {
			t.Errorf("%s (%s): got %c, want %c", e.kind, e.reason, got, code)
		}
	}
	if got := codeOf(restart.Dead, "of tomorrow"); got != 'D' {
		t.Errorf("an unknown reason: got %c, want that of its kind", got)
	}
}

func TestForecast_GoesThroughBatchesWavesSettlingAndWindows(t *testing.T) {
	s := newSpec(10, "1,4", "2", func(s *Spec) {
		s.Takes, s.Settle = restart.Duration(10*time.Minute), restart.Duration(5*time.Minute)
	})
	fits := func(at time.Time) (bool, time.Time) { // half an hour of every hour
		next := at.Truncate(time.Hour)
		return at.Sub(next) < 30*time.Minute, next.Add(time.Hour)
	}
	at := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	want := []PlannedBatch{
		{1, 0, 1, at(0), at(10)},
		{2, 1, 5, at(15), at(35)}, // two waves
		{3, 5, 9, at(60), at(80)}, // the window had closed
		{4, 9, 10, at(85), at(95)},
	}
	if diff := cmp.Diff(want, Forecast(s, newProgress(s), began, fits)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p := newProgress(s)
	copy(p.Hosts, "vvoo.") // in the second batch, and restarts take half as long as expected
	p.Batches, p.BatchEnd, p.Step, p.Took, p.Timed = []int{0, 1}, 5, 1, restart.Duration(10*time.Minute), 2
	if got := Forecast(s, p, began, nil); got[0].Number != 2 || !got[0].End.Equal(at(10)) || !got[len(got)-1].End.Equal(at(35)) {
		t.Errorf("in the middle: got %+v", got)
	}
}

func TestPlan_SaysWhatHasChangedSinceTheDryRun(t *testing.T) {
	s := newSpec(4, "1,2", "1")
	plan := NewPlan(*s, began, nil)
	again := *newSpec(4, "1,2", "1", func(s *Spec) { s.Reason, s.By, s.NotAfter = "another", "else", began.Add(time.Hour) })
	if changes := plan.Diff(again); len(changes) > 0 || NewPlan(again, began, nil).Hash != plan.Hash {
		t.Errorf("the same asked again: got %v", changes)
	}
	other := *newSpec(5, "2", "1")
	other.Hosts = other.Hosts[1:]
	want := []string{
		"batch was [1 2] and is [2]", "1 hosts are gone: web-0.example.net", "1 hosts are new: web-4.example.net",
	}
	if diff := cmp.Diff(want, plan.Diff(other)); diff != "" || NewPlan(other, began, nil).Hash == plan.Hash {
		t.Errorf("(-want +got):\n%s", diff)
	}
	slices.Reverse(again.Hosts)
	if diff := cmp.Diff([]string{"the order is another: host 1 was web-0.example.net and is web-3.example.net"}, plan.Diff(again)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
