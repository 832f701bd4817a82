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

var requestsTests = []test{
	{"EmptyDatabaseHasNone", requestsEmpty},
	{"LatestComesFirstWhateverTheOrderOfSaving", requestsOrder},
	{"FilterChoosesWhatMatchesAndNothingElse", requestsFilter},
	{"SinceIsIncludedAndUntilIsNot", requestsBounds},
	{"ManyOfOneInstantAreNeitherLostNorDoubled", requestsOfOneInstant},
	{"StoppingEarlyLeavesTheStoreUsable", requestsStopEarly},
	{"StoreCanBeUsedInsideTheLoopByManyAtOnce", requestsNested},
	{"CancelledContextEndsTheSequenceWithAnError", requestsCancelled},
}

func requestsEmpty(t *testing.T, f *fixture) {
	if got := f.mustRequests(t, store.Filter{}); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func requestsOrder(t *testing.T, f *fixture) {
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

// requestsFilter draws filters over a few hosts, groups and minutes, so that they overlap, and compares with what a
// loop over all requests finds.
func requestsFilter(t *testing.T, f *fixture) {
	hosts := []restart.Host{"", "a.example.net", "b.example.net", "c.example.net"}
	groups := []restart.Group{"", "web", "db", "none"}
	minutes := []time.Time{{}}
	var all []restart.Request
	for minute := range 20 {
		r := NewRequest(hosts[1+minute%2])
		r.Group = groups[1+minute/2%2]
		r.RequestedAt = noon.Add(time.Duration(minute) * time.Minute)
		f.mustSave(t, r)
		all = append([]restart.Request{r}, all...)
		minutes = append(minutes, r.RequestedAt)
	}
	rapid.Check(t, func(rt *rapid.T) {
		filter := store.Filter{
			Host:  rapid.SampledFrom(hosts).Draw(rt, "host"),
			Group: rapid.SampledFrom(groups).Draw(rt, "group"),
			Since: rapid.SampledFrom(minutes).Draw(rt, "since"),
			Until: rapid.SampledFrom(minutes).Draw(rt, "until"),
			Limit: rapid.IntRange(0, 4).Draw(rt, "limit"),
		}
		var want []restart.Request
		for _, r := range all {
			if matches(filter, r) && (filter.Limit == 0 || len(want) < filter.Limit) {
				want = append(want, r)
			}
		}
		if diff := cmp.Diff(want, f.mustRequests(t, filter)); diff != "" {
			rt.Errorf("filter %+v (-want +got):\n%s", filter, diff)
		}
	})
}

func requestsBounds(t *testing.T, f *fixture) {
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

// requestsOfOneInstant: a store that reads page by page must not lose its place among equals.
func requestsOfOneInstant(t *testing.T, f *fixture) {
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

func requestsStopEarly(t *testing.T, f *fixture) {
	for range 3 {
		f.mustSave(t, NewRequest("a.example.net"))
	}
	for range 50 { // more often than a pool has connections
		for _, err := range f.Requests(t.Context(), store.Filter{}) {
			if err != nil {
				t.Fatalf("Requests: %v", err)
			}
			break
		}
	}
	f.mustSave(t, NewRequest("a.example.net"))
}

// requestsNested would hang if a sequence kept a connection of a bounded pool while its caller waits for another.
func requestsNested(t *testing.T, f *fixture) {
	for range 5 {
		r := NewRequest("a.example.net")
		f.mustSave(t, r)
		f.mustFinish(t, NewOutcome(r.ID, r.Host))
	}
	together(50, func(int) {
		for r, err := range f.Requests(t.Context(), store.Filter{}) {
			if err != nil {
				t.Errorf("Requests: %v", err)
				return
			}
			if _, err := f.Outcome(t.Context(), r.ID); err != nil {
				t.Errorf("Outcome: %v", err)
			}
			if err := f.Save(t.Context(), r); err != nil {
				t.Errorf("Save: %v", err)
			}
		}
	})
}

func requestsCancelled(t *testing.T, f *fixture) {
	f.mustSave(t, NewRequest("a.example.net"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	yields := 0
	for _, err := range f.Requests(ctx, store.Filter{}) {
		yields++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	}
	if yields != 1 {
		t.Errorf("the sequence yielded %d times, want the error alone", yields)
	}
}
