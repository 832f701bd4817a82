package handler

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// longest bounds every length that a schedule has.
	longest = 10 * time.Minute
	day     = 24 * time.Hour
	// patience is by when a request must have ended: long after all faults have.
	patience = 6 * time.Hour
)

// A schedule is everything that happens to one request: what dies when, what is slow, what is lost. It is drawn before
// it is played, so that a failing one can be made small.
type schedule struct {
	Workers, Slots, MaxAttempts, MaxDeliveries         int
	StableFor, RestartTimeout, VerifyTimeout, Lifetime time.Duration

	Traits   restart.Traits
	Triggers []trigger // of the calls of Restart, in order; then all goes well
	// Down is how long a boot takes, and Unready how long the host is not ready then.
	Down, Unready, ProbeTakes, BlindFrom, BlindUntil time.Duration
	// Holds are when the group is paused or, if dark, nobody can tell.
	Holds []heldSpan
	// Aborted is when the request's campaign is aborted; zero: never.
	Aborted time.Duration

	Faults []fault
	Wires  map[op][]wire // of the calls, in order; then all goes well
	Picks  []int         // which worker gets the delivery
	Naks   []time.Duration
}

// A fault happens at a time, or to the worker that makes the Nth call of that kind: right before its effect, or after.
type fault struct {
	Kind   kind
	For    time.Duration // until it is over, or the worker's next incarnation is there
	At     time.Duration
	Worker int
	On     op // if empty, At and Worker count
	Nth    int
	After  bool
}

type kind string

const (
	killed       kind = "killed"
	stopped      kind = "stopped"
	cut          kind = "cut off"
	cutHanging   kind = "cut off, calls hang"
	frozen       kind = "frozen"
	storeAway    kind = "store away"
	serverKilled kind = "server killed"
	rebooted     kind = "rebooted by hand"
)

// A heldSpan is a time in which nothing may be triggered.
type heldSpan struct {
	From, For time.Duration
	Dark      bool
}

// A wire is how long a call takes, before and after its effect, and whether its answer is lost.
type wire struct {
	Before, Behind time.Duration
	Lost           bool
}

// A trigger is what becomes of one call of Restart.
type trigger struct {
	Fate   fateOfTrigger
	Answer answer
	Takes  time.Duration // the answer
	Late   time.Duration // the effect, as far as the driver's promise lets it be
	// Held is how long the call takes to the host: in its worker, which stands still, or on the wire, where it survives
	// its worker.
	Held      time.Duration
	OnTheWire bool
}

type (
	fateOfTrigger string
	answer        string
)

const (
	taken      fateOfTrigger = "taken"
	dropped    fateOfTrigger = "dropped"
	refused    fateOfTrigger = "refused"
	impossible fateOfTrigger = "impossible"

	answered answer = "answered"
	lost     answer = "lost"
	hanging  answer = "hanging"
)

func (s schedule) wire(o op, n int) wire {
	if of := s.Wires[o]; n <= len(of) {
		return of[n-1]
	}
	return wire{}
}

func (s schedule) trigger(n int) trigger {
	if n <= len(s.Triggers) {
		return s.Triggers[n-1]
	}
	return trigger{Fate: taken, Answer: answered}
}

// A genre is what a set of schedules may contain.
type genre struct {
	traits []restart.Traits
	// stale is whether a trigger may come to its host long after its fence: its caller stood still, or the answer to
	// the fence or the call itself was long on its way.
	stale bool
	// onTheWire is how long a trigger that is not stale may be on its way, within the lease of whoever gave it.
	onTheWire time.Duration
	// byHand is whether somebody else may reboot the host.
	byHand bool
}

