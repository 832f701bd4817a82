package deadletter_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whoever looks into the box decides by what stands there whether a host is to be restarted after all.
func TestBox_GivesALetterBackWhole(t *testing.T) {
	f := newFixture(t)
	letter := newLetter(7)
	f.mustBury(t, letter)
	if diff := cmp.Diff([]deadletter.Letter{letter}, f.letters(t)); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

func TestBox_KeepsBytesThatNobodyCanRead(t *testing.T) {
	f := newFixture(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, data := range [][]byte{every, []byte("\xff\xfe{\x00}"), []byte(`{"host":`), {}} {
		letter := newLetter(uint64(i + 1))
		letter.Data = data
		f.mustBury(t, letter)
	}
	letters := f.letters(t)
	if !bytes.Equal(letters[0].Data, every) {
		t.Errorf("got %q, want %q", letters[0].Data, every)
	}
	if got := string(letters[1].Data); got != "\xff\xfe{\x00}" {
		t.Errorf("got %q", got)
	}
	if n := len(letters[3].Data); n != 0 {
		t.Errorf("got %d bytes, want none", n)
	}
}

// Between the letter and the term a worker may die, as often as it likes.
func TestBox_StoresALetterOnceHoweverOftenItIsBuried(t *testing.T) {
	f := newFixture(t)
	first, again := newLetter(7), newLetter(7)
	again.Outcome.Detail, again.Deliveries = "by another worker", 9
	f.mustBury(t, first)
	f.mustBury(t, first)
	f.mustBury(t, again)
	f.server.Restart(t)
	f = fixtureOn(t, f.server)
	f.mustBury(t, again)
	if diff := cmp.Diff([]deadletter.Letter{first}, f.letters(t)); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// A work stream that was deleted and made again counts from one again: its letters must not be taken for the old ones.
func TestBox_KeepsALetterForTheSameSequenceOfALaterStream(t *testing.T) {
	f := newFixture(t)
	before, after := newLetter(7), newLetter(7)
	after.Stored = before.Stored.Add(time.Hour)
	after.Outcome.ID = uuid.New()
	f.mustBury(t, before)
	f.mustBury(t, after)
	f.mustBury(t, after)
	if diff := cmp.Diff([]deadletter.Letter{before, after}, f.letters(t)); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

func TestBox_StoresALetterOnceThoughManyBuryItAtATime(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { f.mustBury(t, newLetter(7)) })
	}
	wg.Wait()
	if n := len(f.letters(t)); n != 1 {
		t.Errorf("got %d letters, want 1", n)
	}
}

func TestBox_KeepsALetterForEachMessage(t *testing.T) {
	f := newFixture(t)
	other := newLetter(7)
	other.WorkSubject = "mandrill.restart.default.other.example.net"
	for _, l := range []deadletter.Letter{newLetter(7), newLetter(8), other} {
		f.mustBury(t, l)
	}
	if n := len(f.letters(t)); n != 3 {
		t.Errorf("got %d letters, want 3", n)
	}
}

// The last letter on a subject may be another message's, or its own with a mark.
func TestBox_KnowsALetterAgainThatIsNotTheLastOnItsSubject(t *testing.T) {
	f := newFixture(t)
	before, after := newLetter(7), newLetter(7)
	after.Stored = before.Stored.Add(time.Hour)
	f.mustBury(t, before)
	f.mustBury(t, after)
	f.mustMark(t, f.read(t, deadletter.Filter{})[0])
	for _, l := range []deadletter.Letter{before, after, before} {
		f.mustBury(t, l)
	}
	if n := len(f.letters(t)); n != 3 {
		t.Errorf("got %d messages, want two letters and a mark", n)
	}
}

// A broker takes more than what we would publish; what cannot be buried would be delivered for ever.
func TestBox_TakesWhateverSubjectTheBrokerTook(t *testing.T) {
	f := newFixture(t)
	tokens := []string{
		"x", "no-group", "default.UPPER", "default.Ünï.日本", "default.$SYS.$JS.API", "default.a\x01b", "default.'\"\\{}%s",
		"default.*", "default.>", "*.>", "default.x.>.y", "default." + strings.Repeat("y", 2000),
		"default." + strings.Repeat("y.", 200) + "z",
	}
	for range 2 {
		for i, token := range tokens {
			letter := newLetter(uint64(i + 1))
			letter.WorkSubject = "mandrill.restart." + token
			f.mustBury(t, letter)
		}
	}
	letters := f.letters(t)
	if len(letters) != len(tokens) {
		t.Fatalf("got %d letters, want %d", len(letters), len(tokens))
	}
	for i, token := range tokens {
		if got, want := letters[i].WorkSubject, "mandrill.restart."+token; got != want {
			t.Errorf("subject: got %q, want %q", got, want)
		}
	}
}

// Base64 is a third longer than what it stands for, and the broker's limit is the same for both.
func TestBox_KeepsTheBeginningOfAMessageThatDoesNotFit(t *testing.T) {
	f := newFixture(t)
	limit := int(f.js.Conn().MaxPayload())
	came := bytes.Repeat([]byte("0123456789abcdef"), limit/16)
	sizes := []int{limit, limit - 1, limit - 2, limit * 4 / 5, limit * 7 / 10}
	for i, size := range sizes {
		letter := newLetter(uint64(i + 1))
		letter.Data = came[:size]
		f.mustBury(t, letter)
	}
	letters := f.letters(t)
	if len(letters) != len(sizes) {
		t.Fatalf("got %d letters, want %d", len(letters), len(sizes))
	}
	for i, got := range letters[:4] {
		if got.DataSize != sizes[i] || !bytes.HasPrefix(came, got.Data) || len(got.Data) < limit*7/10 {
			t.Errorf("%d bytes: got size %d and %d bytes, want their greater part", sizes[i], got.DataSize, len(got.Data))
		}
		if want := newLetter(0).Outcome; !cmp.Equal(got.Outcome, want) {
			t.Errorf("%d bytes: got outcome %+v, want %+v", sizes[i], got.Outcome, want)
		}
	}
	if got := letters[4]; got.DataSize != 0 || len(got.Data) != sizes[4] {
		t.Errorf("a message that fits: got size %d and %d bytes, want all of %d", got.DataSize, len(got.Data), sizes[4])
	}
}

// Term follows a letter that is stored. An error must not be taken for one.
func TestBox_SaysThatALetterWasNotStored(t *testing.T) {
	for name, breakIt := range map[string]func(t *testing.T, f *fixture){
		"the stream is full": func(t *testing.T, f *fixture) {
			cfg := f.stream.CachedInfo().Config
			cfg.MaxMsgs = 1
			if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			f.mustBury(t, newLetter(1))
		},
		"the stream is gone": func(t *testing.T, f *fixture) {
			if err := f.js.DeleteStream(t.Context(), stream.Dead); err != nil {
				t.Fatal(err)
			}
		},
		"the server is away": func(t *testing.T, f *fixture) { f.server.Stop(t) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			breakIt(t, f)
			err := f.box.Bury(t.Context(), newLetter(7))
			if err == nil || !strings.Contains(err.Error(), "mandrill.dead.default.host-1.example.net.7") {
				t.Errorf("got %v, want an error that names the letter", err)
			}
		})
	}
}

func TestOpen_RefusesWhereThereIsNoStream(t *testing.T) {
	_, err := deadletter.Open(t.Context(), natsdtest.Start(t).JetStream(t))
	if !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), stream.Dead) {
		t.Errorf("got %v, want one that says which stream is not there", err)
	}
}

