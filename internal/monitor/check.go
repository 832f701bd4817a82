package monitor

import (
	"context"
	"time"
)

// A Check looks at one thing. A monitor never calls it while a former call of its own still runs.
//
// It returns soon after ctx has ended. If it knows nothing by then its verdict is Unknown, whatever error the end of
// ctx has caused: only the runner knows whether time was up, which counts as bad, or the run has ended, which counts as
// nothing. What cannot be checked for any other reason is Bad. No credential is in what it returns.
type Check interface {
	Check(ctx context.Context) Result
}

// A Verdict is what one result says. The zero value says nothing.
type Verdict int

// The three answers of a check.
const (
	Unknown Verdict = iota
	Good
	Bad
)

func (v Verdict) String() string {
	switch v {
	case Good:
		return "good"
	case Bad:
		return "bad"
	}
	return "unknown"
}

// A Result is what a check saw.
type Result struct {
	Verdict Verdict
	Seen    string        // a line for people: what was seen, or why nothing was
	Facts   []Fact        // what was measured, for logs and metrics
	Took    time.Duration // until the check returned; the runner measures it
}

// A Fact is one thing that a check has measured. Its name is one of a few that the kind of the check has.
type Fact struct {
	Name  string // in lower case with underscores, unit included, such as "tls_seconds_left"
	Value int64
}

// A State is what a monitor has come to, by rows of results.
type State int

// A monitor is unknown until a row was long enough, and never becomes unknown again.
const (
	StateUnknown State = iota
	StateGood
	StateFailed
)

func (s State) String() string {
	switch s {
	case StateGood:
		return "good"
	case StateFailed:
		return "failed"
	}
	return "unknown"
}

// An Observation is one result of one monitor.
type Observation struct {
	Name   string        // of the monitor
	Seq    int64         // the beat, from 0; those in between are missing
	Missed int64         // how many beats were, since the monitor's observation before this one
	Offset time.Duration // since the run's start, when the check was begun
	At     time.Time     // when the result was there
	Result Result

	Before, After State // of the monitor
}
