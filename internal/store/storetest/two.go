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

// M50, M54: workers that share a database.
var twoTests = []test{
	{"HaveOneIdentity", twoIdentity},
	{"FinishDifferentlyAndBothLearnWhatStands", twoFinish},
	{"SaveTheSameOnce", twoSave},
	{"OfTwoHostsThatRaceForAnIDOneWins", twoReuse},
	{"ForgetEachRequestOnce", twoForget},
}

// second returns another store that is open on the database, nil if it serves only one.
func (f *fixture) second(t *testing.T) store.Store {
	t.Helper()
	if f.db.Second == nil {
		return nil
	}
	s := f.db.Second(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close of the second store: %v", err)
		}
	})
	return s
}

func twoIdentity(t *testing.T, f *fixture) {
	if second := f.second(t); second != nil && second.Identity() != f.Identity() {
		t.Errorf("got identities %s and %s, want one", f.Identity(), second.Identity())
	}
}

func twoFinish(t *testing.T, f *fixture) {
	second := f.second(t)
	if second == nil {
		return
	}
	stores := []store.Store{f, second}
	requests := make([]restart.Request, 300)
	for i := range requests {
		requests[i] = NewRequest("a.example.net")
	}
	told := make([]restart.Outcome, 2*len(requests))
	errs := make([]error, len(told))
	together(len(told), func(i int) {
		r := requests[i/2]
		o := NewOutcome(r.ID, r.Host)
		o.Kind = restart.Kinds[i%2]
		o.Receipt.Worker = fmt.Sprintf("worker-%d", i%2)
		if errs[i] = stores[i%2].Save(t.Context(), r); errs[i] == nil {
			told[i], errs[i] = stores[i%2].Finish(t.Context(), o)
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := make(map[uuid.UUID]restart.Outcome)
	for _, e := range f.mustEntries(t, store.Filter{}) {
		if _, twice := seen[e.Request.ID]; twice {
			t.Errorf("request %s is stored twice", e.Request.ID)
		}
		seen[e.Request.ID] = e.Outcome
	}
	for i, o := range told {
		if diff := cmp.Diff(seen[requests[i/2].ID], o); diff != "" {
			t.Errorf("store %d was told another outcome than stands (-stands +told):\n%s", i%2, diff)
		}
	}
}

func twoSave(t *testing.T, f *fixture) {
	second := f.second(t)
	if second == nil {
		return
	}
	stores := []store.Store{f, second}
	want := make(map[uuid.UUID]bool)
	requests := make([]restart.Request, 300)
	for i := range requests {
		requests[i] = NewRequest("a.example.net")
		want[requests[i].ID] = true
	}
	errs := make([]error, 4*len(requests))
	together(len(errs), func(i int) { errs[i] = stores[i%2].Save(t.Context(), requests[i/4]) })
	if err := errors.Join(errs...); err != nil {
		t.Errorf("Save: %v", err)
	}
	f.mustHold(t, want)
}

func twoReuse(t *testing.T, f *fixture) {
	second := f.second(t)
	if second == nil {
		return
	}
	stores := []store.Store{f, second}
	hosts := []restart.Host{"a.example.net", "b.example.net"}
	ids := make([]uuid.UUID, 200)
	for i := range ids {
		ids[i] = uuid.New()
	}
	errs := make([]error, 2*len(ids))
	together(len(errs), func(i int) {
		r := NewRequest(hosts[i%2])
		r.ID = ids[i/2]
		errs[i] = stores[i%2].Save(t.Context(), r)
	})
	for i, id := range ids {
		r, err := f.Request(t.Context(), id)
		if err != nil {
			t.Fatalf("Request: %v", err)
		}
		for j, host := range hosts {
			var want error
			if host != r.Host {
				want = store.ErrIDReused
			}
			if got := errs[2*i+j]; !errors.Is(got, want) {
				t.Errorf("host %s: got error %v, want %v", host, got, want)
			}
		}
	}
}

func twoForget(t *testing.T, f *fixture) {
	second := f.second(t)
	if second == nil {
		return
	}
	stores := []store.Store{f, second}
	const n = 120
	for i := range n {
		f.mustLive(t, old.Add(time.Duration(i%5)*time.Second))
	}
	young := f.mustLive(t, noon)
	forgotten := make([]int, 8)
	errs := make([]error, len(forgotten))
	together(len(forgotten), func(i int) {
		for {
			n, err := stores[i%2].Forget(t.Context(), noon, 7)
			if n == 0 || err != nil {
				errs[i] = err
				return
			}
			forgotten[i] += n
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Forget: %v", err)
	}
	// One that finds what the other is about to forget may come back with none, and leave the rest to it.
	sum := 0
	for _, n := range forgotten {
		sum += n
	}
	for {
		n := f.mustForget(t, noon, 7)
		if n == 0 {
			break
		}
		sum += n
	}
	if sum != n {
		t.Errorf("forgot %d, want %d", sum, n)
	}
	f.mustHold(t, map[uuid.UUID]bool{young: true})
	if !f.lives(t, young) {
		t.Error("what is young is lost")
	}
}