type fixture struct {
	server *natsdtest.Server // nil where it is a cluster
	js     jetstream.JetStream
	stream jetstream.Stream
	box    *deadletter.Box
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return fixtureOn(t, natsdtest.Start(t))
}

func fixtureOn(t testing.TB, server *natsdtest.Server) *fixture {
	t.Helper()
	f := fixtureOver(t, server.JetStream(t))
	f.server = server
	return f
}

func fixtureOver(t testing.TB, js jetstream.JetStream) *fixture {
	t.Helper()
	streams, err := stream.Ensure(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	box, err := deadletter.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{js: js, stream: streams.Dead, box: box}
}

func (f *fixture) mustBury(t testing.TB, l deadletter.Letter) {
	t.Helper()
	if err := f.box.Bury(t.Context(), l); err != nil {
		t.Errorf("Bury: %v", err)
	}
}

// letters returns all that was written into the box, in order.
func (f *fixture) letters(t *testing.T) []deadletter.Letter {
	t.Helper()
	info, err := f.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var letters []deadletter.Letter
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		msg, err := f.stream.GetMsg(t.Context(), sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var l deadletter.Letter
		if err := json.Unmarshal(msg.Data, &l); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, l)
	}
	return letters
}

func newLetter(sequence uint64) deadletter.Letter {
	at := time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.UTC)
	return deadletter.Letter{
		Outcome: restart.Outcome{
			ID: uuid.MustParse("0198a7b0-1c2d-7000-8000-000000000001"), Host: "host-1.example.net", Group: "default",
			Kind: restart.Dead, Reason: restart.ReasonNotReady, Detail: "restarted, and not ready within 10m <&>", At: at,
			Receipt: restart.Receipt{
				RequestedBy: "roman", Worker: "worker/1", Attempt: 2, From: "boot 1", To: "boot 2",
				TriggeredAt: at.Add(-time.Minute),
			},
		},
		WorkSubject: "mandrill.restart.default.host-1.example.net", WorkSequence: sequence,
		Stored: at.Add(-time.Hour), Deliveries: 3, Version: "1", Data: []byte(`{"host":"host-1.example.net"}`),
	}
}
