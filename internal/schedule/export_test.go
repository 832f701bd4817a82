package schedule

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Pattern returns what the server is asked for, in a zone that may skip midnight as of now.
func (s Spec) Pattern(now time.Time) string {
	if s.Kind == Every {
		return everyPattern(s.every)
	}
	return s.cron.pattern(now)
}

// The names and bounds that tests look at.
const (
	MaxResults    = maxResults
	PlannedHeader = plannedHeader
)

// Read returns the firing that a message stands for, and its result where it is not to be done.
func Read(d Definition, h nats.Header, fired, now time.Time) (f Firing, due bool, r Result, err error) {
	o, err := readOrigin(d.Name, h)
	if err != nil {
		return Firing{}, false, Result{}, err
	}
	f, due = newFiring(d, o, fired)
	r, _ = f.verdict(now)
	return f, due, r, nil
}
