package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	nc := natsdtest.Start(t).Connect(t)
	for name, cfg := range map[string]Config{
		"NoConnection":    {},
		"NegativeWindow":  {Conn: nc, Window: -1},
		"NegativeTimeout": {Conn: nc, Timeout: -time.Second},
		"DomainIsNone":    {Conn: nc, Domain: "example..net"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// A request that a worker would dead-letter is turned away before it is sent, and the error names the field (M01, M02).
func TestPublish_TurnsAnInvalidRequestAwayAtTheDoor(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		field string
		r     Request
	}{
		{"instance", Request{}},
		{"instance", Request{Instance: "web 1"}},
		{"instance", Request{Instance: "*"}},
		{"host", Request{Host: "web-1..example.net"}},
		{"host", Request{Host: "WEB-1.example.net"}},
		{"group", Request{Instance: "web-1", Group: "a.b"}},
		{"not_after", Request{Instance: "web-1", NotAfter: now.Add(-time.Second)}},
		{"not_after", Request{Instance: "web-1", NotAfter: now.Add(8 * 24 * time.Hour)}},
		{"min_uptime", Request{Instance: "web-1", MinUptime: -1}},
	} {
		b := &fakeBroker{}
		p := newFaked(t, b, Config{})
		err := p.Publish(t.Context(), tt.r, func(Result) { t.Errorf("%s: reported", tt.field) })
		if fe, ok := errors.AsType[*FieldError](err); !ok || fe.Field != tt.field {
			t.Errorf("got error %v, want one of field %q", err, tt.field)
		}
		if err := p.Close(t.Context()); err != nil || b.attempted() != 0 {
			t.Errorf("%s: got %d attempts, %v; want none", tt.field, b.attempted(), err)
		}
	}
}

func TestPublish_PutsOnTheStreamWhatAWorkerReads(t *testing.T) {
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t), Domain: "example.org"})

	got := publish(t, p, Request{Instance: "Web-1", Group: "blue", Reason: "kernel", MinUptime: Duration(time.Hour)})
	if got.Status != Confirmed {
		t.Fatalf("got %+v, want confirmed", got)
	}
	if got.Request.ID.Version() != 7 || got.Request.Host != "web-1.example.org" {
		t.Errorf("got id %s for host %q, want a UUIDv7 for web-1.example.org", got.Request.ID, got.Request.Host)
	}
	msg, err := work.GetLastMsgForSubject(t.Context(), "mandrill.restart.blue.web-1.example.org")
	if err != nil {
		t.Fatal(err)
	}
	header := nats.Header{"Mandrill-Version": {"1"}, "Nats-Msg-Id": {got.Request.ID.String()}}
	if diff := cmp.Diff(header, msg.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	read, err := restart.Decode(restart.Envelope{Version: "1", Group: "blue", Host: "web-1.example.org"}, msg.Data)
	if err != nil {
		t.Fatal(err)
	}
	read.Raw = nil
	if diff := cmp.Diff(got.Request, read); diff != "" {
		t.Errorf("request (-published +read):\n%s", diff)
	}
}

func TestPublish_ASecondRequestForAHostIsAlreadyQueuedBehindTheFirst(t *testing.T) {
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t)})
	first := publish(t, p, Request{Instance: "web-1"})
	second := publish(t, p, Request{Instance: "web-1"})
	want := Result{Request: second.Request, Status: AlreadyQueued, QueuedID: first.Request.ID, QueuedPhase: PhaseQueued}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Errorf("second (-want +got):\n%s", diff)
	}
	if other := publish(t, p, Request{Instance: "web-1", Group: "blue"}); other.Status != Confirmed {
		t.Errorf("got %+v for another group, want confirmed", other)
	}
	if n := stored(t, work); n != 2 {
		t.Errorf("got %d stored, want 2", n)
	}
}

// Two in a row, without waiting for the first: the one that was asked first is the one that is done.
func TestPublish_KeepsTheOrderInWhichItWasCalled(t *testing.T) {
	srv := natsdtest.Start(t)
	createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t)})
	first, second := make(chan Result, 1), make(chan Result, 1)
	for n := range 100 {
		r := Request{Instance: fmt.Sprintf("web-%d", n)}
		for _, results := range []chan Result{first, second} {
			if err := p.Publish(t.Context(), r, func(r Result) { results <- r }); err != nil {
				t.Fatal(err)
			}
		}
		got1, got2 := receive(t, first), receive(t, second)
		if got1.Status != Confirmed || got2.Status != AlreadyQueued || got2.QueuedID != got1.Request.ID {
			t.Fatalf("got %+v, then %+v; want confirmed, then already queued", got1, got2)
		}
	}
}

