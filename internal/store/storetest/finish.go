package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var finishTests = []test{
	{"IsDurableWhenItReturned", finishIsDurable},
	{"EveryFieldComesBack", finishKeepsEveryField},
	{"TimesAreTheSameFromFinishAndFromOutcome", finishKeepsMicroseconds},
	{"TextThatDatabasesDislikeIsReplacedForAllAlike", finishTakesAnyText},
	{"ChecksComeBackAsTheyAreOrNil", finishKeepsChecks},
	{"ChecksAreTheCallersOwn", finishSharesNoChecks},
	{"FirstStandsAndTheSecondLearnsIt", finishTwice},
	{"OfManyAtOnceOneStandsAndAllLearnIt", finishRace},
	{"DoesNotAskForTheRequest", finishWithoutSave},
	{"OutcomeOfAnUnfinishedRequestIsNotFound", outcomeNotFound},
	{"OutcomesOfTwoRequestsDoNotMix", outcomesDoNotMix},
	{"EndedCountsWhatEndedSinceWheneverItWasAskedFor", endedCounts},
}

func finishIsDurable(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	f.mustFinish(t, o)
	f.reopen(t)
	if diff := cmp.Diff(o, f.mustOutcome(t, o.ID)); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
}

func finishKeepsEveryField(t *testing.T, f *fixture) {
	never := NewOutcome(uuid.New(), "never-triggered.example.net")
	never.Kind, never.Reason, never.Receipt = restart.Expired, restart.ReasonNotAfter, restart.Receipt{Worker: "w"}
	outcomes := []restart.Outcome{NewOutcome(uuid.New(), "full.example.net"), never, {ID: uuid.New()}}
	for _, kind := range restart.Kinds {
		o := NewOutcome(uuid.New(), "kind.example.net")
		o.Kind = kind
		outcomes = append(outcomes, o)
	}
	for _, o := range outcomes {
		if diff := cmp.Diff(o, f.mustFinish(t, o)); diff != "" {
			t.Errorf("Finish (-want +got):\n%s", diff)
		}
	}
	f.reopen(t)
	for _, o := range outcomes {
		if diff := cmp.Diff(o, f.mustOutcome(t, o.ID)); diff != "" {
			t.Errorf("Outcome (-want +got):\n%s", diff)
		}
	}
}

func finishKeepsMicroseconds(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	o.At = time.Date(2026, 3, 29, 3, 0, 0, 987654321, time.FixedZone("CEST", 2*60*60))
	o.Receipt.RequestedAt = o.At.Add(-time.Hour)
	o.Receipt.TriggeredAt, o.Receipt.VerifiedAt = o.At.Add(-time.Minute), o.At.Add(-time.Second)
	o.Receipt.Down = 12345678999
	got := f.mustFinish(t, o)
	checkKept(t, "at", got.At, o.At)
	checkKept(t, "requested_at", got.Receipt.RequestedAt, o.Receipt.RequestedAt)
	checkKept(t, "triggered_at", got.Receipt.TriggeredAt, o.Receipt.TriggeredAt)
	checkKept(t, "verified_at", got.Receipt.VerifiedAt, o.Receipt.VerifiedAt)
	if got.Receipt.Down != 12345678000 {
		t.Errorf("down: got %d ns, want 12345678000", got.Receipt.Down)
	}
	if read := f.mustOutcome(t, o.ID); !cmp.Equal(read, got) {
		t.Errorf("Finish and Outcome differ:\n%s", cmp.Diff(got, read))
	}
}

