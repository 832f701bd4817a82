package ask

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// send sends a question, whose answer comes by the channel.
func (b *bench) send(t *testing.T, data string) (Question, <-chan result) {
	t.Helper()
	got := make(chan result, 2) // with room for one that must not come
	q, err := b.asker.Send(subject, nil, []byte(data), func(msg *nats.Msg, err error) { got <- result{msg, err} })
	if err != nil {
		t.Fatal(err)
	}
	return q, got
}

func wantNothing(t *testing.T, got <-chan result) {
	t.Helper()
	select {
	case r := <-got:
		t.Errorf("told %v, %v", r.msg, r.err)
	case <-time.After(20 * time.Millisecond):
	}
}

func TestSend_TellsOfTheAnswerOnce(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	_, first := b.send(t, "first")
	_, second := b.send(t, "second")
	for range 2 {
		question := await(t, "the question", asked)
		respondTo(t, question, string(question.Data))
		respondTo(t, question, "again")
	}
	wantAnswer(t, await(t, "the second answer", second), "second")
	wantAnswer(t, await(t, "the first answer", first), "first")
	wantNothing(t, first)
	wantNothing(t, second)
}

func TestSend_WhereNobodyListensItSaysSo(t *testing.T) {
	b := newBench(t, 0)
	_, got := b.send(t, "question")
	wantError(t, await(t, "an error", got), nats.ErrNoResponders)
}

// A lease that was released must not hear of its last extension, and its place must be free for the next question.
func TestSend_CancelledInTimeTellsNothing(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	q, got := b.send(t, "question")
	question := await(t, "the question", asked)
	if !q.Cancel() {
		t.Error("not in time, before the answer")
	}
	if q.Cancel() {
		t.Error("in time for the second time")
	}
	_, next := b.send(t, "next")
	if q.Cancel() {
		t.Error("the next question, in the same place, was cancelled")
	}
	respondTo(t, question, "answer")
	respondTo(t, await(t, "the next question", asked), "next")
	wantAnswer(t, await(t, "the next answer", next), "next")
	wantNothing(t, got)
	if n := b.asker.table.open(); n != 0 {
		t.Errorf("%d questions are still open", n)
	}
}

// What is told of a break asks again, as a lease does.
func TestSend_MayBeCalledByWhoIsTold(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	const questions = 20
	var told atomic.Int64
	again := make(chan error, questions)
	for range questions {
		_, err := b.asker.Send(subject, nil, nil, func(_ *nats.Msg, err error) {
			wantError(t, result{err: err}, nats.ErrDisconnected)
			told.Add(1)
			_, err = b.asker.Send(subject, nil, nil, func(*nats.Msg, error) {})
			again <- err // which may be nil, if the connection is there again
		})
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the question", asked)
	}
	b.server.Restart(t)
	for range questions {
		await(t, "the end of a wait", again)
	}
	if n := told.Load(); n != questions {
		t.Errorf("told %d times, want %d", n, questions)
	}
}

func TestSend_OnAClosedConnectionFails(t *testing.T) {
	b := newBench(t, 0)
	b.conn.Close()
	_, err := b.asker.Send(subject, nil, nil, func(*nats.Msg, error) { t.Error("told, and returned an error") })
	wantError(t, result{err: err}, nats.ErrConnectionClosed)
}
