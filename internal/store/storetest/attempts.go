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

var requestTests = []test{
	{"IsWhatWasSaved", requestIsWhatWasSaved},
	{"OfAnIDThatWasNotSavedIsNotFound", requestNotFound},
}

func requestIsWhatWasSaved(t *testing.T, f *fixture) {
	want := NewRequest("a.example.net")
	f.mustSave(t, want)
	f.mustSave(t, NewRequest("a.example.net"))
	f.reopen(t)
	for range 2 {
		got, err := f.Request(t.Context(), want.ID)
		if err != nil {
			t.Fatalf("Request: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		clear(got.Raw) // what was read is its reader's
	}
}

func requestNotFound(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	f.mustFinish(t, o) // which is not a request
	if _, err := f.Request(t.Context(), o.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, store.ErrNotFound)
	}
}

var attemptTests = []test{
	{"ThereAreNoneOfWhatWasNeverTriggered", attemptsNone},
	{"ComeInTheirOrderAndTheOneOfTheOutcomeLast", attemptsOrder},
	{"TheLastOfWhatDidNotSucceedSaysWhy", attemptsOfFailure},
	{"EveryFieldComesBack", attemptsKeepEveryField},
	{"OfManyAtOnceWithOneKeyOneStays", attemptsOnce},
}

func newAttempt(id uuid.UUID, number int, worker string, startedAt time.Time) restart.Attempt {
	return restart.Attempt{
		Request: id, Number: number, Worker: worker, StartedAt: startedAt, EndedAt: startedAt.Add(time.Minute),
		From: "41", To: "41", Error: "the same boot",
	}
}

func (f *fixture) checkAttempts(t *testing.T, id uuid.UUID, want ...restart.Attempt) {
	t.Helper()
	if diff := cmp.Diff(want, f.mustAttempts(t, id)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func attemptsNone(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	f.mustSave(t, r)
	f.checkAttempts(t, r.ID)
	o := NewOutcome(r.ID, r.Host)
	o.Kind, o.Reason, o.Receipt = restart.Expired, restart.ReasonNotAfter, restart.Receipt{Worker: "worker-1"}
	f.mustFinish(t, o)
	f.checkAttempts(t, r.ID)
}

func attemptsOrder(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	o.Receipt.Attempt = 3
	first := newAttempt(o.ID, 1, "worker-2", noon)
	taken := newAttempt(o.ID, 1, "worker-1", noon.Add(time.Minute))
	second := newAttempt(o.ID, 2, "worker-3", noon.Add(2*time.Minute))
	third := newAttempt(o.ID, 3, "worker-9", noon.Add(3*time.Minute)) // the trigger that led to the outcome, by another
	f.mustAttempt(t, third)
	f.mustAttempt(t, taken)
	f.mustAttempt(t, newAttempt(uuid.New(), 1, "worker-2", noon)) // another request's
	f.mustAttempt(t, second)
	f.mustAttempt(t, first)
	f.checkAttempts(t, o.ID, first, taken, second, third)
	f.mustFinish(t, o)
	f.reopen(t)
	last := restart.Attempt{
		Request: o.ID, Number: 3, Worker: o.Receipt.Worker, StartedAt: o.Receipt.TriggeredAt, EndedAt: o.Receipt.VerifiedAt,
		From: "41", To: "42",
	}
	f.checkAttempts(t, o.ID, first, taken, second, third, last)
}

func attemptsOfFailure(t *testing.T, f *fixture) {
	o := NewOutcome(uuid.New(), "a.example.net")
	o.Kind, o.Reason, o.Detail = restart.Dead, restart.ReasonUnconfirmed, "never seen again"
	o.Receipt.To, o.Receipt.VerifiedAt = "", time.Time{}
	f.mustFinish(t, o)
	f.checkAttempts(t, o.ID, restart.Attempt{
		Request: o.ID, Number: 1, Worker: o.Receipt.Worker, StartedAt: o.Receipt.TriggeredAt, EndedAt: o.At, From: "41",
		Error: o.Detail,
	})
}

func attemptsKeepEveryField(t *testing.T, f *fixture) {
	id := uuid.New()
	bare := restart.Attempt{Request: id, Number: 1}
	full := newAttempt(id, 2, awkward, time.Date(2026, 3, 29, 3, 0, 0, 987654321, time.FixedZone("CEST", 2*60*60)))
	full.From, full.To, full.Error = awkward, awkward, awkward
	f.mustAttempt(t, full)
	f.mustAttempt(t, bare)
	f.reopen(t)
	want := full
	store.CleanAttempt(&want)
	want.StartedAt, want.EndedAt = kept(want.StartedAt), kept(want.EndedAt)
	f.checkAttempts(t, id, bare, want)
}

func attemptsOnce(t *testing.T, f *fixture) {
	first := newAttempt(uuid.New(), 1, "worker-1", noon)
	f.mustAttempt(t, first)
	errs := make([]error, 100)
	together(len(errs), func(i int) {
		again := first
		again.Error = fmt.Sprintf("another error, %d", i)
		errs[i] = f.Attempted(t.Context(), again)
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Attempted: %v", err)
	}
	f.reopen(t)
	f.mustAttempt(t, first)
	f.checkAttempts(t, first.Request, first)
}
