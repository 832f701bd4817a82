package monitor

import (
	"container/heap"
	"time"
)

// A monitor is a Spec in a run. It belongs to the goroutine of the run. Times are offsets from the run's start.
type monitor struct {
	Spec
	state     State
	good, bad int // in a row

	beat  int64        // the last that was begun; -1 before the first
	told  int64        // the last that was observed; -1 before the first
	call  *call        // nil unless the check runs
	stray bool         // whether that call was given up
	cause *Observation // by which it failed; nil unless it is failed

	at    time.Duration // when to look at it next
	index int           // in the queue
}

// due returns when a beat is due.
func (m *monitor) due(beat int64) time.Duration { return m.InitialDelay + time.Duration(beat)*m.Every }

// last returns the last beat that is due by now.
func (m *monitor) last(now time.Duration) int64 { return int64((now - m.InitialDelay) / m.Every) }

// count lets a verdict change the state.
func (m *monitor) count(v Verdict) {
	switch v {
	case Good:
		m.good, m.bad = m.good+1, 0
	case Bad:
		m.good, m.bad = 0, m.bad+1
	default:
		m.good = 0
	}
	switch {
	case m.bad >= m.Failures:
		m.state = StateFailed
	case m.good >= m.Successes:
		m.state = StateGood
	}
}

// A queue has on top the monitor that is to be looked at next.
type queue []*monitor

var _ heap.Interface = (*queue)(nil)

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(m any) { *q = append(*q, m.(*monitor)) }

// Pop takes nobody away: monitors stay for as long as the run does.
func (q *queue) Pop() any { panic("monitor: nothing is taken from the queue") }

func (q queue) put(m *monitor, at time.Duration) {
	m.at = at
	heap.Fix(&q, m.index)
}
