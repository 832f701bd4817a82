package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// publishOptions are the flags of publish that are no settings.
type publishOptions struct {
	reason      string
	requestedBy string
	notAfter    string
	minUptime   time.Duration
	wait        bool
	waitTimeout time.Duration
	mock        bool
	mockOptions mockOptions
	out         *output
}

// mockOptions are the flags of the mock publisher.
type mockOptions struct {
	count      int
	rate       float64
	publishers int
	steady     bool
	seed       uint64
}

func (o *mockOptions) addFlags(cmd *cobra.Command, count int, rate float64, publishers int) {
	f := cmd.Flags()
	f.IntVar(&o.count, "count", count, "how many requests the mock publishers send in all; 0 sends until stopped")
	f.Float64Var(&o.rate, "rate", rate, "how many they send a second, on average and in all; 0 is as fast as it goes")
	f.IntVar(&o.publishers, "publishers", publishers, "how many mock publishers share the work")
	f.BoolVar(&o.steady, "steady", false, "even gaps between requests instead of random ones")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the mock's random names and gaps, so that a run can be repeated; 0 draws one")
}

func (o *mockOptions) check() error {
	switch {
	case o.count < 0:
		return usagef("--count: %d is negative", o.count)
	case o.publishers < 1:
		return usagef("--publishers: %d is less than 1", o.publishers)
	}
	return checkRate(o.rate)
}

func (a *app) publishCommand() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish [HOST...]",
		Short: "Ask for hosts to be restarted",
		Long: `Ask for hosts to be restarted. Hosts are arguments or, without any, lines of standard input; a name without a dot
is an instance, to which the domain is appended. All are checked before the first is sent.

A host that has a request queued already is reported as such, and is no failure. The exit code is 3 if some publishes
failed or, with --wait, if a request ended otherwise than restarted or skipped.`,
		Example: `  mandrill publish cattle-a1b2 cattle-c3d4 --reason "kernel update"
  mandrill publish --group web --not-after 2h --wait < hosts.txt
  mandrill publish --mock --count 100 --rate 10`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.publish(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "why, for people")
	f.StringVar(&o.requestedBy, "requested-by", "", "who asks (default your user and host name)")
	f.StringVar(&o.notAfter, "not-after", "", "when the request expires: a span such as 2h, or a time such as 2006-01-02T15:04:05Z (default 24h)")
	f.DurationVar(&o.minUptime, "min-uptime", 0, "only restart a host that has been up for longer than this")
	f.BoolVar(&o.wait, "wait", false, "follow each request to its outcome")
	f.DurationVar(&o.waitTimeout, "wait-timeout", time.Hour, "how long --wait waits")
	f.BoolVar(&o.mock, "mock", false, "run the mock publisher: made-up hosts called cattle-xxxx")
	o.mockOptions.addFlags(cmd, 0, 2, 1)
	o.out = addOutput(cmd)
	config.AddFlags(f, "group", "domain", "nats", "nats_context", "creds", "token", "tls.ca", "tls.cert", "tls.key",
		"data", "publish.window", "publish.timeout", "log.level", "log.format")
	return cmd
}

