package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A partKind is what a process of a benchmark does.
type partKind string

const (
	partServer partKind = "server" // it is the NATS server
	partRaw    partKind = "raw"    // nats.go alone
	partSerial partKind = "serial" // as bare, one message at a time
	partBare   partKind = "bare"   // consumer, lease and settlement around work that is none
	partFull   partKind = "full"   // the worker, with hosts that are back at once or after a latency
	partLag    partKind = "lag"    // as full, and each message's steps are timed
	partHeld   partKind = "held"   // the worker, with hosts that stay down until all are, and for a while
	partAsleep partKind = "asleep" // a sleeping goroutine and a timer for each message, and nothing else
	partStuck  partKind = "stuck"  // the worker, with a host that never answers, for which all others wait
	partTaker  partKind = "taker"  // as bare, with work that never ends
)

// A benchServer is the server of a benchmark, and who may use it.
type benchServer struct {
	URL     string        `json:"url"`
	Creds   string        `json:"creds"`
	Token   string        `json:"token"`
	Scratch bench.Scratch `json:"scratch"` // of somebody else's server; empty: the benchmark's own
}

func (s benchServer) endpoint() endpoint {
	e := endpoint{urls: s.URL, shown: config.URLs(s.URL).String(), advice: "it may be gone"}
	if s.Creds != "" {
		e.options = append(e.options, nats.UserCredentials(s.Creds))
	}
	if s.Token != "" {
		e.options = append(e.options, nats.Token(s.Token))
	}
	return s.keepAway(e)
}

// keepAway keeps a connection away from real streams.
func (s benchServer) keepAway(e endpoint) endpoint {
	if s.Scratch != "" {
		e.options = append(e.options, nats.SetCustomDialer(s.Scratch))
	}
	return e
}

// A benchOrder says what a process of a benchmark is to do. It comes on standard input, because there is a token in it.
type benchOrder struct {
	Part     partKind      `json:"part"`
	Server   benchServer   `json:"server"`
	Data     string        `json:"data"` // a folder of its own
	Group    restart.Group `json:"group"`
	Sync     time.Duration `json:"sync"` // of the server
	N        int           `json:"n"`
	InFlight int           `json:"in_flight"`
	AckWait  time.Duration `json:"ack_wait"`
	Hold     time.Duration `json:"hold"`    // how long hosts stay down once all are
	Latency  time.Duration `json:"latency"` // how long a host is down
	Profile  string        `json:"profile"` // a folder; empty: none is taken
}

// consumer returns the settings of the consumer that the part pulls from.
func (o benchOrder) consumer() stream.Settings {
	budget := o.InFlight
	if o.Part == partSerial {
		budget = defaultInFlight // the same for all that is compared: the worker is slow of itself
	}
	return stream.Settings{AckWait: o.AckWait, Budget: max(budget, 1)}
}

// The events of a process of a benchmark.
const (
	eventReady    = "ready"    // it has begun
	eventProgress = "progress" // Done
	eventHeld     = "held"     // all are, At
	eventDone     = "done"     // the rest
	eventFailed   = "failed"   // Problem
)

// A benchReport is what such a process reports, on standard output. Which fields it fills in depends on the event and on
// the part.
type benchReport struct {
	Event string    `json:"event"`
	URL   string    `json:"url,omitempty"` // of the server
	Done  int64     `json:"done"`          // messages, until now
	At    time.Time `json:"at,omitzero"`
	// Problem is why it could not go on. The process ends only when it is told to, so its exit code comes later.
	Problem string `json:"problem,omitempty"`

	Elapsed   time.Duration `json:"elapsed,omitempty"`   // from the first pull until the last message was settled at the server
	Processor time.Duration `json:"processor,omitempty"` // meanwhile
	Before    bench.Memory  `json:"before,omitzero"`     // right before the first pull
	After     bench.Memory  `json:"after,omitzero"`      // when the last message was settled
	Held      bench.Memory  `json:"held,omitzero"`       // the most while all were held

	Delivered  int     `json:"delivered"`            // as the server counts it
	Restarted  int     `json:"restarted"`            // as the hosts count it
	Recorded   int     `json:"recorded"`             // outcomes, as the database counts them
	Extensions float64 `json:"extensions,omitempty"` // a second, while all were held
	HandedBack int     `json:"handed_back,omitempty"`
	Lags       lags    `json:"lags,omitzero"`
}

// progressEvery is the time between two reports of progress.
const progressEvery = 250 * time.Millisecond

// A benchPart is a process of a benchmark, at work.
type benchPart struct {
	app   *app
	order benchOrder

	mu      sync.Mutex // guards the encoder
	encoder *json.Encoder

	count *partCount
}

func (p *benchPart) tell(r benchReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.encoder.Encode(r)
}

