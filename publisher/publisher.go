package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// The vocabulary that a caller needs.
type (
	Request    = restart.Request
	Host       = restart.Host
	Group      = restart.Group
	Duration   = restart.Duration
	FieldError = restart.FieldError
)

const (
	// DefaultDomain, DefaultWindow and DefaultTimeout stand in for the zero values of a Config.
	DefaultDomain  = "example.net"
	DefaultWindow  = 4096
	DefaultTimeout = 30 * time.Second

	// answerTimeout is how long one attempt waits for its answer. It is far above what a healthy server needs, because
	// every attempt that ends by it leaves open whether the request was stored.
	answerTimeout = 5 * time.Second
)

var (
	// ErrClosed is returned for a publish that comes after Close, and stands in the result of one that Close gave up.
	ErrClosed = errors.New("publisher is closed")

	// ErrNoStream is in the result of a publish that failed because there is no work stream.
	ErrNoStream = errors.New("there is no stream " + stream.Work + ", which the first worker creates: start a worker")

	// ErrUnanswered is in the result of a publish that failed, but may be stored, because an attempt got no answer.
	ErrUnanswered = errors.New("it may be stored all the same, because an attempt got no answer")
)

// A Status is how a publish ended.
type Status string

const (
	Confirmed     Status = "confirmed"      // the stream has it
	AlreadyQueued Status = "already_queued" // the stream has another request for the host
	Failed        Status = "failed"
)

// A Result is the one end of a publish.
type Result struct {
	Request Request // as it was published, with nothing left open
	Status  Status

	// Duplicate is whether the stream had the request before this publish, where Status is Confirmed. It knows of requests
	// that are queued or in work, and of those of the last two minutes.
	Duplicate bool

	// QueuedID and QueuedPhase say which request is queued in place of this one, and how far it has come, where Status
	// is AlreadyQueued.
	QueuedID    uuid.UUID
	QueuedPhase Phase

	// Err is why, where Status is Failed.
	Err error
}

// A Phase is how far a request on the stream has come, for people.
type Phase string

const (
	PhaseQueued     Phase = "queued" // on the stream, and nothing more is known
	PhaseRestarting Phase = "restarting"
	PhaseWaiting    Phase = "waiting to retry"
	PhaseEnded      Phase = "ended" // it has its outcome, and is about to leave the stream
)

// Phases tells how far requests have come.
type Phases interface {
	// Phase returns PhaseQueued for a request of which nothing else is known. An error means unknown.
	Phase(ctx context.Context, group Group, id uuid.UUID, host Host) (Phase, error)
}

// Config says what a Publisher is.
type Config struct {
	// Conn is what is published on; required, and not closed. It needs no reconnect buffer.
	Conn *nats.Conn
	// Domain makes a host name of an instance without a dot. Empty means DefaultDomain.
	Domain string
	// Window is how many publishes may be without a result. Zero means DefaultWindow.
	Window int
	// Timeout is how long a publish is tried again while there is no answer. Zero means DefaultTimeout.
	Timeout time.Duration
	// Phases says more of a request that is queued already. Nil means that nothing more is known.
	Phases Phases
	Logger zerolog.Logger
}

// A Publisher puts requests on the work stream. Its methods may be called from many goroutines at once.
type Publisher struct {
	js        broker
	lastError func() error // the connection's, where the server's complaints of missing permission end up
	domain    string
	timeout   time.Duration
	phases    Phases
	log       zerolog.Logger

	// window holds a token for each publish that has not been reported. Close takes them all, and keeps them.
	window    chan struct{}
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error

	// life ends, with a cause, when Close gives up what is still open.
	life   context.Context
	giveUp context.CancelCauseFunc
}

// broker is JetStream as far as a Publisher needs it: a seam for what a real server does too rarely for a test.
type broker interface {
	PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error)
	Stream(ctx context.Context, name string) (jetstream.Stream, error)
	CleanupPublisher()
}

