package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A record is what the database is to know of one request. A database that is away delays it and loses nothing: each
// write is tried again for as long as the message is worked on.
type record struct {
	store   Store
	timeout time.Duration // of one try of a write
	job     *Job
}

// save returns nil once the request is durable. Under an id that another host has taken, it is saved under the
// message's own fallback id, so that both are on record.
func (rec *record) save() error {
	began := time.Now()
	err := rec.persist("save", func(ctx context.Context) error {
		err := rec.store.Save(ctx, rec.job.Request)
		if errors.Is(err, store.ErrIDReused) {
			request := rec.job.Request
			request.ID = rec.fallbackID()
			err = rec.store.Save(ctx, request)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot save request: %w", err)
	}
	rec.job.progress.observer.Took(StepSave, time.Since(began))
	rec.job.Log(zerolog.DebugLevel).Msg("saved")
	return nil
}

// finish makes of an outcome the one that stands, once that is durable.
func (rec *record) finish(o *Outcome) error {
	began := time.Now()
	err := rec.persist("finish", func(ctx context.Context) error {
		standing, err := rec.store.Finish(ctx, *o)
		if err == nil && !rec.owns(&standing) {
			o.ID = rec.fallbackID()
			standing, err = rec.store.Finish(ctx, *o)
		}
		if err == nil {
			*o = standing
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot record outcome: %w", err)
	}
	rec.job.progress.observer.Took(StepFinish, time.Since(began))
	return nil
}

// attempts records what did not lead to an outcome. It tries once: the journal decides, this is for people.
func (rec *record) attempts(earlier []restart.Attempt) {
	if len(earlier) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(rec.job.Lease.Context(), settleTimeout)
	defer cancel()
	for _, a := range earlier {
		if err := contain(func() error { return rec.store.Attempted(ctx, a) }); err != nil {
			rec.job.Log(zerolog.WarnLevel).Err(err).Int("attempt", a.Number).Msg("attempt is not on record")
		}
	}
}

// standing returns the outcome that is on record for the request; the zero Outcome if there is none.
func (rec *record) standing(ctx context.Context) (Outcome, error) {
	for _, id := range [...]uuid.UUID{rec.job.Request.ID, rec.fallbackID()} {
		o, err := rec.store.Outcome(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return Outcome{}, fmt.Errorf("cannot read outcome: %w", err)
		case rec.owns(&o):
			return o, nil
		}
	}
	return Outcome{}, nil
}

func (rec *record) owns(o *Outcome) bool {
	return o.Host == rec.job.Request.Host && o.Group == rec.job.Request.Group
}

func (rec *record) fallbackID() uuid.UUID { return rec.job.fallback }

// A save is the one that goes on beside the restart.
type save struct {
	wait sync.WaitGroup
	err  error // once wait is over

	mu    sync.Mutex // guards what follows
	begun bool
	then  func() // what goes on when it has ended
}

// begin notes that it has room, and returns what waited for that.
func (s *save) begin() (then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	return s.then
}

// await returns true when it has ended. Where it has not even begun, it returns false at once, and then is called when it
// has ended: only as many wait here as there is room for.
func (s *save) await(then func()) bool {
	s.mu.Lock()
	begun := s.begun
	if !begun {
		s.then = then
	}
	s.mu.Unlock()
	if begun {
		s.wait.Wait()
	}
	return begun
}

// persist calls write until it succeeds or the work ends; see life.beginWrite. It nearly always succeeds at
// once, and what it takes to wait is made only then.
func (rec *record) persist(what string, write func(context.Context) error) error {
	err := rec.try(what, write)
	if err == nil {
		return nil
	}
	delays := &backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5,
	}
	delays.Reset()
	ctx, end := rec.job.life.beginRetry()
	defer end()
	for {
		pause(ctx, delays.NextBackOff())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = rec.try(what, write); err == nil {
			return nil
		}
	}
}

func (rec *record) try(what string, write func(context.Context) error) error {
	ctx := rec.job.life.beginWrite(rec.timeout)
	defer rec.job.life.endWrite()
	err := contain(func() error { return write(ctx) })
	if err != nil {
		rec.job.Log(zerolog.DebugLevel).Err(err).Msg("cannot " + what + ", trying again")
	}
	return err
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
