package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

var historyTests = []test{
	{"EmptyDatabaseHasNone", historyEmpty},
	{"LatestComesFirstWhateverTheOrderOfSaving", historyOrder},
	{"FilterChoosesWhatMatchesAndNothingElse", historyFilter},
	{"EachComesWithItsOwnOutcomeOrNone", historyOutcomes},
	{"ManyPagesOfOneKindAreWhatALoopWouldFind", historyPages},
	{"SinceIsIncludedAndUntilIsNot", historyBounds},
	{"ManyOfOneInstantAreNeitherLostNorDoubled", historyOfOneInstant},
	{"StoppingEarlyLeavesTheStoreUsable", historyStopEarly},
	{"StoreCanBeUsedInsideTheLoopByManyAtOnce", historyNested},
	{"CancelledContextEndsTheSequenceWithAnError", historyCancelled},
}

func historyEmpty(t *testing.T, f *fixture) {
	if got := f.mustRequests(t, store.Filter{}); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func historyOrder(t *testing.T, f *fixture) {
	var want []restart.Request
	for _, minute := range []int{2, 0, 4, 1, 3} {
		r := NewRequest("a.example.net")
		r.RequestedAt = noon.Add(time.Duration(minute) * time.Minute)
		f.mustSave(t, r)
		want = append(want, r)
	}
	slices.SortFunc(want, func(a, b restart.Request) int { return b.RequestedAt.Compare(a.RequestedAt) })
	for _, limit := range []int{0, 1, 4, 5, 6} {
		t.Run(fmt.Sprintf("Limit%d", limit), func(t *testing.T) {
			want := want
			if limit > 0 {
				want = want[:min(limit, len(want))]
			}
			if diff := cmp.Diff(want, f.mustRequests(t, store.Filter{Limit: limit})); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// historyFilter draws filters over a few hosts, groups, kinds and minutes, so that they overlap, and compares with what
// a loop over all entries finds.
func historyFilter(t *testing.T, f *fixture) {
	hosts := []restart.Host{"", "a.example.net", "b.example.net", "c.example.net"}
	groups := []restart.Group{"", "web", "db", "none"}
	kinds := []restart.Kind{"", restart.Restarted, restart.Dead, restart.Unknown}
	minutes := []time.Time{{}}
	var all []store.Entry
	for minute := range 24 {
		r := NewRequest(hosts[1+minute%2])
		r.Group = groups[1+minute/2%2]
		r.RequestedAt = noon.Add(time.Duration(minute) * time.Minute)
		f.mustSave(t, r)
		e := store.Entry{Request: r}
		if kind := kinds[minute/4%3]; kind != "" {
			e.Outcome = f.mustFinish(t, outcomeOf(r, kind))
		}
		all = append([]store.Entry{e}, all...)
		minutes = append(minutes, r.RequestedAt)
	}
	rapid.Check(t, func(rt *rapid.T) {
		filter := store.Filter{
			Host:  rapid.SampledFrom(hosts).Draw(rt, "host"),
			Group: rapid.SampledFrom(groups).Draw(rt, "group"),
			Kind:  rapid.SampledFrom(kinds).Draw(rt, "kind"),
			Since: rapid.SampledFrom(minutes).Draw(rt, "since"),
			Until: rapid.SampledFrom(minutes).Draw(rt, "until"),
			Limit: rapid.IntRange(0, 4).Draw(rt, "limit"),
		}
		var want []store.Entry
		for _, e := range all {
			if matches(filter, e) && (filter.Limit == 0 || len(want) < filter.Limit) {
				want = append(want, e)
			}
		}
		if diff := cmp.Diff(want, f.mustEntries(t, filter)); diff != "" {
			rt.Errorf("filter %+v (-want +got):\n%s", filter, diff)
		}
	})
}

func outcomeOf(r restart.Request, kind restart.Kind) restart.Outcome {
	o := NewOutcome(r.ID, r.Host)
	o.Group, o.Kind, o.Receipt.RequestedAt = r.Group, kind, r.RequestedAt
	return o
}

func historyOutcomes(t *testing.T, f *fixture) {
	var want []store.Entry
	for minute := range 5 {
		r := NewRequest("a.example.net")
		r.RequestedAt = noon.Add(-time.Duration(minute) * time.Minute)
		f.mustSave(t, r)
		e := store.Entry{Request: r}
		if minute%2 == 0 {
			e.Outcome = outcomeOf(r, restart.Restarted)
			e.Outcome.Detail, e.Outcome.Receipt.Down = r.ID.String(), restart.Duration(minute)*restart.Duration(time.Second)
			e.Outcome.Receipt.Checks = []restart.Check{{Name: "ready", Result: r.ID.String()}}
			f.mustFinish(t, e.Outcome)
		}
		want = append(want, e)
	}
	f.mustFinish(t, NewOutcome(uuid.New(), "a.example.net")) // whose request was never saved
	f.reopen(t)
	for _, filter := range []store.Filter{{}, {Host: "a.example.net"}, {Group: restart.DefaultGroup}} {
		if diff := cmp.Diff(want, f.mustEntries(t, filter)); diff != "" {
			t.Errorf("filter %+v (-want +got):\n%s", filter, diff)
		}
	}
	finished := []store.Entry{want[0], want[2], want[4]}
	if diff := cmp.Diff(finished, f.mustEntries(t, store.Filter{Kind: restart.Restarted})); diff != "" {
		t.Errorf("by kind (-want +got):\n%s", diff)
	}
}

// historyPages: a store that reads page by page must neither lose its place among equals nor stop at a page in which
// little matches.
func historyPages(t *testing.T, f *fixture) {
	kinds := []restart.Kind{restart.Restarted, restart.Restarted, restart.Dead, ""}
	all := make([]store.Entry, 1300)
	errs := make([]error, len(all))
	together(len(all), func(i int) {
		r := NewRequest(restart.Host(fmt.Sprintf("host-%d.example.net", i%7)))
		r.RequestedAt = noon.Add(time.Duration(i/500) * time.Minute)
		all[i].Request = r
		if errs[i] = f.Save(t.Context(), r); errs[i] == nil && kinds[i%4] != "" {
			all[i].Outcome, errs[i] = f.Finish(t.Context(), outcomeOf(r, kinds[i%4]))
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []store.Filter{
		{},
		{Kind: restart.Restarted},
		{Kind: restart.Dead},
		{Kind: restart.Skipped},
		{Kind: restart.Restarted, Limit: 501},
		{Kind: restart.Restarted, Limit: 600},
		{Kind: restart.Restarted, Since: noon.Add(time.Minute), Until: noon.Add(2 * time.Minute)},
		{Kind: restart.Restarted, Host: "host-3.example.net"},
		{Kind: restart.Dead, Group: restart.DefaultGroup, Limit: 300},
		{Host: "host-3.example.net", Since: noon.Add(time.Minute)},
	} {
		checkEntries(t, filter, all, f.mustEntries(t, filter))
	}
}

// checkEntries checks that got are the latest of all that match, each once, whatever the order of those of one instant.
func checkEntries(t *testing.T, filter store.Filter, all, got []store.Entry) {
	t.Helper()
	missing := make(map[uuid.UUID]store.Entry)
	for _, e := range all {
		if matches(filter, e) {
			missing[e.Request.ID] = e
		}
	}
	want := len(missing)
	if filter.Limit > 0 {
		want = min(want, filter.Limit)
	}
	if len(got) != want {
		t.Errorf("filter %+v: got %d entries, want %d", filter, len(got), want)
	}
	var last time.Time
	for i, e := range got {
		if diff := cmp.Diff(missing[e.Request.ID], e); diff != "" {
			t.Fatalf("filter %+v, entry %d (-want, nothing if it came twice, +got):\n%s", filter, i, diff)
		}
		delete(missing, e.Request.ID)
		if i > 0 && e.Request.RequestedAt.After(last) {
			t.Errorf("filter %+v: entry %d is later than the one before it", filter, i)
		}
		last = e.Request.RequestedAt
	}
	for _, e := range missing {
		if len(got) > 0 && e.Request.RequestedAt.After(last) {
			t.Errorf("filter %+v: %s is missing, though it is later than the last", filter, e.Request.ID)
		}
	}
}

func historyBounds(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	f.mustSave(t, r)
	at := r.RequestedAt
	for _, tt := range []struct {
		name   string
		filter store.Filter
		want   int
	}{
		{"SinceTheInstant", store.Filter{Since: at}, 1},
		{"SinceAMicrosecondLater", store.Filter{Since: at.Add(time.Microsecond)}, 0},
		{"UntilTheInstant", store.Filter{Until: at}, 0},
		{"UntilAMicrosecondLater", store.Filter{Until: at.Add(time.Microsecond)}, 1},
		{"InAnotherZone", store.Filter{Since: at.In(time.FixedZone("", 3600)), Until: at.Add(time.Second)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(f.mustRequests(t, tt.filter)); got != tt.want {
				t.Errorf("got %d requests, want %d", got, tt.want)
			}
		})
	}
}

// historyOfOneInstant: a store that reads page by page must not lose its place among equals.
func historyOfOneInstant(t *testing.T, f *fixture) {
	const n = 1700
	requests := make([]restart.Request, n)
	want := make(map[uuid.UUID]bool, n)
	for i := range requests {
		requests[i] = NewRequest("a.example.net")
		want[requests[i].ID] = true
	}
	errs := make([]error, n)
	together(n, func(i int) { errs[i] = f.Save(t.Context(), requests[i]) })
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Save: %v", err)
	}
	f.mustHold(t, want)
	for _, limit := range []int{499, 500, 501, 1000, n, n + 1} {
		if got, want := len(f.mustRequests(t, store.Filter{Limit: limit})), min(limit, n); got != want {
			t.Errorf("limit %d: got %d requests, want %d", limit, got, want)
		}
	}
}

func historyStopEarly(t *testing.T, f *fixture) {
	for range 3 {
		f.mustSave(t, NewRequest("a.example.net"))
	}
	for range 50 { // more often than a pool has connections
		for _, err := range f.History(t.Context(), store.Filter{}) {
			if err != nil {
				t.Fatalf("History: %v", err)
			}
			break
		}
	}
	f.mustSave(t, NewRequest("a.example.net"))
}

// historyNested would hang if a sequence kept a connection of a bounded pool while its caller waits for another.
func historyNested(t *testing.T, f *fixture) {
	for range 5 {
		r := NewRequest("a.example.net")
		f.mustSave(t, r)
		f.mustFinish(t, NewOutcome(r.ID, r.Host))
	}
	together(50, func(int) {
		for e, err := range f.History(t.Context(), store.Filter{}) {
			if err != nil {
				t.Errorf("History: %v", err)
				return
			}
			if _, err := f.Outcome(t.Context(), e.Request.ID); err != nil {
				t.Errorf("Outcome: %v", err)
			}
			if err := f.Save(t.Context(), e.Request); err != nil {
				t.Errorf("Save: %v", err)
			}
		}
	})
}

func historyCancelled(t *testing.T, f *fixture) {
	f.mustSave(t, NewRequest("a.example.net"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	yields := 0
	for _, err := range f.History(ctx, store.Filter{}) {
		yields++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	}
	if yields != 1 {
		t.Errorf("the sequence yielded %d times, want the error alone", yields)
	}
}
