package handler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A watchedStore says in the log when writes begin to fail and when they succeed again, once for all messages that wait
// for it.
type watchedStore struct {
	Store
	log zerolog.Logger

	mu      sync.Mutex
	away    bool
	changed time.Time // when away became what it is
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

// heard is told how each write ended. One that began before the last change says nothing of what is now; nor does one
// that its caller gave up, but one that took longer than a write may does.
func (s *watchedStore) heard(ctx context.Context, began time.Time, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	away := err != nil && !errors.Is(err, store.ErrIDReused)
	s.mu.Lock()
	defer s.mu.Unlock()
	if away == s.away || began.Before(s.changed) {
		return
	}
	if away {
		s.log.Warn().Err(err).Msgf("store away since %s: saves wait and are tried again, restarts go on, nothing is acknowledged",
			time.Now().UTC().Format(time.RFC3339Nano))
	} else {
		s.log.Info().Stringer("away_for", time.Since(s.changed).Round(time.Millisecond)).Msg("store is back")
	}
	s.away, s.changed = away, time.Now()
}
