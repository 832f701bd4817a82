package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// answerTimeout bounds what an answer may take that needs more than this worker's memory.
const answerTimeout = 5 * time.Second

var errBadQuestion = errors.New("bad question")

// Config says which worker answers, and how it knows what to say. The functions are called from several goroutines at
// once. All fields but Logger are required.
type Config struct {
	// Conn is not closed. Its error and closed handlers must be set before Run, and left alone until it has returned,
	// because the framework puts its own in front of them.
	Conn    *nats.Conn
	Worker  string
	Version string // the program's
	Groups  []restart.Group

	// InFlight returns what the worker holds now, in no particular order. The caller may keep it.
	InFlight func() []Message

	// Load returns how late the scheduler is, and whether that is too late.
	Load func() Load

	// Control returns up to which revision of the control bucket the worker knows it, and when that was last confirmed.
	// Whoever pauses a group rests on it: no trigger may follow that was let through by what an older revision said.
	Control func() Control

	// Outcome returns what came of a request, as the worker's own store has it; found is false if it has nothing. It
	// returns when ctx ends.
	Outcome func(ctx context.Context, id uuid.UUID) (o restart.Outcome, found bool, err error)

	Logger zerolog.Logger
}

// A Load is how busy a worker's scheduler is.
type Load struct {
	Lag        time.Duration
	Overloaded bool
}

// A Control is how much of the control bucket a worker knows.
type Control struct {
	Revision    uint64
	ConfirmedAt time.Time // zero: never
}

// A Server answers for one worker.
type Server struct {
	cfg     Config
	running atomic.Bool
}

// New returns a server, which answers nothing before Run.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Conn == nil:
		return nil, errors.New("fleet: Conn is missing")
	case cfg.Worker == "":
		return nil, errors.New("fleet: Worker is missing")
	case cfg.Version == "":
		return nil, errors.New("fleet: Version is missing")
	case len(cfg.Groups) == 0:
		return nil, errors.New("fleet: Groups are missing")
	case cfg.InFlight == nil, cfg.Load == nil, cfg.Control == nil, cfg.Outcome == nil:
		return nil, errors.New("fleet: InFlight, Load, Control or Outcome is missing")
	}
	for _, group := range cfg.Groups {
		if _, err := restart.ParseGroup(string(group)); err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
	}
	cfg.Groups = slices.Clone(cfg.Groups)
	return &Server{cfg: cfg}, nil
}

// Run answers until ctx ends, and returns nil when the last answer was given. While the server is away it waits for it;
// a connection that is closed for good is an error. A worker answers for as long as it may still trigger anything, so
// that nobody takes it for gone: Run ends after its work has, and before its connection.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("fleet: is running already")
	}
	defer s.running.Store(false)
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("cannot answer for worker %q: %w", s.cfg.Worker, err)
	}
	return nil
}

func (s *Server) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	stopped := make(chan struct{})
	a := &answerer{Config: s.cfg, ctx: ctx, started: time.Now().UTC()}
	svc, err := micro.AddService(s.cfg.Conn, micro.Config{
		Name:               service,
		Version:            apiVersion,
		Description:        "A worker of Mandrill",
		Metadata:           Instance{Worker: s.cfg.Worker, Version: s.cfg.Version, Groups: s.cfg.Groups}.metadata(),
		QueueGroupDisabled: true, // every worker is asked, not one of them
		DoneHandler:        func(micro.Service) { close(stopped) },
	})
	if err != nil {
		return err
	}
	a.instance = svc.Info().ID
	if err = a.listen(svc); err == nil {
		select {
		case <-ctx.Done():
		case <-stopped:
			err = nats.ErrConnectionClosed
		}
	}
	cancel()
	if stopErr := svc.Stop(); stopErr != nil {
		err = errors.Join(err, stopErr)
	} else {
		<-stopped
	}
	a.end()
	return err
}

