package journal_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/journal/journaltest"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const patience = 30 * time.Second

func TestJournal_KeepsTheContract(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Journal {
		server := natsdtest.Start(t)
		return open(t, server.Connect(t), time.Second)
	})
}

func TestOpen_RefusesWhereThereIsNoJournal(t *testing.T) {
	nc := natsdtest.Start(t).Connect(t)
	_, err := journal.Open(t.Context(), journal.Config{Conn: nc})
	if !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), stream.Journal) {
		t.Errorf("got %v, want one that says which stream is not there", err)
	}
}

// A refusal must not wait for a broker that is away.
func TestJournal_RefusesWhatMayNotFollowWithoutAskingTheBroker(t *testing.T) {
	server := natsdtest.Start(t)
	j := open(t, server.Connect(t), time.Second)
	server.Stop(t)
	_, err := j.Append(t.Context(), newKey(), journal.Event{}, journal.Event{Kind: journal.Failed, Attempt: 1})
	if err == nil || errors.Is(err, journal.ErrConflict) {
		t.Errorf("got %v, want a refusal that is no conflict", err)
	}
}

// The worst hour of a fence: it stands, and nobody has told its writer. Were it taken for another's, nobody would ever
// give the trigger; were it appended again, there would be two.
func TestJournal_KnowsItsOwnEventWhenTheAnswerWasLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(t *testing.T, server *natsdtest.Server, way *link)
	}{
		{"TheConnectionBreaks", func(_ *testing.T, _ *natsdtest.Server, way *link) { way.cut() }},
		{"TheServerIsStoppedAndStartedAgain", func(t *testing.T, server *natsdtest.Server, way *link) {
			way.cut()
			server.Restart(t)
		}},
		{"TheAnswerComesTooLate", func(t *testing.T, server *natsdtest.Server, way *link) {
			tries := countAppends(t, server)
			awaitCondition(t, func() bool { return tries.Load() > 0 }) // it was sent again
			way.release()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := natsdtest.Start(t)
			way := newLink(t, server.URL())
			distant := open(t, connect(t, way.url()), 100*time.Millisecond)
			near := open(t, server.Connect(t), time.Second)
			key := newKey()

			way.hold()
			result := appendLater(t, distant, key, journal.Event{}, fence())
			awaitCondition(t, func() bool {
				stands, err := near.Last(t.Context(), key)
				return err == nil && !stands.IsZero()
			})
			tt.then(t, server, way)

			got := await(t, result)
			var stands journal.Event
			awaitCondition(t, func() bool { // this connection has to find back to the server, too
				var err error
				stands, err = near.Last(t.Context(), key)
				return err == nil
			})
			if got.err != nil || got.event.ID != stands.ID || got.event.Sequence != stands.Sequence {
				t.Errorf("got %+v, %v, want what stands: %+v", got.event, got.err, stands)
			}
			wantEvents(t, server.JetStream(t), key, 1)
		})
	}
}

// A leader that dies does not answer. Who waits for it as long as the lease may last does nothing until then.
func TestJournal_ReadsNoLongerThanAnAnswerMayTake(t *testing.T) {
	way := newLink(t, natsdtest.Start(t).URL())
	j := open(t, connect(t, way.url()), 50*time.Millisecond)
	way.hold()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := j.Last(ctx, newKey()); err == nil || ctx.Err() != nil {
		t.Errorf("got %+v, %v with the context's end at %v, want an error before it", got, err, ctx.Err())
	}
}