// New returns a Publisher, which must be closed.
func New(cfg Config) (*Publisher, error) {
	if cfg.Conn == nil {
		return nil, errors.New("cannot publish without a connection")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	// The JetStream context is the Publisher's own, because its asynchronous side has settings that others have no
	// reason to share: answers are not awaited for ever, and it has no limit to stall at below the window.
	js, err := jetstream.New(cfg.Conn,
		jetstream.WithPublishAsyncTimeout(min(answerTimeout, cfg.Timeout/2)),
		jetstream.WithPublishAsyncMaxPending(math.MaxInt32))
	if err != nil {
		return nil, fmt.Errorf("cannot use JetStream: %w", err)
	}
	return newPublisher(cfg, js, cfg.Conn.LastError), nil
}

func newPublisher(cfg Config, js broker, lastError func() error) *Publisher {
	life, giveUp := context.WithCancelCause(context.Background())
	return &Publisher{
		js:        js,
		lastError: lastError,
		domain:    cfg.Domain,
		timeout:   cfg.Timeout,
		phases:    cfg.Phases,
		log:       cfg.Logger.With().Str("component", "publisher").Logger(),
		window:    make(chan struct{}, cfg.Window),
		closing:   make(chan struct{}),
		life:      life,
		giveUp:    giveUp,
	}
}

func (cfg Config) withDefaults() (Config, error) {
	cfg.Domain = cmp.Or(cfg.Domain, DefaultDomain)
	cfg.Window = cmp.Or(cfg.Window, DefaultWindow)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	if _, err := restart.ParseHost(cfg.Domain); err != nil {
		return cfg, fmt.Errorf("domain is not one: %w", err)
	}
	if cfg.Window < 0 {
		return cfg, fmt.Errorf("window of %d unconfirmed publishes is negative", cfg.Window)
	}
	if cfg.Timeout < 0 {
		return cfg, fmt.Errorf("publish timeout %s is negative", cfg.Timeout)
	}
	return cfg, nil
}

// Publish sends a request on its way. Before it does, it fills in what the request leaves open, and returns a
// *FieldError if what results is not valid. While the window is full it waits, until ctx ends or the Publisher is
// closed. When it returns an error, nothing was sent and nothing will be reported.
//
// Otherwise report is called exactly once, from a goroutine of the Publisher and concurrently with other reports. Until
// it returns, it holds its place in the window: it must neither block nor publish.
func (p *Publisher) Publish(ctx context.Context, r Request, report func(Result)) error {
	if err := r.Complete(p.domain, time.Now()); err != nil {
		return err
	}
	msg, err := message(r)
	if err != nil {
		return err
	}
	if err := p.enter(ctx); err != nil {
		return fmt.Errorf("cannot publish request for host %q: %w", r.Host, err)
	}
	pub := &publication{request: r, msg: msg, deadline: time.Now().Add(p.timeout)}
	// The first attempt is sent from here, so that of two requests for one host the first called comes first. Awaiting
	// it in a goroutine each was measured to be as fast as nats.go's callbacks, and makes trying again a plain loop.
	future, err := p.send(pub)
	go func() {
		defer p.leave()
		report(p.follow(pub, future, err))
	}()
	return nil
}

// message returns a request as it goes on the wire.
func message(r Request) (*nats.Msg, error) {
	data, err := r.Encode()
	if err != nil {
		return nil, fmt.Errorf("cannot encode request for host %q: %w", r.Host, err)
	}
	return &nats.Msg{
		Subject: stream.WorkSubject(r.Group, r.Host),
		Header: nats.Header{
			stream.VersionHeader:  {restart.WireVersion},
			jetstream.MsgIDHeader: {r.ID.String()},
		},
		Data: data,
	}, nil
}

func (p *Publisher) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case p.window <- struct{}{}:
		return nil
	case <-p.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("the window of %d unconfirmed ones is full: %w", cap(p.window), context.Cause(ctx))
	}
}

func (p *Publisher) leave() { <-p.window }

// Close takes no more publishes, and returns when each of those it took has been reported. It gives up what is still
// open when ctx ends, and then returns the cause of that. The connection is not closed. A second Close returns what the
// first did.
func (p *Publisher) Close(ctx context.Context) error {
	p.closeOnce.Do(func() {
		close(p.closing)
		p.closeErr = p.drain(ctx)
		p.giveUp(ErrClosed)
		p.js.CleanupPublisher()
	})
	return p.closeErr
}

// drain takes every token of the window.
func (p *Publisher) drain(ctx context.Context) error {
	var err error
	for n := 0; n < cap(p.window); n++ {
		select {
		case p.window <- struct{}{}:
			continue
		case <-ctx.Done():
		}
		if err == nil {
			err = fmt.Errorf("cannot wait for unconfirmed publishes: %w", context.Cause(ctx))
			p.giveUp(ErrClosed)
		}
		p.window <- struct{}{} // soon: what was given up is only being reported
	}
	return err
}
