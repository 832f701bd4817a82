package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// repairOptions are the flags of history repair that are no settings.
type repairOptions struct {
	group  string
	dryRun bool
	out    *output
}

func (a *app) repairCommand() *cobra.Command {
	var o repairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Record an outcome for requests whose outcome was lost with a database",
		Long: `Record an outcome for each request that the journal knows, that is not queued any more, and that has no outcome in
the database: one that was restored from a backup, say, or that lost commits when it failed over.

Where the journal says how the request ended, that is recorded. Otherwise it was triggered, and its end is not known: the
host is asked, and the outcome is 'unknown', with what the host said. Nothing is restarted. The worker may go on meanwhile,
and the command may be run again.`,
		Example: `  mandrill history repair --dry-run
  mandrill history repair --group web --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.repair(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "only requests of this group")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be recorded, and record nothing")
	o.out = addOutput(cmd)
	config.AddFlags(f, "nats", "nats_context", "creds", "token", "tls.ca", "tls.cert", "tls.key", "data", "database",
		"probe_timeout", "save_timeout", "log.level", "log.format")
	return cmd
}

func (a *app) repair(cmd *cobra.Command, o repairOptions) (err error) {
	ctx := cmd.Context()
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	var group restart.Group
	if o.group != "" {
		if group, err = restart.ParseGroup(o.group); err != nil {
			return usagef("--group: %w", err)
		}
	}
	log := a.newLogger(cfg.Log)
	r := &repairer{worker: workerName(), probeTimeout: cfg.ProbeTimeout, dryRun: o.dryRun, drivers: a.newDrivers(cfg)}
	defer func() { err = errors.Join(err, r.drivers.close()) }()
	e, err := a.endpoint(cfg)
	if err != nil {
		return err
	}
	conn, err := e.connect(ctx, "mandrill history repair", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	access := store.Mender
	if o.dryRun {
		access = store.Reader
	}
	if r.store, err = openDatabase(ctx, cfg, access, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()
	if err := r.open(ctx, conn); err != nil {
		return err
	}
	report, err := r.repair(ctx, group)
	return errors.Join(err, a.printRepair(report, *o.out))
}

// A repairer compares the journal with the database.
type repairer struct {
	drivers      *drivers
	store        store.Store
	events       *journal.Journal
	work         jetstream.Stream
	worker       string
	probeTimeout time.Duration
	dryRun       bool
}

// A repairReport says what a repair has found. Repaired is what was recorded, or would be.
type repairReport struct {
	Requests int               `json:"requests"` // that the journal knows
	Queued   int               `json:"queued"`   // without an outcome, because they are queued or in work
	Repaired []restart.Outcome `json:"repaired"`
	DryRun   bool              `json:"dry_run"`
}

func (r *repairer) open(ctx context.Context, conn *connection) (err error) {
	if r.events, err = journal.Open(ctx, journal.Config{Conn: conn.Conn}); err != nil {
		return err
	}
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return fmt.Errorf("cannot use JetStream: %w", err)
	}
	if r.work, err = js.Stream(ctx, stream.Work); err != nil {
		return fmt.Errorf("cannot open stream %s: %w", stream.Work, err)
	}
	return nil
}

func (r *repairer) repair(ctx context.Context, group restart.Group) (repairReport, error) {
	report := repairReport{Repaired: []restart.Outcome{}, DryRun: r.dryRun}
	for e, err := range r.events.Latest(ctx, group) {
		if err != nil {
			return report, err
		}
		report.Requests++
		queued, lost, err := r.lost(ctx, e.Key)
		switch {
		case err != nil:
			return report, err
		case queued:
			report.Queued++
		case lost:
			o, err := r.record(ctx, e)
			if err != nil {
				return report, err
			}
			report.Repaired = append(report.Repaired, o)
		}
	}
	return report, nil
}

// lost reports whether a request has no outcome and nobody left who would record one. The worker that works on a request
// finishes it before it takes it from the stream: so what is not on the stream is either finished by now, or lost.
func (r *repairer) lost(ctx context.Context, key journal.Key) (queued, lost bool, err error) {
	finished, err := r.finished(ctx, key)
	if err != nil || finished {
		return false, false, err
	}
	if queued, err = r.queued(ctx, key); err != nil || queued {
		return queued, false, err
	}
	finished, err = r.finished(ctx, key)
	return false, !finished && err == nil, err
}

func (r *repairer) finished(ctx context.Context, key journal.Key) (bool, error) {
	_, err := r.store.Outcome(ctx, key.ID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (r *repairer) queued(ctx context.Context, key journal.Key) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	msg, err := r.work.GetLastMsgForSubject(ctx, stream.WorkSubject(key.Group, key.Host))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look at what is queued for host %q: %w", key.Host, err)
	}
	return stream.RequestID(msg, r.work.CachedInfo().Created, key.Group, key.Host) == key.ID, nil
}

// record saves what is known of the request, unless it is saved, and finishes it.
func (r *repairer) record(ctx context.Context, e journal.Entry) (restart.Outcome, error) {
	o := r.outcome(ctx, e)
	if r.dryRun {
		return o, nil
	}
	saved, err := r.store.Request(ctx, e.Key.ID)
	switch {
	case err == nil:
		o.Receipt.RequestedBy, o.Receipt.RequestedAt = saved.RequestedBy, saved.RequestedAt
	case errors.Is(err, store.ErrNotFound):
		err = r.store.Save(ctx, restart.Request{
			ID: e.Key.ID, Instance: string(e.Key.Host), Host: e.Key.Host, Group: e.Key.Group,
			RequestedAt: e.Last.At, NotAfter: e.Last.At, Reason: "known from the journal only",
		})
		o.Receipt.RequestedAt = e.Last.At
	}
	if err != nil {
		return restart.Outcome{}, err
	}
	return r.store.Finish(ctx, o)
}

// outcome is the journal's, where it says how the request ended.
func (r *repairer) outcome(ctx context.Context, e journal.Entry) restart.Outcome {
	last := e.Last
	o := restart.Outcome{
		ID: e.Key.ID, Host: e.Key.Host, Group: e.Key.Group,
		Kind: restart.Kind(last.Kind), Reason: last.Reason, Detail: last.Detail, At: last.At,
		Receipt: restart.Receipt{Worker: last.Worker, Attempt: last.Attempt, From: last.From, To: last.To},
	}
	if !last.Kind.Terminal() {
		o.Kind, o.Reason, o.At, o.Receipt.Worker = restart.Unknown, restart.ReasonRepaired, time.Now().UTC(), r.worker
		o.Detail, o.Receipt.To = r.ask(ctx, e)
	}
	return o
}

// ask says what the host's epoch tells, which nobody has watched since the trigger.
func (r *repairer) ask(ctx context.Context, e journal.Entry) (detail string, now restart.Epoch) {
	detail = fmt.Sprintf("worker %s triggered it at %s", e.Last.Worker, e.Last.At.UTC().Format(time.RFC3339))
	if e.Last.Kind == journal.Failed {
		detail = fmt.Sprintf("refused to worker %s at %s", e.Last.Worker, e.Last.At.UTC().Format(time.RFC3339))
	}
	ctx, cancel := context.WithTimeout(ctx, r.probeTimeout)
	defer cancel()
	state, err := r.drivers.probe(ctx, e.Key.Group, e.Key.Host)
	switch {
	case err != nil:
		return fmt.Sprintf("%s; the host does not answer: %v", detail, err), ""
	case state.Epoch == e.Last.From:
		return detail + "; the host still runs the boot from before", state.Epoch
	default:
		return detail + "; the host has been restarted since", state.Epoch
	}
}

func (a *app) printRepair(r repairReport, out output) error {
	if out == outputJSON {
		return a.printJSON(r)
	}
	for _, o := range r.Repaired {
		fmt.Fprintf(a.stdout, "%s\t%s\t%s\t%s\t%s\n", o.Host, o.ID, o.Kind, o.Reason, o.Detail)
	}
	did := "repaired"
	if r.DryRun {
		did = "to repair"
	}
	_, err := fmt.Fprintf(a.stdout, "%d requests in the journal: %d %s, %d queued or in work\n", r.Requests, len(r.Repaired), did, r.Queued)
	return err
}
