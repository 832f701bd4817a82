package journaltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Journal is what the suite holds against its contract; *journal.Journal says what its methods promise.
type Journal interface {
	Covers(stored time.Time) bool
	Last(ctx context.Context, key journal.Key) (journal.Event, error)
	Append(ctx context.Context, key journal.Key, last, next journal.Event) (journal.Event, error)
}

var (
	_ Journal = (*journal.Journal)(nil)
	_ Journal = (*Memory)(nil)
)

// Run holds a kind of journal against its contract. open returns an empty journal that does not cover what is a month
// old.
func Run(t *testing.T, open func(t *testing.T) Journal) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, j Journal)
	}{
		{"NothingStandsInAnEmptyJournal", nothingStands},
		{"AnEventComesBackWhole", comesBackWhole},
		{"AnEventStandsOnTheOneBefore", standsOnTheOneBefore},
		{"ASecondFenceLoses", secondFenceLoses},
		{"OfManyRacersOneWins", oneRacerWins},
		{"WhoWasTakenOverAppendsNothingMore", takenOverLoses},
		{"TheIDOfAnotherHostOrGroupIsRefused", reusedIDIsRefused},
		{"RequestsDoNotMeet", requestsDoNotMeet},
		{"WhatMayNotFollowIsNotAppended", refusedIsNotAppended},
		{"NothingIsAppendedUnderAnEndedContext", endedContext},
		{"OnlyWhatItCanRememberIsCovered", covers},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

const epoch restart.Epoch = "boot 1"

func nothingStands(t *testing.T, j Journal) {
	wantLast(t, j, newKey(), journal.Event{})
}

// What a worker leaves is all that the next one knows.
func comesBackWhole(t *testing.T, j Journal) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.UTC)
	fence := journal.Event{
		Kind: journal.Restarting, Attempt: 1, From: `b0<o>t "1" ü`, Settled: true, Worker: "worker/1", At: at,
		Reason: restart.ReasonVerified, Detail: "a \"sentence\"\nfor <people> & machines", To: "boot 2",
	}
	for name, chain := range map[string][]journal.Event{
		"restarting": {fence},
		"takeover":   {fence, {Kind: journal.Restarting, Takeover: true, Attempt: 1, From: fence.From, Worker: "worker/2", At: at}},
		"failed":     {fence, {Kind: journal.Failed, Attempt: 1, From: fence.From, Detail: "no"}},
		"dead": {fence, {
			Kind: journal.Dead, Attempt: 1, From: fence.From, Reason: restart.ReasonNotReady, To: "boot 2",
			Detail: "not ready", Worker: "worker/1", At: at,
		}},
		"skipped":   {{Kind: journal.Skipped, Reason: restart.ReasonMinUptime, Worker: "worker/1", At: at}},
		"expired":   {{Kind: journal.Expired, Reason: restart.ReasonNotAfter}},
		"cancelled": {{Kind: journal.Cancelled, Reason: restart.ReasonByHand}},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey()
			var last journal.Event
			for _, next := range chain {
				appended := mustAppend(t, j, key, last, next)
				if appended.ID == uuid.Nil || appended.Sequence == 0 {
					t.Errorf("appended event: got id %s and sequence %d, want some", appended.ID, appended.Sequence)
				}
				want := next
				want.ID, want.Sequence = appended.ID, appended.Sequence
				wantEvent(t, "appended", appended, want)
				wantLast(t, j, key, appended)
				last = appended
			}
		})
	}
}

