package ops

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Step is a part of a message's life that takes time.
type Step uint8

const (
	QueueWait Step = iota
	Save
	Restart
	Verify
	Finish
	AckLag
	EndToEnd
	stepCount
)

var steps = [stepCount]struct {
	name, help string
	buckets    []float64
}{
	QueueWait: {"queue_wait", "From when a message was stored to its first delivery.", waitBuckets},
	Save:      {"save", "Until a request was durable in the database, tries included.", writeBuckets},
	Restart:   {"restart", "Until the driver took or refused a trigger.", hostBuckets},
	Verify:    {"verify", "From the trigger until another boot was ready and stayed so.", hostBuckets},
	Finish:    {"finish", "Until an outcome was durable in the database, tries included.", writeBuckets},
	AckLag:    {"ack_lag", "From when an outcome was on record to the message's settlement.", writeBuckets},
	EndToEnd:  {"end_to_end", "From when a message was stored to its settlement with an outcome.", waitBuckets},
}

// An Event is something that happens to messages and is counted.
type Event uint8

const (
	Delivery Event = iota
	Redelivery
	Trigger
	LeaseExtension
	LeaseLost
	DeadLetter
	DuplicateSuppressed
	LateAck
	Takeover
	TriggerFenced
	eventCount
)

var events = [eventCount]struct{ name, help string }{
	Delivery:            {"deliveries", "Deliveries of messages."},
	Redelivery:          {"redeliveries", "Deliveries of messages that had been delivered before."},
	Trigger:             {"triggers", "Restarts asked of the driver."},
	LeaseExtension:      {"lease_extensions", "Extensions of leases that the broker has confirmed."},
	LeaseLost:           {"leases_lost", "Messages that were left alone because their lease was lost."},
	DeadLetter:          {"dead_letters", "Dead letters that were stored."},
	DuplicateSuppressed: {"duplicates_suppressed", "Deliveries of a request that had its outcome already, and was not worked on again."},
	LateAck:             {"late_acks", "Settlements that the broker did not confirm in time, so that it will deliver again."},
	Takeover:            {"takeovers", "Open triggers that were taken over from an earlier delivery."},
	TriggerFenced:       {"triggers_fenced", "Triggers that were not given, because the journal says that somebody was here before."},
}

// A Phase is what is being done for a message that a worker holds.
type Phase uint8

const (
	Outside    Phase = iota // not held
	InGate                  // read, looked up, and asking whether it may go on
	InSlot                  // waiting for a slot of the driver
	InRestart               // probing, fencing and triggering
	InVerify                // waiting for the host to come back
	InSave                  // only its save is still missing
	InFinish                // its outcome goes on record
	InSettling              // dead letter and settlement
	phaseCount
)

var phases = [phaseCount]string{
	InGate: "gate", InSlot: "slot", InRestart: "restart", InVerify: "verify", InSave: "save", InFinish: "finish", InSettling: "settle",
}

func (p Phase) String() string {
	if p == Outside || p >= phaseCount {
		return "outside"
	}
	return phases[p]
}

// A Cause is what holds a group back.
type Cause uint8

const (
	ByHand Cause = iota
	ByWindow
	ByBreaker
	ByMonitor // whichever it is
	ByOther   // what this version does not know, or cannot tell
	causeCount
)

var causes = [causeCount]string{"manual", "window", "breaker", "monitor", other}

// reasons are the ends that the vocabulary knows.
var reasons = map[restart.Kind][]restart.Reason{
	restart.Restarted: {restart.ReasonVerified, restart.ReasonChangedElsewhere},
	restart.Skipped: {
		restart.ReasonMinUptime, restart.ReasonDenied, restart.ReasonNotListed, restart.ReasonSelf, restart.ReasonDryRun,
	},
	restart.Expired:   {restart.ReasonNotAfter},
	restart.Cancelled: {restart.ReasonByHand, restart.ReasonAborted},
	restart.Dead: {
		restart.ReasonMalformed, restart.ReasonIDReused, restart.ReasonPoison, restart.ReasonAttempts, restart.ReasonPermanent,
		restart.ReasonNotReady, restart.ReasonUnconfirmed, restart.ReasonJournalHorizon,
	},
	restart.Unknown: {restart.ReasonRepaired},
}

// A Group is the metrics of one group. Its methods are called from many goroutines at once.
type Group struct {
	m      *Metrics
	name   string
	steps  [stepCount]prometheus.Observer
	events [eventCount]prometheus.Counter
	phases [phaseCount]prometheus.Gauge
}

// Group returns the metrics of a group of the configuration, the same each time. All its series are there from then on,
// at zero, because the first of something cannot be seen in a series that begins with it.
func (m *Metrics) Group(group restart.Group) *Group {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.groups[group]; g != nil {
		return g
	}
	g := &Group{m: m, name: string(group)}
	m.groups[group] = g
	for i, vec := range m.steps {
		g.steps[i] = vec.WithLabelValues(g.name)
	}
	for i, vec := range m.events {
		g.events[i] = vec.WithLabelValues(g.name)
	}
	for p := Outside + 1; p < phaseCount; p++ {
		g.phases[p] = m.inFlight.WithLabelValues(g.name, phases[p])
	}
	for kind, reasons := range reasons {
		for _, reason := range reasons {
			m.outcomes.WithLabelValues(g.name, string(kind), string(reason))
		}
	}
	g.Paused()
	return g
}

// Took says how long a step took. Less than nothing, which two machines' clocks can make of it, is nothing.
func (g *Group) Took(s Step, d time.Duration) { g.steps[s].Observe(max(0, d).Seconds()) }

// Count counts n events.
func (g *Group) Count(e Event, n int) { g.events[e].Add(float64(n)) }

// Ended counts a request that ended.
func (g *Group) Ended(kind restart.Kind, reason restart.Reason) {
	known, ok := reasons[kind]
	if !ok {
		kind = other
	}
	if !slices.Contains(known, reason) {
		reason = other
	}
	g.m.outcomes.WithLabelValues(g.name, string(kind), string(reason)).Inc()
}

// Move takes a message from one phase to another: from Outside when it is delivered, to Outside when it was settled or
// left.
func (g *Group) Move(from, to Phase) {
	if from != Outside {
		g.phases[from].Dec()
	}
	if to != Outside {
		g.phases[to].Inc()
	}
}

// Queued says how many of the group's messages no worker holds.
func (g *Group) Queued(n uint64) { g.m.queued.WithLabelValues(g.name).Set(float64(n)) }

// Budget says how many of the group's messages all workers together may hold.
func (g *Group) Budget(n int) { g.m.budget.WithLabelValues(g.name).Set(float64(n)) }

// Paused says what holds the group back, and that nothing else does.
func (g *Group) Paused(by ...Cause) {
	for c := range causeCount {
		g.m.paused.WithLabelValues(g.name, causes[c]).Set(oneIf(slices.Contains(by, c)))
	}
}

// Driver has the numbers of the group's driver read whenever they are asked for. It is called at most once.
func (g *Group) Driver(d interface {
	InUse() int  // slots, by their holders or by strays
	Strays() int // calls that were given up and still run
},
) {
	read := func(name, help string, f func() int) {
		g.m.with.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: name, Help: help, ConstLabels: prometheus.Labels{"group": g.name},
		}, func() float64 { return float64(f()) })
	}
	read("driver_strays", "Calls of the driver that were given up and still run.", d.Strays)
	read("driver_slots_in_use", "Slots of the driver that are in use, by strays too.", d.InUse)
}
