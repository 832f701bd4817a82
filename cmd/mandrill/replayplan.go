package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A replayStatus is what becomes of a stored request in a replay.
type replayStatus string

const (
	replayPlanned       replayStatus = "would_publish" // to be sent, and not sent yet
	replayPublished     replayStatus = "published"
	replayAlreadyQueued replayStatus = "already_queued" // the stream has it, or another one for the host
	replayAlreadyDone   replayStatus = "already_done"   // the database has its outcome
	replaySuperseded    replayStatus = "superseded"     // a later request for the host takes its place
	replaySkipped       replayStatus = "skipped"        // cannot be asked for again
	replayFailed        replayStatus = "failed"
)

// A replayStep is what is to be done about one stored request.
type replayStep struct {
	Old    restart.Request
	ID     uuid.UUID // the new request's
	Status replayStatus
	Why    string
}

// A replayPlan decides about stored requests. It can be gone through more than once, and holds no more of them than the
// names of their hosts.
type replayPlan struct {
	db    store.Store
	name  string
	again func(restart.Request, time.Time) (restart.Request, error)

	limit   int // zero: none
	entries func(context.Context) iter.Seq2[store.Entry, error]
}

// chooseFilter chooses what matches and was asked for before the replay began: what the replay makes is saved into the
// same database while it runs.
func (p *replayPlan) chooseFilter(f store.Filter, began time.Time) {
	if f.Until.IsZero() || f.Until.After(began) {
		f.Until = began
	}
	// The limit counts what is left after the earlier runs' own requests, which may be the latest, were left out.
	p.limit, f.Limit = f.Limit, 0
	p.entries = func(ctx context.Context) iter.Seq2[store.Entry, error] { return p.db.History(ctx, f) }
}

// chooseIDs chooses by id. Every id must be on record.
func (p *replayPlan) chooseIDs(ctx context.Context, ids []uuid.UUID) error {
	var chosen []store.Entry
	seen := map[uuid.UUID]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		e, err := p.entry(ctx, id)
		if err != nil {
			return err
		}
		if p.made(e.Request) {
			return fmt.Errorf("request %s was made by the replay %q itself: choose another name to ask for it again", id, p.name)
		}
		chosen = append(chosen, e)
	}
	slices.SortStableFunc(chosen, func(a, b store.Entry) int { return b.Request.RequestedAt.Compare(a.Request.RequestedAt) })
	p.entries = func(context.Context) iter.Seq2[store.Entry, error] {
		return func(yield func(store.Entry, error) bool) {
			for _, e := range chosen {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	return nil
}

// entry returns what is on record under an id. Of a message that could not be read, that is only its outcome.
func (p *replayPlan) entry(ctx context.Context, id uuid.UUID) (e store.Entry, err error) {
	o, err := p.db.Outcome(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Entry{}, err
	}
	r, err := p.db.Request(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound) && o.Kind != "":
		r = restart.Request{ID: id, Host: o.Host, Group: o.Group, RequestedAt: o.Receipt.RequestedAt}
	case errors.Is(err, store.ErrNotFound):
		return store.Entry{}, fmt.Errorf("there is no request %s in the database; nothing was sent", id)
	case err != nil:
		return store.Entry{}, err
	}
	return store.Entry{Request: r, Outcome: o}, nil
}

// steps returns what is to be done about each chosen request, the latest first. The first error ends the sequence.
func (p *replayPlan) steps(ctx context.Context) iter.Seq2[replayStep, error] {
	return func(yield func(replayStep, error) bool) {
		began := time.Now()
		hosts := map[restart.Host]bool{}
		n := 0
		for e, err := range p.entries(ctx) {
			if err != nil {
				yield(replayStep{}, err)
				return
			}
			if p.made(e.Request) {
				continue
			}
			if n++; p.limit > 0 && n > p.limit {
				return
			}
			step, err := p.step(ctx, e, hosts, began)
			if !yield(step, err) || err != nil {
				return
			}
		}
	}
}

// count returns how many there are to send.
func (p *replayPlan) count(ctx context.Context) (n int, err error) {
	for step, err := range p.steps(ctx) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
		if step.Status == replayPlanned {
			n++
		}
	}
	return n, nil
}

// made reports whether a request was made by an earlier run of this very replay. To replay it too would restart its
// host once more with every run.
func (p *replayPlan) made(r restart.Request) bool {
	of, err := uuid.Parse(r.ReplayOf)
	return err == nil && r.ID == restart.ReplayID(of, p.name)
}

// step decides about one request; hosts are those of later ones.
func (p *replayPlan) step(ctx context.Context, e store.Entry, hosts map[restart.Host]bool, now time.Time) (replayStep, error) {
	old := e.Request
	s := replayStep{Old: old, ID: restart.ReplayID(old.ID, p.name), Status: replayPlanned}
	if e.Outcome.Reason == restart.ReasonMalformed {
		s.Status, s.Why = replaySkipped, "its message could not be read: "+e.Outcome.Detail
		return s, nil
	}
	if _, err := p.again(old, now); err != nil {
		s.Status, s.Why = replaySkipped, err.Error()
		return s, nil
	}
	if hosts[old.Host] {
		s.Status, s.Why = replaySuperseded, "a later request for the host takes its place"
		return s, nil
	}
	hosts[old.Host] = true // also where it is done: an earlier one would restart the host again
	o, err := p.db.Outcome(ctx, s.ID)
	switch {
	case err == nil:
		s.Status, s.Why = replayAlreadyDone, string(o.Kind)
	case !errors.Is(err, store.ErrNotFound):
		return s, err
	}
	return s, nil
}