func (a *app) publish(cmd *cobra.Command, args []string, o publishOptions) (err error) {
	ctx := cmd.Context()
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	if len(cfg.Groups) != 1 {
		return usagef("group: a request is published to one group, not to %d", len(cfg.Groups))
	}
	var requests []restart.Request
	if !o.mock {
		if requests, err = a.requests(cmd, args, cfg, o); err != nil {
			return err
		}
	} else if err := o.checkMock(cmd, args); err != nil {
		return err
	}
	log := a.newLogger(cfg.Log)
	e, err := a.endpoint(cfg)
	if err != nil {
		return err
	}
	conn, err := e.connect(ctx, "mandrill publish", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	return withPublisher(ctx, conn, cfg, log, func(p *publisher.Publisher) error {
		if o.mock {
			err = a.publishMock(ctx, conn, p, cfg, o, log)
		} else {
			err = a.publishList(ctx, conn, p, requests, o)
		}
		return conn.explainDenial("publish", err)
	})
}

func newPublisher(ctx context.Context, conn *connection, cfg config.Config, log zerolog.Logger) (*publisher.Publisher, error) {
	return publisher.New(publisher.Config{
		Conn: conn.Conn, Domain: cfg.Domain, Window: cfg.Publish.Window, Timeout: cfg.Publish.Timeout,
		Phases: newPhases(ctx, conn), Logger: log,
	})
}

// phaseTimeout bounds the look into the journal. A publisher may have no permission for it, and then gets no answer.
const phaseTimeout = 2 * time.Second

// phases tells from the journal how far a request has come.
type phases struct {
	open func() (*journal.Journal, error)
}

// newPhases opens the journal when it is first asked for.
func newPhases(ctx context.Context, conn *connection) phases {
	return phases{sync.OnceValues(func() (*journal.Journal, error) {
		ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
		defer cancel()
		return journal.Open(ctx, journal.Config{Conn: conn.Conn})
	})}
}

func (p phases) Phase(ctx context.Context, group publisher.Group, id uuid.UUID, host publisher.Host) (publisher.Phase, error) {
	events, err := p.open()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	last, err := events.Last(ctx, journal.Key{Group: group, ID: id, Host: host})
	switch {
	case err != nil:
		return "", err
	case last.Kind == journal.Restarting:
		return publisher.PhaseRestarting, nil
	case last.Kind == journal.Failed:
		return publisher.PhaseWaiting, nil
	case last.Kind.Terminal():
		return publisher.PhaseEnded, nil
	default:
		return publisher.PhaseQueued, nil
	}
}

func (o *publishOptions) checkMock(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0:
		return usagef("publish: --mock makes up its hosts, and takes none")
	case o.wait:
		return usagef("publish: --wait is not for --mock")
	}
	for _, flag := range []string{"not-after", "min-uptime", "requested-by"} {
		if cmd.Flags().Changed(flag) {
			return usagef("publish: --%s is not for --mock", flag)
		}
	}
	if o.mockOptions.seed == 0 && !cmd.Flags().Changed("seed") {
		o.mockOptions.seed = randomSeed()
	}
	return o.mockOptions.check()
}

// requests makes a valid request of every host before any is sent.
func (a *app) requests(cmd *cobra.Command, args []string, cfg config.Config, o publishOptions) ([]restart.Request, error) {
	now := time.Now()
	template := restart.Request{
		Group: cfg.Groups[0], Reason: o.reason, RequestedBy: o.requestedBy, MinUptime: restart.Duration(o.minUptime),
	}
	if template.RequestedBy == "" {
		template.RequestedBy = a.whoami()
	}
	var err error
	if template.NotAfter, err = parseNotAfter(o.notAfter, now); err != nil {
		return nil, err
	}
	if o.waitTimeout <= 0 {
		return nil, usagef("--wait-timeout: %s is not in the future", o.waitTimeout)
	}
	for _, flag := range []string{"count", "rate", "publishers", "steady", "seed"} {
		if cmd.Flags().Changed(flag) {
			return nil, usagef("publish: --%s is only for --mock", flag)
		}
	}
	names, from := args, func(i int) string { return fmt.Sprintf("argument %d", i+1) }
	if len(args) == 0 {
		if isTerminal(a.stdin) {
			return nil, usagef("publish: name hosts, as arguments or on standard input")
		}
		var lines []int
		if names, lines, err = readHosts(a.stdin, "standard input"); err != nil {
			return nil, err
		}
		from = func(i int) string { return fmt.Sprintf("line %d", lines[i]) }
	}
	if len(names) == 0 {
		return nil, usagef("publish: there are no hosts on standard input")
	}
	requests := make([]restart.Request, len(names))
	var problems []error
	for i, name := range names {
		requests[i] = template
		requests[i].Instance = name
		if err := requests[i].Complete(cfg.Domain, now); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", from(i), err))
		}
	}
	if len(problems) > 0 {
		return nil, &config.UsageError{Err: errors.Join(problems...)}
	}
	return requests, nil
}

