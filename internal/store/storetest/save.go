package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// M23: what was asked is kept, so that it can be replayed.
var saveTests = []test{
	{"IsDurableWhenItReturned", saveIsDurable},
	{"EveryFieldComesBack", saveKeepsEveryField},
	{"MegabyteOfRawComesBack", saveKeepsLargeRaw},
	{"TimesKeepTheirMicrosecondsWhateverTheirZone", saveKeepsMicroseconds},
	{"TextThatDatabasesDislikeIsReplacedAndRawIsNot", saveTakesAnyText},
	{"RawIsTheCallersAgainAfterTheCall", saveCopiesRaw},
	{"TwiceIsOneRowAndTheFirstStays", saveTwice},
	{"IDOfAnotherHostIsRefusedAndTheFirstStays", saveRefusesOtherHost},
	{"IDOfAnotherGroupIsRefusedAndTheFirstStays", saveRefusesOtherGroup},
	{"ThousandsAtOnceEachLearnTheirOwnFate", saveThousands},
	{"OfHostsThatRaceForOneIDOneWins", saveRace},
}

func saveIsDurable(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	f.mustSave(t, r)
	f.reopen(t)
	if diff := cmp.Diff([]restart.Request{r}, f.mustRequests(t, store.Filter{})); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
}

func saveKeepsEveryField(t *testing.T, f *fixture) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	full := restart.Request{
		ID:           uuid.New(),
		Instance:     "cattle-a1b2",
		Host:         "cattle-a1b2.example.net",
		Group:        "web-1",
		Reason:       `kernel "6.1" über; DROP TABLE requests; -- 🐄`,
		RequestedBy:  "O'Brien",
		RequestedAt:  noon,
		NotAfter:     noon.Add(time.Hour),
		Campaign:     "spring",
		ReplayOf:     uuid.NewString(),
		RequeuedFrom: uuid.NewString(),
		MinUptime:    restart.Duration(7*24*time.Hour + time.Nanosecond),
		Raw:          everyByte,
	}
	bare := restart.Request{ID: uuid.New(), Host: "b", Group: "default"}
	first := NewRequest("year-0.example.net")
	first.RequestedAt, first.NotAfter = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 2, 0, 0, 0, 0, time.UTC)
	last := NewRequest("year-9999.example.net")
	last.RequestedAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	last.NotAfter = last.RequestedAt

	want := []restart.Request{last, full, bare, first}
	for _, r := range want {
		f.mustSave(t, r)
	}
	f.reopen(t)
	if diff := cmp.Diff(want, f.mustRequests(t, store.Filter{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// saveKeepsLargeRaw saves as much as a NATS server takes in one message unless told otherwise.
func saveKeepsLargeRaw(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	r.Raw = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	f.mustSave(t, r)
	f.reopen(t)
	if got := f.mustRequests(t, store.Filter{}); len(got) != 1 || !bytes.Equal(got[0].Raw, r.Raw) {
		t.Errorf("got %d requests, want one with the same %d bytes", len(got), len(r.Raw))
	}
}

func saveKeepsMicroseconds(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	r.RequestedAt = time.Date(2026, 3, 29, 3, 0, 0, 987654321, time.FixedZone("CEST", 2*60*60))
	r.NotAfter = r.RequestedAt.Add(time.Hour)
	f.mustSave(t, r)
	for _, got := range f.mustRequests(t, store.Filter{}) {
		checkKept(t, "requested_at", got.RequestedAt, r.RequestedAt)
		checkKept(t, "not_after", got.NotAfter, r.NotAfter)
	}
}

// checkKept allows a store to drop what is less than a microsecond, and nothing else.
func checkKept(t *testing.T, name string, got, want time.Time) {
	t.Helper()
	if got.Location() != time.UTC {
		t.Errorf("%s: got zone %s, want UTC", name, got.Location())
	}
	if lost := want.Sub(got); lost < 0 || lost >= time.Microsecond {
		t.Errorf("%s: got %s, want %s", name, got.Format(time.RFC3339Nano), want.UTC().Format(time.RFC3339Nano))
	}
}

// awkward is text that JSON can bring and a driver's output can hold, and that not every database takes. If it were a
// reason to refuse the whole request, no retry would ever save it.
const awkward = "nul \x00, not UTF-8 \xff, line\nend"

func saveTakesAnyText(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	r.Instance, r.Reason, r.RequestedBy = awkward, awkward, awkward
	r.Campaign, r.ReplayOf, r.RequeuedFrom = awkward, awkward, awkward
	r.Raw = []byte(awkward)
	f.mustSave(t, r)
	f.reopen(t)
	want := r
	store.CleanRequest(&want)
	if diff := cmp.Diff([]restart.Request{want}, f.mustRequests(t, store.Filter{})); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func saveCopiesRaw(t *testing.T, f *fixture) {
	r := NewRequest("a.example.net")
	want := string(r.Raw)
	f.mustSave(t, r)
	clear(r.Raw)
	for range 2 {
		got := f.mustRequests(t, store.Filter{})
		if len(got) != 1 || string(got[0].Raw) != want {
			t.Fatalf("got %+v, want one with raw %q", got, want)
		}
		clear(got[0].Raw) // what was read is its reader's
	}
}

func saveTwice(t *testing.T, f *fixture) {
	first := NewRequest("a.example.net")
	f.mustSave(t, first)
	second := first
	second.Reason, second.RequestedAt, second.Raw = "another", noon.Add(time.Hour), []byte("another")
	f.mustSave(t, second)
	f.reopen(t)
	f.mustSave(t, second)
	if diff := cmp.Diff([]restart.Request{first}, f.mustRequests(t, store.Filter{})); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func saveRefusesOtherHost(t *testing.T, f *fixture) {
	other := NewRequest("b.example.net")
	mustRefuse(t, f, NewRequest("a.example.net"), other)
}

func saveRefusesOtherGroup(t *testing.T, f *fixture) {
	other := NewRequest("a.example.net")
	other.Group = "other"
	mustRefuse(t, f, NewRequest("a.example.net"), other)
}

func mustRefuse(t *testing.T, f *fixture, first, other restart.Request) {
	t.Helper()
	f.mustSave(t, first)
	other.ID = first.ID
	for range 2 {
		if err := f.Save(t.Context(), other); !errors.Is(err, store.ErrIDReused) {
			t.Errorf("got error %v, want %v", err, store.ErrIDReused)
		}
		f.reopen(t)
	}
	f.mustSave(t, first)
	if diff := cmp.Diff([]restart.Request{first}, f.mustRequests(t, store.Filter{})); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// saveThousands mixes, in the same batches, new requests with repetitions and with ids of other hosts.
func saveThousands(t *testing.T, f *fixture) {
	taken := NewRequest("taken.example.net")
	f.mustSave(t, taken)
	stored := map[uuid.UUID]bool{taken.ID: true}
	const savers = 3000
	requests := make([]restart.Request, savers)
	for i := range requests {
		requests[i] = NewRequest("new.example.net")
		switch i % 3 {
		case 1:
			requests[i] = taken
		case 2:
			requests[i].ID = taken.ID
		}
		stored[requests[i].ID] = true
	}
	got := make([]error, savers)
	together(savers, func(i int) { got[i] = f.Save(t.Context(), requests[i]) })
	for i, err := range got {
		var want error
		if i%3 == 2 {
			want = store.ErrIDReused
		}
		if !errors.Is(err, want) {
			t.Errorf("saver %d: got error %v, want %v", i, err, want)
		}
	}
	f.reopen(t)
	f.mustHold(t, stored)
}

func saveRace(t *testing.T, f *fixture) {
	hosts := []restart.Host{"a.example.net", "b.example.net", "c.example.net"}
	id := uuid.New()
	const savers = 60
	got := make([]error, savers)
	together(savers, func(i int) {
		r := NewRequest(hosts[i%len(hosts)])
		r.ID = id
		got[i] = f.Save(t.Context(), r)
	})
	stored := f.mustRequests(t, store.Filter{})
	if len(stored) != 1 {
		t.Fatalf("got %d requests, want 1", len(stored))
	}
	for i, err := range got {
		var want error
		if hosts[i%len(hosts)] != stored[0].Host {
			want = store.ErrIDReused
		}
		if !errors.Is(err, want) {
			t.Errorf("host %s: got error %v, want %v", hosts[i%len(hosts)], err, want)
		}
	}
}
