package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// benchSync is how often the benchmark's server syncs its writes, unless told otherwise: the default of a NATS server. To
// sync each write measures the disk.
const benchSync = "2m"

const (
	// maxBench bounds how many messages a benchmark has, and how many it holds at once.
	maxBench = 10_000_000
	maxHeld  = 1_000_000

	defaultInFlight = 2000 // as max_in_flight
	defaultAckWait  = 30 * time.Second
)

// benchOptions are the flags of every benchmark.
type benchOptions struct {
	n       int
	timeout time.Duration
	profile string
	out     *output
}

func (o *benchOptions) addFlags(cmd *cobra.Command, n int) {
	f := cmd.Flags()
	f.IntVarP(&o.n, "count", "n", n, "how many messages")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "how long all of it may take")
	f.StringVar(&o.profile, "profile", "", "folder for profiles of the measured processes: cpu, heap, mutex, block, trace")
	o.out = addOutput(cmd)
	config.AddFlags(f, "sync", "nats", "creds", "token")
}

func (o *benchOptions) check(most int) error {
	switch {
	case o.n < 1 || o.n > most:
		return usagef("--count: %d is not between 1 and %d", o.n, most)
	case o.timeout <= 0:
		return usagef("--timeout: %s is not in the future", o.timeout)
	}
	return nil
}

func checkRuns(runs int) error {
	if runs < 1 || runs > 1000 {
		return usagef("--runs: %d is not between 1 and 1000", runs)
	}
	return nil
}

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how far Mandrill is from the limits of its broker, on this machine",
		Long: `Measure how far Mandrill is from the limits of its broker, on this machine. Server and worker are processes of their own,
which talk over loopback TCP and leave nothing behind. Rates differ from machine to machine: what is to be compared was
measured in turns, and is told as a ratio.`,
		Example: `  mandrill bench pipeline
  mandrill bench inflight -n 100000`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.benchPipelineCommand(), a.benchInflightCommand(), a.benchAckLagCommand(), a.benchDrainCommand(),
		a.benchRestartCommand(), a.benchCostCommand(), a.benchPartCommand(),
	)
	return cmd
}

// benchConditions are what the figures of a benchmark depend on.
type benchConditions struct {
	bench.Machine
	Server string `json:"server"` // own, or the URL without secrets
	Sync   string `json:"sync"`   // of the server, the same for all that is compared; unknown of somebody else's
	N      int    `json:"n"`
}

// A benchmark is a server and a folder, for as long as something is measured.
type benchmark struct {
	app     *app
	cfg     config.Config
	options benchOptions
	live    *benchLive
	folder  string
	server  benchServer
	conn    *connection
	js      jetstream.JetStream
	parts   int // that were started
}

// benchmark calls do with a benchmark that is ready, and takes everything away again.
func (a *app) benchmark(cmd *cobra.Command, o benchOptions, do func(context.Context, *benchmark) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("--timeout %s is over", o.timeout))
	defer cancel()
	folder, err := os.MkdirTemp("", "mandrill-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the benchmark: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	loaded, err := a.loadConfig(cmd, map[string]string{"data": folder, "sync": benchSync})
	if err != nil {
		return err
	}
	b := &benchmark{app: a, cfg: loaded.Config, options: o, folder: folder, live: a.newBenchLive()}
	defer b.live.stop()
	stopServer, err := b.openServer(ctx)
	if err != nil {
		return err
	}
	// The server's end is only worth telling where nothing else went wrong: a signal may have reached it first.
	defer func() {
		if stopErr := stopServer(); err == nil {
			err = stopErr
		}
	}()
	if err := b.connect(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.disconnect())
	}()
	return do(ctx, b)
}

// openServer starts a server, unless there is one to be used.
func (b *benchmark) openServer(ctx context.Context) (stop func() error, err error) {
	if b.cfg.NATS == "" {
		server, ready, err := b.start(ctx, benchOrder{Part: partServer, Data: filepath.Join(b.folder, "server"), Sync: b.cfg.Sync})
		if err != nil {
			return nil, err
		}
		b.server.URL = ready.URL
		return server.Stop, nil
	}
	b.server = benchServer{
		URL: string(b.cfg.NATS), Creds: b.cfg.Creds, Token: string(b.cfg.Token), Scratch: bench.NewScratch(),
	}
	if err := b.server.Scratch.CheckURLs(b.server.URL); err != nil {
		return nil, usagef("nats: %w", err)
	}
	return func() error { return nil }, nil
}