// An answerer is one run of a server.
type answerer struct {
	Config
	ctx      context.Context // ends with the run
	instance string
	started  time.Time

	mu      sync.Mutex
	ended   bool
	answers sync.WaitGroup // under way; nothing is added once ended is set
}

func (a *answerer) listen(svc micro.Service) error {
	for _, endpoint := range []struct {
		name, subject string
		answer        func(ctx context.Context, question []byte) (any, error)
	}{
		{"status", statusSubject, a.status},
		{"in_flight", inFlightPrefix + a.instance, a.inFlight},
		{"outcome", outcomeSubject, a.outcome},
	} {
		if err := svc.AddEndpoint(endpoint.name, a.handler(endpoint.answer), micro.WithEndpointSubject(endpoint.subject)); err != nil {
			return fmt.Errorf("endpoint %q: %w", endpoint.name, err)
		}
	}
	return nil
}

// handler returns what the framework calls for each question, one after the other for each endpoint. Nobody waits for it:
// stopping the service only has it called no more once what has arrived is worked off.
func (a *answerer) handler(answer func(context.Context, []byte) (any, error)) micro.Handler {
	return micro.HandlerFunc(func(req micro.Request) {
		if !a.begin() {
			return
		}
		defer a.answers.Done()
		ctx, cancel := context.WithTimeout(a.ctx, answerTimeout)
		defer cancel()
		header := micro.WithHeaders(micro.Headers{instanceHeader: []string{a.instance}})
		v, err := answer(ctx, req.Data())
		switch {
		case err == nil:
			err = req.RespondJSON(v, header)
		case errors.Is(err, errBadQuestion):
			err = req.Error("400", err.Error(), nil, header)
		default:
			err = req.Error("500", err.Error(), nil, header)
		}
		if err != nil { // whoever asks will ask again
			a.Logger.Debug().Err(err).Str("subject", req.Subject()).Msg("a question cannot be answered")
		}
	})
}

func (a *answerer) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	a.answers.Add(1)
	return true
}

func (a *answerer) end() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	a.answers.Wait()
}

func (a *answerer) status(context.Context, []byte) (any, error) {
	// The revision is read first: of what is triggered later, it says too little rather than too much.
	control, load := a.Control(), a.Load()
	groups := make(map[restart.Group]*GroupStatus)
	for _, group := range a.Groups {
		groups[group] = &GroupStatus{Group: group, Phases: make(map[string]int)}
	}
	for _, m := range a.InFlight() {
		if g := groups[m.Group]; g != nil {
			g.InFlight++
			g.Phases[m.Phase]++
		}
	}
	s := WorkerStatus{
		Instance: a.instance, Worker: a.Worker, Version: a.Version, Started: a.started,
		LagSeconds: load.Lag.Seconds(), Overloaded: load.Overloaded,
		ControlRevision: control.Revision, ConfirmedAt: control.ConfirmedAt,
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		s.Groups = append(s.Groups, *groups[group])
	}
	return s, nil
}

func (a *answerer) inFlight(_ context.Context, question []byte) (any, error) {
	q, err := parseQuestion[inFlightQuestion](question)
	if err != nil {
		return nil, err
	}
	return newPage(a.InFlight(), q, int(a.Conn.MaxPayload())-envelope)
}

func (a *answerer) outcome(ctx context.Context, question []byte) (any, error) {
	q, err := parseQuestion[outcomeQuestion](question)
	switch {
	case err != nil:
		return nil, err
	case q.ID == uuid.Nil:
		return nil, fmt.Errorf("%w: id is missing", errBadQuestion)
	}
	o, found, err := a.Outcome(ctx, q.ID)
	return outcomeAnswer{found, o}, err
}

// parseQuestion takes an empty question for one that leaves everything open.
func parseQuestion[T any](data []byte) (q T, err error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return q, nil
	}
	if err := json.Unmarshal(data, &q); err != nil {
		return q, fmt.Errorf("%w: %w", errBadQuestion, err)
	}
	return q, nil
}