// A worker cannot know how late its trigger arrives. Where the compare holds at the moment of effect, it does not
// matter. Where it holds only at acceptance, the host boots once as long as this assumption is kept:
//
//	from the moment when the journal takes the fence to the moment when the host takes its trigger passes no more than
//	AckWait
//
// which a worker that stood still for longer breaks, between its last look at the lease and the call; so stale triggers
// are left out there. Deaths, partitions, lost answers, slow ways and late effects are not.
func TestRestarter_whateverDiesAHostBootsOnce(t *testing.T) {
	atEffect := []restart.Traits{
		{Compare: restart.CompareAtEffect},
		{Compare: restart.CompareAtEffect, MaxDelay: 90 * time.Second},
	}
	atAcceptance := []restart.Traits{
		{Compare: restart.CompareAtAcceptance, MaxDelay: 60 * time.Second},
		{Compare: restart.CompareAtAcceptance, MaxDelay: 10 * time.Second},
	}
	for name, g := range map[string]genre{
		"ComparedAtEffect":                 {traits: atEffect},
		"ComparedAtEffectStaleTriggers":    {traits: atEffect, stale: true},
		"ComparedAtEffectOtherHands":       {traits: atEffect, stale: true, byHand: true},
		"ComparedAtAcceptance":             {traits: atAcceptance, onTheWire: 24 * time.Second},
		"ComparedAtAcceptanceUnknownDelay": {traits: []restart.Traits{{Compare: restart.CompareAtAcceptance}}},
	} {
		t.Run(name, func(t *testing.T) {
			// More schedules: go test -run whateverDies -rapid.checks=10000
			rapid.Check(t, func(rt *rapid.T) {
				s := rapid.Custom(g.draw).Draw(rt, "schedule")
				var trace, wrong []string
				synctest.Test(t, func(t *testing.T) {
					r := newRequest(t)
					r.NotAfter, r.Campaign = r.RequestedAt.Add(s.Lifetime), "c1"
					u := newUniverse(s, r)
					u.play()
					trace, wrong = u.trace, u.check(g)
				})
				// A failure belongs to the property, and not to the bubble, for the schedule to be made small.
				if len(wrong) > 0 {
					for _, line := range trace {
						rt.Log(line)
					}
					rt.Fatal(wrong[0])
				}
			})
		})
	}
}

// check returns what is wrong in the end.
func (u *universe) check(g genre) (wrong []string) {
	wrong = u.wrong
	never := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	h := u.host
	never(h.boots > 1, "the host booted %d times", h.boots)

	var last journal.Event
	var from restart.Epoch
	for _, e := range u.journal.Events(u.request.ID) {
		never(journal.MayFollow(last, e) != nil, "the journal says %+v, and then %+v", last, e)
		if last = e; from == "" {
			from = e.From
		}
	}
	for _, asked := range h.asked {
		never(asked != from, "a trigger carried epoch %s, and the epoch for life is %s", asked, from)
	}

	o, err := u.store.Outcome(context.Background(), u.request.ID)
	never(err != nil || !u.saved(), "request and outcome are not both on record")
	for _, told := range u.told {
		never(told.Kind != o.Kind || told.Reason != o.Reason, "told %s %s, on record %s %s",
			told.Kind, told.Reason, o.Kind, o.Reason)
	}
	letters := 0
	if o.Kind == restart.Dead {
		letters = 1
	}
	never(len(u.letters) != letters, "%d dead letters, outcome %s", len(u.letters), o.Kind)
	for _, l := range u.letters {
		never(l.Outcome.Reason != o.Reason, "dead letter says %s, on record %s", l.Outcome.Reason, o.Reason)
	}

	never(o.Kind == restart.Cancelled && u.schedule.Aborted == 0, "cancelled, and nobody has aborted its campaign")
	never(o.Kind == restart.Restarted && h.boots+h.elsewhere == 0, "recorded as restarted, and there was no boot")
	never(o.Reason == restart.ReasonChangedElsewhere && !g.stale && h.boots > 0, "our own boot is put down to others")
	never(h.boots == 1 && !g.stale && !mayHaveBooted(o), "the host booted, and on record is %s %s", o.Kind, o.Reason)
	return wrong
}

