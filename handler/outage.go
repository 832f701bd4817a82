package handler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// An outage is news when it begins and when it ends, once for all messages that wait for its end.
type outage struct {
	mu      sync.Mutex // guards what follows
	lasts   bool
	changed time.Time // when it became what it is
}

// heard is told how a call ended, and reports whether that is news, and how long it was otherwise. A call that began
// before the last change says nothing of what is now.
func (o *outage) heard(began time.Time, failed bool) (before time.Duration, news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if failed == o.lasts || began.Before(o.changed) {
		return 0, false
	}
	now := time.Now()
	before = now.Sub(o.changed)
	o.lasts, o.changed = failed, now
	return before, true
}

// A watchedStore says in the log when writes begin to fail and when they succeed again.
type watchedStore struct {
	Store
	log    zerolog.Logger
	outage outage
}

func (s *watchedStore) Save(ctx context.Context, r Request) error {
	began := time.Now()
	err := s.Store.Save(ctx, r)
	s.heard(ctx, began, err)
	return err
}

func (s *watchedStore) Finish(ctx context.Context, o Outcome) (Outcome, error) {
	began := time.Now()
	standing, err := s.Store.Finish(ctx, o)
	s.heard(ctx, began, err)
	return standing, err
}

// heard is told how each write ended. One that its caller gave up says nothing, but one that took longer than a write may
// does.
func (s *watchedStore) heard(ctx context.Context, began time.Time, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	away := err != nil && !errors.Is(err, store.ErrIDReused)
	before, news := s.outage.heard(began, away)
	switch {
	case !news:
	case away:
		s.log.Warn().Err(err).Msgf("store away since %s: saves wait and are tried again, restarts go on, nothing is acknowledged",
			time.Now().UTC().Format(time.RFC3339Nano))
	default:
		s.log.Info().Stringer("away_for", before.Round(time.Millisecond)).Msg("store is back")
	}
}
