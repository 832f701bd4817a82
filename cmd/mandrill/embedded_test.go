package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Fear: a busy disk takes seconds to make a stream, and the server is ended as if the disk were full.
func TestAwaitUnwell_BelievesWhatLasts(t *testing.T) {
	work, journal := errors.New("no stream MANDRILL"), errors.New("no stream MANDRILL_JOURNAL")
	for _, tt := range []struct {
		name string
		ask  func(after time.Duration) error
		want error
	}{
		{"well", func(time.Duration) error { return nil }, nil},
		{"for a moment", func(d time.Duration) error { return map[bool]error{true: work}[d < unwellFor] }, nil},
		{"of one stream, then of another", func(d time.Duration) error {
			switch {
			case d < unwellFor:
				return work
			case d < 2*unwellFor:
				return journal
			}
			return nil
		}, nil},
		{"now and then", func(d time.Duration) error { return map[bool]error{true: work}[d/healthInterval%4 != 0] }, nil},
		{"for good", func(time.Duration) error { return work }, work},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				err := awaitUnwell(ctx, func() error { return tt.ask(time.Since(began)) })
				if err != tt.want {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took, most := time.Since(began), unwellFor+2*healthInterval; err != nil && took > most {
					t.Errorf("told after %s, want at most %s", took, most)
				}
			})
		})
	}
}
