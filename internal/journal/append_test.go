package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/plainjson/plainjsontest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A refusal that is not known as one is tried again until the lease is over; an answer that is taken for an append, and
// is none, is a fence that does not stand.
func TestParseAnswer(t *testing.T) {
	for _, tt := range []struct {
		data     string
		sequence uint64
		refused  bool
		bad      bool
	}{
		{data: `{"stream":"MANDRILL_JOURNAL","seq":1}`, sequence: 1},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":18446744073709551615}`, sequence: 1<<64 - 1},
		{data: `{"stream":"MANDRILL_JOURNAL", "seq":7}`, sequence: 7},
		{data: `{"stream":"MANDRILL_JOURNAL","domain":"hub","seq":7}`, sequence: 7},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":7,"duplicate":true}`, sequence: 7},
		{data: `{"stream":"SOURCE_OF_IT","seq":7}`, sequence: 7},
		{data: `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"},"stream":"MANDRILL_JOURNAL","seq":0}`, refused: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":7,"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}`, refused: true},
		{data: `{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}`, bad: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":18446744073709551616}`, bad: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":-1}`, bad: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":07}`, bad: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":}`, bad: true},
		{data: `{"stream":"MANDRILL_JOURNAL","seq":7`, bad: true},
		{data: `{"seq":7}`, bad: true},
		{data: `{}`, bad: true},
		{data: `+OK`, bad: true},
		{data: ``, bad: true},
	} {
		sequence, err := parseAnswer([]byte(tt.data))
		if sequence != tt.sequence || (err != nil) != (tt.bad || tt.refused) || stream.IsWrongSequence(err) != tt.refused {
			t.Errorf("%s: got %d, %v, want %d, refused: %t, an error: %t", tt.data, sequence, err, tt.sequence, tt.refused, tt.bad)
		}
	}
}

// What is read by hand is read as a decoder would.
func TestParsePlainAnswer_AgreesWithJSON(t *testing.T) {
	sample := rapid.OneOf(rapid.StringMatching(`[0-9]{0,21}`), rapid.StringMatching(`[-+_.eE0-9 }{",]{0,8}`))
	rapid.Check(t, func(rt *rapid.T) {
		data := fmt.Appendf(nil, `{"stream":%q,"seq":%s}`, stream.Journal, sample.Draw(rt, "sequence"))
		got, ok := parsePlainAnswer(data)
		if !ok {
			return
		}
		var want jetstream.PubAck
		if err := json.Unmarshal(data, &want); err != nil || got != want.Sequence {
			rt.Errorf("%s: got %d, want %d, %v", data, got, want.Sequence, err)
		}
	})
}

// Two events of one id would be taken for one: a worker would believe that another's fence is its own.
func TestNewEventID_IsARandomUUIDAndNoTwoAreTheSame(t *testing.T) {
	const n = 100_000
	seen := make(map[uuid.UUID]bool, n)
	var ones [128]int
	for range n {
		id := newEventID()
		if id.Version() != 4 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s is of version %s and variant %s", id, id.Version(), id.Variant())
		}
		seen[id] = true
		for bit := range ones {
			ones[bit] += int(id[bit/8] >> (bit % 8) & 1)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d ids were there before", n-len(seen), n)
	}
	fixed := 0
	for _, times := range ones {
		if times == 0 || times == n {
			fixed++
		}
	}
	if fixed != 6 {
		t.Errorf("got %d bits that are always the same, want the 6 of version and variant", fixed)
	}
}

// More appends than the broker takes at once would be refused by it, or make it slow for everybody.
func TestJournal_WaitsWhereTooManyAppendsAreOnTheirWay(t *testing.T) {
	server := natsdtest.Start(t)
	if _, err := stream.Ensure(t.Context(), server.JetStream(t), stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	j, err := Open(t.Context(), Config{Conn: server.Connect(t)})
	if err != nil {
		t.Fatal(err)
	}
	j.pending = make(chan struct{}, 1)
	j.pending <- struct{}{}
	key := Key{Group: "default", ID: uuid.New(), Host: "a"}
	gone := errors.New("the lease is lost")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, gone)
	defer cancel()
	if got, err := j.Append(ctx, key, Event{}, Event{Kind: Cancelled}); !errors.Is(err, gone) {
		t.Errorf("got %+v, %v, want the context's cause", got, err)
	}
	<-j.pending
	for range 3 { // each leaves its place to the next
		key.ID = uuid.New()
		if _, err := j.Append(t.Context(), key, Event{}, Event{Kind: Cancelled}); err != nil {
			t.Error(err)
		}
	}
}

// Another version's workers read what this one writes.
func TestEvent_IsEncodedAsByEncodingJSON(t *testing.T) {
	plainjsontest.Run(t, (*Event).encodeInto)
}

func BenchmarkEvent_encodeInto(b *testing.B) {
	e := Event{
		Kind: Restarting, ID: newEventID(), Attempt: 1, From: "0198a7b0-1c2d-7000-8000-00000000000a", Settled: true,
		Worker: "worker-1-0a1b2c3d", At: time.Date(2026, 5, 4, 12, 0, 0, 123456789, time.UTC),
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		data, err := e.encodeInto(buf)
		if err != nil {
			b.Fatal(err)
		}
		buf = data
	}
}
