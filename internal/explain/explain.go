package explain

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Explain says what the facts come to.
func Explain(f Facts) Report {
	e := &explainer{Facts: f, report: Report{Causes: []Cause{}}}
	if f.Elsewhere {
		e.Rules.Self = policy.Self{} // the workers know their own machines, and this one may be none of them
	}
	switch last := f.last(); {
	case f.Queued == nil && f.missing(PartQueue):
		e.say(VerdictUnknown, "what is queued for %s could not be read", f.Host)
	case f.Queued == nil:
		e.nothingQueued(last)
	case f.Queued.Err != nil:
		e.malformed()
	case last.Kind.Terminal() || e.outcomeStands():
		e.ended(last)
	case last.Kind == journal.Restarting:
		e.running(last)
	default:
		e.untriggered(last, f.Rules.Self)
	}
	return e.report
}

// An explainer makes one report.
type explainer struct {
	Facts
	report Report
}

func (e *explainer) say(verdict Verdict, format string, args ...any) {
	e.report.Verdict, e.report.Summary = verdict, fmt.Sprintf(format, args...)
}

// add adds a cause. A window may be told twice, by the configuration and by an entry of the control bucket.
func (e *explainer) add(c Cause) {
	known := slices.ContainsFunc(e.report.Causes, func(k Cause) bool {
		return k.Code == c.Code && k.Until.Equal(c.Until) && (k.Detail == c.Detail || c.Code == CauseWindow)
	})
	if !known {
		e.report.Causes = append(e.report.Causes, c)
	}
}

func (e *explainer) note(code Code, format string, args ...any) {
	e.add(Cause{Code: code, Detail: fmt.Sprintf(format, args...)})
}

func (e *explainer) block(code Code, format string, args ...any) {
	e.add(Cause{Code: code, Detail: fmt.Sprintf(format, args...), Blocks: true})
}

// blocked reports whether any cause found so far blocks.
func (e *explainer) blocked() bool {
	return slices.ContainsFunc(e.report.Causes, func(c Cause) bool { return c.Blocks })
}

func (e *explainer) nothingQueued(last journal.Event) {
	e.note(CauseNothingQueued, "nothing is queued for %s in group %s", e.Host, e.Group)
	if e.Consumer == nil && !e.missing(PartWorkers) {
		e.note(CauseNeverServed, "no worker has ever served group %s", e.Group)
	}
	newest, letter := e.newest()
	switch {
	case !last.IsZero() && e.EventsOf != newest.ID && last.At.After(newest.At):
		e.settledWithoutOutcome(last)
	case letter != nil:
		e.givenUp(*letter)
	case newest.Kind != "":
		e.note(CauseEnded, "request %s ended %s", newest.ID, endOf(newest))
	default:
		e.say(VerdictNothingQueued, "nothing is queued for %s in group %s, and no earlier request is known", e.Host, e.Group)
		return
	}
	e.say(VerdictEnded, "nothing is queued for %s in group %s: its latest %s", e.Host, e.Group, e.report.Causes[len(e.report.Causes)-1].Detail)
}

func (e *explainer) givenUp(l Letter) {
	next := fmt.Sprintf("mandrill dead requeue %s asks for it again", l.Outcome.ID)
	if l.RequeuedAs != uuid.Nil {
		next = "it was asked for again as " + l.RequeuedAs.String()
	}
	e.note(CauseDeadLetter, "request %s ended %s; %s", l.Outcome.ID, endOf(l.Outcome), next)
}

// settledWithoutOutcome is about a request of which only the journal is known. Success leaves no event there.
func (e *explainer) settledWithoutOutcome(last journal.Event) {
	if last.Kind.Terminal() {
		e.note(CauseEnded, "request %s ended %s", e.EventsOf, endOf(outcomeOf(last)))
		return
	}
	e.note(CauseEnded, "request %s was triggered as attempt %d at %s, and is settled or removed since: the history says how it ended",
		e.EventsOf, last.Attempt, clock(last.At))
}

func (e *explainer) malformed() {
	e.block(CauseMalformed, "the message cannot be read: %v; it ends dead", e.Queued.Err)
	e.holds(e.Now)
	e.workers(e.handed())
	e.say(VerdictWillEnd, "%s will not be restarted: the message cannot be read, and ends dead when a worker takes it up", e.Host)
}

// outcomeStands reports whether the queued request has its outcome on record already.
func (e *explainer) outcomeStands() bool {
	newest, _ := e.newest()
	return newest.Kind != "" && newest.ID == e.Queued.Request.ID
}