// The same request again, also after the server has been restarted, is confirmed and stored once.
func TestPublish_TheSameRequestAgainIsConfirmedAndStoredOnce(t *testing.T) {
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t)})
	r := validRequest(t, "web-1")
	for i := range 5 {
		got := publish(t, p, r)
		if got.Status != Confirmed {
			t.Errorf("publish %d: got %+v, want confirmed", i, got)
		}
		// Right after a restart an attempt may get no answer, and then nobody knows whose the one is that is stored.
		if restarted := i > 0 && i%2 == 0; !restarted && got.Duplicate != (i > 0) {
			t.Errorf("publish %d: got %+v, want only the first not to be a duplicate", i, got)
		}
		if i%2 == 1 {
			srv.Restart(t)
		}
	}
	if n := stored(t, work); n != 1 {
		t.Errorf("got %d stored, want 1", n)
	}
}

// An outage in the middle of many publishes: each is reported once, and what is confirmed is there (M07).
func TestPublish_LosesNothingWhenTheServerGoesAwayAndComesBack(t *testing.T) {
	const count = 2000
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t)})

	var mu sync.Mutex
	reports := map[uuid.UUID]int{}
	ends := map[Status]int{}
	started, called := make(chan struct{}), make(chan error, 1)
	var unreported sync.WaitGroup
	unreported.Add(count)
	go func() {
		for n := range count {
			err := p.Publish(t.Context(), Request{Instance: fmt.Sprintf("web-%d", n)}, func(r Result) {
				defer unreported.Done()
				mu.Lock()
				defer mu.Unlock()
				reports[r.Request.ID]++
				ends[r.Status]++
				if len(reports) == count/10 {
					close(started)
				}
			})
			if err != nil {
				called <- err
				return
			}
		}
		called <- nil
	}()
	receive(t, started)
	srv.Stop(t)
	if err := receive(t, called); err != nil { // an outage is no reason to block while the window has room
		t.Fatal(err)
	}
	srv.StartAgain(t)
	unreported.Wait()

	if len(reports) != count {
		t.Errorf("got %d requests reported, want %d", len(reports), count)
	}
	for id, n := range reports {
		if n != 1 {
			t.Errorf("%s was reported %d times", id, n)
		}
	}
	if diff := cmp.Diff(map[Status]int{Confirmed: count}, ends); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
	if n := stored(t, work); n != ends[Confirmed] {
		t.Errorf("got %d stored, want the %d confirmed", n, ends[Confirmed])
	}
}

func TestPublish_FailsWhenAnOutageOutlastsTheTimeout(t *testing.T) {
	srv := natsdtest.Start(t)
	work := createWork(t, srv.JetStream(t))
	p := openPublisher(t, Config{Conn: srv.Connect(t), Timeout: 100 * time.Millisecond})
	srv.Stop(t)
	got := publish(t, p, Request{Instance: "web-1"})
	if got.Status != Failed || !strings.Contains(got.Err.Error(), "given up after 100ms") {
		t.Errorf("got %+v, want failed after 100ms", got)
	}
	srv.StartAgain(t)
	if n := stored(t, work); n != 0 && !errors.Is(got.Err, ErrUnanswered) {
		t.Errorf("got %d stored after %v", n, got.Err)
	}
}

// The newcomer's mistake: publishing before any worker has run.
func TestPublish_SaysToStartAWorkerWhereThereIsNoStream(t *testing.T) {
	p := openPublisher(t, Config{Conn: natsdtest.Start(t).Connect(t)})
	got := publish(t, p, Request{Instance: "web-1"})
	if got.Status != Failed || !errors.Is(got.Err, ErrNoStream) || !strings.Contains(got.Err.Error(), "start a worker") {
		t.Errorf("got %+v, want failed with %q", got, ErrNoStream)
	}
}

