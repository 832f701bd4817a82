package explain

import (
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/control"
)

const nobodyAsks = "no worker has asked for work in the last second; a worker that is full does not ask"

// workers adds what keeps the message from being handed to a worker. One that was handed out once is handed out again
// whatever the budget is.
func (e *explainer) workers(handed bool) {
	c := e.Consumer
	if c == nil {
		if !e.missing(PartWorkers) {
			e.block(CauseNeverServed, "no worker has ever served group %s: start one", e.Group)
		}
		return
	}
	full := c.InFlight >= c.Budget && !handed
	switch {
	case full && c.Waiting == 0:
		e.block(CauseBudgetFull, "%d messages of the group are in flight, and the budget is %d; %s", c.InFlight, c.Budget, nobodyAsks)
	case full:
		e.block(CauseBudgetFull, "%d messages of the group are in flight, and the budget is %d", c.InFlight, c.Budget)
	case c.Waiting == 0 && c.InFlight == 0:
		e.block(CauseNoWorker, "no worker has asked for work in the last second, and none holds any: start one that serves group %s", e.Group)
	case c.Waiting == 0:
		e.block(CauseNoWorker, "%s", nobodyAsks)
	}
}

// pausedWithoutReason adds that the consumer is paused where the control bucket does not say why, and returns when the
// message can be handed out, not before from.
func (e *explainer) pausedWithoutReason(from time.Time) time.Time {
	if e.Consumer == nil || !e.Consumer.PausedUntil.After(e.Now) || len(control.HoldsOf(e.Control, "", e.Now)) > 0 {
		return from
	}
	until := e.Consumer.PausedUntil
	why := "the control bucket does not say why, so a worker ends that within seconds"
	if e.missing(PartControl) {
		why = "why is not known here"
	}
	e.add(Cause{Code: CausePause, Detail: "the consumer is paused until " + clock(until) + ", and " + why, Blocks: true, Until: until})
	if until.After(from) {
		return until
	}
	return from
}
