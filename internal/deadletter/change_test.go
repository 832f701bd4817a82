package deadletter_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

var (
	requeuedAs = uuid.MustParse("00000000-0000-5000-8000-000000000001")
	requeuedAt = time.Date(2026, 5, 5, 1, 2, 3, 456789, time.UTC)
)

func (f *fixture) mustMark(t *testing.T, e deadletter.Entry) {
	t.Helper()
	if err := f.box.Mark(t.Context(), e, requeuedAs, requeuedAt); err != nil {
		t.Errorf("Mark: %v", err)
	}
}

// Whoever requeues again after a crash, or at the same time as somebody else, sees that it is done.
func TestMark_IsWrittenOnceHoweverManyWriteIt(t *testing.T) {
	t.Run("one node", func(t *testing.T) { testMarksAtOnce(t, newFixture(t)) })
	t.Run("three nodes", func(t *testing.T) {
		testMarksAtOnce(t, fixtureOver(t, natsdtest.StartCluster(t, 3).JetStream(t)))
	})
}

func testMarksAtOnce(t *testing.T, f *fixture) {
	f.mustBury(t, newLetter(7))
	e := f.read(t, deadletter.Filter{})[0]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { f.mustMark(t, e) })
	}
	wg.Wait()
	if err := f.box.Mark(t.Context(), e, uuid.New(), time.Now()); err != nil {
		t.Errorf("once more: %v", err)
	}
	info, err := f.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 2 {
		t.Errorf("got %d messages, want the letter and one mark", info.State.Msgs)
	}
	got := f.read(t, deadletter.Filter{})
	if len(got) != 1 || got[0].RequeuedAs != requeuedAs || !got[0].RequeuedAt.Equal(requeuedAt) {
		t.Errorf("got %+v, want it marked by the first", got)
	}
}

// A worker buries the letter of another message onto the same subject while it is marked.
func TestMark_AnotherLetterOnTheSubjectIsNoObstacle(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	e := f.read(t, deadletter.Filter{})[0]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := newLetter(7)
			l.Stored = l.Stored.Add(time.Duration(i+1) * time.Hour)
			for f.box.Bury(t.Context(), l) != nil { // a worker's message is delivered again
			}
		})
	}
	wg.Go(func() { f.mustMark(t, e) })
	wg.Wait()
	entries := f.read(t, deadletter.Filter{})
	marked := 0
	for _, got := range entries {
		if got.Requeued() != got.Stored.Equal(e.Stored) {
			t.Errorf("letter of the message stored at %s: requeued %t", got.Stored, got.Requeued())
		}
		if got.Requeued() {
			marked++
		}
	}
	if len(entries) != 9 || marked != 1 {
		t.Errorf("got %d letters, %d marked, want 9 and 1", len(entries), marked)
	}
}

// A mark needs room too. It must not take it from the message, of which there is no other copy once the letter is gone.
func TestMark_LeavesALetterAsWholeAsItWas(t *testing.T) {
	f := newFixture(t)
	limit := int(f.js.Conn().MaxPayload())
	var size, marked int
	for i := range uint64(20) { // about the greatest message that fits into a letter
		l := newLetter(i + 1)
		size = limit*3/4 - 1304 + 16*int(i)
		l.Data = bytes.Repeat([]byte("x"), size)
		f.mustBury(t, l)
		if got := f.read(t, deadletter.Filter{}); !got[0].Whole() {
			break
		} else if err := f.box.Mark(t.Context(), got[0], requeuedAs, requeuedAt); err != nil {
			t.Fatal(err)
		}
		got := f.read(t, deadletter.Filter{})
		if !got[0].Requeued() || !got[0].Whole() || len(got[0].Data) != size {
			t.Fatalf("%d bytes: got %d of %d", size, len(got[0].Data), got[0].DataSize)
		}
		f.mustRemove(t, got[0])
		marked++
	}
	left := f.read(t, deadletter.Filter{})
	if len(left) != 1 || left[0].Whole() || marked == 0 {
		t.Fatalf("%d messages of up to %d bytes fitted into a letter, so the greatest was not tested", marked, size)
	}
	// Nor may it say of one that was cut off that it is whole.
	cut := left[0]
	f.mustMark(t, cut)
	if got := f.read(t, deadletter.Filter{})[0]; !got.Requeued() || got.DataSize != size || len(got.Data) != len(cut.Data) {
		t.Errorf("got %d of %d bytes, want %d of %d", len(got.Data), got.DataSize, len(cut.Data), size)
	}
}

func (f *fixture) mustRemove(t *testing.T, e deadletter.Entry) {
	t.Helper()
	if removed, err := f.box.Remove(t.Context(), e); err != nil || !removed {
		t.Errorf("Remove: got %t, %v", removed, err)
	}
}

func TestMark_LetterThatWasRemovedStaysSo(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	e := f.read(t, deadletter.Filter{})[0]
	f.mustRemove(t, e)
	f.mustMark(t, e)
	if got := f.letters(t); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// A requeue that is not marked must be told from one that is: it has to be run again.
func TestMark_SaysThatItWasNotWritten(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	e := f.read(t, deadletter.Filter{})[0]
	cfg := f.stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	err := f.box.Mark(t.Context(), e, requeuedAs, requeuedAt)
	if err == nil || !strings.Contains(err.Error(), e.Subject) {
		t.Errorf("got %v, want an error that names the letter", err)
	}
}

func TestRemove_TakesALetterWithItsMarkAndNothingElse(t *testing.T) {
	f := newFixture(t)
	marked, beside := newLetter(7), newLetter(7)
	beside.Stored = marked.Stored.Add(time.Hour)
	f.mustBury(t, marked)
	f.mustBury(t, beside)
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	e := f.read(t, deadletter.Filter{Requeued: true})[0]
	f.mustRemove(t, e)
	left := f.letters(t)
	if len(left) != 1 || !left[0].Stored.Equal(beside.Stored) {
		t.Errorf("got %+v, want the other message's letter", left)
	}
	if removed, err := f.box.Remove(t.Context(), e); err != nil || removed {
		t.Errorf("again: got %t, %v, want nothing done", removed, err)
	}
}

// A purge that dies in the middle must not make a letter look as if it had never been requeued.
func TestRemove_HalfOfItLeavesTheMark(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	e := f.read(t, deadletter.Filter{})[0]
	half := e
	half.Sequences = e.Sequences[:1]
	f.mustRemove(t, half)
	got := f.read(t, deadletter.Filter{})
	if len(got) != 1 || !got[0].Requeued() {
		t.Fatalf("got %+v, want the mark", got)
	}
	f.mustRemove(t, e)
	if got := f.letters(t); len(got) != 0 {
		t.Errorf("got %+v, want nothing left", got)
	}
}

func TestRemove_SaysThatALetterIsStillThere(t *testing.T) {
	f := newFixture(t)
	f.mustBury(t, newLetter(7))
	e := f.read(t, deadletter.Filter{})[0]
	cfg := f.stream.CachedInfo().Config
	cfg.DenyDelete = true
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	removed, err := f.box.Remove(t.Context(), e)
	if removed || !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) || !strings.Contains(err.Error(), e.Subject) {
		t.Errorf("got %t, %v, want an error that names the letter", removed, err)
	}
}
