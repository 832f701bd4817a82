package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// demoOptions are the flags of demo that are no settings.
type demoOptions struct {
	mockOptions
	forever bool
	chaos   bool
	out     *output
}

// demoPoll is how often the demo looks whether the work stream is empty.
const demoPoll = 50 * time.Millisecond

// demoSettings are what makes a demo worth watching: leases short enough for extensions to be seen.
var demoSettings = map[string]string{
	"ack_wait":              "2s",
	"simulated.restart_max": "2s",
}

// chaosSettings make hosts slow, refuse, hang and restart late, and shorten what is waited for accordingly. (M50)
var chaosSettings = map[string]string{
	"simulated.failure_rate": "0.2",
	"simulated.hang_rate":    "0.05",
	"simulated.late_rate":    "0.1",
	"simulated.slow_rate":    "0.05",
	"restart_timeout":        "2s",
	"verify_timeout":         "1m",
	"retry.base":             "200ms",
	"retry.cap":              "2s",
}

// errAllSettled is the cause with which a demo ends by itself.
var errAllSettled = errors.New("all that was published is settled")

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch mock publishers and a worker, with everything in this process",
		Long: `Run an embedded NATS server, three mock publishers and a worker in this process, with simulated hosts: nothing real
is restarted, and nothing is left behind. It ends by itself, with a summary.`,
		Example: `  mandrill demo
  mandrill demo --chaos --seed 7
  mandrill demo --count 2000 --rate 0 --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd, o) },
	}
	f := cmd.Flags()
	o.addFlags(cmd, 60, 6, 3)
	f.BoolVar(&o.forever, "forever", false, "go on until stopped")
	f.BoolVar(&o.chaos, "chaos", false, "hosts that refuse, hang, are slow, or restart late")
	o.out = addOutput(cmd)
	config.AddFlags(f, "ack_wait", "sync", "simulated.restart_min", "simulated.restart_max", "log.level", "log.format")
	return cmd
}

func (a *app) demo(cmd *cobra.Command, o demoOptions) (err error) {
	if o.forever {
		if cmd.Flags().Changed("count") {
			return usagef("demo: --forever and --count contradict each other")
		}
		o.count = 0
	} else if o.count <= 0 {
		return usagef("--count: must be positive, or say --forever")
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.seed == 0 && !cmd.Flags().Changed("seed") {
		o.seed = randomSeed()
	}
	folder, err := os.MkdirTemp("", "mandrill-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	loaded, err := a.loadConfig(cmd, o.settings(folder))
	if err != nil {
		return err
	}
	cfg := loaded.Config
	// Nothing real is watched, and nobody is woken.
	cfg.Monitors, cfg.Notify = nil, config.Notify{}
	log := a.newLogger(cfg.Log)
	// Each step of a message is shown, and the publishers' are not, so that the worker's can be read. (M10)
	messages := log
	if !cmd.Flags().Changed("log-level") {
		messages = log.Level(zerolog.DebugLevel)
	}
	s, err := a.openService(cmd.Context(), cfg, serviceOptions{log: log, messages: messages})
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(newHeapFloor())
	summary, err := s.demonstrate(cmd.Context(), o)
	if summary == nil {
		return err
	}
	if *o.out == outputJSON {
		return errors.Join(err, a.printJSON(summary))
	}
	return errors.Join(err, a.printSummary(summary))
}

// settings returns what the demo sets unless a flag says otherwise.
func (o demoOptions) settings(folder string) map[string]string {
	settings := map[string]string{"data": folder, "driver.kind": config.DriverSimulated, "simulated.seed": strconv.FormatUint(o.seed, 10)}
	for key, value := range demoSettings {
		settings[key] = value
	}
	if o.chaos {
		for key, value := range chaosSettings {
			settings[key] = value
		}
	}
	return settings
}

// A demoSummary is what a demo ends with.
type demoSummary struct {
	Published      int     `json:"published"`
	AlreadyQueued  int     `json:"already_queued"`
	Failed         int     `json:"failed"`
	Restarted      int     `json:"restarted"`
	Skipped        int     `json:"skipped"`
	Expired        int     `json:"expired"`
	Cancelled      int     `json:"cancelled"`
	Dead           int     `json:"dead"`
	Boots          int     `json:"boots"` // as the hosts counted them
	Attempts       int     `json:"attempts"`
	Redelivered    int     `json:"redelivered"`
	Extended       int     `json:"extended"`
	Saved          int     `json:"saved"` // as the database holds them, and so are the outcomes
	ElapsedSeconds float64 `json:"elapsed_seconds"`
	AckLag         struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
		Max float64 `json:"max"`
	} `json:"ack_lag_ms"` // from Finish's return to the acknowledgement
	Seed uint64 `json:"seed"`
}

// demonstrate runs the worker beside the mock publishers until all they have published is settled, or ctx ends, and
// closes the service.
func (s *service) demonstrate(ctx context.Context, o demoOptions) (*demoSummary, error) {
	working, stopWorking := context.WithCancelCause(ctx)
	defer stopWorking(nil)
	var totals publisher.Totals
	publishing := make(chan error, 1)
	began := time.Now()
	go func() {
		var err error
		if totals, err = s.publishMocks(working, o); err == nil {
			err = s.awaitEmpty(working)
		}
		if err == nil {
			err = errAllSettled
		}
		stopWorking(err)
		publishing <- err
	}()
	err := s.work(working)
	elapsed := time.Since(began)
	stopWorking(err)
	if published := <-publishing; !errors.Is(published, errAllSettled) {
		err = errors.Join(err, published)
	}

	summary := &demoSummary{
		Published: totals.Published, AlreadyQueued: totals.AlreadyQueued, Failed: totals.Failed,
		ElapsedSeconds: elapsed.Seconds(), Seed: o.seed,
	}
	err = errors.Join(err, s.fill(context.WithoutCancel(ctx), summary))
	return summary, errors.Join(err, s.close())
}

// publishMocks publishes over a connection of its own, as a publisher elsewhere would.
func (s *service) publishMocks(ctx context.Context, o demoOptions) (totals publisher.Totals, err error) {
	conn, err := s.endpoint.connect(ctx, "mandrill demo publisher", s.log)
	if err != nil {
		return totals, err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	p, err := newPublisher(ctx, conn, s.cfg, s.log)
	if err != nil {
		return totals, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Publish.Timeout)
		defer cancel()
		err = errors.Join(err, p.Close(closing))
	}()
	mock, err := publisher.NewMock(publisher.MockConfig{
		Publish: p.Publish, Count: o.count, Rate: o.rate, Steady: o.steady, Publishers: o.publishers, Seed: o.seed,
		Group: s.cfg.Groups[0], Reason: "demo", Logger: s.log,
	})
	if err != nil {
		return totals, &config.UsageError{Err: err}
	}
	return mock.Run(ctx)
}

// awaitEmpty returns when no request is queued or in work.
func (s *service) awaitEmpty(ctx context.Context) error {
	ticker := time.NewTicker(demoPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		info, err := s.streams.Work.Info(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("cannot look at the work stream: %w", err)
		case info.State.Msgs == 0:
			return nil
		}
	}
}

// fill adds what hosts, database and worker say.
func (s *service) fill(ctx context.Context, d *demoSummary) error {
	for _, g := range s.groups {
		if hosts, ok := g.driver.(interface{ Boots() int }); ok {
			d.Boots += hosts.Boots()
		}
	}
	outcomes := map[restart.Kind]int{}
	for e, err := range s.store.History(ctx, store.Filter{}) {
		if err != nil {
			return fmt.Errorf("cannot count what was saved: %w", err)
		}
		d.Saved++
		outcomes[e.Outcome.Kind]++
		d.Attempts += e.Outcome.Receipt.Attempt
	}
	d.Restarted, d.Skipped, d.Expired = outcomes[restart.Restarted], outcomes[restart.Skipped], outcomes[restart.Expired]
	d.Cancelled, d.Dead = outcomes[restart.Cancelled], outcomes[restart.Dead]
	d.Redelivered, d.Extended = s.tally.deliveries()
	p50, p99, most := s.tally.lagQuantiles()
	d.AckLag.P50, d.AckLag.P99, d.AckLag.Max = milliseconds(p50), milliseconds(p99), milliseconds(most)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (a *app) printSummary(d *demoSummary) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\npublished\t%d\t(already queued %d, failed %d)\n", d.Published, d.AlreadyQueued, d.Failed)
	fmt.Fprintf(w, "saved\t%d\t\n", d.Saved)
	for _, row := range []struct {
		name  string
		count int
	}{
		{"restarted", d.Restarted},
		{"skipped", d.Skipped},
		{"expired", d.Expired},
		{"cancelled", d.Cancelled},
		{"dead", d.Dead},
	} {
		fmt.Fprintf(w, "%s\t%d\t\n", row.name, row.count)
	}
	fmt.Fprintf(w, "boots\t%d\t(as the hosts counted them, in %d attempts)\n", d.Boots, d.Attempts)
	fmt.Fprintf(w, "leases extended\t%d\t(redelivered %d)\n", d.Extended, d.Redelivered)
	fmt.Fprintf(w, "ack lag\t%.2f ms\t(median; p99 %.2f ms, max %.2f ms)\n", d.AckLag.P50, d.AckLag.P99, d.AckLag.Max)
	fmt.Fprintf(w, "took\t%.1f s\t(seed %d)\n", d.ElapsedSeconds, d.Seed)
	return w.Flush()
}