// connect connects, and makes the streams.
func (b *benchmark) connect(ctx context.Context) (err error) {
	b.conn, err = b.server.endpoint().connect(ctx, "bench", zerolog.Nop())
	if err != nil {
		return err
	}
	b.js, err = jetstream.New(b.conn.Conn)
	if err == nil {
		err = b.checkEmpty(ctx)
	}
	if err == nil {
		if err = b.makeStreams(ctx); err != nil {
			return errors.Join(err, b.disconnect()) // some may be there
		}
		return nil
	}
	return errors.Join(err, b.conn.close())
}

// makeStreams makes everything that a worker would make. It is not cut short: what is being made when nobody waits for it
// any more could not be deleted.
func (b *benchmark) makeStreams(ctx context.Context) error {
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	_, err := stream.Ensure(making, b.js, stream.Settings{})
	if err == nil {
		_, err = stream.EnsureControl(making, b.js, stream.Settings{})
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// checkEmpty returns an error where there is a stream that is not the benchmark's own.
func (b *benchmark) checkEmpty(ctx context.Context) error {
	for _, name := range benchStreams {
		_, err := b.js.Stream(ctx, name)
		if err == nil {
			return errors.New("this would not keep away from real streams") // unreachable, and worth a look all the same
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("cannot look at streams: %w", err)
		}
	}
	return nil
}

// benchStreams are what a benchmark makes on a server.
var benchStreams = []string{
	stream.Work, stream.Journal, stream.Dead, stream.ControlStream, stream.Campaigns, stream.CampaignBucketStream, stream.Schedules,
}

// disconnect takes the benchmark's streams from somebody else's server, and closes the connection.
func (b *benchmark) disconnect() error {
	ctx, cancel := context.WithTimeout(context.Background(), claimTimeout)
	defer cancel()
	var errs []error
	for _, name := range benchStreams {
		if b.server.Scratch == "" {
			break // it goes with its folder
		}
		if err := b.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			errs = append(errs, fmt.Errorf("cannot delete stream %q, which stands for %q here: %w", b.server.Scratch, name, err))
		}
	}
	return errors.Join(append(errs, b.conn.close())...)
}

// start starts a process that takes part, and returns when it has begun.
func (b *benchmark) start(ctx context.Context, o benchOrder) (*bench.Process, benchReport, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, benchReport{}, fmt.Errorf("cannot find this program: %w", err)
	}
	// Nothing is taken from the environment but what a process needs to run.
	cmd := exec.Command(self, "bench", "part")
	cmd.Env = benchEnvironment(b.app.environ)
	p, err := bench.Start(cmd, o)
	if err != nil {
		return nil, benchReport{}, err
	}
	ready, err := b.await(ctx, p, eventReady)
	if err != nil {
		return nil, benchReport{}, errors.Join(err, ignoreEnd(p.Stop()))
	}
	return p, ready, nil
}

// ignoreEnd is how a process has ended whose failure was told before.
func ignoreEnd(error) error { return nil }

// await returns the next report of that kind, and shows progress meanwhile.
func (b *benchmark) await(ctx context.Context, p *bench.Process, event string) (benchReport, error) {
	for {
		var r benchReport
		if err := p.Next(ctx, &r); err != nil {
			return r, err
		}
		b.live.done.Store(r.Done)
		switch r.Event {
		case event:
			return r, nil
		case eventFailed:
			return r, errors.New(r.Problem)
		}
	}
}

// order returns the order for a part, with a folder of its own.
func (b *benchmark) order(part partKind, n, inFlight int, ackWait time.Duration) benchOrder {
	b.parts++
	o := benchOrder{
		Part: part, Group: restart.Group(part), Server: b.server, N: n, InFlight: inFlight, AckWait: ackWait,
		Data: filepath.Join(b.folder, fmt.Sprintf("%d-%s", b.parts, part)),
	}
	if b.options.profile != "" {
		o.Profile = filepath.Join(b.options.profile, fmt.Sprintf("%d-%s", b.parts, part))
	}
	return o
}