// mayHaveBooted reports whether an outcome leaves room for a boot of ours. The two that are dead say so: not_ready saw
// another boot, and unconfirmed saw nothing that would exclude one. All others (attempts, permanent, poison, expired)
// say that no trigger took effect nor will, which is wrong only of a trigger that came later than its driver promises.
func mayHaveBooted(o Outcome) bool {
	return o.Kind == restart.Restarted || o.Reason == restart.ReasonNotReady || o.Reason == restart.ReasonUnconfirmed
}

func (g genre) draw(t *rapid.T) schedule {
	s := schedule{
		Workers:        rapid.IntRange(2, 3).Draw(t, "workers"),
		Slots:          rapid.SampledFrom([]int{10, 1}).Draw(t, "slots"),
		MaxAttempts:    rapid.SampledFrom([]int{3, 3, 2, 1}).Draw(t, "attempts"),
		MaxDeliveries:  rapid.SampledFrom([]int{50, 50, 50, 3}).Draw(t, "max deliveries"),
		RestartTimeout: rapid.SampledFrom([]time.Duration{2 * time.Minute, 10 * time.Second}).Draw(t, "restart timeout"),
		VerifyTimeout:  rapid.SampledFrom([]time.Duration{10 * time.Minute, time.Minute}).Draw(t, "verify timeout"),
		Lifetime:       rapid.SampledFrom([]time.Duration{day, day, day, 2 * time.Minute}).Draw(t, "lifetime"),
		ProbeTakes:     rapid.SampledFrom([]time.Duration{0, 0, 5 * time.Second}).Draw(t, "probe"),
		Traits:         rapid.SampledFrom(g.traits).Draw(t, "traits"),
		Triggers:       rapid.SliceOfN(rapid.Custom(g.drawTrigger), 0, 4).Draw(t, "triggers"),
		Faults:         rapid.SliceOfN(rapid.Custom(g.drawFault), 0, 6).Draw(t, "faults"),
		Wires:          map[op][]wire{},
		Picks:          rapid.SliceOfN(rapid.IntRange(0, 2), 0, 8).Draw(t, "picks"),
		Naks:           rapid.SliceOfN(lengths(time.Minute), 0, 6).Draw(t, "naks"),
	}
	// The most dangerous fault is drawn apart, so that it is frequent: a rival who begins while the first trigger is open.
	if on := rapid.SampledFrom([]op{"", opAppend, opRestart}).Draw(t, "rival"); on != "" {
		s.Faults = append(s.Faults, fault{Kind: serverKilled, On: on, Nth: 1, After: true})
	}
	if rapid.Bool().Draw(t, "slow host") {
		s.Down = lengths(2*time.Minute).Draw(t, "down")
		s.Unready = rapid.SampledFrom([]time.Duration{0, 0, time.Minute, day}).Draw(t, "unready")
		s.StableFor = rapid.SampledFrom([]time.Duration{0, 10 * time.Second}).Draw(t, "stable for")
		s.BlindFrom = lengths(time.Minute).Draw(t, "blind from")
		s.BlindUntil = s.BlindFrom + lengths(longest).Draw(t, "blind for")
	}
	s.Holds = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) heldSpan {
		return heldSpan{
			From: lengths(longest).Draw(t, "held from"), For: lengths(longest).Draw(t, "held for"), Dark: rapid.Bool().Draw(t, "dark"),
		}
	}), 0, 2).Draw(t, "holds")
	s.Aborted = rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, time.Second, 30 * time.Second, 5 * time.Minute}).Draw(t, "aborted")
	for _, o := range []op{opAppend, opSave, opFinish, opSettle, opBury, opLast, opDeliver} {
		s.Wires[o] = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire {
			w := wire{
				Before: lengths(2*time.Minute).Draw(t, "before"), Behind: lengths(time.Minute).Draw(t, "behind"),
				Lost: rapid.Bool().Draw(t, "lost"),
			}
			if o == opAppend && !g.stale {
				w.Behind = 0
			}
			return w
		}), 0, 3).Draw(t, string(o))
	}
	return s
}

