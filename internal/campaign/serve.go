package campaign

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// ServerConfig says how a worker serves campaigns.
type ServerConfig struct {
	Conn     *nats.Conn // without reconnect buffer, so that nothing is settled late
	Consumer jetstream.Consumer
	// Run drives one campaign until it is over or ctx ends, as Runner.Run does.
	Run func(ctx context.Context, id uuid.UUID) error
	// AtOnce is how many campaigns are driven at the same time. Zero means 16.
	AtOnce int
	Logger zerolog.Logger
}

// A Server takes campaigns from their stream and has them driven, each under its lease.
type Server struct {
	cfg          ServerConfig
	ackWait      time.Duration
	missingTries int // how often a campaign is handed out that is not to be found
}

// NewServer returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	switch {
	case cfg.Conn == nil, cfg.Consumer == nil, cfg.Run == nil:
		return nil, errors.New("campaign: Conn, Consumer or Run is missing")
	case cfg.AtOnce < 0:
		return nil, errors.New("campaign: AtOnce is negative")
	}
	if cfg.AtOnce == 0 {
		cfg.AtOnce = 16
	}
	return &Server{cfg, cfg.Consumer.CachedInfo().Config.AckWait, missingTries}, nil
}

const (
	pullWait      = 5 * time.Second // for a campaign to come
	pullRetry     = time.Second     // after a pull that failed
	settleTimeout = 5 * time.Second // for a settlement
	runRetry      = 5 * time.Second // until a campaign is handed out again that could not be driven

	// A campaign may not be found because a node of the cluster is behind, and then must not be thrown away.
	missingRetry = time.Second
	missingTries = 60
)

// Run serves campaigns until ctx ends, and returns when those that it drives have been handed back.
func (s *Server) Run(ctx context.Context) error {
	var driving sync.WaitGroup
	defer driving.Wait()
	slots := make(chan struct{}, s.cfg.AtOnce)
	level := zerolog.WarnLevel
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		msg, err := s.pull(ctx)
		if msg != nil {
			level = zerolog.WarnLevel
			received := time.Now()
			driving.Go(func() {
				defer func() { <-slots }()
				s.drive(ctx, msg, received)
			})
			continue
		}
		<-slots
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.cfg.Logger.WithLevel(level).Err(err).Msg("cannot look for campaigns, trying until it can")
			level = zerolog.DebugLevel // an outage is told once
			if sleep(ctx, pullRetry) != nil {
				return nil
			}
		}
	}
}

// pull returns the next campaign's message, or nil.
func (s *Server) pull(ctx context.Context) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	batch, err := s.cfg.Consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, err
	}
	msg := <-batch.Messages()
	if err := batch.Error(); err != nil && ctx.Err() == nil && msg == nil {
		return nil, err
	}
	return msg, nil
}

// drive drives the campaign of one message, and settles it.
func (s *Server) drive(ctx context.Context, msg jetstream.Msg, received time.Time) {
	log := s.cfg.Logger.With().Str("subject", msg.Subject()).Logger()
	_, id, err := stream.ParseCampaignSubject(msg.Subject())
	if err != nil {
		log.Error().Err(err).Msg("no campaign, thrown away")
		s.settle(ctx, log, msg, "+TERM no campaign")
		return
	}
	held, release := hold(ctx, received, s.ackWait, func(ctx context.Context) error {
		_, err := s.cfg.Conn.RequestWithContext(ctx, msg.Reply(), []byte("+WPI"))
		return err
	})
	err = s.run(held, id)
	if !release() {
		log.Warn().AnErr("run", err).Msg("campaign left: its lease was lost")
		return
	}
	switch {
	case err == nil:
		log.Info().Msg("campaign is over")
		s.settle(ctx, log, msg, "+ACK")
	case errors.Is(err, ErrConflict): // whoever drives it settles it
		log.Info().Err(err).Msg("campaign left")
	case errors.Is(err, errOtherGroup), errors.Is(err, ErrNotFound) && deliveries(msg) >= s.missingTries:
		log.Error().Err(err).Msg("campaign thrown away")
		s.settle(ctx, log, msg, "+TERM no such campaign")
	case errors.Is(err, ErrNotFound):
		log.Debug().Err(err).Msg("campaign is not to be found yet")
		s.settle(ctx, log, msg, nak(missingRetry))
	case ctx.Err() != nil:
		s.settle(ctx, log, msg, nak(0))
	default: // also one that cannot be read: a later version may
		log.Warn().Err(err).Msg("campaign cannot be driven, trying again")
		s.settle(ctx, log, msg, nak(runRetry))
	}
}

// deliveries returns how often a message was handed out.
func deliveries(msg jetstream.Msg) int {
	meta, err := msg.Metadata()
	if err != nil {
		return 1 // unreachable: the reply subject is the server's
	}
	return int(meta.NumDelivered)
}

// run contains a panic: it is this campaign's alone.
func (s *Server) run(ctx context.Context, id uuid.UUID) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return s.cfg.Run(ctx, id)
}

// nak names a delay also where it is none, because the server stores only one that is named.
func nak(delay time.Duration) string { return fmt.Sprintf(`-NAK {"delay": %d}`, delay) }

// settle outlives the stop of the work. A settlement that is lost leads to another delivery, which finds the campaign
// as it is.
func (s *Server) settle(ctx context.Context, log zerolog.Logger, msg jetstream.Msg, how string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if _, err := s.cfg.Conn.RequestWithContext(ctx, msg.Reply(), []byte(how)); err != nil {
		log.Warn().Err(err).Msg("cannot settle, it will be handed out again")
	}
}
