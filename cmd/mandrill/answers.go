package main

import (
	"context"
	"errors"
	"math"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// openAnswers makes what answers those who ask for the workers of the fleet.
func (s *service) openAnswers() (err error) {
	s.answers, err = fleet.New(fleet.Config{
		Conn: s.conn.Conn, Worker: s.name, Version: ourVersion(), Groups: s.cfg.Groups,
		InFlight: s.inFlight, Control: s.confirmed, Outcome: s.outcomeOf,
		Load: s.load, Logger: s.log,
	})
	return err
}

func (s *service) inFlight() []fleet.Message {
	var messages []fleet.Message
	for _, g := range s.groups {
		for _, h := range g.work.InFlight() {
			messages = append(messages, fleet.Message{
				ID: h.ID, Host: h.Host, Group: g.name, Phase: string(h.Phase), Since: h.Since, Attempt: h.Attempt,
			})
		}
	}
	return messages
}

// confirmed returns what every group of the worker has confirmed.
func (s *service) confirmed() fleet.Control {
	c := fleet.Control{Revision: math.MaxUint64}
	for _, g := range s.groups {
		c.Revision = min(c.Revision, g.control.Confirmed())
		_, c.ConfirmedAt = s.watcher.State(g.name)
	}
	return c
}

func (s *service) outcomeOf(ctx context.Context, id uuid.UUID) (restart.Outcome, bool, error) {
	o, err := s.store.Outcome(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return restart.Outcome{}, false, nil
	}
	return o, err == nil, err
}
