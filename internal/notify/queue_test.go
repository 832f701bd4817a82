package notify

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Whatever comes and goes in whatever order: nobody is told of a topic more often than once in the interval, no notice
// is lost without being counted, what waits is bounded, and what is forgotten leaves nothing behind.
func TestQueue_LosesNothingUncountedAndKeepsTheInterval(t *testing.T) {
	const every, room = time.Minute, 3
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(room, every)
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		last := map[topic]time.Time{}
		var added, dropped, told int
		var held *Notice // under way
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				n := Notice{
					Kind:  rapid.SampledFrom(Kinds).Draw(t, "kind"),
					Group: restart.Group(rapid.SampledFrom([]string{"", "web", "db"}).Draw(t, "group")),
				}
				added++
				if ok, _ := q.add(n, now); !ok {
					dropped++
				}
			},
			"take": func(t *rapid.T) {
				if held != nil {
					t.Skip("one is under way")
				}
				n, wait, ok := q.take(now, false)
				switch {
				case ok && now.Sub(last[topicOf(n)]) < every:
					t.Fatalf("got two messages of %v within %s", topicOf(n), now.Sub(last[topicOf(n)]))
				case ok:
					held = &n
				case wait < 0 || wait > every:
					t.Fatalf("got a wait of %s, want at most %s", wait, every)
				}
			},
			"end": func(t *rapid.T) {
				if held == nil {
					t.Skip("none is under way")
				}
				n := *held
				held = nil
				if rapid.Bool().Draw(t, "put back") {
					q.back(n, now)
					return
				}
				told += 1 + n.More
				last[topicOf(n)] = now
				q.told(n, now)
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second) },
			"": func(t *rapid.T) {
				got := told + dropped + q.left()
				if held != nil {
					got += 1 + held.More
				}
				if got != added {
					t.Fatalf("got %d told, %d dropped, %d left and %v under way, want %d in all", told, dropped, q.left(), held, added)
				}
				if q.waiting > room+1 { // one that was put back
					t.Fatalf("got %d waiting, want at most %d", q.waiting, room+1)
				}
			},
		})
		for {
			n, _, ok := q.take(now, true)
			if !ok {
				break
			}
			q.told(n, now)
		}
		if q.take(now.Add(every), false); len(q.entries) > 0 {
			t.Fatalf("got %d entries after all was told, want 0", len(q.entries))
		}
	})
}
