package schedule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	fetchWait     = 2 * time.Second
	retryWait     = time.Second
	settleTimeout = 10 * time.Second
	maxNakDelay   = time.Minute

	maxWhyLen = 1000

	defaultTimeout       = 2 * time.Minute
	defaultMaxDeliveries = 20
	defaultSweepAfter    = 5 * time.Second
)

// ServerConfig says how firings are served.
type ServerConfig struct {
	Store *Store
	// Do does what a firing asks for, and returns a result with Outcome Started, Skipped or Refused, Why and Made. It is
	// called again after an error, after a crash and, rarely, at the same time by two workers, so it must be idempotent
	// by the firing's id. What it makes must not begin after the firing's NotAfter.
	Do func(ctx context.Context, f Firing) (Result, error)
	// Begun goes on with what an earlier delivery of a firing has begun, and returns its result; or that nothing was. It is
	// asked before anything is said of a firing. Nil: Do can tell.
	Begun func(ctx context.Context, f Firing) (r Result, begun bool, err error)
	// Timeout bounds what is done for one delivery. Zero means 2 minutes.
	Timeout time.Duration
	// MaxDeliveries is how often a firing is delivered until it has failed. Zero means 20.
	MaxDeliveries int
	// SweepAfter is how long after each connection the firings that the server owes are looked for, so that it can make
	// them itself first. Zero means 5 s.
	SweepAfter time.Duration
	Logger     zerolog.Logger
}

// A Server serves firings, one after another. Any number of workers have one each.
type Server struct {
	cfg     ServerConfig
	running atomic.Bool
}

// ErrRunning is returned by Run while another call of it has not returned.
var ErrRunning = errors.New("schedules are being served already")

// NewServer returns a server that does nothing before Run.
func NewServer(cfg ServerConfig) (*Server, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("store: is missing")
	case cfg.Do == nil:
		return nil, errors.New("do: is missing")
	case cfg.Timeout < 0 || cfg.MaxDeliveries < 0 || cfg.SweepAfter < 0:
		return nil, errors.New("timeout, max_deliveries, sweep_after: must not be negative")
	}
	if cfg.Begun == nil {
		cfg.Begun = func(context.Context, Firing) (Result, bool, error) { return Result{}, false, nil }
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxDeliveries == 0 {
		cfg.MaxDeliveries = defaultMaxDeliveries
	}
	if cfg.SweepAfter == 0 {
		cfg.SweepAfter = defaultSweepAfter
	}
	return &Server{cfg: cfg}, nil
}

// Run serves firings until ctx ends, and then returns nil. While the broker is away it waits. The error is ErrRunning.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer s.running.Store(false)
	level := zerolog.WarnLevel
	for ctx.Err() == nil {
		err := s.serve(ctx, func() { level = zerolog.WarnLevel })
		if ctx.Err() != nil {
			break
		}
		s.cfg.Logger.WithLevel(level).Err(err).Msg("cannot take firings of schedules, trying again")
		level = zerolog.DebugLevel // an outage is told once
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
	return nil
}

// serve calls well whenever the broker has answered.
func (s *Server) serve(ctx context.Context, well func()) error {
	consumer, err := stream.EnsureScheduleConsumer(ctx, s.cfg.Store.js)
	if err != nil {
		return err
	}
	conn := s.cfg.Store.js.Conn()
	seen, sweepAt := conn.Stats().Reconnects, time.Now().Add(s.cfg.SweepAfter)
	for ctx.Err() == nil {
		if n := conn.Stats().Reconnects; n != seen {
			seen, sweepAt = n, time.Now().Add(s.cfg.SweepAfter)
		}
		if !sweepAt.IsZero() && time.Now().After(sweepAt) {
			if err := s.sweep(ctx); err != nil {
				return err
			}
			sweepAt = time.Time{}
		}
		msg, err := fetch(ctx, consumer)
		switch {
		case err != nil:
			return err
		case msg != nil:
			s.handle(ctx, msg, consumer.CachedInfo().Config.AckWait)
		}
		well()
	}
	return nil
}

// fetch returns the next firing; nil if none comes for a while.
func fetch(ctx context.Context, consumer jetstream.Consumer) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, err
	}
	msg := <-batch.Messages()
	if err := batch.Error(); msg == nil && ctx.Err() == nil {
		return nil, err
	}
	return msg, nil
}

// A delivery is one message, as it was handed to this worker.
type delivery struct {
	jetstream.Msg
	meta  *jetstream.MsgMetadata
	lease time.Duration // for which it is this worker's, unless it is extended
	log   zerolog.Logger
}

// handle sees to one delivery, from reading to settling it.
func (s *Server) handle(ctx context.Context, msg jetstream.Msg, lease time.Duration) {
	log := s.cfg.Logger.With().Str("subject", msg.Subject()).Logger()
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout+settleTimeout)
	defer cancel()
	meta, err := msg.Metadata()
	if err != nil {
		log.Error().Err(err).Msg("cannot read what the broker says of a firing")
		return // it comes again
	}
	err = s.settle(ctx, settle, delivery{msg, meta, lease, log})
	switch {
	case ctx.Err() != nil && err != nil:
		err = msg.NakWithDelay(time.Millisecond) // for another worker
	case errors.Is(err, errNoFiring):
		log.Error().Err(err).Msg("a message among the firings is none, it is removed")
		err = msg.TermWithReason(err.Error())
	case err != nil:
		log.Warn().Err(err).Uint64("delivery", meta.NumDelivered).Msg("cannot serve a firing, trying again")
		err = msg.NakWithDelay(min(time.Second<<min(meta.NumDelivered-1, 10), maxNakDelay))
	default:
		err = msg.Ack()
	}
	if err != nil {
		log.Debug().Err(err).Msg("cannot settle a firing, it comes again")
	}
}

