// Package store is the vocabulary of saving: what a database of requests and outcomes must do.
//
// It is Mandrill's memory, not its coordinator: nothing is decided by reading it, except which of two outcomes of one
// request came first.
package store

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ErrIDReused is returned by Save for an id under which another host's request, or another group's, is stored.
var ErrIDReused = errors.New("id belongs to another host's request")

// ErrNotFound is returned by Outcome for a request that has none yet.
var ErrNotFound = errors.New("no outcome yet")

// A Store remembers requests and what came of them. Every method is safe for thousands of callers at once, and what a
// method has returned without an error is durable: it survives the death of the process and of the machine.
//
// An error other than those named means that nothing is known: the caller may ask again, because Save and Finish are
// idempotent. A cancelled context ends the wait, not necessarily the write.
type Store interface {
	// Save stores a request, unless one with its id, host and group is there, which is then left as it is. Under an
	// id that another host or group has, it returns ErrIDReused.
	Save(ctx context.Context, r restart.Request) error

	// Finish stores the outcome of a request, unless one with its id is there. It returns the one that stands. It does
	// not ask whether the request itself was saved.
	Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error)

	// Requests returns the stored requests that match, the latest requested_at first. The first error ends the
	// sequence.
	Requests(ctx context.Context, f Filter) iter.Seq2[restart.Request, error]

	// Outcome returns the outcome of a request, or ErrNotFound.
	Outcome(ctx context.Context, id uuid.UUID) (restart.Outcome, error)

	// Close waits for the writes that were taken, and lets go of the database. What comes after it is refused.
	Close() error
}

// A Filter chooses requests. The zero value matches all.
type Filter struct {
	Group restart.Group // empty: any
	Host  restart.Host  // empty: any
	Since time.Time     // requested at or after; zero: no bound
	Until time.Time     // requested before; zero: no bound
	Limit int           // how many at most; 0: no bound
}