func standsOnTheOneBefore(t *testing.T, j Journal) {
	key := newKey()
	var last journal.Event
	for _, next := range []journal.Event{
		fence(),
		{Kind: journal.Failed, From: epoch, Attempt: 1},
		{Kind: journal.Restarting, From: epoch, Attempt: 2},
		{Kind: journal.Restarting, From: epoch, Attempt: 2, Takeover: true},
		{Kind: journal.Restarting, From: epoch, Attempt: 2, Settled: true},
		{Kind: journal.Restarting, From: epoch, Attempt: 3, Settled: true},
		{Kind: journal.Dead, From: epoch, Attempt: 3, Reason: restart.ReasonAttempts, Settled: true},
	} {
		appended := mustAppend(t, j, key, last, next)
		if appended.Sequence <= last.Sequence || appended.ID == last.ID {
			t.Errorf("got sequence %d and id %s on %d and %s", appended.Sequence, appended.ID, last.Sequence, last.ID)
		}
		last = appended
	}
	wantLast(t, j, key, last)
}

func secondFenceLoses(t *testing.T, j Journal) {
	key := newKey()
	first := mustAppend(t, j, key, journal.Event{}, fence())
	wantConflict(t, j, key, journal.Event{}, fence())
	wantConflict(t, j, key, journal.Event{}, journal.Event{Kind: journal.Cancelled})
	wantLast(t, j, key, first)
}