// ended is about a request that has ended, and whose message is still there.
func (e *explainer) ended(last journal.Event) {
	o, _ := e.newest()
	if o.ID != e.Queued.Request.ID {
		o = outcomeOf(last)
	}
	e.note(CauseEnded, "the request ended %s; its message stays until a worker has settled it, for which the database must have the outcome",
		endOf(o))
	e.workers(true)
	for i := range e.report.Causes {
		e.report.Causes[i].Blocks = false // there is no trigger to block
	}
	e.say(VerdictEnded, "the request for %s ended %s; only its message is still to be settled", e.Host, endOf(o))
}

func (e *explainer) running(last journal.Event) {
	done := "triggered"
	if last.Takeover {
		done = "taken over"
	}
	detail := fmt.Sprintf("attempt %d was %s by worker %s at %s and is not yet verified, which may take %s",
		last.Attempt, done, last.Worker, clock(last.At), e.Limits.VerifyTimeout)
	switch {
	case e.State == nil:
	case e.State.Epoch != last.From && e.State.Ready:
		detail += "; another boot is running, and ready"
	case e.State.Epoch != last.From:
		detail += "; another boot is running, and not ready"
	default:
		detail += "; the boot that it is to end is still running"
	}
	if e.Consumer != nil && e.Consumer.PausedUntil.After(e.Now) {
		detail += "; if that worker has died, no other takes over while the group is paused"
	} else {
		detail += fmt.Sprintf("; if that worker has died, another one takes over after %s", e.Limits.AckWait)
	}
	e.note(CauseRestarting, "%s", detail)
	if e.Consumer != nil && e.Consumer.Waiting == 0 {
		e.note(CauseNoWorker, "%s", nobodyAsks)
	}
	e.say(VerdictRunning, "%s is being restarted: attempt %d, by worker %s since %s", e.Host, last.Attempt, last.Worker, clock(last.At))
}

// untriggered is about a request of which no trigger is open.
func (e *explainer) untriggered(last journal.Event, self policy.Self) {
	asked := policy.Asked{Request: e.Queued.Request, State: e.State}
	from := e.Now
	elsewhere := false // whether another boot is running than the one that it is to end
	switch {
	case last.Kind == journal.Failed:
		from = e.failed(last)
		elsewhere = e.State != nil && e.State.Epoch != last.From
	case e.handed():
		e.note(CauseHandedOut, "a worker was handed it and has triggered nothing yet; "+
			"what it gives back is tried again within %s, and what it held when it died after %s", e.Limits.RetryCap, e.Limits.AckWait)
	}
	if elsewhere {
		asked.State = nil // no gate is asked of the new boot: it is verified
	}
	at, answer := e.clears(asked, e.pausedWithoutReason(from))
	refusal := e.refusals(asked, at, elsewhere)
	e.workers(e.handed() || last.Kind == journal.Failed)
	if e.ProbeErr != nil && refusal == nil {
		e.block(CauseUnknownState, "the host cannot be probed from here: %v; a worker that cannot either tries again within %s",
			e.ProbeErr, e.Limits.RetryCap)
	}
	e.maybeSelf(asked, self)
	e.report.Expires = e.Queued.Request.NotAfter
	e.conclude(last, at, answer, refusal)
}

// failed is about an attempt that was refused. It returns when the next one comes at the latest.
func (e *explainer) failed(last journal.Event) time.Time {
	by := last.At.Add(e.Limits.RetryCap)
	c := Cause{Code: CauseFailed}
	c.Detail = fmt.Sprintf("attempt %d of %d came to nothing at %s: %s", last.Attempt, e.Limits.MaxAttempts, clock(last.At), last.Detail)
	if e.State != nil && e.State.Epoch != last.From {
		c.Detail += "; another boot is running since, which is verified instead"
	}
	if !by.After(e.Now) {
		by = e.Now
	} else {
		c.Until = by
		c.Detail += fmt.Sprintf("; the next one comes within %s", e.Limits.RetryCap)
	}
	e.add(c)
	return by
}

// clears asks the gates again and again, each time when the one that said "not now" may have changed its mind, and
// returns the first time, not before from, at which none says so, and the answer; or an answer that has no end. What is
// in the way until then becomes a cause.
func (e *explainer) clears(asked policy.Asked, from time.Time) (at time.Time, answer policy.Answer) {
	e.delays(asked, e.Now)
	for at = from; ; at = answer.Wait.Until {
		e.delays(asked, at)
		asked.Now, asked.Paused = at, control.HoldsOf(e.Control, asked.Request.Campaign, at)
		answer = e.Rules.Ask(asked)
		if answer.Verdict != policy.Later || !answer.Wait.Until.After(at) {
			return at, answer
		}
	}
}

