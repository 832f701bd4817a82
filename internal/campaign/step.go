package campaign

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Facts are what was seen before a decision.
type Facts struct {
	Now    time.Time
	Sights map[int]Sight // of open hosts; one that is not there counts as queued
	Wish   Wish
	Conditions
}

// A Sight is where the request of an open host is. The zero Sight means nowhere: neither on the stream nor in the
// database.
type Sight struct {
	Queued bool
	Kind   restart.Kind // of its outcome; empty: none
	Reason restart.Reason
	// Other is the request that was found queued in the place of the campaign's own.
	Other uuid.UUID
}

// Conditions are what a campaign's group is like at the moment.
type Conditions struct {
	Paused string // what holds the group back, for people; empty: nothing
	// Closed reports whether the group's window is closed, or too short for a restart. Until is when that changes;
	// zero: not known, or never.
	Closed bool
	Until  time.Time
	// Down are hosts that are down or being restarted, whoever asked for it. The campaign's own may be among them.
	Down []restart.Host
	// Good is since when the group's checks have been good without a break; the zero time: they are not. Without
	// checks it is any time long ago.
	Good time.Time
}

// A Wish is what people want of a campaign that has begun.
type Wish struct {
	Paused  *Mark // nothing more is asked for until it is resumed
	Aborted *Mark
}

// A Mark is one wish: who had it, when, and why.
type Mark struct {
	By  string    `json:"by"`
	Why string    `json:"why,omitempty"`
	At  time.Time `json:"at"`
}

func (m *Mark) String() string {
	text := "by " + m.By
	if m.Why != "" {
		text += ": " + m.Why
	}
	return text
}

// An Action is what is to be done next.
type Action string

const (
	Publish Action = "publish" // ask for Hosts
	Wait    Action = "wait"    // until Until, and for no longer than usual
	Abort   Action = "abort"   // put the abort mark, with Why, and decide again
	Cancel  Action = "cancel"  // cancel the requests of Hosts, where they were not triggered
	End     Action = "end"
)

// A Decision is what is to be done next, once Progress is stored if it is another.
type Decision struct {
	Action   Action
	Hosts    []int
	Until    time.Time // zero: nobody knows
	Why      string
	Progress Progress
}

// Next decides what is to be done. It changes neither the spec nor the progress that it is given.
func Next(s *Spec, p Progress, f Facts) Decision {
	n := &step{spec: s, facts: f, p: p.clone(), missing: map[int]bool{}}
	n.p.Waits = ""
	d := n.decide()
	d.Progress = n.p
	return d
}

// A step is one decision as it is made.
type step struct {
	spec    *Spec
	facts   Facts
	p       Progress
	absent  []int        // open, and nowhere: to be asked for, again
	missing map[int]bool // the same as a set
}

func (n *step) decide() Decision {
	if n.p.State.Final() {
		return Decision{Action: End, Why: n.p.Why}
	}
	if n.p.State == Submitted {
		n.p.Started = n.facts.Now
	}
	if mark := n.facts.Wish.Aborted; mark != nil {
		n.p.State, n.p.Why = Aborting, mark.String() // for good: nobody takes a mark away
	}
	n.record()
	if n.p.State == Aborting {
		return n.abort()
	}
	counts := n.p.Counts()
	n.p.State = Running
	n.endBatch()
	if counts.Pending+counts.Open == 0 {
		return n.end(Ended, "")
	}
	if why := n.stops(counts); why != "" {
		return Decision{Action: Abort, Why: why}
	}
	if !n.facts.Now.Before(n.spec.NotAfter) {
		if counts.Open == 0 {
			return n.end(Ended, fmt.Sprintf("its time was over with %d hosts not asked for", counts.Pending))
		}
		return n.wait(time.Time{}, "its time is over, and what was asked for is awaited")
	}
	return n.goOn(counts)
}