var errNoFiring = errors.New("it is no firing")

// settle returns nil once nothing more is to be done for a firing: its result is recorded, or it needs none.
func (s *Server) settle(ctx, settle context.Context, msg delivery) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name := stream.ScheduleOf(msg.Subject())
	o, err := readOrigin(name, msg.Headers())
	if err == nil {
		err = CheckName(name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoFiring, err)
	}
	d, unreadable, err := s.definition(ctx, name, o, msg)
	switch {
	case errors.Is(err, ErrNotFound):
		msg.log.Debug().Msg("the schedule was removed")
		return nil
	case err != nil:
		return err
	case unreadable != nil:
		id := uuid.NewSHA1(firingSpace, fmt.Appendf(nil, "%s#%d", name, msg.meta.Sequence.Stream))
		f := Firing{ID: id, Definition: Definition{Name: name}, Planned: msg.meta.Timestamp, Fired: msg.meta.Timestamp}
		return s.record(settle, f, Result{Outcome: Failed, Why: unreadable.Error()}, msg.log)
	}
	f, due := newFiring(d, o, msg.meta.Timestamp)
	if !due {
		return nil
	}
	results, _, err := s.cfg.Store.results(ctx, name)
	if err != nil || has(results, f.ID) {
		return err
	}
	r, err := s.extended(ctx, msg, func(ctx context.Context) (Result, error) { return s.result(ctx, msg, f) })
	if err != nil && ctx.Err() == nil && int(msg.meta.NumDelivered) == s.cfg.MaxDeliveries {
		r, err = Result{Outcome: Failed, Why: err.Error()}, nil
	}
	if err != nil {
		return err
	}
	return s.record(settle, f, r, msg.log)
}

// result returns what becomes of a firing: what has begun is gone on with, whatever would be said of it now.
func (s *Server) result(ctx context.Context, msg delivery, f Firing) (Result, error) {
	if int(msg.meta.NumDelivered) > s.cfg.MaxDeliveries { // whoever took it before could not even say why it failed
		return Result{Outcome: Failed, Why: fmt.Sprintf("it was delivered %d times, and no worker came to an end with it", msg.meta.NumDelivered)}, nil
	}
	if r, begun, err := s.cfg.Begun(ctx, f); begun || err != nil {
		return r, err
	}
	if r, final := f.verdict(time.Now()); final {
		return r, nil
	}
	r, err := s.cfg.Do(ctx, f)
	if err == nil && r.Outcome == "" {
		err = errors.New("do returned no outcome")
	}
	return r, err
}

// definition returns what a firing is of: as the schedule stands now, unless the firing was made by hand or its schedule
// is over with it; then as it stood.
func (s *Server) definition(ctx context.Context, name string, o origin, msg delivery) (d Definition, unreadable, err error) {
	data, version := msg.Data(), msg.Headers().Get(stream.VersionHeader)
	if !o.next.IsZero() || !o.planned.IsZero() {
		stored, err := s.cfg.Store.stream.GetLastMsgForSubject(ctx, stream.ScheduleDef(name))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return Definition{}, nil, ErrNotFound
		case err != nil:
			return Definition{}, nil, err
		}
		data, version = stored.Data, stored.Header.Get(stream.VersionHeader)
	}
	d, unreadable = decode(name, version, data)
	return d, unreadable, nil
}

// extended calls do, and keeps the message from being delivered to others meanwhile.
func (s *Server) extended(ctx context.Context, msg delivery, do func(context.Context) (Result, error)) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	var extending sync.WaitGroup
	defer extending.Wait()
	defer cancel()
	extending.Go(func() {
		ticker := time.NewTicker(msg.lease / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_ = msg.InProgress() // if that is lost, another worker does the same under the same id
			}
		}
	})
	return do(ctx)
}

func (s *Server) record(ctx context.Context, f Firing, r Result, log zerolog.Logger) error {
	r.ID, r.Planned, r.Fired, r.At = f.ID, f.Planned.UTC(), f.Fired.UTC(), time.Now().UTC()
	r.Manual, r.By = f.Manual, f.ManBy
	if len(r.Why) > maxWhyLen {
		r.Why = strings.ToValidUTF8(r.Why[:maxWhyLen], "")
	}
	added, err := s.cfg.Store.record(ctx, f.Definition, r)
	if err != nil {
		return fmt.Errorf("cannot record the result: %w", err)
	}
	if added {
		log.Info().Str("id", r.ID.String()).Time("planned", r.Planned).Str("outcome", string(r.Outcome)).
			Str("why", r.Why).Str("made", r.Made).Msg("schedule")
	}
	return nil
}
