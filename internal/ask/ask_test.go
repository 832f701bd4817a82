package ask

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
)

const (
	subject  = "question"
	patience = 20 * time.Second // of the tests
)

// A bench is an asker, and the connection of who answers it.
type bench struct {
	server *natsdtest.Server
	conn   *nats.Conn // the asker's
	asker  *Asker
	other  *nats.Conn
}

func newBench(t testing.TB, wait time.Duration) *bench {
	t.Helper()
	server := natsdtest.Start(t)
	b := &bench{server: server, conn: server.Connect(t), other: server.Connect(t)}
	b.asker = New(Config{Conn: b.conn, Patience: wait})
	return b
}

// questions returns what is asked. The test answers.
func (b *bench) questions(t testing.TB) <-chan *nats.Msg {
	t.Helper()
	asked := make(chan *nats.Msg, 100)
	if _, err := b.other.ChanSubscribe(subject, asked); err != nil {
		t.Fatal(err)
	}
	if err := b.other.Flush(); err != nil {
		t.Fatal(err)
	}
	return asked
}

// respond has the function answer what is asked.
func (b *bench) respond(t testing.TB, do func(question *nats.Msg)) {
	t.Helper()
	if _, err := b.other.Subscribe(subject, do); err != nil {
		t.Fatal(err)
	}
	if err := b.other.Flush(); err != nil {
		t.Fatal(err)
	}
}

type result struct {
	msg *nats.Msg
	err error
}

// ask asks in a goroutine, which ends with the test at the latest.
func (b *bench) ask(t testing.TB, ctx context.Context, data string) <-chan result {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	done, got := make(chan struct{}), make(chan result, 1)
	go func() {
		defer close(done)
		msg, err := b.asker.Ask(ctx, subject, nil, []byte(data))
		got <- result{msg, err}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return got
}

func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s has not come within %s", what, patience)
	}
	return v
}

func respondTo(t testing.TB, question *nats.Msg, data string) {
	t.Helper()
	if err := question.Respond([]byte(data)); err != nil {
		t.Error(err)
	}
}

func wantError(t testing.TB, got result, oneOf ...error) {
	t.Helper()
	if !slices.ContainsFunc(oneOf, func(want error) bool { return errors.Is(got.err, want) }) {
		t.Errorf("got %v, %v, want %v", got.msg, got.err, oneOf)
	}
}

func wantAnswer(t testing.TB, got result, want string) {
	t.Helper()
	if got.err != nil || string(got.msg.Data) != want {
		t.Errorf("got %v, %v, want %q", got.msg, got.err, want)
	}
}

// open returns how many questions wait.
func (t *table) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slots) - len(t.free)
}

