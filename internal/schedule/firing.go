package schedule

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// lateAfter is how much later than planned the stream may take a firing before the run counts as missed. The server
// itself takes up to half a second; an election of a leader takes several.
const lateAfter = time.Minute

// A Firing is a planned time that has come, or somebody's wish to run a schedule now.
type Firing struct {
	// ID is the same for every delivery and every firing of a planned time. Whatever the firing makes has this id, or
	// one that is derived from it.
	ID uuid.UUID
	Definition

	Planned  time.Time // for one made by hand, when that was
	Fired    time.Time // when the stream took it
	NotAfter time.Time // what it makes must not begin later

	Manual bool
	ManBy  string // who made it by hand
}

// An Outcome says what has become of a firing.
type Outcome string

// The outcomes of firings.
const (
	Started Outcome = "started"
	Skipped Outcome = "skipped" // an earlier run was not over, or the schedule is paused
	Refused Outcome = "refused" // what was asked for is not allowed
	Missed  Outcome = "missed"  // it came too late, and the schedule does not catch up
	Failed  Outcome = "failed"  // it was tried again and again
)

// A Result is what has become of a firing.
type Result struct {
	ID      uuid.UUID `json:"id"`
	Outcome Outcome   `json:"outcome"`
	Why     string    `json:"why,omitempty"`
	Made    string    `json:"made,omitempty"` // what was started, such as a campaign's id

	Planned time.Time `json:"planned"`
	Fired   time.Time `json:"fired,omitzero"`
	At      time.Time `json:"at"` // when this was recorded
	Manual  bool      `json:"manual,omitempty"`
	By      string    `json:"by,omitempty"` // who made it by hand
}

// FiringID returns the id of a schedule's firing at a planned time.
func FiringID(name string, planned time.Time) uuid.UUID {
	return uuid.NewSHA1(firingSpace, []byte(name+"/"+planned.UTC().Format(time.RFC3339)))
}

// origin tells where a firing comes from.
type origin struct {
	manual  uuid.UUID // the id of one that was made by hand
	by      string
	planned time.Time // of one that a worker published in the server's place
	next    time.Time // the server's word of the time after this one; zero for the only one
}

// readOrigin believes the server's own headers alone where they stand: clients cannot set them.
func readOrigin(name string, h nats.Header) (o origin, err error) {
	switch next := h.Get(jetstream.ScheduleNextHeader); {
	case h.Get(jetstream.SchedulerHeader) == stream.ScheduleDef(name) && next == "purge":
		return o, nil
	case h.Get(jetstream.SchedulerHeader) == stream.ScheduleDef(name):
		o.next, err = time.Parse(time.RFC3339Nano, next)
	case h.Get(runNowHeader) != "":
		o.by = h.Get(runByHeader)
		o.manual, err = uuid.Parse(h.Get(runNowHeader))
	default:
		o.planned, err = time.Parse(time.RFC3339, h.Get(plannedHeader))
	}
	return o, err
}

// newFiring returns the firing that a message of that origin, stored at that time, stands for. It is not ok if nothing is
// due: the server fires more often than is planned, and a worker's clock may be wrong.
func newFiring(d Definition, o origin, fired time.Time) (f Firing, ok bool) {
	f = Firing{Definition: d, Fired: fired, ManBy: o.by, Manual: o.manual != uuid.Nil}
	switch {
	case f.Manual:
		f.ID, f.Planned = o.manual, fired
	case !o.planned.IsZero():
		f.Planned = d.Spec.Planned(o.planned)
		ok = f.Planned.Equal(o.planned) && !f.Planned.After(fired)
	case !o.next.IsZero():
		f.Planned = d.Spec.Planned(o.next.Add(-1))
	default:
		f.Planned = d.Spec.at
	}
	if !f.Manual {
		f.ID = FiringID(d.Name, f.Planned)
	}
	begin := f.Planned
	if f.late() && d.CatchUp {
		begin = fired
	}
	f.NotAfter = begin.Add(time.Duration(d.ValidFor))
	due := !f.Planned.IsZero() && (d.Spec.Kind == At || !f.Planned.Before(d.Since) && !f.early())
	return f, f.Manual || due && (ok || o.planned.IsZero())
}

// early reports whether it fired long before its time, which a server that is well does not do.
func (f *Firing) early() bool { return f.Planned.Sub(f.Fired) > lateAfter }

func (f *Firing) late() bool {
	return f.Fired.Sub(f.Planned) > min(lateAfter, time.Duration(f.ValidFor))
}

// verdict returns the result of a firing that is not to be done.
func (f *Firing) verdict(now time.Time) (Result, bool) {
	const clock = time.RFC3339
	switch {
	case f.Paused && !f.Manual:
		return Result{Outcome: Skipped, Why: "the schedule is paused"}, true
	case f.early():
		return Result{Outcome: Failed, Why: fmt.Sprintf("it fired at %s, before its time", f.Fired.UTC().Format(clock))}, true
	case f.late() && !f.CatchUp:
		return Result{Outcome: Missed, Why: fmt.Sprintf("it fired %s late, at %s: the broker was away",
			f.Fired.Sub(f.Planned).Round(time.Second), f.Fired.UTC().Format(clock))}, true
	case now.After(f.NotAfter):
		return Result{Outcome: Missed, Why: fmt.Sprintf("no worker took it until %s", f.NotAfter.UTC().Format(clock))}, true
	default:
		return Result{}, false
	}
}