// record takes in what was seen of open hosts.
func (n *step) record() {
	for _, host := range n.p.open() {
		sight, seen := n.facts.Sights[host]
		wave := n.p.wave(host)
		_, others := n.p.Others[host]
		switch {
		case !seen || sight.Queued:
		case sight.Other != uuid.Nil:
			if n.p.Others == nil {
				n.p.Others = map[int]uuid.UUID{}
			}
			n.p.Others[host] = sight.Other
		case sight.Kind != "":
			n.p.Hosts[host] = codeOf(sight.Kind, sight.Reason)
			if sight.Kind == restart.Restarted && !others {
				n.p.Took += restart.Duration(n.facts.Now.Sub(wave.At))
				n.p.Timed++
			}
		case n.p.State == Aborting && !others:
			n.p.Hosts[host] = codeOf(restart.Cancelled, restart.ReasonAborted)
		case !n.facts.Now.Before(wave.NotAfter):
			n.p.Hosts[host] = codeOf(restart.Expired, restart.ReasonNotAfter)
		default:
			delete(n.p.Others, host) // it has gone without an outcome
			n.absent = append(n.absent, host)
			n.missing[host] = true
		}
	}
	n.p.Waves = slices.DeleteFunc(n.p.Waves, func(w Wave) bool { return !slices.Contains(n.p.Hosts[w.From:w.To], open) })
}

// stops returns why the campaign cannot go on; empty if it can.
func (n *step) stops(counts Counts) string {
	total, failures := len(n.spec.Hosts), counts.Failed()
	switch most := n.spec.maxUnavailable(); {
	case !n.spec.StopAfter.IsZero() && failures >= n.spec.StopAfter.atLeast(total):
		return fmt.Sprintf("%d of %d hosts have failed, and stop_after is %s", failures, total, n.spec.StopAfter)
	case counts.Pending > 0 && failures >= most:
		return fmt.Sprintf("%d hosts have failed, as many as max_unavailable lets be unavailable: it could never go on", failures)
	}
	return ""
}

// abort waits for what was triggered, and for nothing else.
func (n *step) abort() Decision {
	var ours []int
	for _, host := range n.p.open() {
		if _, others := n.p.Others[host]; others {
			n.p.Hosts[host] = left
		} else {
			ours = append(ours, host)
		}
	}
	if len(ours) == 0 {
		n.p.Waves = nil
		return n.end(Aborted, n.p.Why)
	}
	n.p.Waits = "what was triggered is awaited"
	return Decision{Action: Cancel, Hosts: ours, Why: n.p.Why}
}

// endBatch ends the latest batch if all its hosts have ended, and says what follows from it: only one in which a host
// was restarted, and none failed, proves anything.
func (n *step) endBatch() {
	if len(n.p.Batches) == 0 || !n.p.Settled.IsZero() {
		return
	}
	batch := n.p.Hosts[n.p.Batches[len(n.p.Batches)-1]:n.p.BatchEnd]
	if slices.Contains(batch, open) || slices.Contains(batch, pending) {
		return
	}
	restarted := slices.ContainsFunc(batch, func(code byte) bool { return ending[code].kind == restart.Restarted })
	failure := slices.ContainsFunc(batch, failed)
	n.p.Settled, n.p.Next, n.p.Calm = n.facts.Now, n.p.Step, !restarted && !failure
	switch {
	case failure:
		n.p.Next = 0
	case restarted:
		n.p.Next = min(n.p.Step+1, len(n.spec.Batches)-1)
	}
}

