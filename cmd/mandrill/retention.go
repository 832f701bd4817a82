package main

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// Old requests are forgotten a few at a time, so that no save waits for long: 2,500 a second at most, which is twenty
// times what the greatest fleet asks for.
const (
	forgetInterval = time.Hour
	forgetBatch    = 500
	forgetPause    = 200 * time.Millisecond
)

// A forgetter removes old requests with all that came of them. store.Store says what Forget promises.
type forgetter interface {
	Forget(ctx context.Context, before time.Time, n int) (int, error)
}

// enforceRetention forgets what is older than keep, now and every forgetInterval, until ctx ends.
func enforceRetention(ctx context.Context, s forgetter, keep time.Duration, log zerolog.Logger) {
	ticker := time.NewTicker(forgetInterval)
	defer ticker.Stop()
	for {
		forgotten, err := forgetOld(ctx, s, time.Now().Add(-keep))
		if forgotten > 0 {
			log.Info().Int("requests", forgotten).Stringer("keep", keep).Msg("forgot what is older than history.keep")
		}
		if err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Stringer("next", forgetInterval).Msg("cannot forget old requests, trying again later")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func forgetOld(ctx context.Context, s forgetter, before time.Time) (forgotten int, err error) {
	for {
		n, err := s.Forget(ctx, before, forgetBatch)
		forgotten += n
		if err != nil || n < forgetBatch {
			return forgotten, err
		}
		select {
		case <-ctx.Done():
			return forgotten, nil
		case <-time.After(forgetPause):
		}
	}
}