func (g genre) drawTrigger(t *rapid.T) trigger {
	c := trigger{
		Fate: rapid.SampledFrom([]fateOfTrigger{
			taken, taken, taken, taken, taken, dropped, dropped, refused, refused, impossible,
		}).Draw(t, "fate"),
		Answer: rapid.SampledFrom([]answer{answered, lost, hanging}).Draw(t, "answer"),
		Takes:  lengths(time.Minute).Draw(t, "takes"),
		Late:   lengths(longest).Draw(t, "late"),
	}
	if g.onTheWire > 0 {
		c.Held, c.OnTheWire = lengths(g.onTheWire).Draw(t, "held"), true
	}
	if g.stale {
		c.Held = rapid.OneOf(lengths(3*time.Minute), lengths(longest)).Draw(t, "held")
		c.OnTheWire = rapid.Bool().Draw(t, "on the wire")
	}
	return c
}

func (g genre) drawFault(t *rapid.T) fault {
	kinds := []kind{serverKilled, serverKilled, killed, killed, stopped, stopped, cut, cutHanging, storeAway}
	if g.stale {
		kinds = append(kinds, frozen, frozen, frozen)
	}
	if g.byHand {
		kinds = append(kinds, rebooted, rebooted, rebooted, rebooted)
	}
	f := fault{Kind: rapid.SampledFrom(kinds).Draw(t, "fault")}
	switch f.Kind {
	case serverKilled, rebooted:
	case stopped:
		f.For = lengths(time.Minute).Draw(t, "grace")
	default:
		f.For = lengths(longest).Draw(t, "for")
	}
	f.On = rapid.SampledFrom([]op{
		opAppend, opAppend, opAppend, opRestart, opRestart, opRestart, opFinish, opFinish, opSave, opAttempted, opSettle, opLast, opBury,
		"", "", "", "",
	}).Draw(t, "on")
	if f.On == "" {
		f.At, f.Worker = lengths(longest).Draw(t, "at"), rapid.IntRange(0, 2).Draw(t, "worker")
	} else {
		f.Nth, f.After = rapid.IntRange(1, 3).Draw(t, "nth"), rapid.Bool().Draw(t, "after")
	}
	return f
}

// lengths makes lengths: none, short ones, or any.
func lengths(most time.Duration) *rapid.Generator[time.Duration] {
	const step = 100 * time.Millisecond
	steps := int(most / step)
	return rapid.Map(rapid.OneOf(
		rapid.Just(0), rapid.Just(0), rapid.IntRange(0, min(20, steps)), rapid.IntRange(0, min(600, steps)),
		rapid.IntRange(0, steps),
	), func(n int) time.Duration { return time.Duration(n) * step })
}

// A rival repeats the refused trigger, and boots the host, between this delivery's look into the journal and its probe.
func TestRestarter_aRivalsBootIsNotSomebodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUniverse(schedule{
			Workers: 2, Slots: 10, MaxAttempts: 3, MaxDeliveries: 50, RestartTimeout: 2 * time.Minute,
			VerifyTimeout: 10 * time.Minute, Lifetime: day, ProbeTakes: 5 * time.Second,
			Traits:   restart.Traits{Compare: restart.CompareAtEffect},
			Triggers: []trigger{{Fate: refused, Answer: answered}},
			Faults:   []fault{{Kind: serverKilled, At: time.Second}},
			Picks:    []int{0, 1, 0}, Naks: []time.Duration{0},
			Wires: map[op][]wire{opFinish: {{Before: 10 * time.Second}}},
		}, newRequest(t))
		u.play()
		for _, line := range u.trace {
			t.Log(line)
		}
		for _, wrong := range u.check(genre{}) {
			t.Error(wrong)
		}
	})
}
