// Package store is the vocabulary of saving: what a database of requests and outcomes must do.
//
// It is Mandrill's memory, not its coordinator: nothing is decided by reading it, except which of two outcomes of one
// request came first.
package store

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ErrIDReused is returned by Save for an id under which another host's request, or another group's, is stored.
var ErrIDReused = errors.New("id belongs to another host's request")

// ErrNotFound is returned by Request and Outcome for an id that has none.
var ErrNotFound = errors.New("not found")

// A Store remembers requests and what came of them. Every method is safe for thousands of callers at once, and what a
// method has returned without an error is durable: it survives the death of the process and of the machine.
//
// An error other than those named means that nothing is known: the caller may ask again, because all that writes is
// idempotent. A cancelled context ends the wait, not necessarily the write.
//
// Times are kept in UTC to the microsecond, a receipt's Down to the microsecond too, and texts as Text returns them.
type Store interface {
	// Save stores a request, unless one with its id, host and group is there, which is then left as it is. Under an
	// id that another host or group has, it returns ErrIDReused.
	Save(ctx context.Context, r restart.Request) error

	// Finish stores the outcome of a request, unless one with its id is there. It returns the one that stands. It does
	// not ask whether the request itself was saved.
	Finish(ctx context.Context, o restart.Outcome) (restart.Outcome, error)

	// Attempted stores an attempt that did not lead to the request's outcome, unless one with its request, number and
	// worker is there. The attempt that did is known from the outcome's receipt.
	Attempted(ctx context.Context, a restart.Attempt) error

	// History returns the stored requests that match, each with its outcome, the latest requested_at first. The first
	// error ends the sequence.
	History(ctx context.Context, f Filter) iter.Seq2[Entry, error]

	// Request returns a stored request, or ErrNotFound.
	Request(ctx context.Context, id uuid.UUID) (restart.Request, error)

	// Outcome returns the outcome of a request, or ErrNotFound.
	Outcome(ctx context.Context, id uuid.UUID) (restart.Outcome, error)

	// Ended counts the outcomes of that time or later, by group and kind.
	Ended(ctx context.Context, since time.Time) (Counts, error)

	// Attempts returns all attempts of a request in their order, the one that led to its outcome last; none if it was
	// never triggered.
	Attempts(ctx context.Context, id uuid.UUID) ([]restart.Attempt, error)

	// Forget removes requests that were requested before that time, n at most, with all that came of them, and returns
	// how many it removed. Other writers wait for no more than those n.
	Forget(ctx context.Context, before time.Time, n int) (int, error)

	// Identity tells this database from every other. It is made when the database is, and never changes.
	Identity() uuid.UUID

	// Close waits for the writes that were taken, and lets go of the database. What comes after it is refused.
	Close() error
}

// An Entry is one request of the history.
type Entry struct {
	Request restart.Request
	Outcome restart.Outcome // the zero Outcome if there is none yet
}

// Counts are how many outcomes there are of each kind, by group. What there is none of is left out.
type Counts map[restart.Group]map[restart.Kind]int

// Add adds n outcomes of a kind.
func (c Counts) Add(group restart.Group, kind restart.Kind, n int) {
	if c[group] == nil {
		c[group] = map[restart.Kind]int{}
	}
	c[group][kind] += n
}

// A Filter chooses requests. The zero value matches all.
type Filter struct {
	Group restart.Group // empty: any
	Host  restart.Host  // empty: any
	Kind  restart.Kind  // of the outcome; empty: any, or none yet
	Since time.Time     // requested at or after; zero: no bound
	Until time.Time     // requested before; zero: no bound
	Limit int           // how many at most; 0: no bound
}

// Text returns a text as every database can hold it: what is not UTF-8, and NUL, are replaced by U+FFFD. A request's
// own bytes are kept beside it as they came.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// CleanRequest makes every text of a request one that Text returns.
func CleanRequest(r *restart.Request) {
	for _, s := range []*string{&r.Instance, &r.Reason, &r.RequestedBy, &r.Campaign, &r.ReplayOf, &r.RequeuedFrom} {
		*s = Text(*s)
	}
}

// CleanOutcome makes every text of an outcome one that Text returns, cuts Down to what is kept, and gives it checks of
// its own, nil if there are none.
func CleanOutcome(o *restart.Outcome) {
	for _, s := range []*string{&o.Detail, &o.Receipt.RequestedBy, &o.Receipt.Worker, (*string)(&o.Receipt.From), (*string)(&o.Receipt.To)} {
		*s = Text(*s)
	}
	o.Receipt.Down = restart.Duration(time.Duration(o.Receipt.Down).Truncate(time.Microsecond))
	o.Receipt.Checks = append([]restart.Check(nil), o.Receipt.Checks...)
	for i := range o.Receipt.Checks {
		c := &o.Receipt.Checks[i]
		c.Name, c.Result = Text(c.Name), Text(c.Result)
	}
}

// CleanAttempt makes every text of an attempt one that Text returns.
func CleanAttempt(a *restart.Attempt) {
	for _, s := range []*string{&a.Worker, &a.Error, (*string)(&a.From), (*string)(&a.To)} {
		*s = Text(*s)
	}
}

// Access is what a database is opened for.
type Access int

const (
	// Worker writes, creates the database and brings its schema up to date.
	Worker Access = iota
	// Reader only reads, beside a worker or from a copy. It changes nothing.
	Reader
	// Mender writes beside a worker that has the database open. It neither creates nor migrates.
	Mender
)