// Its answer was lost, and before it could ask another worker took the trigger over: it must not give it any more.
func TestJournal_LosesWhatWasTakenOverBeforeItKnewOfIt(t *testing.T) {
	server := natsdtest.Start(t)
	way := newLink(t, server.URL())
	distant := open(t, connect(t, way.url()), 100*time.Millisecond)
	near := open(t, server.Connect(t), time.Second)
	key := newKey()

	way.hold()
	result := appendLater(t, distant, key, journal.Event{}, fence())
	var stands journal.Event
	awaitCondition(t, func() (ok bool) {
		var err error
		stands, err = near.Last(t.Context(), key)
		return err == nil && !stands.IsZero()
	})
	takeover := stands
	takeover.Takeover = true
	if _, err := near.Append(t.Context(), key, stands, takeover); err != nil {
		t.Fatal(err)
	}
	way.cut()
	if got := await(t, result); !errors.Is(got.err, journal.ErrConflict) {
		t.Errorf("got %+v, %v, want ErrConflict", got.event, got.err)
	}
	wantEvents(t, server.JetStream(t), key, 2)
}

func TestJournal_AppendsOnceOverAnOutage(t *testing.T) {
	server := natsdtest.Start(t)
	j := open(t, server.Connect(t), time.Second)
	key := newKey()
	server.Stop(t)
	result := appendLater(t, j, key, journal.Event{}, fence())
	server.StartAgain(t)
	got := await(t, result)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if diff := cmp.Diff(mustLast(t, j, key), got.event); diff != "" {
		t.Errorf("appended event (-last +got):\n%s", diff)
	}
	wantEvents(t, server.JetStream(t), key, 1)
}

// A worker that gave up during an outage must leave nothing behind that arrives after it: by then another holds the
// message.
func TestJournal_SendsNothingLateAfterAnOutage(t *testing.T) {
	server := natsdtest.Start(t)
	nc := server.Connect(t)
	reconnected := make(chan struct{}, 1)
	nc.SetReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} })
	j := open(t, nc, time.Second)
	key := newKey()

	server.Stop(t)
	gaveUp := errors.New("the lease is lost")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, gaveUp)
	defer cancel()
	if got, err := j.Append(ctx, key, journal.Event{}, fence()); !errors.Is(err, gaveUp) {
		t.Errorf("got %+v, %v, want the cause", got, err)
	}
	server.StartAgain(t)
	await(t, reconnected)
	if err := nc.FlushTimeout(patience); err != nil { // what was to come on this connection has come
		t.Fatal(err)
	}
	if stands := mustLast(t, j, key); !stands.IsZero() {
		t.Errorf("got %+v, want nothing", stands)
	}
}