func finishTakesAnyText(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	o.Detail = awkward
	o.Receipt.RequestedBy, o.Receipt.Worker, o.Receipt.From, o.Receipt.To = awkward, awkward, awkward, awkward
	o.Receipt.Checks = []restart.Check{{Name: awkward, Result: awkward}}
	want := o
	store.CleanOutcome(&want)
	want.Receipt.Checks = []restart.Check{{Name: store.Text(awkward), Result: store.Text(awkward)}}
	for range 2 {
		if diff := cmp.Diff(want, f.mustFinish(t, o)); diff != "" {
			t.Errorf("Finish (-want +got):\n%s", diff)
		}
		f.reopen(t)
	}
	if diff := cmp.Diff(want, f.mustOutcome(t, o.ID)); diff != "" {
		t.Errorf("Outcome (-want +got):\n%s", diff)
	}
}

// finishKeepsChecks asks for texts that mean something to JSON, and for the one nil: a store that told the first of an
// empty list, and the second of none, would tell two ends of one request.
func finishKeepsChecks(t *testing.T, f *fixture) {
	for i, tt := range []struct{ checks, want []restart.Check }{
		{nil, nil},
		{[]restart.Check{}, nil},
		{[]restart.Check{{}}, []restart.Check{{}}},
		{
			[]restart.Check{{Name: "ready", Result: `"<a> & \u0000"`}, {Name: "null", Result: "]}, \u2028"}, {Name: "ready"}},
			[]restart.Check{{Name: "ready", Result: `"<a> & \u0000"`}, {Name: "null", Result: "]}, \u2028"}, {Name: "ready"}},
		},
	} {
		r := NewRequest(restart.Host(fmt.Sprintf("host-%d.example.net", i)))
		f.mustSave(t, r)
		want := NewOutcome(r.ID, r.Host)
		want.Receipt.Checks = tt.want
		o := want
		o.Receipt.Checks = tt.checks
		for range 2 {
			if diff := cmp.Diff(want, f.mustFinish(t, o)); diff != "" {
				t.Errorf("%q: Finish (-want +got):\n%s", tt.checks, diff)
			}
		}
		if diff := cmp.Diff(want, f.mustOutcome(t, o.ID)); diff != "" {
			t.Errorf("%q: Outcome (-want +got):\n%s", tt.checks, diff)
		}
		if diff := cmp.Diff([]store.Entry{{Request: r, Outcome: want}}, f.mustEntries(t, store.Filter{Host: r.Host})); diff != "" {
			t.Errorf("%q: History (-want +got):\n%s", tt.checks, diff)
		}
	}
}