// goOn asks for the next hosts if it may.
func (n *step) goOn(counts Counts) Decision {
	begun, inBatch := n.p.begun(), len(n.p.Batches) > 0 && n.p.Settled.IsZero()
	end := n.p.BatchEnd
	next := inBatch && begun < end
	begins := !inBatch && begun < len(n.spec.Hosts)
	if !next && !begins && len(n.absent) == 0 {
		return n.wait(time.Time{}, fmt.Sprintf("the %d hosts that were asked for", counts.Open))
	}
	if d, held := n.held(); held {
		return d
	}
	if begins {
		if d, unsettled := n.unsettled(); unsettled {
			return d
		}
		end = min(begun+n.spec.batchSize(n.p.Next), len(n.spec.Hosts))
	}
	candidates := slices.Clone(n.absent)
	for host := begun; host < end; host++ {
		candidates = append(candidates, host)
	}
	unavailable, most := n.unavailable(), n.spec.maxUnavailable()
	hosts := candidates[:min(max(most-unavailable, 0), len(candidates))]
	if len(hosts) == 0 {
		return n.wait(time.Time{}, fmt.Sprintf("%d hosts are unavailable, and max_unavailable is %s", unavailable, n.spec.MaxUnavailable))
	}
	if last := hosts[len(hosts)-1]; last >= begun {
		if begins {
			n.p.Batches, n.p.BatchEnd = append(n.p.Batches, begun), end
			n.p.Step, n.p.Settled = n.p.Next, time.Time{}
		}
		n.ask(begun, last+1)
	}
	return Decision{Action: Publish, Hosts: hosts}
}

// ask opens the hosts from one place to before another.
func (n *step) ask(from, to int) {
	at := n.facts.Now.UTC().Truncate(time.Millisecond)
	notAfter := at.Add(restart.MaxLifetime)
	for _, bound := range []time.Time{n.spec.NotAfter, n.facts.Until} {
		if !bound.IsZero() && bound.Before(notAfter) {
			notAfter = bound.UTC()
		}
	}
	n.p.Waves = append(n.p.Waves, Wave{From: from, To: to, At: at, NotAfter: notAfter})
	for host := from; host < to; host++ {
		n.p.Hosts[host] = open
	}
}

// held returns what keeps the campaign from asking for any host.
func (n *step) held() (Decision, bool) {
	switch wish := n.facts.Wish.Paused; {
	case wish != nil:
		n.p.State = Paused
		return n.wait(time.Time{}, "paused "+wish.String()), true
	case n.facts.Paused != "":
		n.p.State = Paused
		return n.wait(time.Time{}, n.facts.Paused), true
	case n.facts.Closed:
		return n.wait(n.facts.Until, "its group's window is closed"), true
	}
	return Decision{}, false
}

// unsettled returns what keeps the campaign from beginning another batch.
func (n *step) unsettled() (Decision, bool) {
	if n.spec.Settle == 0 || len(n.p.Batches) == 0 {
		return Decision{}, false
	}
	if n.facts.Good.IsZero() {
		return n.wait(time.Time{}, "the group's checks are not good"), true
	}
	if n.p.Calm {
		return Decision{}, false
	}
	since := n.p.Settled
	if n.facts.Good.After(since) {
		since = n.facts.Good
	}
	until := since.Add(time.Duration(n.spec.Settle))
	if !n.facts.Now.Before(until) {
		return Decision{}, false
	}
	return n.wait(until, fmt.Sprintf("batch %d settles for %s", len(n.p.Batches), time.Duration(n.spec.Settle))), true
}

// unavailable returns how many hosts are down, asked for or failed.
func (n *step) unavailable() int {
	down := make(map[restart.Host]bool, len(n.facts.Down))
	for _, h := range n.facts.Down {
		down[h] = true
	}
	for host, code := range n.p.Hosts {
		if code == open && !n.missing[host] || failed(code) {
			down[n.spec.Hosts[host]] = true
		}
	}
	return len(down)
}

func (n *step) wait(until time.Time, why string) Decision {
	n.p.Waits = why
	return Decision{Action: Wait, Until: until, Why: why}
}

func (n *step) end(state State, why string) Decision {
	n.p.State, n.p.Waits, n.p.Over = state, "", n.facts.Now
	n.p.Why = cmp.Or(why, n.p.Why)
	return Decision{Action: End, Why: n.p.Why}
}