// A newer version's event may mean anything, an unreadable one too. Taken for the end it would be reported as one,
// taken for nothing it would be triggered upon.
func TestJournal_StopsAtAnEventThatItCannotRead(t *testing.T) {
	server := natsdtest.Start(t)
	j := open(t, server.Connect(t), time.Second)
	js := server.JetStream(t)
	for _, data := range []string{`{"event":"unheard"}`, `{}`, `null`, ``, `{"event":"restarting","attempt":"one"}`, "\x00"} {
		key := newKey()
		if _, err := js.Publish(t.Context(), stream.JournalSubject(key.Group, key.ID, key.Host), []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Last(t.Context(), key); err == nil || !strings.Contains(err.Error(), key.ID.String()) {
			t.Errorf("%q: got %+v, %v, want an error that names the request", data, got, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if got, err := j.Append(ctx, key, journal.Event{}, fence()); err == nil {
			t.Errorf("%q: appended %+v on it", data, got)
		}
		cancel()
		wantEvents(t, js, key, 1)
	}
}

// The epoch of another request's event, if it came into this one's, would be taken for a restart that never was.
func TestJournal_OfManyAppendsAtOnceEachAppendsItsOwn(t *testing.T) {
	j := open(t, natsdtest.Start(t).Connect(t), patience)
	var appends sync.WaitGroup
	for writer := range 50 {
		appends.Go(func() {
			for n := range 20 {
				key, next := newKey(), fence()
				next.From = restart.Epoch(strings.Repeat(strconv.Itoa(writer), 1+n))
				want, err := j.Append(t.Context(), key, journal.Event{}, next)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := j.Last(t.Context(), key)
				if diff := cmp.Diff(want, got); err != nil || diff != "" || got.From != next.From {
					t.Errorf("%v (-appended +stands):\n%s", err, diff)
				}
			}
		})
	}
	appends.Wait()
}

func BenchmarkAppend(b *testing.B) {
	j := open(b, natsdtest.Start(b).Connect(b), 5*time.Second)
	b.ReportAllocs()
	b.SetParallelism(256) // as many messages as a worker has in work: they share writes
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Append(b.Context(), newKey(), journal.Event{}, fence()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func open(t testing.TB, nc *nats.Conn, answerTimeout time.Duration) *journal.Journal {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	streams, err := stream.Ensure(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Config{
		Conn: nc, Created: streams.JournalCreated, MaxAge: streams.JournalMaxAge, AnswerTimeout: answerTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func newKey() journal.Key {
	return journal.Key{Group: "default", ID: uuid.New(), Host: "host-1.example.net"}
}

func fence() journal.Event {
	return journal.Event{
		Kind: journal.Restarting, Attempt: 1, From: "boot 1", Settled: true, Worker: "worker", At: time.Now().UTC(),
	}
}

type appended struct {
	event journal.Event
	err   error
}

// appendLater appends in a goroutine, which ends with the test at the latest.
func appendLater(t *testing.T, j *journal.Journal, key journal.Key, last, next journal.Event) <-chan appended {
	ctx, cancel := context.WithCancel(t.Context())
	done, result := make(chan struct{}), make(chan appended, 1)
	go func() {
		defer close(done)
		event, err := j.Append(ctx, key, last, next)
		result <- appended{event, err}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return result
}

func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing happened for %s", patience)
		panic("unreachable")
	}
}

// awaitCondition polls what the server has no event for.
func awaitCondition(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s", patience)
		}
	}
}

// countAppends counts what is sent to the journal from now on, stored or refused.
func countAppends(t *testing.T, server *natsdtest.Server) *atomic.Int32 {
	t.Helper()
	var n atomic.Int32
	nc := server.Connect(t)
	if _, err := nc.Subscribe("mandrill.journal.>", func(*nats.Msg) { n.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return &n
}

func mustLast(t *testing.T, j *journal.Journal, key journal.Key) journal.Event {
	t.Helper()
	last, err := j.Last(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// wantEvents counts what stands under an id, whatever host and group it names.
func wantEvents(t *testing.T, js jetstream.JetStream, key journal.Key, want uint64) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream.Journal)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(stream.JournalByID(key.ID)))
	if err != nil {
		t.Fatal(err)
	}
	var got uint64
	for _, n := range info.State.Subjects {
		got += n
	}
	if got != want {
		t.Errorf("got %d events under %s, want %d", got, key.ID, want)
	}
}

// A repair goes by what was last appended for each request: an earlier event would have it call a request open that has
// ended.
func TestJournal_LatestReturnsEachRequestsLastEvent(t *testing.T) {
	server := natsdtest.Start(t)
	j := open(t, server.Connect(t), time.Second)
	want := map[journal.Key]journal.Event{}
	for i := range 3 {
		key := newKey()
		if i == 2 {
			key.Group = "web"
		}
		first, err := j.Append(t.Context(), key, journal.Event{}, journal.Event{Kind: journal.Restarting, From: "1", Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		want[key] = first
		if i == 0 {
			if want[key], err = j.Append(t.Context(), key, first, journal.Event{Kind: journal.Failed, From: "1", Attempt: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for group, count := range map[restart.Group]int{"": 3, "web": 1, "none": 0} {
		got := map[journal.Key]journal.Event{}
		for e, err := range j.Latest(t.Context(), group) {
			if err != nil {
				t.Fatal(err)
			}
			got[e.Key] = e.Last
			if diff := cmp.Diff(want[e.Key], e.Last); diff != "" {
				t.Errorf("%v (-want +got):\n%s", e.Key, diff)
			}
		}
		if len(got) != count {
			t.Errorf("group %q: got %d requests, want %d", group, len(got), count)
		}
	}
}