// finishSharesNoChecks: a list that two hold is changed under one by the other. The race detector sees those of a batch.
func finishSharesNoChecks(t *testing.T, f *fixture) {
	const finishers = 40
	id := uuid.New()
	errs := make([]error, 2*finishers)
	together(finishers, func(i int) {
		o := NewOutcome(id, "a.example.net")
		o.Receipt.Checks[0].Name = "nul \x00"
		var told, read restart.Outcome
		told, errs[2*i] = f.Finish(t.Context(), o)
		read, errs[2*i+1] = f.Outcome(t.Context(), id)
		if o.Receipt.Checks[0].Name != "nul \x00" {
			t.Errorf("Finish changed its argument to %q", o.Receipt.Checks)
		}
		for _, o := range []restart.Outcome{o, told, read} {
			for j := range o.Receipt.Checks {
				o.Receipt.Checks[j] = restart.Check{Name: "scribble"}
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	want := NewOutcome(id, "a.example.net")
	want.Receipt.Checks[0].Name = "nul \uFFFD"
	if diff := cmp.Diff(want, f.mustOutcome(t, id)); diff != "" {
		t.Errorf("Outcome (-want +got):\n%s", diff)
	}
}

func finishTwice(t *testing.T, f *fixture) {
	first := NewOutcome(uuid.New(), "a.example.net")
	second := first
	second.Kind, second.Reason, second.Detail = restart.Dead, restart.ReasonUnconfirmed, "never seen again"
	second.Receipt = restart.Receipt{Worker: "worker-2", Attempt: 3}
	f.mustFinish(t, first)
	for range 2 {
		if diff := cmp.Diff(first, f.mustFinish(t, second)); diff != "" {
			t.Errorf("second Finish (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(first, f.mustFinish(t, first)); diff != "" {
			t.Errorf("first Finish again (-want +got):\n%s", diff)
		}
		f.reopen(t)
	}
	if diff := cmp.Diff(first, f.mustOutcome(t, first.ID)); diff != "" {
		t.Errorf("Outcome (-want +got):\n%s", diff)
	}
}

func finishRace(t *testing.T, f *fixture) {
	const rounds, finishers = 5, 40
	for range rounds {
		id := uuid.New()
		proposed := make([]restart.Outcome, finishers)
		told := make([]restart.Outcome, finishers)
		errs := make([]error, finishers)
		together(finishers, func(i int) {
			proposed[i] = NewOutcome(id, "a.example.net")
			proposed[i].Kind = restart.Kinds[i%len(restart.Kinds)]
			proposed[i].Receipt.Worker = fmt.Sprintf("worker-%d", i)
			told[i], errs[i] = f.Finish(t.Context(), proposed[i])
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("Finish: %v", err)
		}
		stands := f.mustOutcome(t, id)
		wins := 0
		for i := range finishers {
			if !cmp.Equal(told[i], stands) {
				t.Errorf("finisher %d was told another outcome than stands (-stands +told):\n%s", i, cmp.Diff(stands, told[i]))
			}
			if cmp.Equal(proposed[i], stands) {
				wins++
			}
		}
		if wins != 1 {
			t.Errorf("%d proposed outcomes stand, want 1", wins)
		}
	}
}

func finishWithoutSave(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	o := NewOutcome(r.ID, r.Host)
	f.mustFinish(t, o)
	f.mustHold(t, nil)
	f.mustSave(t, r) // which may come later
	if diff := cmp.Diff(o, f.mustOutcome(t, r.ID)); diff != "" {
		t.Errorf("Outcome (-want +got):\n%s", diff)
	}
}

func outcomeNotFound(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	for range 2 {
		if _, err := f.Outcome(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got error %v, want %v", err, store.ErrNotFound)
		}
		f.mustSave(t, r) // which is not an outcome
	}
}

func outcomesDoNotMix(t *testing.T, f *fixture) {
	a, b := NewOutcome(uuid.New(), "same.example.net"), NewOutcome(uuid.New(), "same.example.net")
	b.Kind, b.Reason = restart.Skipped, restart.ReasonMinUptime
	for _, o := range []restart.Outcome{a, b} {
		f.mustFinish(t, o)
	}
	for _, want := range []restart.Outcome{a, b} {
		if diff := cmp.Diff(want, f.mustOutcome(t, want.ID)); diff != "" {
			t.Errorf("Outcome (-want +got):\n%s", diff)
		}
	}
}

func endedCounts(t *testing.T, f *fixture) {
	if got, err := f.Ended(t.Context(), time.Time{}); err != nil || len(got) != 0 {
		t.Errorf("empty database: got %v, %v, want none", got, err)
	}
	for i, end := range []struct {
		group restart.Group
		kind  restart.Kind
		after time.Duration // noon
	}{
		{"web", restart.Restarted, 0},
		{"web", restart.Restarted, time.Hour},
		{"web", restart.Dead, time.Microsecond},
		{"batch", restart.Restarted, time.Second},
		{"batch", restart.Expired, -time.Microsecond},
		{"old", restart.Restarted, -time.Hour},
	} {
		o := NewOutcome(uuid.New(), restart.Host(fmt.Sprintf("host-%d.example.net", i)))
		o.Group, o.Kind, o.At = end.group, end.kind, noon.Add(end.after)
		o.Receipt.RequestedAt = noon.Add(-24 * time.Hour)
		f.mustFinish(t, o)
	}
	want := store.Counts{
		"web":   {restart.Restarted: 2, restart.Dead: 1},
		"batch": {restart.Restarted: 1},
	}
	got, err := f.Ended(t.Context(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Ended (-want +got):\n%s", diff)
	}
}
