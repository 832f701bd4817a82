package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// A requeueStatus is what becomes of a dead letter that is to be requeued.
type requeueStatus string

const (
	requeuePlanned       requeueStatus = "would_requeue" // to be sent, and not sent yet
	requeueDone          requeueStatus = "requeued"
	requeueAlreadyDone   requeueStatus = "already_requeued"
	requeueAlreadyQueued requeueStatus = "already_queued" // the host has another request; the letter keeps
	requeueRefused       requeueStatus = "refused"        // cannot be asked for again
	requeueFailed        requeueStatus = "failed"
)

// A requeueLine is what is printed of one letter.
type requeueLine struct {
	Host         restart.Host    `json:"host"`
	Group        restart.Group   `json:"group"`
	Status       requeueStatus   `json:"status"`
	RequeuedFrom uuid.UUID       `json:"requeued_from"`
	ID           uuid.UUID       `json:"id,omitzero"` // the new request's
	QueuedID     uuid.UUID       `json:"queued_id,omitzero"`
	QueuedPhase  publisher.Phase `json:"queued_phase,omitempty"`
	Why          string          `json:"why,omitempty"`
}

// A requeueStep is what is to be done about one letter.
type requeueStep struct {
	entry   deadletter.Entry // without its data
	request restart.Request  // as far as it does not depend on who asks, and when
	line    requeueLine
}

// requeueSteps decides about the letters that match, the latest first. Every id that was given must have one.
func (b *deadBox) requeueSteps(ctx context.Context, f deadletter.Filter) (steps []requeueStep, err error) {
	found := map[uuid.UUID]bool{}
	for e, err := range b.letters(ctx, f) {
		if err != nil {
			return nil, err
		}
		found[e.Outcome.ID] = true
		steps = append(steps, newRequeueStep(e))
	}
	if err := missing(f.IDs, found); err != nil {
		return nil, fmt.Errorf("%w; nothing was sent", err)
	}
	slices.SortStableFunc(steps, func(a, b requeueStep) int { return b.entry.Outcome.At.Compare(a.entry.Outcome.At) })
	oneForEachHost(steps)
	return steps, nil
}

// oneForEachHost leaves only the latest letter of a host to be sent. Otherwise it would depend on how fast the workers
// are whether a host is restarted once or more often.
func oneForEachHost(steps []requeueStep) {
	taken := map[restart.Host]uuid.UUID{}
	for i := range steps {
		line := &steps[i].line
		if line.Status != requeuePlanned {
			continue
		}
		if id, there := taken[line.Host]; there && id != line.ID { // the same id is the same request, of which both are marked
			line.Status, line.QueuedID = requeueAlreadyQueued, id
			line.Why = fmt.Sprintf("a later letter for the host is requeued as %s; this one keeps", id)
			continue
		}
		taken[line.Host] = line.ID
	}
}

func newRequeueStep(e deadletter.Entry) requeueStep {
	o := e.Outcome
	s := requeueStep{line: requeueLine{Host: o.Host, Group: o.Group, RequeuedFrom: o.ID}}
	r, err := requestOf(e.Letter)
	switch {
	case e.Requeued():
		s.line.Status, s.line.ID = requeueAlreadyDone, e.RequeuedAs
		s.line.Why = "at " + timeText(e.RequeuedAt, secondsTime)
	case err != nil:
		s.line.Status, s.line.Why = requeueRefused, err.Error()
	default:
		s.request, s.line.Status, s.line.ID = r, requeuePlanned, r.ID
		s.line.Host, s.line.Group = r.Host, r.Group
	}
	e.Data = nil
	s.entry = e
	return s
}

// requestOf returns the request that takes a letter's place.
func requestOf(l deadletter.Letter) (restart.Request, error) {
	if !l.Whole() {
		return restart.Request{}, fmt.Errorf("only the beginning was kept: %s", cameText(l))
	}
	group, host, err := stream.ParseWorkSubject(l.WorkSubject)
	if err != nil {
		return restart.Request{}, err
	}
	old, err := restart.Decode(restart.Envelope{
		Version: l.Version, Group: group, Host: host, Stored: l.Stored, FallbackID: l.Outcome.ID,
	}, l.Data)
	if err != nil {
		return restart.Request{}, err
	}
	return restart.Request{
		ID: requeueID(l), RequeuedFrom: l.Outcome.ID.String(),
		Instance: old.Instance, Host: old.Host, Group: old.Group, Reason: old.Reason, MinUptime: old.MinUptime,
	}, nil
}

// requeueID derives the new id from the old one. A reused id is another host's, whose own letter may be requeued too, so
// there the new one is derived from the message.
func requeueID(l deadletter.Letter) uuid.UUID {
	if l.Outcome.Reason == restart.ReasonIDReused {
		return restart.RequeueID(stream.FallbackID(l.Stored.UnixNano(), l.WorkSequence))
	}
	return restart.RequeueID(l.Outcome.ID)
}
