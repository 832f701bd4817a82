package deadletter_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestLetters_AreGivenBackWholeInTheirOrder(t *testing.T) {
	f := newFixture(t)
	if got := f.read(t, deadletter.Filter{}); len(got) != 0 {
		t.Errorf("an empty box: got %v", got)
	}
	var want []deadletter.Entry
	for i := range uint64(3) {
		l := newLetter(i + 1)
		f.mustBury(t, l)
		want = append(want, deadletter.Entry{
			Letter: l, Subject: stream.DeadSubject(l.WorkSubject, l.WorkSequence), Sequences: []uint64{i + 1},
		})
	}
	if diff := cmp.Diff(want, f.read(t, deadletter.Filter{})); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// Two letters of one request, before its mark and after, would be requeued twice.
func TestLetters_MarkTakesThePlaceOfItsLetterAndOfNoOther(t *testing.T) {
	f := newFixture(t)
	marked, beside, other := newLetter(7), newLetter(7), newLetter(8)
	beside.Stored = marked.Stored.Add(time.Hour) // of a later work stream
	for _, l := range []deadletter.Letter{marked, beside, other} {
		f.mustBury(t, l)
	}
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	marked.RequeuedAs, marked.RequeuedAt = requeuedAs, requeuedAt

	want := []deadletter.Letter{beside, other, marked}
	if diff := cmp.Diff(want, lettersOf(f.read(t, deadletter.Filter{}))); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[2:], lettersOf(f.read(t, deadletter.Filter{Requeued: true}))); diff != "" {
		t.Errorf("requeued ones (-want +got):\n%s", diff)
	}
	if got := f.read(t, deadletter.Filter{})[2].Sequences; !slices.Equal(got, []uint64{1, 4}) {
		t.Errorf("sequences: got %v, want those of the letter and of its mark", got)
	}
}

// The letter is thirty days old and gone, its mark is younger.
func TestLetters_MarkIsALetterWithoutTheOneThatItMarks(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	if err := f.stream.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	got := f.read(t, deadletter.Filter{})
	if len(got) != 1 || !got[0].Requeued() || !slices.Equal(got[0].Sequences, []uint64{2}) {
		t.Errorf("got %+v, want the mark", got)
	}
}

// An operator who lists must not see a letter beside its own mark, whatever the other operator does meanwhile.
func TestLetters_AreThoseOfOneMoment(t *testing.T) {
	f := newFixture(t)
	for i := range uint64(100) { // more than a batch
		f.mustBury(t, newLetter(i+1))
	}
	var got []deadletter.Entry
	for e, err := range f.box.Letters(t.Context(), deadletter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			f.mustMark(t, e)
			f.mustBury(t, newLetter(1000))
		}
		got = append(got, e)
	}
	if len(got) != 100 || slices.ContainsFunc(got, func(e deadletter.Entry) bool { return e.Requeued() }) {
		t.Errorf("got %d letters, want the 100 as they were at the beginning", len(got))
	}
}

