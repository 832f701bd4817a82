package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

const (
	// requeuesAtOnce is how many letters are on their way at once: each waits for the publish, and then for its mark.
	requeuesAtOnce = 64

	// markTimeout bounds a mark. What was published is marked even where a signal has come meanwhile.
	markTimeout = 10 * time.Second
)

// A requeueSender publishes requests, and then marks their letters. If it dies between the two, the next run publishes
// the same id again, and marks.
type requeueSender struct {
	publish func(context.Context, publisher.Request, func(publisher.Result)) error
	mark    func(ctx context.Context, e deadletter.Entry, as uuid.UUID, at time.Time) error
	asked   func(restart.Request, time.Time) (restart.Request, error)
	pace    *pace
	report  func(requeueLine) // called concurrently
}

// run sends the steps, and returns when each that was begun is reported, which is in bounded time. It returns why it
// stopped before the end.
func (s *requeueSender) run(ctx context.Context, steps []requeueStep) error {
	var sending errgroup.Group
	sending.SetLimit(requeuesAtOnce)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, step := range steps {
		if !s.pace.wait(ctx) {
			break
		}
		sending.Go(func() error {
			s.send(ctx, step, stop)
			return nil
		})
	}
	_ = sending.Wait() // nothing is returned to it
	return context.Cause(ctx)
}

// send publishes one request and marks its letter, and reports what became of it; what ctx kept from being sent is not
// reported. It calls stop where there is no use in going on.
func (s *requeueSender) send(ctx context.Context, step requeueStep, stop context.CancelCauseFunc) {
	line := step.line
	now := time.Now()
	r, err := s.asked(step.request, now)
	if err != nil { // its time has come and gone since the flags were read
		s.report(line.failed(err))
		return
	}
	results := make(chan publisher.Result, 1)
	if err := s.publish(ctx, r, func(result publisher.Result) { results <- result }); err != nil {
		if ctx.Err() == nil {
			s.report(line.failed(err))
		}
		return
	}
	result := <-results
	if errors.Is(result.Err, publisher.ErrNoStream) {
		stop(result.Err)
	}
	if result.Status == publisher.Confirmed {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
		defer cancel()
		if err := s.mark(ctx, step.entry, r.ID, now); err != nil {
			s.report(line.failed(fmt.Errorf("it was published, but: %w; requeue it again, which doubles nothing", err)))
			return
		}
	}
	s.report(line.of(result))
}

// of returns the line with what the publisher says.
func (l requeueLine) of(result publisher.Result) requeueLine {
	switch result.Status {
	case publisher.Confirmed:
		l.Status = requeueDone
		return l
	case publisher.AlreadyQueued:
		l.Status, l.QueuedID, l.QueuedPhase = requeueAlreadyQueued, result.QueuedID, result.QueuedPhase
		l.Why = fmt.Sprintf("%s is %s; this letter keeps", result.QueuedID, result.QueuedPhase)
		return l
	default:
		return l.failed(result.Err)
	}
}

func (l requeueLine) failed(err error) requeueLine {
	l.Status, l.Why = requeueFailed, err.Error()
	return l
}
