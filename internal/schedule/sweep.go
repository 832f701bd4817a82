package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// sweep makes the firings that the server owes, and notes what was missed. After it was killed the server can take a time
// that has passed for one that never was, and of several that passed while it was away it fires the last. Of several
// workers, one does it.
func (s *Server) sweep(ctx context.Context) error {
	store := s.cfg.Store
	info, err := store.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("cannot look at stream %q: %w", stream.Schedules, err)
	}
	all, unreadable, err := store.list(ctx)
	if err != nil {
		return err
	}
	for _, err := range unreadable {
		s.cfg.Logger.Warn().Err(err).Msg("left out")
	}
	for _, d := range all {
		planned := d.Spec.Planned(info.TimeStamp.Add(-s.cfg.SweepAfter)) // by the server's clock
		if d.Paused || d.Spec.Kind == At || planned.IsZero() || planned.Before(d.Since) {
			continue
		}
		if err := s.makeUp(ctx, d, planned); err != nil {
			return fmt.Errorf("cannot make up for the firing of schedule %q at %s: %w", d.Name, planned.Format(time.RFC3339), err)
		}
		if err := s.noteMissed(ctx, d, planned); err != nil {
			return fmt.Errorf("cannot note what schedule %q has missed: %w", d.Name, err)
		}
	}
	return nil
}

// makeUp makes a firing unless the server has made it.
func (s *Server) makeUp(ctx context.Context, d Definition, planned time.Time) error {
	store, last := s.cfg.Store, uint64(0)
	msg, err := store.stream.GetLastMsgForSubject(ctx, stream.ScheduleFire(d.Name))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return err
	case !msg.Time.Before(planned) && msg.Header.Get(runNowHeader) == "":
		return nil
	default:
		last = msg.Sequence
	}
	results, _, err := store.results(ctx, d.Name)
	if err != nil || has(results, FiringID(d.Name, planned)) {
		return err
	}
	err = store.fire(ctx, d, nats.Header{plannedHeader: {planned.UTC().Format(time.RFC3339)}}, jetstream.WithExpectLastSequencePerSubject(last))
	if stream.IsWrongSequence(err) { // somebody else was faster
		return nil
	}
	return err
}

// noteMissed puts the planned times before the last on record of which there is neither a result nor a firing.
func (s *Server) noteMissed(ctx context.Context, d Definition, last time.Time) error {
	missed, err := s.unaccounted(ctx, d, last)
	if err != nil || len(missed) == 0 {
		return err
	}
	for msg, err := range stream.Scan(ctx, s.cfg.Store.stream, stream.ScheduleFire(d.Name), false) {
		if err != nil {
			return err
		}
		o, strange := readOrigin(d.Name, msg.Headers())
		meta, err := msg.Metadata()
		if err != nil || strange != nil {
			continue // whoever takes it says so
		}
		f, _ := newFiring(d, o, meta.Timestamp)
		missed = slices.DeleteFunc(missed, func(r Result) bool { return r.ID == f.ID }) // it waits for a worker
	}
	added, err := s.cfg.Store.record(ctx, d, missed...)
	if added {
		s.cfg.Logger.Warn().Str("schedule", d.Name).Int("runs", len(missed)).Time("first", missed[len(missed)-1].Planned).
			Msg("runs of a schedule were missed, because the broker was away")
	}
	return err
}

// unaccounted returns the latest planned times before the last that have no result, as results.
func (s *Server) unaccounted(ctx context.Context, d Definition, last time.Time) (missed []Result, err error) {
	results, _, err := s.cfg.Store.results(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	from, now := d.Since, time.Now().UTC()
	if len(results) == maxResults && results[0].Planned.After(from) { // what was before is not kept
		from = results[0].Planned
	}
	planned := last
	for range maxResults {
		planned = d.Spec.Planned(planned.Add(-1))
		if planned.IsZero() || planned.Before(from) {
			break
		}
		if id := FiringID(d.Name, planned); !has(results, id) {
			missed = append(missed, Result{ID: id, Outcome: Missed, Why: "it did not fire: the broker was away", Planned: planned.UTC(), At: now})
		}
	}
	return missed, nil
}
