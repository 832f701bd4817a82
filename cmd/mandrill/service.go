package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/notify"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A service is a worker with all that it stands on.
type service struct {
	*vitals
	cfg      config.Config
	log      zerolog.Logger
	name     string
	endpoint endpoint
	server   *embeddedServer // nil where the server is somebody else's
	conn     *connection
	streams  stream.Streams
	bucket   jetstream.KeyValue
	store    store.Store
	tally    *tally
	between  seams
	watcher  *control.Watcher
	answers  *fleet.Server
	checks   *checks
	// nil, both, where nobody is to be told.
	notifier  *notify.Notifier
	announcer *control.Announcer
	js        jetstream.JetStream
	journal   *journal.Journal
	groups    []*served
	closers   closers
	buffers   sync.Pool // of *[]byte, in which outcomes are encoded
}

// serviceOptions are what a service is told beside its configuration.
type serviceOptions struct {
	log      zerolog.Logger
	messages zerolog.Logger // of what becomes of messages
	checks   []monitor.Spec // as the configuration has them
	// adoptStore makes the database the one of the groups, whatever other one they had.
	adoptStore bool
	// settled is told of each delivery that was settled or left, beside tally and metrics. Nil tells nobody.
	settled func(handler.Report)
}

// openService brings everything up to where messages could be pulled, and pulls none. Whatever cannot work is an error
// here.
func (a *app) openService(ctx context.Context, cfg config.Config, o serviceOptions) (s *service, err error) {
	log := o.log
	s = &service{cfg: cfg, log: log, name: workerName(), tally: newTally(), between: a.between}
	s.closers.log = log
	s.buffers.New = func() any { return new([]byte) }
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closers.closeAll())
		}
	}()
	if s.vitals, err = a.newVitals(cfg, s.problems, log); err != nil {
		return s, err
	}
	s.closers.add("supervisor", s.supervisor.close)
	for _, name := range cfg.Groups {
		g, err := a.newServed(cfg.For(name), name, log)
		if err != nil {
			return s, err
		}
		s.groups = append(s.groups, g)
		s.closers.add("driver of group "+string(name), func() error { return closeDriver(g.driver) })
	}
	if err := s.openServer(ctx, a); err != nil {
		return s, err
	}
	if err := s.openConnection(ctx); err != nil {
		return s, err
	}
	ctx, stop := s.conn.untilDenied(ctx)
	defer stop()
	defer func() {
		if denied, ok := errors.AsType[*deniedError](context.Cause(ctx)); ok && err != nil {
			err = fmt.Errorf("a permission that a worker needs is missing: %w", denied)
		}
	}()
	if err := s.openStreams(ctx); err != nil {
		return s, err
	}
	if err := s.openStore(ctx); err != nil {
		return s, err
	}
	if err := s.claimStore(ctx, o.adoptStore); err != nil {
		return s, err
	}
	if err := s.openControl(ctx); err != nil {
		return s, err
	}
	if err := s.openMonitors(o.checks); err != nil {
		return s, err
	}
	if err := s.openNotifications(); err != nil {
		return s, err
	}
	if err := s.openGroups(ctx, o); err != nil {
		return s, err
	}
	if err := s.openCampaigns(ctx); err != nil {
		return s, err
	}
	for _, g := range s.groups {
		if err := s.conn.checkAcks(ctx, g.name); err != nil {
			return s, err
		}
	}
	return s, s.openAnswers()
}

func (s *service) settings() stream.Settings {
	return stream.Settings{Replicas: s.cfg.Replicas, AckWait: s.cfg.AckWait, Budget: s.cfg.Budget}
}

// openServer starts the embedded server where no other is configured.
func (s *service) openServer(ctx context.Context, a *app) (err error) {
	if s.cfg.NATS != "" || s.cfg.NATSContext != "" {
		e, err := a.endpoint(s.cfg)
		s.endpoint = a.between.endpoint(e)
		return err
	}
	s.server, err = startEmbedded(ctx, s.cfg.Data, "", s.cfg.Sync, s.log)
	if err != nil {
		return err
	}
	s.closers.add("embedded server", s.server.close)
	s.endpoint = s.server.endpoint
	event := s.log.Info().Str("url", s.endpoint.shown).Str("data", s.cfg.Data)
	if s.cfg.Sync > 0 {
		event = event.Stringer("sync", s.cfg.Sync).
			Str("gives_up", "what was confirmed within the last "+s.cfg.Sync.String()+" is lost if the machine loses power")
	}
	event.Msg("embedded server is ready")
	return nil
}

func (s *service) openConnection(ctx context.Context) (err error) {
	s.conn, err = s.endpoint.connect(ctx, "mandrill "+s.name, s.log)
	if err != nil {
		return err
	}
	s.closers.add("connection", s.conn.close)
	js, err := jetstream.New(s.conn.Conn)
	if err != nil {
		return fmt.Errorf("cannot use JetStream: %w", err)
	}
	s.js = js
	return nil
}

func (s *service) openStreams(ctx context.Context) (err error) {
	if s.streams, err = stream.Ensure(ctx, s.js, s.settings()); err != nil {
		return err
	}
	s.bucket, err = stream.EnsureControl(ctx, s.js, s.settings())
	return err
}

func (s *service) openStore(ctx context.Context) (err error) {
	s.store, err = openDatabase(ctx, s.cfg, store.Worker, s.log)
	if err != nil {
		return err
	}
	s.closers.add("database", s.store.Close)
	return nil
}

// claimTimeout bounds the claims of all groups.
const claimTimeout = 15 * time.Second

