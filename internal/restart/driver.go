package restart

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// An Epoch names one boot of a host: two different epochs are two different boots. It is compared, never ordered.
type Epoch string

// State is what a probe saw of a host.
type State struct {
	Epoch Epoch     // the boot that is running
	Since time.Time // when it began; zero if the driver cannot know
	Ready bool      // whether the host does its work
}

// Compare says where a driver compares the epoch it was given with the host's own.
type Compare int

const (
	// CompareAtAcceptance compares when the request is taken: what was taken may still take effect on a later boot.
	// It is the zero value because it promises less.
	CompareAtAcceptance Compare = iota
	// CompareAtEffect compares at the moment of effect: a request can only ever end the boot that it names.
	CompareAtEffect
)

func (c Compare) String() string {
	if c == CompareAtEffect {
		return "at_effect"
	}
	return "at_acceptance"
}

// Traits is what a driver can promise.
type Traits struct {
	Compare Compare
	// MaxDelay is how long after the call a request that was taken may still take effect, where the driver cannot
	// keep to the time that it is given. Zero means unknown.
	MaxDelay time.Duration
}

// Settle returns how long after a trigger, or after its takeover, the request can no longer take effect, for a lease
// of ackWait; ok is false if that is never certain, so that the trigger must not be repeated. Both times are in it: a
// trigger may be on its way for as long as the lease of whoever gave it lasts, and takes effect up to MaxDelay after it
// has arrived.
func (t Traits) Settle(ackWait time.Duration) (settle time.Duration, ok bool) {
	if t.Compare == CompareAtAcceptance && t.MaxDelay <= 0 {
		return 0, false
	}
	return ackWait + max(0, t.MaxDelay), true
}

// A Driver restarts hosts of one kind. Its methods are called from many goroutines at once.
type Driver interface {
	// Traits says what the driver can promise: where its compare holds, and how late a taken request may still
	// take effect.
	Traits() Traits

	// Probe says which boot of the host is running now, since when, and whether it is ready. An error means unknown:
	// neither "changed" nor "gone".
	Probe(ctx context.Context, host Host) (State, error)

	// Restart restarts the host if its epoch is still the trigger's From, and returns when the trigger was taken, not
	// when the host is back.
	//
	// A nil error means taken. ErrChanged: another boot is running, nothing was done. ErrRefused: nothing was done,
	// it may be asked again. ErrPermanent: nothing was done, and asking again is useless. Any other error means
	// unknown: the trigger may or may not take effect.
	Restart(ctx context.Context, t Trigger) error
}

// A Trigger asks for one restart of one host.
type Trigger struct {
	Host Host
	From Epoch // the boot that it may end, and no other
	// Within is how long from the call it may take effect: what is left of a lease, and never an absolute time, because
	// clocks differ.
	Within  time.Duration
	ID      uuid.UUID // of the request, the same for each of its triggers
	Attempt int       // which of the request's triggers it is, from 1
}

// The classes of a driver's errors, to be wrapped. An error that wraps none of them means unknown.
var (
	ErrChanged   = errors.New("another boot is running")
	ErrRefused   = errors.New("refused for now")
	ErrPermanent = errors.New("cannot ever succeed")
)

// A RefusedError is a refusal that says when to ask again. It is an ErrRefused.
type RefusedError struct {
	After time.Duration // at least
	Err   error         // why
}

func (e *RefusedError) Error() string { return ErrRefused.Error() + ": " + e.Err.Error() }

// Unwrap makes it an ErrRefused.
func (e *RefusedError) Unwrap() []error { return []error{ErrRefused, e.Err} }