func TestLetters_AreChosenByEveryField(t *testing.T) {
	f := newFixture(t)
	first, second, third := newLetter(1), newLetter(2), newLetter(3)
	second.Outcome.Host, second.Outcome.Reason = "other.example.net", restart.ReasonAttempts
	second.Outcome.At = first.Outcome.At.Add(time.Hour)
	third.Outcome.Group, third.Outcome.ID = "web", uuid.New()
	third.Outcome.At = first.Outcome.At.Add(2 * time.Hour)
	for _, l := range []deadletter.Letter{first, second, third} {
		f.mustBury(t, l)
	}
	for name, tt := range map[string]struct {
		filter deadletter.Filter
		want   []uint64
	}{
		"all":             {deadletter.Filter{}, []uint64{1, 2, 3}},
		"group":           {deadletter.Filter{Group: "web"}, []uint64{3}},
		"host":            {deadletter.Filter{Host: "other.example.net"}, []uint64{2}},
		"part of a host":  {deadletter.Filter{Host: "other"}, nil},
		"reason":          {deadletter.Filter{Reason: restart.ReasonAttempts}, []uint64{2}},
		"id":              {deadletter.Filter{IDs: []uuid.UUID{third.Outcome.ID}}, []uint64{3}},
		"id of two":       {deadletter.Filter{IDs: []uuid.UUID{first.Outcome.ID}}, []uint64{1, 2}},
		"ids":             {deadletter.Filter{IDs: []uuid.UUID{third.Outcome.ID, first.Outcome.ID}}, []uint64{1, 2, 3}},
		"another id":      {deadletter.Filter{IDs: []uuid.UUID{uuid.New()}}, nil},
		"since is in it":  {deadletter.Filter{Since: second.Outcome.At}, []uint64{2, 3}},
		"until is not":    {deadletter.Filter{Until: second.Outcome.At}, []uint64{1}},
		"between":         {deadletter.Filter{Since: second.Outcome.At, Until: third.Outcome.At}, []uint64{2}},
		"requeued":        {deadletter.Filter{Requeued: true}, nil},
		"two that differ": {deadletter.Filter{Group: "web", Reason: restart.ReasonAttempts}, nil},
	} {
		var got []uint64
		for _, e := range f.read(t, tt.filter) {
			got = append(got, e.WorkSequence)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// One letter that a stranger wrote must not hide all others.
func TestLetters_OneThatCannotBeReadIsReportedAndNoMore(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(1))
	lying, err := json.Marshal(newLetter(2))
	if err != nil {
		t.Fatal(err)
	}
	unreadable := map[string]string{
		"mandrill.dead.x":                            "no letter",
		"mandrill.dead.default.empty.2":              "",
		"mandrill.dead.default.null.2":               "null",
		"mandrill.dead.default.other.fields.2":       `{"outcome":{"host":"a"}}`,
		"mandrill.dead.web.host-1.example.net.2":     string(lying), // would be requeued to another group than it was written for
		"mandrill.dead.default.host-1.example.net.3": string(lying),
	}
	for subject, data := range unreadable {
		if _, err := f.js.Publish(t.Context(), subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	last := newLetter(4)
	f.mustBury(t, last)
	read := 0
	for e, err := range f.box.Letters(t.Context(), deadletter.Filter{Reason: last.Outcome.Reason}) {
		u, ok := errors.AsType[*deadletter.UnreadableError](err)
		switch {
		case err == nil:
			read++
		case !ok:
			t.Fatal(err)
		case unreadable[u.Subject] == "" && u.Subject != "mandrill.dead.default.empty.2":
			t.Errorf("%v", err)
		case e.Subject != u.Subject || !slices.Equal(e.Sequences, []uint64{u.Sequence}) || !strings.Contains(err.Error(), u.Subject):
			t.Errorf("got entry %+v with %v, want one that can be removed", e, err)
		default:
			delete(unreadable, u.Subject)
		}
	}
	if read != 2 || len(unreadable) != 0 {
		t.Errorf("got %d letters, want 2; not reported: %v", read, unreadable)
	}
}

// Each letter may be as large as a message can be. So many at once would fill the memory, or what the server has pending
// for a client before it disconnects it.
func TestLetters_AreReadFewAtATime(t *testing.T) {
	f := newFixture(t)
	const count = 50
	for i := range uint64(count) {
		l := newLetter(i + 1)
		l.Data = bytes.Repeat([]byte("x"), 700_000)
		f.mustBury(t, l)
	}
	n, held := 0, 0
	for _, err := range f.box.Letters(t.Context(), deadletter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			held = count - f.pending(t)
		}
	}
	if n != count || held > 32 {
		t.Errorf("got %d letters, %d of which were held at once; want %d, and 32 at most", n, held, count)
	}
}

// pending is how many letters the server has not handed out yet.
func (f *fixture) pending(t *testing.T) int {
	t.Helper()
	for c := range f.stream.ListConsumers(t.Context()).Info() {
		return int(c.NumPending)
	}
	return 0
}

func TestLetters_StreamThatIsGoneIsAnErrorAndNoEmptyBox(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(1))
	if err := f.js.DeleteStream(t.Context(), stream.Dead); err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, err := range f.box.Letters(t.Context(), deadletter.Filter{}) {
		got++
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("got %v, want %v", err, jetstream.ErrStreamNotFound)
		}
	}
	if got != 1 {
		t.Errorf("got %d elements, want the error", got)
	}
}

func TestLetters_CanBeLeft(t *testing.T) {
	f := newFixture(t)
	for i := range uint64(3) {
		f.mustBury(t, newLetter(i+1))
	}
	for e, err := range f.box.Letters(t.Context(), deadletter.Filter{}) {
		if err != nil || e.WorkSequence != 1 {
			t.Errorf("got %+v, %v", e, err)
		}
		break
	}
}

func BenchmarkLetters(b *testing.B) {
	f := newFixture(b)
	for i := range uint64(2000) {
		f.mustBury(b, newLetter(i+1))
	}
	for b.Loop() {
		n := 0
		for _, err := range f.box.Letters(b.Context(), deadletter.Filter{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 2000 {
			b.Fatalf("got %d letters", n)
		}
	}
}

func (f *fixture) read(t *testing.T, filter deadletter.Filter) (entries []deadletter.Entry) {
	t.Helper()
	for e, err := range f.box.Letters(t.Context(), filter) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

func lettersOf(entries []deadletter.Entry) (letters []deadletter.Letter) {
	for _, e := range entries {
		letters = append(letters, e.Letter)
	}
	return letters
}

func TestLettersOf_AreThoseOfTheHostAsTheyAre(t *testing.T) {
	f := newFixture(t)
	letters := make([]deadletter.Letter, 3)
	for i := range letters {
		letters[i] = newLetter(uint64(i) + 1)
	}
	other := restart.Host("more." + string(letters[2].Outcome.Host)) // which ends like it
	letters[2].Outcome.Host, letters[2].WorkSubject = other, stream.WorkSubject("default", other)
	for _, l := range letters {
		f.mustBury(t, l)
	}
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	letters[0].RequeuedAs, letters[0].RequeuedAt = requeuedAs, requeuedAt
	var got []deadletter.Letter
	for e, err := range f.box.LettersOf(t.Context(), "default", letters[0].Outcome.Host) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Letter)
	}
	if diff := cmp.Diff(letters[:2], got); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}
