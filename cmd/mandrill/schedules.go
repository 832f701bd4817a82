package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// schedulesRetry is the time between two attempts to serve schedules where that cannot be done.
const schedulesRetry = 5 * time.Second

// firingTimeout bounds what one firing takes, the longest of which is asking all hosts of a fleet since when they are up.
const firingTimeout = 5 * time.Minute

// askTimeout bounds what is asked of the server before and after that: where a permission is missing, it does not answer.
const askTimeout = 10 * time.Second

// serveSchedules makes requests and campaigns of the firings of schedules until ctx ends. Where it cannot, the worker goes
// on all the same: somebody else may.
func (s *service) serveSchedules(ctx context.Context) {
	log := s.log.With().Str("component", "schedules").Logger()
	level := zerolog.WarnLevel
	for {
		err := s.trySchedules(ctx, log)
		if ctx.Err() != nil {
			return
		}
		log.WithLevel(level).Err(err).Msg("cannot serve schedules, trying until it can")
		level = zerolog.DebugLevel // an outage is told once
		select {
		case <-ctx.Done():
			return
		case <-time.After(schedulesRetry):
		}
	}
}

// trySchedules has a connection of its own. Missing a permission on the worker's ends the worker; here it is the result of
// the one firing that asked for what nobody permits. What an outage is, the worker's own connection tells.
func (s *service) trySchedules(ctx context.Context, log zerolog.Logger) (err error) {
	conn, err := s.endpoint.connect(ctx, "mandrill "+s.name+" schedules", log.Level(zerolog.ErrorLevel))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return fmt.Errorf("cannot use JetStream: %w", err)
	}
	held, err := stream.EnsureSchedules(ctx, js, s.settings())
	if err != nil {
		return err
	}
	stored, err := schedule.NewStore(js, held)
	if err != nil {
		return err
	}
	return withPublisher(ctx, conn, s.cfg, log, func(p *publisher.Publisher) error {
		f := &firings{service: s, js: js, publisher: p}
		server, err := schedule.NewServer(schedule.ServerConfig{Store: stored, Do: f.do, Begun: f.begun, Timeout: firingTimeout, Logger: log})
		if err != nil {
			return err
		}
		return server.Run(ctx)
	})
}

// firings does what the firings of schedules ask for.
type firings struct {
	service   *service
	js        jetstream.JetStream
	publisher *publisher.Publisher
}

// do does what one firing asks for. An error means that it may go well another time, or in another worker.
func (w *firings) do(ctx context.Context, f schedule.Firing) (schedule.Result, error) {
	do := w.roll
	if f.Restart != nil {
		do = w.restart
	}
	result, err := do(ctx, f)
	return refused(result, err)
}

// begun goes on with what an earlier delivery of a firing has begun: its request is queued or has ended, or its campaign is
// stored.
func (w *firings) begun(ctx context.Context, f schedule.Firing) (r schedule.Result, is bool, err error) {
	if f.Restart == nil {
		r, is, err = w.rollBegun(ctx, f)
	} else {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		requests := &campaignRequests{work: w.service.streams.Work, store: w.service.store}
		var sight campaign.Sight
		sight, err = requests.look(asking, campaign.Target{ID: f.ID, Group: f.Restart.Group, Host: f.Restart.Host})
		r, is = schedule.Result{Outcome: schedule.Started, Made: f.ID.String()}, sight.Queued || sight.Kind != ""
	}
	if err != nil {
		r, err = refused(r, err)
		is = err == nil
	}
	return r, is, err
}

// refused makes a result of the error that says that a firing cannot be done, and leaves any other as it is.
func refused(r schedule.Result, err error) (schedule.Result, error) {
	if errors.As(err, new(refusal)) || errors.As(err, new(*restart.FieldError)) {
		return schedule.Result{Outcome: schedule.Refused, Why: err.Error()}, nil
	}
	return r, err
}

// A refusal is why a firing cannot be done, however often it is tried.
type refusal string

func (r refusal) Error() string { return string(r) }

// restart publishes the request of a firing, under the firing's id.
func (w *firings) restart(ctx context.Context, f schedule.Firing) (schedule.Result, error) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := w.checkServed(asking, f.Restart.Group); err != nil {
		return schedule.Result{}, err
	}
	result, err := w.publish(ctx, restart.Request{
		ID: f.ID, Instance: f.Restart.Instance, Host: f.Restart.Host, Group: f.Restart.Group,
		Reason: cmp.Or(f.Restart.Reason, "schedule "+f.Name), RequestedBy: requestedBy(f), NotAfter: f.NotAfter,
	})
	switch {
	case err != nil:
		return schedule.Result{}, err
	case result.Status == publisher.AlreadyQueued:
		return schedule.Result{
			Outcome: schedule.Skipped,
			Why:     fmt.Sprintf("host %s has request %s already, which is %s", f.Restart.Host, result.QueuedID, result.QueuedPhase),
		}, nil
	case result.Status == publisher.Failed:
		return schedule.Result{}, w.notPermitted(result.Err, stream.WorkSubject(f.Restart.Group, f.Restart.Host))
	}
	return schedule.Result{Outcome: schedule.Started, Made: f.ID.String()}, nil
}

// publish returns what became of a request.
func (w *firings) publish(ctx context.Context, r restart.Request) (publisher.Result, error) {
	reported := make(chan publisher.Result, 1)
	if err := w.publisher.Publish(ctx, r, func(result publisher.Result) { reported <- result }); err != nil {
		return publisher.Result{}, err
	}
	select {
	case result := <-reported:
		return result, nil
	case <-ctx.Done():
		return publisher.Result{}, context.Cause(ctx)
	}
}

// checkServed refuses a group that no worker has ever served, which is most likely misspelt: its requests would wait until
// they expire.
func (w *firings) checkServed(ctx context.Context, group restart.Group) error {
	_, err := w.js.Consumer(ctx, stream.Work, stream.ConsumerName(group))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return refusal(fmt.Sprintf("no worker has ever served group %s", group))
	}
	return err
}

// notPermitted makes a refusal of an error that is due to a missing permission for the subject: another attempt is
// useless. The server says no more of it than a text, which stays with the connection.
func (w *firings) notPermitted(err error, subject string) error {
	complaint := w.js.Conn().LastError()
	if errors.Is(complaint, nats.ErrPermissionViolation) && strings.Contains(complaint.Error(), `"`+subject+`"`) {
		return refusal("NATS does not permit it: " + complaint.Error())
	}
	return err
}

// requestedBy names who is behind a firing.
func requestedBy(f schedule.Firing) string {
	who := f.By
	if f.Manual {
		who = f.ManBy
	}
	if who == "" {
		return "schedule " + f.Name
	}
	return "schedule " + f.Name + ", by " + who
}
