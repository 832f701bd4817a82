package main

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/ops"
	"github.com/mayhem-mandrill/mandrill/internal/sdnotify"
)

// A supervisor tells systemd, where that has started this process and asks for it, when the process is ready, that it
// lives, and that it stops.
//
// What it says of life is not made up by a timer of its own: it speaks only with a reading of the lag, which a process
// whose goroutines do not get to run has none of, and only after it was asked what keeps the process from its work, which
// takes the locks of all its parts and returns in no process where one of them is held for ever. That NATS or the database
// is away does not end a process: starting it again would not bring them back.
type supervisor struct {
	notifier *sdnotify.Notifier // nil: nobody wants to be told
	problems func() []ops.Problem
	log      zerolog.Logger

	mu      sync.Mutex
	ready   bool
	stopped bool
	status  string
	fed     time.Time
}

// newSupervisor returns what tells whom the environment names. The caller must close it.
func newSupervisor(getenv func(string) string, problems func() []ops.Problem, log zerolog.Logger) (*supervisor, error) {
	n, err := sdnotify.Open(getenv)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return &supervisor{notifier: n, problems: problems, log: log}, nil
}

// beat is called with each reading of the lag.
func (s *supervisor) beat() {
	if s.notifier == nil {
		return
	}
	status := "working"
	for _, p := range s.problems() {
		if !p.Advisory {
			status = p.Detail
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []string
	if every := s.notifier.Watchdog(); every > 0 && time.Since(s.fed) >= every/4 {
		states = append(states, sdnotify.Alive)
		s.fed = time.Now()
	}
	if !s.stopped && status != s.status {
		states = append(states, sdnotify.Status(status))
		s.status = status
	}
	if !s.stopped && !s.ready && status == "working" {
		states = append(states, sdnotify.Ready)
		s.ready = true
	}
	s.tell(states)
}

// stop says that the process is about to end.
func (s *supervisor) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.tell([]string{sdnotify.Stopping, sdnotify.Status("stopping")})
}

func (s *supervisor) close() error { return s.notifier.Close() }

// tell is called with mu held.
func (s *supervisor) tell(states []string) {
	if len(states) == 0 {
		return
	}
	if err := s.notifier.Tell(states...); err != nil {
		s.log.Warn().Err(err).Msg("systemd does not hear this process")
	}
}
