package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestProcess_EachMalformedMessageIsADeadLetterAndTheWorkerGoesOn(t *testing.T) {
	t.Parallel()
	const count = 10_000
	s := newScene(t, simulated.Config{RestartMax: time.Millisecond})
	w := s.startWorker(t, "worker", "--log-level", "info")
	bad := malformed(t, count)
	for _, msg := range bad {
		if _, err := s.js.PublishMsgAsync(msg); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("not all was published")
	}
	// The ack of a publish comes last, so what the stream has taken is told by its sequence.
	if info, err := s.streamInfo(t, stream.Work); err != nil || info.State.LastSeq != count {
		t.Fatalf("got %+v, %v, want a stream that took %d messages", info, err, count)
	}
	s.awaitEmpty(t)
	s.publish(t, []string{"good"})
	s.awaitEmpty(t)
	w.stop(t)
	if last := w.text(); strings.Contains(last, "panic") {
		t.Error("a message panicked")
	}

	s.wantEachRestartedOnce(t, []string{"good"})

	db := s.open(t)
	ids := map[uuid.UUID]bool{}
	for _, l := range s.letters(t) {
		msg, ok := bad[l.WorkSubject]
		if !ok {
			t.Errorf("%s: letter is there twice, or was never sent", l.WorkSubject)
			continue
		}
		delete(bad, l.WorkSubject)
		wantLetter(t, l, msg)
		if ids[l.Outcome.ID] {
			t.Errorf("%s: id %s is another message's too", l.WorkSubject, l.Outcome.ID)
		}
		ids[l.Outcome.ID] = true
		recorded, err := db.Outcome(t.Context(), l.Outcome.ID)
		if err != nil || recorded.Kind != restart.Dead || recorded.Detail != l.Outcome.Detail {
			t.Errorf("%s: got outcome %+v on record, %v, want %+v", l.WorkSubject, recorded, err, l.Outcome)
		}
		if saved, err := db.Request(t.Context(), l.Outcome.ID); err != nil || !bytes.Equal(saved.Raw, msg.Data) {
			t.Errorf("%s: got %q on record, %v, want %q", l.WorkSubject, saved.Raw, err, msg.Data)
		}
	}
	for subject := range bad {
		t.Errorf("%s: there is no letter", subject)
	}
}

func wantLetter(t *testing.T, l deadletter.Letter, msg *nats.Msg) {
	t.Helper()
	if l.Outcome.Kind != restart.Dead || l.Outcome.Reason != restart.ReasonMalformed || l.Outcome.Detail == "" {
		t.Errorf("%s: got outcome %+v, want dead as malformed, with a sentence", l.WorkSubject, l.Outcome)
	}
	whole := bytes.Equal(l.Data, msg.Data) && l.DataSize == 0
	cut := l.DataSize == len(msg.Data) && bytes.HasPrefix(msg.Data, l.Data) && len(l.Data) > len(msg.Data)/2
	if !whole && !cut {
		t.Errorf("%s: got data %q (size %d), want %q", l.WorkSubject, l.Data, l.DataSize, msg.Data)
	}
	if l.Version != msg.Header.Get(stream.VersionHeader) {
		t.Errorf("%s: got version %q, want %q", l.WorkSubject, l.Version, msg.Header.Get(stream.VersionHeader))
	}
}

// letters returns all dead letters.
func (s *scene) letters(t *testing.T) []deadletter.Letter {
	t.Helper()
	info, err := s.streamInfo(t, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.js.OrderedConsumer(t.Context(), stream.Dead, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(int(info.State.Msgs), jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	var letters []deadletter.Letter
	for msg := range batch.Messages() {
		var l deadletter.Letter
		if err := json.Unmarshal(msg.Data(), &l); err != nil {
			t.Errorf("%s: cannot read letter: %v", msg.Subject(), err)
		}
		letters = append(letters, l)
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	return letters
}

// malformed returns messages that are no requests, each with a subject of its own: mutations of the corpus, and good
// requests that came the wrong way.
func malformed(t *testing.T, count int) map[string]*nats.Msg {
	t.Helper()
	corpus := readCorpus(t)
	rnd := rand.New(rand.NewPCG(7, 7))
	messages := make(map[string]*nats.Msg, count)
	for i := range count {
		host := fmt.Sprintf("bad-%05d.example.net", i)
		msg := &nats.Msg{Subject: "mandrill.restart.default." + host, Header: nats.Header{}}
		good := []byte(fmt.Sprintf(`{"host":%q}`, host))
		switch i % 10 {
		case 0: // a version that nobody knows
			msg.Data = good
			msg.Header.Set(stream.VersionHeader, []string{"2", "one", "1.0", strings.Repeat("9", 500)}[i/10%4])
		case 1: // a subject that names no host
			msg.Data = good
			msg.Subject = "mandrill.restart.default." + fmt.Sprintf([]string{
				"Bad-%d.Example.NET", "b\u00e4d-%d", "$bad!-%d", "%d." + strings.Repeat("x", 260), "bad(%d)", "BAD.%d",
			}[i/10%6], i)
		case 2: // a good request of another host
			msg.Data = []byte(fmt.Sprintf(`{"host":"bad-%05d.example.net"}`, i+1))
		default:
			msg.Data = mutateUntilMalformed(rnd, corpus, restart.Host(host))
		}
		messages[msg.Subject] = msg
	}
	const big = 1<<20 - 2048 // nearly as much as the server takes, and too much for a letter
	messages["mandrill.restart.default.bad-00003.example.net"].Data = bytes.Repeat([]byte("x"), big)
	if len(messages) != count {
		t.Fatalf("got %d subjects, want %d", len(messages), count)
	}
	return messages
}

func readCorpus(t *testing.T) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../../testdata/malformed/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no corpus: %v", err)
	}
	var corpus [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		corpus = append(corpus, data)
	}
	return corpus
}

// mutateUntilMalformed changes one of the corpus a little, or more where it is a request all the same.
func mutateUntilMalformed(rnd *rand.Rand, corpus [][]byte, host restart.Host) []byte {
	env := restart.Envelope{Group: restart.DefaultGroup, Host: host, Stored: time.Now(), FallbackID: uuid.New()}
	data := bytes.Clone(corpus[rnd.IntN(len(corpus))])
	for n := 0; ; n++ {
		if _, err := restart.Decode(env, data); err != nil && n > 0 {
			return data
		}
		at := rnd.IntN(len(data) + 1)
		to := min(len(data), at+rnd.IntN(8))
		switch rnd.IntN(4) {
		case 0: // something is missing
			data = append(data[:at:at], data[to:]...)
		case 1: // something is there twice
			data = append(data[:to:to], data[at:]...)
		case 2: // something was put in
			data = append(append(data[:at:at], byte(rnd.UintN(256)), byte(rnd.UintN(256))), data[at:]...)
		case 3: // something was changed
			if at < len(data) {
				data[at] ^= 1 << rnd.UintN(8)
			}
		}
	}
}