// benchPartCommand is what bench starts of this program, for it to take part. Nobody else has a use for it.
func (a *app) benchPartCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "part",
		Short:   "Take part in a benchmark, as standard input says",
		Example: "  mandrill bench part < order.json",
		Hidden:  true,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			decoder := json.NewDecoder(a.stdin)
			p := &benchPart{app: a, encoder: json.NewEncoder(a.stdout)}
			if err := decoder.Decode(&p.order); err != nil {
				return usagef("bench part: cannot read the order: %w", err)
			}
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			// Whoever gave the order closes standard input, or dies: either way this process has to end.
			var watch sync.WaitGroup
			watch.Go(func() {
				_, _ = io.Copy(io.Discard, a.stdin)
				cancel(errNobodyListens)
			})
			defer watch.Wait()
			defer runtime.KeepAlive(newHeapFloor()) // as a worker has one
			err := p.run(ctx)
			if errors.Is(err, errNobodyListens) {
				return nil
			}
			if err != nil {
				err = errors.Join(err, p.tell(benchReport{Event: eventFailed, Problem: err.Error()}))
			}
			return err
		},
	}
}

var errNobodyListens = errors.New("nobody listens any more")

func (p *benchPart) run(ctx context.Context) error {
	p.count = newPartCount(p.order.N)
	switch p.order.Part {
	case partServer:
		return p.serve(ctx)
	case partRaw, partAsleep:
		return p.withConnection(ctx, p.alone)
	case partSerial, partBare, partTaker:
		return p.withConnection(ctx, p.bare)
	case partFull, partLag, partHeld, partStuck:
		return p.worker(ctx)
	}
	return usagef("bench part: there is no part %q", p.order.Part)
}

// serve runs a server in the part's folder.
func (p *benchPart) serve(ctx context.Context) error {
	server, err := startEmbedded(ctx, p.order.Data, "", p.order.Sync, zerolog.Nop())
	if err != nil {
		return err
	}
	err = p.tell(benchReport{Event: eventReady, URL: server.tokenURL()})
	if err == nil {
		err = server.watch(ctx)
	}
	return errors.Join(err, server.close())
}

// withConnection does what needs no more than a connection.
func (p *benchPart) withConnection(ctx context.Context, do func(context.Context, *connection, jetstream.JetStream) error) error {
	conn, err := p.order.Server.endpoint().connect(ctx, "mandrill bench "+string(p.order.Part), zerolog.Nop())
	if err != nil {
		return err
	}
	js, err := jetstream.New(conn.Conn)
	if err == nil {
		err = do(ctx, conn, js)
	}
	return errors.Join(err, conn.close())
}

// A partCount counts what became of deliveries.
type partCount struct {
	want int64
	done atomic.Int64
	all  chan struct{} // closed when as many are done as are wanted
}

func newPartCount(want int) *partCount {
	return &partCount{want: int64(want), all: make(chan struct{})}
}

func (c *partCount) add() {
	if c.done.Add(1) == c.want {
		close(c.all)
	}
}

// settled is what a handler reports to.
func (c *partCount) settled(r handler.Report) {
	if r.Err == nil && r.SettleErr == nil && !r.Retried() {
		c.add()
	}
}

// A span is the time that is measured, with what is used in it.
type span struct {
	began     time.Time
	processor time.Duration
	report    benchReport
	profiled  func() error
}

// begin begins the span, after which nothing may be done that is not to be measured.
func (p *benchPart) begin() (s *span, err error) {
	s = &span{report: benchReport{Event: eventDone}}
	if s.report.Before, err = bench.ReadMemory(); err != nil {
		return nil, err
	}
	if s.profiled, err = bench.Profile(p.order.Profile); err != nil {
		return nil, err
	}
	if s.processor, err = bench.ProcessorTime(); err == nil {
		err = p.tell(benchReport{Event: eventReady})
	}
	s.began = time.Now()
	return s, err
}

// end ends the span.
func (p *benchPart) end(s *span) error {
	s.report.Elapsed = time.Since(s.began)
	processor, err := bench.ProcessorTime()
	s.report.Processor = processor - s.processor
	err = errors.Join(err, s.profiled())
	var memoryErr error
	s.report.After, memoryErr = bench.ReadMemory()
	s.report.Done = p.count.done.Load()
	return errors.Join(err, memoryErr)
}

// tellProgress reports until ctx ends.
func (p *benchPart) tellProgress(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// Nobody to tell is found out where something is told that matters.
			_ = p.tell(benchReport{Event: eventProgress, Done: p.count.done.Load()})
		}
	}
}

// delivered returns how often the server has handed out messages to the part's consumer.
func (p *benchPart) delivered(ctx context.Context, js jetstream.JetStream) (int, error) {
	c, err := js.Consumer(ctx, stream.Work, stream.ConsumerName(p.order.Group))
	if err != nil {
		return 0, fmt.Errorf("cannot look at consumer: %w", err)
	}
	return int(c.CachedInfo().Delivered.Consumer), nil
}

// discard opens the file that takes a worker's log: each line is written, as by a worker, and goes nowhere.
func discard() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) }