// The server does not answer a publish without permission; what it says instead must reach the caller.
func TestPublish_WithoutPermissionSaysSo(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*server.User{
			{Username: "worker", Password: "w"},
			{Username: "blue", Password: "b", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: []string{"mandrill.restart.blue.>", "$JS.API.>"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	worker, err := nats.Connect(srv.ClientURL(), nats.UserInfo("worker", "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	js, err := jetstream.New(worker)
	if err != nil {
		t.Fatal(err)
	}
	createWork(t, js)
	ignore := func(*nats.Conn, *nats.Subscription, error) {}
	blue, err := nats.Connect(srv.ClientURL(), nats.UserInfo("blue", "b"), nats.ErrorHandler(ignore))
	if err != nil {
		t.Fatal(err)
	}
	defer blue.Close()
	p, err := New(Config{Conn: blue, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}

	if got := publish(t, p, Request{Instance: "web-1", Group: "blue"}); got.Status != Confirmed {
		t.Errorf("got %+v for its own group, want confirmed", got)
	}
	got := publish(t, p, Request{Instance: "web-1", Group: "Green"})
	if got.Status != Failed || !errors.Is(got.Err, nats.ErrPermissionViolation) {
		t.Errorf("got %+v for another group, want failed with %q", got, nats.ErrPermissionViolation)
	}
	if strings.Contains(got.Err.Error(), "given up") {
		t.Errorf("got %q, want no second attempt", got.Err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A worker's ack and the next request for the host follow each other closely; a cluster then refuses now and again.
func TestPublish_OnAClusterTheNextRequestIsTakenRightAfterTheAckOfTheLast(t *testing.T) {
	cluster := natsdtest.StartCluster(t, 3)
	js := cluster.JetStream(t)
	work := createWork(t, js)
	consumer, err := work.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable:       stream.ConsumerName("default"),
		FilterSubject: stream.WorkFilter("default"),
		AckPolicy:     jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := openPublisher(t, Config{Conn: cluster.Connect(t)})
	for n := range 100 {
		r := publish(t, p, Request{Instance: "web-1"})
		if r.Status != Confirmed {
			t.Fatalf("round %d: got %+v, want confirmed", n, r)
		}
		msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := msg.Headers().Get(jetstream.MsgIDHeader), r.Request.ID.String(); got != want {
			t.Fatalf("round %d: got %s, want %s", n, got, want)
		}
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Back-pressure: what is unconfirmed is bounded, and only that makes a caller wait (M07).
func TestPublish_WaitsOnlyWhileTheWindowIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 3
		b := &fakeBroker{before: always(fault{answerIn: time.Second})}
		p := newFaked(t, b, Config{Window: window})
		start := time.Now()
		var reported atomic.Int64
		var taken []time.Duration
		for n := range 2 * window {
			r := Request{Instance: fmt.Sprintf("web-%d", n)}
			if err := p.Publish(t.Context(), r, func(Result) { reported.Add(1) }); err != nil {
				t.Fatal(err)
			}
			if unconfirmed := b.attempted() - int(reported.Load()); unconfirmed > window {
				t.Errorf("got %d unconfirmed, want %d at most", unconfirmed, window)
			}
			taken = append(taken, time.Since(start))
		}
		if diff := cmp.Diff([]time.Duration{0, 0, 0, time.Second, time.Second, time.Second}, taken); diff != "" {
			t.Errorf("when they were taken (-want +got):\n%s", diff)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPublish_WaitingForTheWindowCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{before: always(fault{answerIn: time.Minute})}
		p := newFaked(t, b, Config{Window: 1, Timeout: time.Hour})
		if err := p.Publish(t.Context(), Request{Instance: "web-1"}, func(Result) {}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Publish(ctx, Request{Instance: "web-2"}, func(Result) { t.Error("reported") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want that of the context", err)
		}
		if err := p.Close(t.Context()); err != nil || b.attempted() != 1 {
			t.Errorf("got %d attempts, %v; want one", b.attempted(), err)
		}
	})
}

func TestClose_ReturnsWhenEverythingIsReportedAndTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fakeBroker{before: always(fault{answerIn: time.Second})}
		p := newFaked(t, b, Config{Window: 2})
		reported := 0
		var mu sync.Mutex
		report := func(Result) { mu.Lock(); defer mu.Unlock(); reported++ }
		for n := range 2 {
			if err := p.Publish(t.Context(), Request{Instance: fmt.Sprintf("web-%d", n)}, report); err != nil {
				t.Fatal(err)
			}
		}
		waiting := make(chan error, 1)
		go func() { waiting <- p.Publish(t.Context(), Request{Instance: "web-3"}, report) }()
		synctest.Wait()
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		want := 2
		if err := <-waiting; err == nil {
			want = 3 // it found room before it saw the end
		} else if !errors.Is(err, ErrClosed) {
			t.Errorf("got error %v of the one that waited, want %v", err, ErrClosed)
		}
		if reported != want {
			t.Errorf("got %d reported when Close returned, want %d", reported, want)
		}
		if err := p.Publish(t.Context(), Request{Instance: "web-4"}, report); !errors.Is(err, ErrClosed) {
			t.Errorf("got error %v after Close, want %v", err, ErrClosed)
		}
		if err := p.Close(t.Context()); err != nil || b.cleaned != 1 {
			t.Errorf("second Close: got %v and %d cleanups, want what the first returned and no more", err, b.cleaned)
		}
	})
}

func TestClose_GivesUpWhatIsOpenWhenItsContextEnds(t *testing.T) {
	for name, open := range map[string]fault{
		"Unanswered": {answerIn: time.Hour},
		"InAnOutage": {sendErr: nats.ErrReconnectBufExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaked(t, &fakeBroker{before: always(open)}, Config{Timeout: 24 * time.Hour})
				var got []Result
				if err := p.Publish(t.Context(), Request{Instance: "web-1"}, func(r Result) { got = append(got, r) }); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got error %v, want that of the context", err)
				}
				if len(got) != 1 || got[0].Status != Failed || !errors.Is(got[0].Err, ErrClosed) {
					t.Fatalf("got reports %+v, want one, failed with %v", got, ErrClosed)
				}
				if unanswered := open.sendErr == nil; errors.Is(got[0].Err, ErrUnanswered) != unanswered {
					t.Errorf("got %q, want it to say that an answer is open: %v", got[0].Err, unanswered)
				}
			})
		})
	}
}
