package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

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
func (rec *record) save(ctx context.Context) error {
	request := rec.job.Request
	began := time.Now()
	_, err := persist(ctx, rec, "save", func(ctx context.Context) (struct{}, error) {
		err := rec.store.Save(ctx, request)
		if errors.Is(err, store.ErrIDReused) {
			request.ID = rec.fallbackID()
			err = rec.store.Save(ctx, request)
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("cannot save request: %w", err)
	}
	rec.job.progress.observer.Took(StepSave, time.Since(began))
	rec.job.Log.Debug().Msg("saved")
	return nil
}

// finish returns the outcome that stands once it is durable.
func (rec *record) finish(ctx context.Context, o Outcome) (Outcome, error) {
	began := time.Now()
	standing, err := persist(ctx, rec, "finish", func(ctx context.Context) (Outcome, error) {
		standing, err := rec.store.Finish(ctx, o)
		if err == nil && !rec.owns(standing) {
			o.ID = rec.fallbackID()
			standing, err = rec.store.Finish(ctx, o)
		}
		return standing, err
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("cannot record outcome: %w", err)
	}
	rec.job.progress.observer.Took(StepFinish, time.Since(began))
	return standing, nil
}

// attempts records what did not lead to an outcome. It tries once: the journal decides, this is for people.
func (rec *record) attempts(earlier []restart.Attempt) {
	ctx, cancel := context.WithTimeout(rec.job.Lease.ctx, settleTimeout)
	defer cancel()
	for _, a := range earlier {
		if _, err := contain(func() (struct{}, error) { return struct{}{}, rec.store.Attempted(ctx, a) }); err != nil {
			rec.job.Log.Warn().Err(err).Int("attempt", a.Number).Msg("attempt is not on record")
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
		case rec.owns(o):
			return o, nil
		}
	}
	return Outcome{}, nil
}

func (rec *record) owns(o Outcome) bool {
	return o.Host == rec.job.Request.Host && o.Group == rec.job.Request.Group
}

func (rec *record) fallbackID() uuid.UUID {
	envelope, _ := rec.job.Envelope() // the id is there in any case
	return envelope.FallbackID
}

// persist calls write until it succeeds or ctx ends. A write that is under way when ctx ends, or begins then, still
// has settleTimeout, because what has happened is worth recording; unless the lease is lost, or the message handed
// back.
func persist[T any](ctx context.Context, rec *record, what string, write func(context.Context) (T, error)) (T, error) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5,
	}
	return backoff.Retry(ctx, func() (T, error) {
		attempt, cancel := context.WithTimeout(rec.job.Lease.ctx, rec.timeout)
		defer cancel()
		defer context.AfterFunc(ctx, func() {
			if errors.Is(context.Cause(ctx), errHandBack) {
				cancel()
			} else {
				time.AfterFunc(settleTimeout, cancel)
			}
		})()
		v, err := contain(func() (T, error) { return write(attempt) })
		if err != nil {
			rec.job.Log.Debug().Err(err).Msg("cannot " + what + ", trying again")
		}
		return v, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
}
