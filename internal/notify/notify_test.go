package notify_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/notify"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// run runs the notifier, and returns what stops it and waits for its end.
func run(t *testing.T, n *notify.Notifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

var id = uuid.MustParse("018f4b1e-5c7a-7000-8000-000000000001")

func deadLetter(group restart.Group, detail string) notify.Notice {
	return notify.Notice{
		Kind: notify.DeadLetter, Group: group, Host: "cattle-a1b2.example.net", ID: id, Cause: "not_ready", By: "worker-1", Detail: detail,
	}
}

func paused(group restart.Group) notify.Notice {
	return notify.Notice{Kind: notify.Paused, Group: group, Cause: "manual", By: "alice"}
}

func check[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestNotifier_SaysWhatHappenedInWords(t *testing.T) {
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, tc := range []struct {
		notice notify.Notice
		want   string
	}{
		{
			notify.Notice{Kind: notify.Paused, Group: "web", Cause: "manual", By: "alice", Why: "the database\nburns", Until: until},
			"Group web is paused (manual), by alice, until 2026-01-02T02:04:05Z: the database burns",
		},
		{notify.Notice{Kind: notify.Paused, By: "alice"}, "All groups are paused, by alice"},
		{notify.Notice{Kind: notify.Resumed, Group: "web", By: "alice"}, "Group web is resumed, by alice"},
		{
			notify.Notice{Kind: notify.Breaker, Group: "web", By: "worker-1", Why: "3 hosts in a row did not come back", Detail: "look at them"},
			"Group web is paused by the breaker, by worker-1: 3 hosts in a row did not come back; look at them",
		},
		{
			deadLetter("web", "it never became ready"),
			"Request 018f4b1e-5c7a-7000-8000-000000000001 for host cattle-a1b2.example.net of group web is given up (not_ready), by worker-1: it never became ready",
		},
		{
			notify.Notice{Kind: notify.DeadLetter, ID: id, Cause: "malformed"},
			"Request 018f4b1e-5c7a-7000-8000-000000000001 is given up (malformed)",
		},
		{
			notify.Notice{Kind: notify.CampaignEnded, Group: "web", ID: id, Cause: "aborted", Detail: "990 restarted, 10 dead"},
			"Campaign 018f4b1e-5c7a-7000-8000-000000000001 of group web has ended (aborted): 990 restarted, 10 dead",
		},
	} {
		inBubble(t, notify.Config{}, &desk{}, func(t *testing.T, s *stage) {
			s.Notify(tc.notice)
			synctest.Wait() // no time passes
			check(t, "texts", s.took(), []string{tc.want})
		})
	}
}

// Whoever may publish a request chooses some of the words, and must not call everybody in the channel, or place links.
func TestNotifier_TextsOfStrangersCannotMention(t *testing.T) {
	inBubble(t, notify.Config{}, &desk{}, func(t *testing.T, s *stage) {
		s.Notify(notify.Notice{Kind: notify.Paused, Group: "web", Why: `<!channel> <https://evil.example|here> & "more"`})
		synctest.Wait()
		check(t, "texts", s.took(), []string{`Group web is paused: &lt;!channel&gt; &lt;https://evil.example|here&gt; &amp; "more"`})
	})
}

func TestNotifier_ThousandsOfDeadLettersAreAMessageAnInterval(t *testing.T) {
	inBubble(t, notify.Config{}, &desk{}, func(t *testing.T, s *stage) {
		for i := range 1000 {
			s.Notify(deadLetter("web", fmt.Sprint(i)))
			synctest.Wait()
		}
		time.Sleep(notify.DefaultEvery - time.Nanosecond)
		synctest.Wait()
		check(t, "attempts within the interval", s.tried(), []time.Duration{0})
		time.Sleep(10 * notify.DefaultEvery)
		check(t, "attempts", s.tried(), []time.Duration{0, notify.DefaultEvery})
		const about = "Request 018f4b1e-5c7a-7000-8000-000000000001 for host cattle-a1b2.example.net of group web is given up (not_ready), by worker-1: "
		check(t, "texts", s.took(), []string{about + "0", about + "999 (and 998 more)"})

		s.Notify(deadLetter("web", "later")) // the interval is over: at once again
		synctest.Wait()
		check(t, "attempts", len(s.tried()), 3)
	})
}

func TestNotifier_KindsAndGroupsDoNotHoldEachOtherBack(t *testing.T) {
	inBubble(t, notify.Config{}, &desk{}, func(t *testing.T, s *stage) {
		for _, n := range []notify.Notice{
			deadLetter("web", "x"), deadLetter("web", "x"), paused("web"), paused("db"), {Kind: notify.Resumed, Group: "web"}, {Kind: notify.Breaker, Group: "web"},
		} {
			s.Notify(n)
			synctest.Wait()
		}
		check(t, "attempts at once", len(s.tried()), 5)
		time.Sleep(time.Hour)
		check(t, "attempts", len(s.tried()), 6)
	})
}

func TestNotifier_OnlyKindsThatAreAskedForAreTold(t *testing.T) {
	inBubble(t, notify.Config{On: []notify.Kind{notify.Breaker}}, &desk{}, func(t *testing.T, s *stage) {
		s.Notify(paused("web"))
		s.Notify(notify.Notice{Kind: "surprise"})
		s.Notify(notify.Notice{Kind: notify.Breaker, Group: "web"})
		time.Sleep(time.Hour)
		check(t, "texts", s.took(), []string{"Group web is paused by the breaker"})
	})
}

func TestNotifier_TriesAgainUntilItIsTaken(t *testing.T) {
	d := &desk{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
		switch attempt {
		case 1:
			return nil, errRefused
		case 2:
			return status(http.StatusServiceUnavailable), nil
		case 3:
			return status(http.StatusTooManyRequests, "Retry-After", "90"), nil
		case 4:
			date := time.Now().UTC().Add(-time.Hour) // the server's clock is late
			return status(http.StatusBadGateway, "Retry-After", date.Add(2*time.Minute).Format(http.TimeFormat), "Date", date.Format(http.TimeFormat)), nil
		}
		return status(http.StatusOK), nil
	}}
	inBubble(t, notify.Config{}, d, func(t *testing.T, s *stage) {
		s.Notify(paused("web"))
		time.Sleep(time.Hour)
		at := s.tried()
		if len(at) != 5 {
			t.Fatalf("got attempts at %s, want 5 of them", at)
		}
		for i, want := range []struct{ least, most time.Duration }{
			{time.Second / 2, 3 * time.Second / 2}, {time.Second, 3 * time.Second}, {90 * time.Second, 90 * time.Second}, {2 * time.Minute, 2 * time.Minute},
		} {
			if wait := at[i+1] - at[i]; wait < want.least || wait > want.most {
				t.Errorf("got a wait of %s after attempt %d, want %s to %s", wait, i+1, want.least, want.most)
			}
		}
		check(t, "stats", s.Stats(), notify.Stats{Sent: 1})
		check(t, "lines in the log", s.log.lines(), 1)
	})
}

func TestNotifier_OutageEndsOneMessageAndNotTheNext(t *testing.T) {
	down := true
	d := &desk{answer: func(int, *http.Request) (*http.Response, error) {
		if down {
			return nil, errRefused
		}
		return status(http.StatusOK), nil
	}}
	inBubble(t, notify.Config{}, d, func(t *testing.T, s *stage) {
		s.Notify(paused("web"))
		time.Sleep(notify.DefaultRetryTotal + time.Second)
		synctest.Wait()
		check(t, "stats", s.Stats(), notify.Stats{GivenUp: 1})
		check(t, "lines in the log", s.log.lines(), 2) // that it is tried again, and that it is given up
		down = false
		s.Notify(paused("db"))
		synctest.Wait()
		check(t, "texts", s.took(), []string{"Group db is paused (manual), by alice"})
	})
}

func TestNotifier_RefusalIsNotRepeated(t *testing.T) {
	for _, code := range []int{
		http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusMovedPermanently, http.StatusTemporaryRedirect,
	} {
		d := &desk{answer: func(int, *http.Request) (*http.Response, error) {
			return status(code, "Location", "https://elsewhere.example.net/"+token, "Retry-After", "1"), nil
		}}
		inBubble(t, notify.Config{}, d, func(t *testing.T, s *stage) {
			s.Notify(paused("web"))
			time.Sleep(time.Hour)
			check(t, "attempts", len(s.tried()), 1)
			check(t, "stats", s.Stats(), notify.Stats{GivenUp: 1})
			check(t, "lines in the log", s.log.lines(), 1)
		})
	}
}

// A worker must not stand still because a chat does.
func TestNotifier_NotifyNeverBlocksWhileTheServerHangs(t *testing.T) {
	d := &desk{answer: hang}
	inBubble(t, notify.Config{Queue: 10}, d, func(t *testing.T, s *stage) {
		start := time.Now()
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := range 1000 {
					s.Notify(deadLetter(restart.Group(fmt.Sprintf("g%d", (worker+i)%100)), "x"))
				}
			})
		}
		all.Wait()
		check(t, "time that Notify took", time.Since(start), 0)
		dropped := s.Stats().Dropped
		if dropped < 8000/100*89 { // ten groups wait, and one may be under way
			t.Errorf("got %d dropped, want nearly all of 89 groups", dropped)
		}
		time.Sleep(notify.DefaultTimeout)
		synctest.Wait()
		check(t, "lines in the log", s.log.lines(), 2) // that some are dropped, and that an attempt had no answer
	})
}

func TestNotifier_FullQueueDropsTheNewestAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, log := &desk{start: time.Now()}, &journal{}
		n := newOver(t, d, log, notify.Config{Queue: 2})
		for _, group := range []restart.Group{"a", "b", "c", "d", "a"} { // the last finds the place of the first
			n.Notify(paused(group))
		}
		check(t, "stats", n.Stats(), notify.Stats{Dropped: 2})
		check(t, "lines in the log", log.lines(), 1)
		stop := run(t, n)
		synctest.Wait()
		check(t, "texts", d.took(), []string{"Group a is paused (manual), by alice (and 1 more)", "Group b is paused (manual), by alice"})
		stop()
	})
}

func TestNotifier_StopSendsWhatWaits(t *testing.T) {
	inBubble(t, notify.Config{}, &desk{}, func(t *testing.T, s *stage) {
		for range 5 {
			s.Notify(paused("web"))
			synctest.Wait()
		}
		s.stop()
		check(t, "attempts", s.tried(), []time.Duration{0, 0})
		check(t, "texts", s.took(), []string{"Group web is paused (manual), by alice", "Group web is paused (manual), by alice (and 3 more)"})
	})
}

func TestNotifier_StopDoesNotSitOutAWaitForTheNextAttempt(t *testing.T) {
	d := &desk{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
		if attempt == 1 {
			return status(http.StatusTooManyRequests, "Retry-After", "600"), nil
		}
		return status(http.StatusOK), nil
	}}
	inBubble(t, notify.Config{}, d, func(t *testing.T, s *stage) {
		s.Notify(paused("web"))
		time.Sleep(time.Minute)
		s.stop()
		check(t, "attempts", s.tried(), []time.Duration{0, time.Minute})
		check(t, "stats", s.Stats(), notify.Stats{Sent: 1})
	})
}

func TestNotifier_StopIsBoundedWhileTheServerHangs(t *testing.T) {
	inBubble(t, notify.Config{}, &desk{answer: hang}, func(t *testing.T, s *stage) {
		for _, group := range []restart.Group{"a", "b", "b"} {
			s.Notify(paused(group))
		}
		time.Sleep(time.Second)
		start := time.Now()
		s.stop()
		check(t, "time that stopping took", time.Since(start), notify.DefaultGrace)
		check(t, "lines in the log", s.log.String(), `{"level":"warn","notices":3,"message":"stopped before all notifications were sent"}`+"\n")
		s.Notify(paused("c")) // and nobody is there any more
	})
}

func TestNotifier_RunsOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		n := newOver(t, d, &journal{}, notify.Config{})
		stop := run(t, n)
		synctest.Wait()
		if err := n.Run(t.Context()); err == nil {
			t.Error("it ran twice")
		}
		stop()
		stop = run(t, n) // and again
		n.Notify(paused("web"))
		stop()
		check(t, "texts", len(d.took()), 1)
	})
}
