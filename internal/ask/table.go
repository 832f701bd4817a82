package ask

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// A waiter is who waits for an answer: a goroutine, or a function. That of a goroutine is used again for later
// questions, which is safe because it is told only by who has taken it out of the table, and given back only after that.
type waiter struct {
	answer chan answer // has room for the one that comes; or nil:
	then   func(*nats.Msg, error)

	// What follows is written by table.add.
	slot   uint32
	number uint64
	tick   uint64 // in which it was asked
}

func (w *waiter) tell(a answer) {
	if w.then != nil {
		w.then(a.msg, a.err)
	} else {
		w.answer <- a
	}
}

// An answer is what came, or why nothing will.
type answer struct {
	msg *nats.Msg
	err error
}

// A table holds the questions that are open. One is taken out once, by its answer, by the asker who gave up, or by what
// ends the wait, so that each gets one answer at most. A question is found by its slot, and told from others that had
// the slot before by its number.
type table struct {
	mu     sync.Mutex
	slots  []*waiter // nil where nobody waits
	free   []uint32  // those slots
	asked  uint64    // questions so far, which number them
	tick   uint64
	closed error // why there are no answers any more
}

// add gives w a slot and a number. It fails when no answer can come any more.
func (t *table) add(w *waiter) (slot uint32, number uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return 0, 0, t.closed
	}
	t.asked++
	w.number, w.tick = t.asked, t.tick
	if last := len(t.free) - 1; last >= 0 {
		w.slot, t.free = t.free[last], t.free[:last]
		t.slots[w.slot] = w
	} else {
		w.slot = uint32(len(t.slots))
		t.slots = append(t.slots, w)
	}
	return w.slot, w.number, nil
}

// take takes a question out of the table, and returns nil if it is not there.
func (t *table) take(slot uint32, number uint64) *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(slot) >= len(t.slots) {
		return nil
	}
	w := t.slots[slot]
	if w == nil || w.number != number {
		return nil
	}
	t.remove(w)
	return w
}

func (t *table) remove(w *waiter) {
	t.slots[w.slot] = nil
	t.free = append(t.free, w.slot)
}

// endAll ends all waits with err.
func (t *table) endAll(err error) { t.end(err, func(*waiter) bool { return true }) }

// close ends all waits with err, and those to come.
func (t *table) close(err error) {
	t.mu.Lock()
	t.closed = err
	t.mu.Unlock()
	t.endAll(err)
}

// endOverdue ends the waits that have seen a whole patience of ticks. The first of them came after less than a tick.
func (t *table) endOverdue() {
	t.mu.Lock()
	t.tick++
	now := t.tick
	t.mu.Unlock()
	t.end(ErrOverdue, func(w *waiter) bool { return now-w.tick > ticks })
}

func (t *table) end(err error, which func(*waiter) bool) {
	for _, w := range t.takeAll(which) {
		w.tell(answer{err: err}) // who may ask again at once
	}
}

func (t *table) takeAll(which func(*waiter) bool) (taken []*waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.slots {
		if w != nil && which(w) {
			t.remove(w)
			taken = append(taken, w)
		}
	}
	return taken
}