// run publishes the messages of a part, lets it do them, and returns its report, checked.
func (b *benchmark) run(ctx context.Context, what string, o benchOrder) (benchReport, error) {
	if err := b.prepare(ctx, what, o); err != nil {
		return benchReport{}, err
	}
	b.live.show(what, o.N)
	p, _, err := b.start(ctx, o)
	if err != nil {
		return benchReport{}, err
	}
	r, err := b.await(ctx, p, eventDone)
	if stopErr := p.Stop(); err == nil {
		err = stopErr
	}
	if err == nil {
		err = r.check(o)
	}
	if err == nil {
		err = os.RemoveAll(o.Data)
	}
	return r, err
}

// check returns an error unless every message was done, and done once.
func (r benchReport) check(o benchOrder) error {
	counts := map[string]int{"settled": int(r.Done)}
	if o.Part == partFull || o.Part == partLag || o.Part == partHeld {
		counts["restarted"], counts["recorded"] = r.Restarted, r.Recorded
	}
	for what, n := range counts {
		if n != o.N {
			return fmt.Errorf("%s: %d of %d messages were %s, so its figures are worth nothing", o.Part, n, o.N, what)
		}
	}
	return nil
}

// prepare makes the part's consumer and publishes its messages.
func (b *benchmark) prepare(ctx context.Context, what string, o benchOrder) error {
	if err := b.makeConsumer(ctx, o); err != nil {
		return err
	}
	b.live.show(what+": publishing", o.N)
	return b.publish(ctx, o.Group, o.N, 0)
}

// makeConsumer makes the part's consumer anew, so that its counts begin at zero.
func (b *benchmark) makeConsumer(ctx context.Context, o benchOrder) error {
	err := b.js.DeleteConsumer(ctx, stream.Work, stream.ConsumerName(o.Group))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("cannot delete consumer: %w", err)
	}
	_, err = stream.EnsureConsumer(ctx, b.js, o.Group, o.consumer())
	return err
}

// publish publishes a request for each of n hosts, rate of them a second, or as fast as can be where that is zero.
func (b *benchmark) publish(ctx context.Context, group restart.Group, n int, rate float64) error {
	var failed atomic.Pointer[publisher.Result]
	err := withPublisher(ctx, b.conn, b.cfg, zerolog.Nop(), func(p *publisher.Publisher) error {
		var unreported sync.WaitGroup
		defer unreported.Wait()
		began := time.Now()
		for i := range n {
			if rate > 0 {
				due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if wait := time.Until(due); wait > 0 {
					if err := bench.Sleep(ctx, wait); err != nil {
						return err
					}
				}
			} else {
				b.live.done.Store(int64(i))
			}
			unreported.Add(1)
			err := p.Publish(ctx, restart.Request{Instance: benchInstance(i), Group: group}, func(r publisher.Result) {
				defer unreported.Done()
				if r.Status != publisher.Confirmed {
					failed.CompareAndSwap(nil, &r)
				}
			})
			if err != nil {
				unreported.Done()
				return err
			}
		}
		return nil
	})
	if err == nil {
		if r := failed.Load(); r != nil {
			err = fmt.Errorf("cannot publish all messages: host %q: %s: %w", r.Request.Host, r.Status, r.Err)
		}
	}
	return err
}

func (b *benchmark) conditions() benchConditions {
	c := benchConditions{Machine: bench.ThisMachine(), Server: "own", Sync: "always", N: b.options.n}
	switch {
	case b.server.Scratch != "":
		c.Server, c.Sync = b.cfg.NATS.String(), "unknown"
	case b.cfg.Sync > 0:
		c.Sync = b.cfg.Sync.String()
	}
	return c
}

// print prints the result: as JSON, or as a table that rows writes.
func (b *benchmark) print(result any, c benchConditions, rows func(*tabwriter.Writer)) error {
	b.live.stop()
	if *b.options.out == outputJSON {
		return b.app.printJSON(result)
	}
	w := tabwriter.NewWriter(b.app.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	rows(w)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(b.app.stdout, "\n%d messages; server: %s, syncs: %s; %s, %s, %d processors\n", c.N, c.Server, c.Sync, c.Go, c.OS, c.CPUs)
	return err
}