func oneRacerWins(t *testing.T, j Journal) {
	const racers, rounds = 16, 20
	for range rounds {
		key := newKey()
		events := make([]journal.Event, racers)
		errs := make([]error, racers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range racers {
			wg.Go(func() {
				<-start
				next := fence()
				next.Worker = fmt.Sprint("worker/", i)
				events[i], errs[i] = j.Append(t.Context(), key, journal.Event{}, next)
			})
		}
		close(start)
		wg.Wait()

		var winners []journal.Event
		for i, err := range errs {
			switch {
			case err == nil:
				winners = append(winners, events[i])
			case !errors.Is(err, journal.ErrConflict):
				t.Errorf("racer %d: got %v, want ErrConflict", i, err)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("got %d winners, want 1", len(winners))
		}
		wantLast(t, j, key, winners[0])
	}
}

// A worker that was paused and lost its lease must find out here, whatever it was about to write.
func takenOverLoses(t *testing.T, j Journal) {
	key := newKey()
	mine := mustAppend(t, j, key, journal.Event{}, fence())
	theirs := mustAppend(t, j, key, mine, journal.Event{Kind: journal.Restarting, Takeover: true, From: epoch, Attempt: 1})
	late := []journal.Event{
		{Kind: journal.Failed, From: epoch, Attempt: 1},
		{Kind: journal.Restarting, From: epoch, Attempt: 1, Takeover: true},
		{Kind: journal.Restarting, From: epoch, Attempt: 2, Settled: true},
		{Kind: journal.Dead, From: epoch, Attempt: 1, Reason: restart.ReasonUnconfirmed},
	}
	for _, next := range late {
		wantConflict(t, j, key, mine, next)
	}
	wantLast(t, j, key, theirs)

	end := mustAppend(t, j, key, theirs, journal.Event{Kind: journal.Expired, From: epoch, Attempt: 1, Settled: true})
	for _, next := range late {
		wantConflict(t, j, key, mine, next)
	}
	wantLast(t, j, key, end)
}

func reusedIDIsRefused(t *testing.T, j Journal) {
	key := newKey()
	owners := mustAppend(t, j, key, journal.Event{}, fence())
	for name, other := range map[string]journal.Key{
		"host":            {Group: key.Group, ID: key.ID, Host: "other.example.net"},
		"group":           {Group: "other", ID: key.ID, Host: key.Host},
		"subdomain":       {Group: key.Group, ID: key.ID, Host: "x." + key.Host},
		"host, shortened": {Group: key.Group, ID: key.ID, Host: "host-1"},
	} {
		t.Run(name, func(t *testing.T) {
			wantConflict(t, j, other, journal.Event{}, fence())
			if got, err := j.Last(t.Context(), other); !errors.Is(err, journal.ErrIDReused) {
				t.Errorf("Last: got %+v, %v, want ErrIDReused", got, err)
			}
			wantConflict(t, j, other, journal.Event{}, journal.Event{Kind: journal.Cancelled})
		})
	}
	wantLast(t, j, key, owners)
}

func requestsDoNotMeet(t *testing.T, j Journal) {
	one, other := newKey(), newKey()
	first := mustAppend(t, j, one, journal.Event{}, fence())
	wantLast(t, j, other, journal.Event{})
	second := mustAppend(t, j, other, journal.Event{}, fence())
	wantLast(t, j, one, first)
	wantLast(t, j, other, second)
}

func refusedIsNotAppended(t *testing.T, j Journal) {
	key := newKey()
	wantRefused := func(last, next journal.Event) {
		t.Helper()
		if got, err := j.Append(t.Context(), key, last, next); err == nil || errors.Is(err, journal.ErrConflict) {
			t.Errorf("got %+v, %v, want a refusal that is no conflict", got, err)
		}
		wantLast(t, j, key, last)
	}
	wantRefused(journal.Event{}, journal.Event{Kind: journal.Restarting, Attempt: 1})
	wantRefused(journal.Event{}, journal.Event{Kind: journal.Failed, Attempt: 1, From: epoch})

	open := mustAppend(t, j, key, journal.Event{}, fence())
	wantRefused(open, journal.Event{Kind: journal.Restarting, From: epoch, Attempt: 2})
	wantRefused(open, journal.Event{Kind: journal.Restarting, From: "boot 2", Attempt: 2, Settled: true})
	wantRefused(open, journal.Event{Kind: journal.Cancelled, From: epoch, Attempt: 1})

	end := mustAppend(t, j, key, open, journal.Event{Kind: journal.Dead, From: epoch, Attempt: 1, Settled: true})
	wantRefused(end, journal.Event{Kind: journal.Restarting, From: epoch, Attempt: 2, Settled: true})
}

func endedContext(t *testing.T, j Journal) {
	stopped := errors.New("the worker is stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	key := newKey()
	if got, err := j.Append(ctx, key, journal.Event{}, fence()); !errors.Is(err, stopped) {
		t.Errorf("Append: got %+v, %v, want the cause", got, err)
	}
	if got, err := j.Last(ctx, key); err == nil {
		t.Errorf("Last: got %+v, want an error", got)
	}
	mustAppend(t, j, key, journal.Event{}, fence()) // which would meet what was sent all the same
}

func covers(t *testing.T, j Journal) {
	if !j.Covers(time.Now()) {
		t.Error("a message that was stored just now is not covered")
	}
	if j.Covers(time.Now().AddDate(0, -1, 0)) {
		t.Error("a message that was stored a month ago is covered")
	}
}

func newKey() journal.Key {
	return journal.Key{Group: restart.DefaultGroup, ID: uuid.New(), Host: "host-1.example.net"}
}

func fence() journal.Event {
	return journal.Event{Kind: journal.Restarting, Attempt: 1, From: epoch, Worker: "worker", At: time.Now().UTC()}
}

func mustAppend(t *testing.T, j Journal, key journal.Key, last, next journal.Event) journal.Event {
	t.Helper()
	appended, err := j.Append(t.Context(), key, last, next)
	if err != nil {
		t.Fatalf("cannot append %s: %v", next.Kind, err)
	}
	return appended
}

func wantConflict(t *testing.T, j Journal, key journal.Key, last, next journal.Event) {
	t.Helper()
	if got, err := j.Append(t.Context(), key, last, next); !errors.Is(err, journal.ErrConflict) {
		t.Errorf("append %s: got %+v, %v, want ErrConflict", next.Kind, got, err)
	}
}

func wantLast(t *testing.T, j Journal, key journal.Key, want journal.Event) {
	t.Helper()
	got, err := j.Last(t.Context(), key)
	if err != nil {
		t.Fatalf("Last: %v", err)
	}
	wantEvent(t, "last", got, want)
}

func wantEvent(t *testing.T, what string, got, want journal.Event) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s event (-want +got):\n%s", what, diff)
	}
}
