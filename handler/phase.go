package handler

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Phase is what is being done for a message that is held. The zero Phase is that of one that is not.
type Phase string

const (
	PhaseGate    Phase = "gate"    // it waits to be looked up, and to be asked whether it may go on
	PhaseSlot    Phase = "slot"    // it waits for a slot of the driver
	PhaseRestart Phase = "restart" // its host is probed, its fence appended, its trigger given
	PhaseVerify  Phase = "verify"  // its host is waited for
	PhaseSave    Phase = "save"    // only its save is still missing
	PhaseFinish  Phase = "finish"  // its outcome goes on record
	PhaseSettle  Phase = "settle"  // it is dead-lettered, if need be, and settled
)

// A Step is a part of a message's life that takes time.
type Step string

const (
	StepQueueWait Step = "queue_wait" // from its storing to its first delivery
	StepSave      Step = "save"       // until the request was durable, tries included
	StepRestart   Step = "restart"    // one call of the driver's Restart
	StepVerify    Step = "verify"     // from a trigger, or its takeover, to the end of watching the host
	StepFinish    Step = "finish"     // until the outcome was durable, tries included
	StepAckLag    Step = "ack_lag"    // from then to the settlement
	StepEndToEnd  Step = "end_to_end" // from its storing to the settlement with an outcome
)

// An Event is something that happens to a message and is counted.
type Event string

const (
	EventTrigger    Event = "trigger"              // the driver's Restart is called
	EventTakeover   Event = "takeover"             // an open trigger is taken over
	EventFenced     Event = "trigger_fenced"       // a trigger is not given, because somebody was here before
	EventSuppressed Event = "duplicate_suppressed" // the request had its outcome already
)

// An Observer is told what happens to the messages of a group. Its methods are called from many goroutines at once, and
// must not block.
type Observer interface {
	// Moved is called when a message passes from one phase to another, the first and the last being the zero Phase.
	Moved(from, to Phase)
	Took(s Step, d time.Duration)
	Happened(e Event)
}

type noObserver struct{}

func (noObserver) Moved(Phase, Phase)       {}
func (noObserver) Took(Step, time.Duration) {}
func (noObserver) Happened(Event)           {}

// A Held is a message that is being worked on.
type Held struct {
	ID      uuid.UUID
	Host    restart.Host
	Group   restart.Group
	Phase   Phase
	Since   time.Time // when the phase began
	Attempt int       // 0: never triggered, as far as this delivery knows
}

// A progress is how far a message has come, for whoever asks.
type progress struct {
	observer Observer

	mu      sync.Mutex
	phase   Phase
	since   time.Time
	told    bool // that the phase is slow
	attempt int
}

// enter begins a phase, on the message's own goroutine.
func (j *Job) enter(to Phase) {
	j.label(to)
	j.move(to)
}

// move is enter on any goroutine.
func (j *Job) move(to Phase) {
	p, now := &j.progress, time.Now()
	p.mu.Lock()
	from, took := p.phase, now.Sub(p.since)
	p.phase, p.since, p.told = to, now, false
	p.mu.Unlock()
	if from != to {
		p.observer.Moved(from, to)
	}
	if j.handler.slow(from, took) {
		j.logSlow(from, took)
	}
}

func (p *progress) attempted(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt = n
}

func (j *Job) held() Held {
	j.progress.mu.Lock()
	defer j.progress.mu.Unlock()
	r := j.Request
	return Held{r.ID, r.Host, r.Group, j.progress.phase, j.progress.since, j.progress.attempt}
}
