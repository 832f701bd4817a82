package main

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// A replaySender publishes what a plan wants to be sent.
type replaySender struct {
	publish func(context.Context, publisher.Request, func(publisher.Result)) error
	again   func(restart.Request, time.Time) (restart.Request, error)
	pace    *pace
	report  func(replayLine) // of what was to be sent; called concurrently

	unreported sync.WaitGroup
}

// run goes through the steps until they or ctx end, and returns when all that was sent was reported, which is in
// bounded time. What needs nothing to be sent goes to decided. It returns why it stopped before the end; what was sent
// one by one and failed is reported, not returned.
func (s *replaySender) run(ctx context.Context, steps iter.Seq2[replayStep, error], decided func(replayLine)) error {
	defer s.unreported.Wait()
	for step, err := range steps {
		switch {
		case ctx.Err() != nil: // then the error is only a consequence
			return context.Cause(ctx)
		case err != nil:
			return err
		case step.Status != replayPlanned:
			decided(newReplayLine(step))
		case s.pace.wait(ctx):
			s.send(ctx, step)
		}
	}
	return context.Cause(ctx)
}

func (s *replaySender) send(ctx context.Context, step replayStep) {
	line := newReplayLine(step)
	r, err := s.again(step.Old, time.Now())
	if err != nil { // its time has come and gone while the replay ran
		s.report(line.failed(err))
		return
	}
	s.unreported.Add(1)
	err = s.publish(ctx, r, func(result publisher.Result) {
		defer s.unreported.Done()
		s.report(line.of(result))
	})
	if err != nil {
		s.unreported.Done()
		if ctx.Err() == nil {
			s.report(line.failed(err))
		}
	}
}