// claimStore refuses to work beside workers that remember in another database.
func (s *service) claimStore(ctx context.Context, adopt bool) error {
	if s.server == nil && !s.cfg.Database.Postgres() {
		s.log.Warn().Msg("a SQLite database serves one worker: this one must be alone with its groups; for several, use PostgreSQL (database: postgres://...)")
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	claim := control.StoreClaim{
		Identity: s.store.Identity(), Shown: describeDatabase(s.cfg), Worker: s.name, At: time.Now().UTC(),
	}
	for _, group := range s.cfg.Groups {
		if err := control.ClaimStore(ctx, s.bucket, group, claim, adopt); err != nil {
			return err
		}
	}
	return nil
}

// tell announces an outcome to those who wait and watch. It is a courtesy: who did not hear it asks the history.
func (s *service) tell(o restart.Outcome) {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	data, err := o.EncodeInto(*buf)
	if err == nil {
		*buf = data
		err = s.conn.Publish(stream.OutcomeSubject(o.Group, o.Host), data)
	}
	if err != nil {
		s.log.Warn().Err(err).Stringer("id", o.ID).Msg("outcome not announced")
	}
}

// run works until ctx ends or going on is impossible, and closes everything. The error is why it could not go on, or
// wraps errPartly if not everything that was triggered could be verified.
func (s *service) run(ctx context.Context) error {
	err := s.work(ctx)
	return errors.Join(err, s.close())
}

// work pulls and works until ctx ends or going on is impossible, and drains.
func (s *service) work(ctx context.Context) error {
	s.log.Info().Str("worker", s.name).Str("server", s.endpoint.shown).Any("groups", s.cfg.Groups).Msg("worker is ready")
	group, running := errgroup.WithContext(ctx)
	stopping := make(chan time.Time, 1)
	defer context.AfterFunc(running, func() {
		s.tally.stop()
		s.supervisor.stop()
		stopping <- time.Now()
		s.log.Info().Str("cause", context.Cause(running).Error()).Stringer("grace", s.cfg.Grace).
			Msg("stopping: no more pulling, handing back what was not triggered")
	})()
	defer s.runBeside(context.WithoutCancel(ctx))()
	for _, g := range s.groups {
		group.Go(func() error { return s.pull(running, g) })
		group.Go(func() error { return g.control.Run(running) })
		group.Go(func() error { return g.campaigns.Run(running) })
		group.Go(func() error { return control.WatchStore(running, s.bucket, g.name, s.store.Identity()) })
	}
	group.Go(func() error {
		enforceRetention(running, s.store, s.cfg.History.Keep, s.log)
		return nil
	})
	group.Go(func() error { return s.runMonitors(running) })
	group.Go(func() error { return s.watch(running) })
	group.Go(func() error { s.serveSchedules(running); return nil })
	if s.ops != nil {
		group.Go(func() error { return s.ops.Run(running) })
	}
	if s.server != nil {
		group.Go(func() error { return s.server.watch(running) })
	}
	err := group.Wait()
	s.log.Info().Dur("took", time.Since(<-stopping)).Msg("drained")
	return err
}

// pull works on the messages of a group until ctx ends.
func (s *service) pull(ctx context.Context, g *served) error {
	if !s.checks.await(ctx, g.name) {
		return nil
	}
	return g.consumer.Run(ctx)
}

// runBeside runs what is needed for as long as there is work, until all of it has ended and not until the stop: above all
// who knows what holds the groups back. It returns what ends that, and then those who are told of it.
func (s *service) runBeside(ctx context.Context) (stop func()) {
	steering, stopSteering := context.WithCancel(ctx)
	telling, stopTelling := context.WithCancel(ctx)
	var steered, told sync.WaitGroup
	steered.Go(func() { s.watcher.Run(steering) })
	steered.Go(func() {
		if err := s.answers.Run(steering); err != nil {
			s.log.Warn().Err(err).Msg("nobody who asks for the workers finds this one")
		}
	})
	steered.Go(func() { _ = s.checks.Guard.Run(steering) }) // these three end with their context
	steered.Go(func() { _ = s.lag.Run(steering) })
	if s.notifier != nil {
		steered.Go(func() { _ = s.announcer.Run(steering) })
		told.Go(func() { _ = s.notifier.Run(telling) })
	}
	for _, g := range s.groups {
		steered.Go(func() { g.work.WatchSlow(steering) })
	}
	if s.ops != nil {
		steered.Go(func() { s.setGauges(steering) })
	}
	return func() {
		stopSteering()
		steered.Wait()
		stopTelling()
		told.Wait()
	}
}

// close closes everything, in order, and says what was finished, handed back and left unverified.
func (s *service) close() error {
	err := s.closers.closeAll()
	event := s.log.Info()
	if n := s.tally.undecided(); n > 0 {
		event = s.log.Warn()
		err = errors.Join(err, fmt.Errorf("%w: %d messages were triggered and not verified in time; the journal tells the next worker", errPartly, n))
	}
	event.EmbedObject(s.tally).Err(err).Msg("stopped")
	return err
}

// watch returns an error when something happens that no message owns and nobody can wait for.
func (s *service) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.conn.denied:
		return fmt.Errorf("a permission that a worker needs is missing: %w", &deniedError{"worker", err})
	case <-s.conn.closed:
		return fmt.Errorf("connection to NATS at %s was closed: %w", s.endpoint.shown, s.conn.LastError())
	}
}

// workerName tells this process from every other that ever was.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%s", host, uuid.NewString()[:8])
}
