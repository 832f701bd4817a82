package notify

import (
	"sync"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A topic is what notices are coalesced by.
type topic struct {
	kind  Kind
	group restart.Group
}

func topicOf(n Notice) topic { return topic{n.Kind, n.Group} }

// An entry is what waits to be told of one topic, and when it was told of last.
type entry struct {
	waits bool
	next  Notice // what waits; its More counts those before it
	since time.Time
	order uint64    // of arrival, because two may come at the same time
	told  time.Time // when its last message ended; zero: not within the interval
}

// A queue holds what waits to be told: one notice for each topic.
type queue struct {
	every time.Duration
	room  int

	mu      sync.Mutex
	entries map[topic]*entry
	waiting int
	arrived uint64
	full    bool // it was, and was never empty since
}

func newQueue(room int, every time.Duration) *queue {
	return &queue{every: every, room: room, entries: make(map[topic]*entry)}
}

// add puts a notice in the place of the one that waits of its topic, or behind all others. If there is no room, it reports
// whether it is the first to find none.
func (q *queue) add(n Notice, now time.Time) (added, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(topicOf(n))
	switch {
	case e.waits:
		n.More = e.next.More + 1
	case q.waiting >= q.room:
		first = !q.full
		q.full = true
		return false, first
	default:
		q.line(e, now)
	}
	e.next = n
	return true, false
}

// back returns a notice that was taken and not told. It finds a place even where there is none.
func (q *queue) back(n Notice, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(topicOf(n))
	if e.waits { // by now there is a later one
		e.next.More += n.More + 1
		return
	}
	q.line(e, now)
	e.next = n
}

func (q *queue) entry(t topic) *entry {
	e := q.entries[t]
	if e == nil {
		e = &entry{}
		q.entries[t] = e
	}
	return e
}

func (q *queue) line(e *entry, now time.Time) {
	q.arrived++
	q.waiting++
	e.waits, e.since, e.order = true, now, q.arrived
}

// take takes out the notice that is due first, whether it is due yet or only if so. If it takes none, it returns how long
// from now one is due: zero if none waits.
func (q *queue) take(now time.Time, early bool) (n Notice, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *entry
	var firstDue time.Time
	for t, e := range q.entries {
		free := e.told.Add(q.every)
		switch {
		case !e.waits && !now.Before(free):
			delete(q.entries, t) // nothing needs to be remembered of it
		case e.waits:
			due := free
			if e.told.IsZero() || due.Before(e.since) {
				due = e.since
			}
			if first == nil || due.Before(firstDue) || due.Equal(firstDue) && e.order < first.order {
				first, firstDue = e, due
			}
		}
	}
	switch {
	case first == nil:
		return Notice{}, 0, false
	case !early && now.Before(firstDue):
		return Notice{}, firstDue.Sub(now), false
	}
	first.waits = false
	q.waiting--
	q.full = q.full && q.waiting > 0
	return first.next, 0, true
}

// told begins the interval in which nothing more is told of the notice's topic.
func (q *queue) told(n Notice, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entry(topicOf(n)).told = now
}

// left returns how many notices were never told.
func (q *queue) left() (notices int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		if e.waits {
			notices += 1 + e.next.More
		}
	}
	return notices
}
