package monitor

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// maxTimeout is the timeout of a check that has none of its own, unless its beats come faster.
const maxTimeout = 10 * time.Second

// A Spec is one monitor: what is checked, when, and how many results decide.
type Spec struct {
	Name  string
	Check Check

	Every        time.Duration // from one beat to the next
	InitialDelay time.Duration // from the start to the first beat; zero means at once

	// Timeout is how long one check may take, and at most Every, so that a check that keeps to it does not miss its next
	// beat. Zero means nine tenths of Every, or 10 s if that is less.
	Timeout time.Duration

	Failures  int // how many bad results in a row it takes to fail
	Successes int // how many good ones in a row it takes to be good
}

// Validate returns an error that begins with the name of the field that is wrong, as a config key.
func (s Spec) Validate() error {
	switch {
	case s.Name == "":
		return errors.New("name: is missing")
	case s.Check == nil:
		return errors.New("check: is missing")
	case s.Every == 0:
		return errors.New("every: is missing")
	case s.Every < 0:
		return fmt.Errorf("every: %s is negative", s.Every)
	case s.InitialDelay < 0:
		return fmt.Errorf("initial_delay: %s is negative", s.InitialDelay)
	case s.Timeout < 0:
		return fmt.Errorf("timeout: %s is negative", s.Timeout)
	case s.Timeout > s.Every:
		return fmt.Errorf("timeout: %s is longer than every, %s", s.Timeout, s.Every)
	case s.Failures <= 0:
		return fmt.Errorf("failures: %d is not positive", s.Failures)
	case s.Successes <= 0:
		return fmt.Errorf("successes: %d is not positive", s.Successes)
	}
	return nil
}

func (s Spec) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	// The last tenth is for a check that is cut to return in.
	return max(1, min(maxTimeout, s.Every-s.Every/10))
}

// A StopOn says which failures end a run.
type StopOn string

// The three modes. None given means Never.
const (
	Never        StopOn = "never"
	FirstFailure StopOn = "first_failure" // as soon as one monitor has failed
	AllFailed    StopOn = "all_failed"    // as soon as all monitors are failed at the same time
)

// Config says what is monitored, and when that ends.
type Config struct {
	Monitors []Spec // by names of their own; none is allowed, and ends a run at once
	StopOn   StopOn

	// For is how long a run lasts, unless it ends before. Zero means that it has no such end.
	For time.Duration

	// Observe, if there is one, is told of every result. It is called by the goroutine that Run was called from, and by
	// nobody once Run has returned. It must not block for long: all beats wait for it.
	Observe func(Observation)

	// Logger is told of every monitor's start and stop and of every result. The zero value is silent.
	Logger zerolog.Logger
}

func (c Config) validate() error {
	names := make(map[string]bool, len(c.Monitors))
	for i, s := range c.Monitors {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("monitors[%d].%w", i, err)
		}
		if names[s.Name] {
			return fmt.Errorf("monitors[%d].name: %q is another monitor's already", i, s.Name)
		}
		names[s.Name] = true
	}
	switch c.StopOn {
	case "", Never, FirstFailure, AllFailed:
	default:
		return fmt.Errorf("stop_on: %q is none of %s, %s and %s", c.StopOn, FirstFailure, AllFailed, Never)
	}
	if c.For < 0 {
		return fmt.Errorf("for: %s is negative", c.For)
	}
	return nil
}