// delays adds what delays the request at a time.
func (e *explainer) delays(asked policy.Asked, at time.Time) {
	asked.Now, asked.Paused = at, nil // what holds the group is asked about by itself
	for _, o := range e.Rules.All(asked) {
		if o.Verdict == policy.Later {
			e.add(Cause{Code: Code(o.Gate), Detail: o.Wait.Detail, Blocks: true, Until: o.Wait.Until})
		}
	}
	e.holds(at)
}

// holds adds what holds the group at a time, each hold by itself, as the gate sees it.
func (e *explainer) holds(at time.Time) {
	for _, hold := range control.HoldsOf(e.Control, "", at) {
		for _, o := range (policy.Rules{}).All(policy.Asked{Paused: []policy.Hold{hold}, Now: at}) {
			if o.Gate == policy.GatePause && o.Verdict == policy.Later {
				e.add(Cause{Code: codeOf(hold), Detail: o.Wait.Detail, Blocks: true, Until: o.Wait.Until})
			}
		}
	}
}

func codeOf(hold policy.Hold) Code {
	switch control.Cause(hold.Reason) {
	case control.ByHand:
		return CausePause
	case control.ByBreaker:
		return CauseBreaker
	case control.ByWindow:
		return CauseWindow
	}
	return CauseMonitor
}

// refusals adds what refuses the request for good when it comes up, and returns the first, which is what it ends with.
// A request that would expire while it waits is not refused yet: what it waits for may be ended by hand.
func (e *explainer) refusals(asked policy.Asked, at time.Time, elsewhere bool) *policy.Refusal {
	asked.Now, asked.Paused = at, control.HoldsOf(e.Control, asked.Request.Campaign, at)
	var first *policy.Refusal
	for _, o := range e.Rules.All(asked) {
		switch {
		case o.Gate == policy.GateDryRun && (elsewhere || first != nil):
		case o.Gate == policy.GateDryRun && o.Verdict == policy.Probe:
			// It asks for a probe because it refuses whatever is seen, after every other gate.
			first = &policy.Refusal{Kind: restart.Skipped, Reason: restart.ReasonDryRun, Detail: "dry_run is on, so nothing is restarted"}
			e.block(CauseDryRun, "%s", ends(*first))
		case o.Verdict != policy.Never:
		case o.Refusal.Kind == restart.Expired && asked.Now.After(e.Now):
			e.block(CauseNotAfter, "not_after %s comes before %s, when it could be triggered", clock(asked.Request.NotAfter), clock(asked.Now))
		default:
			e.block(Code(o.Gate), "%s", ends(o.Refusal))
			if first == nil {
				first = &o.Refusal
			}
		}
	}
	return first
}

// maybeSelf says so if this machine may be the host, where it is not known whether a worker runs on it.
func (e *explainer) maybeSelf(asked policy.Asked, self policy.Self) {
	if !e.Elsewhere {
		return
	}
	asked.Now = e.Now
	for _, o := range (policy.Rules{Self: self}).All(asked) {
		if o.Gate == policy.GateSelf && o.Verdict == policy.Never {
			e.note(CauseSelf, "if a worker runs on this machine, that one refuses for good: %s", o.Refusal.Detail)
		}
	}
}

// conclude draws the conclusion about a request that no trigger is open for.
func (e *explainer) conclude(last journal.Event, at time.Time, answer policy.Answer, refusal *policy.Refusal) {
	r := &e.report
	if refusal != nil {
		e.say(VerdictWillEnd, "%s will not be restarted: the request ends %s when a worker takes it up: %s", e.Host, refusal.Kind, refusal.Detail)
		return
	}
	if e.blocked() {
		e.say(VerdictHeld, "%s is not restarted now: %s", e.Host, e.inTheWay())
		forever := slices.ContainsFunc(r.Causes, func(c Cause) bool { return c.Blocks && c.Until.IsZero() })
		if forever || e.missing(PartControl) || answer.Verdict == policy.Never {
			r.Summary += fmt.Sprintf("; unless that changes, the request expires at %s", clock(r.Expires))
			return
		}
		r.Next = at
		r.Summary += "; it could be at " + clock(at)
		return
	}
	switch {
	case last.Kind == journal.Failed:
		e.say(VerdictWaiting, "%s waits for attempt %d of %d", e.Host, last.NextAttempt(), e.Limits.MaxAttempts)
	case e.handed():
		e.say(VerdictHandedOut, "a worker was handed the request for %s, and nothing is known to be in its way", e.Host)
	default:
		e.say(VerdictQueued, "the request for %s is queued, and nothing is known to be in its way", e.Host)
	}
	if e.missing(PartJournal) {
		r.Summary += "; whether it was triggered is not known"
	}
	if e.missing(PartControl) || e.missing(PartWorkers) {
		return // what is not known may be in its way
	}
	r.Next = at
	if at.After(e.Now) {
		r.Summary += ", which comes by " + clock(at)
	}
}