// An answer in the wrong hands is a lease that nobody holds, or a fence that does not stand. Here they come in any order,
// some never, some twice, and some when their askers have gone.
func TestAsk_EachAnswerReachesItsOwnAskerAndNoOther(t *testing.T) {
	const askers, rounds = 64, 60
	b := newBench(t, 0)
	var held []*nats.Msg
	b.respond(t, func(question *nats.Msg) {
		held = append(held, question)
		if len(held) < askers/4 {
			return
		}
		rand.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, q := range held[:len(held)/2] {
			respondTo(t, q, string(q.Data))
			if rand.IntN(2) == 0 {
				respondTo(t, q, string(q.Data))
			}
		}
		held = held[len(held)/2:]
	})
	var wg sync.WaitGroup
	var answered, gaveUp sync.Map
	for i := range askers {
		wg.Go(func() {
			for round := range rounds {
				question := strconv.Itoa(i) + "/" + strconv.Itoa(round)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.IntN(20))*time.Millisecond)
				msg, err := b.asker.Ask(ctx, subject, nil, []byte(question))
				cancel()
				switch {
				case err == nil && string(msg.Data) == question:
					answered.Store(question, true)
				case errors.Is(err, context.DeadlineExceeded):
					gaveUp.Store(question, true)
				default:
					t.Errorf("asked %q: got %v, %v", question, msg, err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.asker.table.open(); n != 0 {
		t.Errorf("%d questions are still open", n)
	}
	t.Logf("%d answered, %d gave up", length(&answered), length(&gaveUp))
}

func length(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

func TestAsk_ALateAnswerDoesNotReachWhoAskedNext(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	ctx, giveUp := context.WithCancel(t.Context())
	first := b.ask(t, ctx, "first")
	late := await(t, "the first question", asked)
	giveUp()
	wantError(t, await(t, "the first asker", first), context.Canceled)

	second := b.ask(t, t.Context(), "second")
	next := await(t, "the second question", asked)
	if slot := func(m *nats.Msg) string { s, _, _ := strings.Cut(m.Reply, "-"); return s }; slot(late) != slot(next) {
		t.Fatalf("got slots %s and %s, want the same twice", late.Reply, next.Reply)
	}
	respondTo(t, late, "late")
	respondTo(t, late, "and again")
	respondTo(t, next, "in time")
	wantAnswer(t, await(t, "the second asker", second), "in time")
}

// The asker gives up when its answer was found to be its own and has not yet come. What a later asker would find in its
// place is this answer.
func TestAsk_AnAnswerThatIsOnItsWayIsWaitedFor(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	ctx, giveUp := context.WithCancel(t.Context())
	got := b.ask(t, ctx, "question")
	question := await(t, "the question", asked)
	w := b.asker.table.take(parseToken(question.Reply[strings.LastIndex(question.Reply, ".")+1:]))
	giveUp()
	select {
	case r := <-got:
		t.Fatalf("got %v, %v before the answer", r.msg, r.err)
	case <-time.After(20 * time.Millisecond):
	}
	w.answer <- answer{msg: &nats.Msg{Data: []byte("answer")}}
	wantAnswer(t, await(t, "the answer", got), "answer")
}

// Anybody who may publish to inboxes may send anything there.
func TestAsk_WhatIsNoAnswerIsIgnored(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	got := b.ask(t, t.Context(), "question")
	question := await(t, "the question", asked)
	prefix := question.Reply[:strings.LastIndex(question.Reply, ".")+1]
	for _, token := range []string{"x", "-", "0", "0-", "-1", "0-0", "0-2", "1-1", "zzzzzz-1", "0-1-1", "0-+1", "*"} {
		if err := b.other.Publish(prefix+token, []byte("no answer")); err != nil {
			t.Fatal(err)
		}
	}
	respondTo(t, question, "answer")
	wantAnswer(t, await(t, "the answer", got), "answer")
}

func TestAsk_SendsTheHeader(t *testing.T) {
	b := newBench(t, 0)
	b.respond(t, func(question *nats.Msg) { respondTo(t, question, question.Header.Get("Name")) })
	msg, err := b.asker.Ask(t.Context(), subject, nats.Header{"Name": {"value"}}, nil)
	wantAnswer(t, result{msg, err}, "value")
}

func TestAsk_WhereNobodyListensItSaysSo(t *testing.T) {
	b := newBench(t, 0)
	wantError(t, await(t, "an error", b.ask(t, t.Context(), "")), nats.ErrNoResponders)
}

func TestAsk_UnderAnEndedContextSendsNothing(t *testing.T) {
	b := newBench(t, 0)
	asked := b.questions(t)
	gone := errors.New("the lease is lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	wantError(t, await(t, "an error", b.ask(t, ctx, "first")), gone)
	got := b.ask(t, t.Context(), "second")
	question := await(t, "a question", asked)
	if string(question.Data) != "second" {
		t.Errorf("got %q, want what was asked under a context that had not ended", question.Data)
	}
	respondTo(t, question, "answer")
	await(t, "the answer", got)
}

// Who waits for an answer that was lost with the connection does nothing until his time is over.
func TestAsk_TheEndOfTheConnectionEndsTheWait(t *testing.T) {
	drained := []error{nats.ErrConnectionDraining, nats.ErrConnectionClosed} // which comes next
	for _, tt := range []struct {
		name  string
		end   func(t *testing.T, b *bench)
		want  []error // one of them
		after []error // and for a question that comes then; none if it is answered
	}{
		{"Broken", func(t *testing.T, b *bench) { b.server.Restart(t) }, []error{nats.ErrDisconnected}, nil},
		{"Closed", func(_ *testing.T, b *bench) { b.conn.Close() }, drained[1:], drained[1:]},
		{"Drained", func(t *testing.T, b *bench) {
			if err := b.conn.Drain(); err != nil {
				t.Fatal(err)
			}
		}, drained, drained},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, 0)
			asked := b.questions(t)
			got := b.ask(t, t.Context(), "before")
			await(t, "the question", asked)
			tt.end(t, b)
			wantError(t, await(t, "the end of the wait", got), tt.want...)
			if tt.after == nil {
				answerOnceConnected(t, b, asked)
			} else {
				wantError(t, await(t, "an error", b.ask(t, t.Context(), "after")), tt.after...)
			}
		})
	}
}

// answerOnceConnected wants a question to be answered when the two connections have found back.
func answerOnceConnected(t *testing.T, b *bench, asked <-chan *nats.Msg) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := b.ask(t, t.Context(), "after")
		select {
		case question := <-asked:
			respondTo(t, question, "answer")
			wantAnswer(t, await(t, "the answer", got), "answer")
			return
		case r := <-got:
			if time.Now().After(deadline) {
				t.Fatalf("not answered after %s: %v", patience, r.err)
			}
		}
	}
}

// Nothing is sent late: while disconnected it fails, and what failed does not arrive.
func TestAsk_WithoutAConnectionFailsAtOnceAndSendsNothingLate(t *testing.T) {
	for _, name := range []string{"TheFirstQuestion", "ALaterOne"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 0)
			asked := b.questions(t)
			if name == "ALaterOne" {
				got := b.ask(t, t.Context(), "before")
				respondTo(t, await(t, "the question", asked), "answer")
				wantAnswer(t, await(t, "the answer", got), "answer")
			}
			b.server.Stop(t)
			for deadline := time.Now().Add(patience); b.conn.IsConnected(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the connection does not end")
				}
			}
			if got := await(t, "an error", b.ask(t, t.Context(), "during")); got.err == nil || errors.Is(got.err, context.DeadlineExceeded) {
				t.Errorf("got %v, %v, want an error at once", got.msg, got.err)
			}
			b.server.StartAgain(t)
			answerOnceConnected(t, b, asked)
			if n := b.asker.table.open(); n != 0 {
				t.Errorf("%d questions are still open", n)
			}
		})
	}
}

func TestAsk_WhatIsNotAnsweredWithinPatienceIsOverdue(t *testing.T) {
	const wait = 100 * time.Millisecond
	b := newBench(t, wait)
	asked := b.questions(t)
	began := time.Now()
	got := b.ask(t, t.Context(), "question")
	question := await(t, "the question", asked)
	wantError(t, await(t, "an error", got), ErrOverdue)
	if took := time.Since(began); took < wait {
		t.Errorf("it took %s, want %s at least", took, wait)
	}
	respondTo(t, question, "late")
	next := b.ask(t, t.Context(), "next")
	respondTo(t, await(t, "the next question", asked), "answer")
	wantAnswer(t, await(t, "the answer", next), "answer")
}

func BenchmarkAsk(b *testing.B) {
	bench := newBench(b, 5*time.Second)
	bench.respond(b, func(question *nats.Msg) { respondTo(b, question, "") })
	for name, ask := range map[string]func() error{
		"Asker": func() error {
			_, err := bench.asker.Ask(b.Context(), subject, nil, nil)
			return err
		},
		"Request": func() error {
			_, err := bench.conn.RequestWithContext(b.Context(), subject, nil)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(256)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := ask(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
