package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

func TestRetention_ForgetsWhatIsTooOldInSmallBatchesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keep = 400 * 24 * time.Hour
		var s storetest.Memory
		for i := range 1200 {
			r := storetest.NewRequest("a.example.net")
			r.RequestedAt = time.Now().Add(-keep - time.Duration(i+1)*time.Second)
			if i >= 1100 {
				r.RequestedAt = time.Now().Add(-keep + 30*time.Minute + time.Duration(i)*time.Second)
			}
			if err := s.Save(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			enforceRetention(ctx, &s, keep, zerolog.Nop())
		}()
		for _, step := range []struct {
			after time.Duration
			left  int
		}{
			{time.Millisecond, 700},
			{forgetPause, 200},
			{forgetPause, 100},
			{forgetInterval, 0}, // those became too old meanwhile
		} {
			time.Sleep(step.after)
			synctest.Wait()
			if got := countRequests(t, &s); got != step.left {
				t.Errorf("after %s: %d requests are left, want %d", step.after, got, step.left)
			}
		}
		stop()
		<-ended
	})
}

// A database that is away for an hour must not end a worker, nor leave the old for ever.
func TestRetention_GoesOnAfterTheDatabaseWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		back := time.Now().Add(90 * time.Minute)
		s := storetest.Memory{Before: func(_ context.Context, c storetest.Call) error {
			if c.Method == storetest.Forget && time.Now().Before(back) {
				return errors.New("connection refused")
			}
			return nil
		}}
		r := storetest.NewRequest("a.example.net")
		r.RequestedAt = time.Now().Add(-48 * time.Hour)
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		enforceRetention(ctx, &s, 24*time.Hour, zerolog.New(&log))
		if got := countRequests(t, &s); got != 0 {
			t.Errorf("%d requests are left", got)
		}
		if got := strings.Count(log.String(), "connection refused"); got != 2 {
			t.Errorf("the failure is told %d times, want 2:\n%s", got, log.String())
		}
	})
}

func countRequests(t *testing.T, s store.Store) (n int) {
	t.Helper()
	for _, err := range s.History(context.Background(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