// readHosts reads a host a line; empty lines and what follows # are left out. lines are the hosts' line numbers.
func readHosts(r io.Reader, from string) (hosts []string, lines []int, err error) {
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			hosts, lines = append(hosts, line), append(lines, n)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, nil, fmt.Errorf("cannot read hosts from %s: %w", from, err)
	}
	return hosts, lines, nil
}

func parseNotAfter(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if span, err := time.ParseDuration(text); err == nil {
		if span <= 0 {
			return time.Time{}, usagef("--not-after: %s is not in the future", text)
		}
		return now.Add(span), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--not-after: %q is neither a span such as 2h nor a time such as 2006-01-02T15:04:05Z", text)
	}
	return at, nil
}

func (a *app) whoami() string {
	name := a.getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// publishList publishes the requests, prints what became of each, and with --wait follows them to their outcomes.
func (a *app) publishList(ctx context.Context, conn *connection, p *publisher.Publisher, requests []restart.Request, o publishOptions) error {
	var follow *follower
	if o.wait {
		var err error
		if follow, err = newFollower(ctx, conn, requests[0].Group); err != nil {
			return err
		}
		defer follow.close()
	}
	report := &publishReport{app: a, out: *o.out, follow: follow}
	bar := a.newProgress("publishing", len(requests))
	defer bar.stop()
	var unreported sync.WaitGroup
	for _, r := range requests {
		unreported.Add(1)
		err := p.Publish(ctx, r, func(result publisher.Result) {
			defer unreported.Done()
			bar.add()
			report.add(result)
		})
		if err != nil {
			unreported.Done()
			report.add(publisher.Result{Request: r, Status: publisher.Failed, Err: err})
		}
	}
	unreported.Wait()
	bar.stop()
	if report.accepted() > 0 {
		report.warning = a.warnUnserved(ctx, conn, requests[0].Group)
	}
	if follow != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, o.waitTimeout, fmt.Errorf("--wait-timeout %s is over", o.waitTimeout))
		defer cancel()
		report.awaitOutcomes(ctx)
	}
	return report.end()
}

// warnUnserved tells on standard error why requests wait, if they do, and returns what it told.
func (a *app) warnUnserved(ctx context.Context, conn *connection, group restart.Group) string {
	warning := unservedWarning(ctx, conn, group)
	if warning != "" {
		fmt.Fprintf(a.stderr, "mandrill: warning: %s\n", warning)
	}
	return warning
}

// publishMock warns before it begins, because it may never end.
func (a *app) publishMock(ctx context.Context, conn *connection, p *publisher.Publisher, cfg config.Config, o publishOptions, log zerolog.Logger) error {
	m := o.mockOptions
	warning := a.warnUnserved(ctx, conn, cfg.Groups[0])
	bar := a.newProgress("publishing", m.count)
	defer bar.stop()
	mock, err := publisher.NewMock(publisher.MockConfig{
		Publish: func(ctx context.Context, r publisher.Request, report func(publisher.Result)) error {
			return p.Publish(ctx, r, func(result publisher.Result) { bar.add(); report(result) })
		},
		Count: m.count, Rate: m.rate, Steady: m.steady, Publishers: m.publishers, Seed: m.seed,
		Group: cfg.Groups[0], Reason: o.reason, Logger: log,
	})
	if err != nil {
		return &config.UsageError{Err: err}
	}
	totals, err := mock.Run(ctx)
	bar.stop()
	if *o.out == outputJSON {
		result := map[string]any{
			"published": totals.Published, "already_queued": totals.AlreadyQueued, "failed": totals.Failed, "seed": m.seed,
		}
		if warning != "" {
			result["warning"] = warning
		}
		err = errors.Join(err, a.printJSON(result))
	} else {
		fmt.Fprintf(a.stdout, "published %d, already queued %d, failed %d (seed %d)\n",
			totals.Published, totals.AlreadyQueued, totals.Failed, m.seed)
	}
	if err == nil && totals.Failed > 0 {
		err = fmt.Errorf("%w: %d publishes failed", errPartly, totals.Failed)
	}
	return err
}
