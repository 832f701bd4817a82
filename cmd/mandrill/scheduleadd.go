package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// scheduleAddOptions are the flags of schedule add that are no settings.
type scheduleAddOptions struct {
	cron, zone, at, every string

	validFor time.Duration
	catchUp  bool
	out      *output
}

func (a *app) scheduleAddCommand() *cobra.Command {
	var o scheduleAddOptions
	cmd := &cobra.Command{
		Use:   "add NAME (--cron FIELDS [--tz ZONE] | --at TIME | --every SPAN) -- (roll ARG... | restart HOST [--group GROUP] [--reason TEXT])",
		Short: "Add a schedule",
		Long: `Add a schedule. What follows -- is what is done each time: a roll, with the arguments of 'mandrill roll', or the restart
of one host. Hosts of files and standard input are read once, now; those of 'roll --known' are looked up each time.

A run that is due while the one before is not over is skipped, and so is one whose host has a request queued already.
Where the NATS server was away when a run was due, it is skipped, or with --catch-up done once, late. Nothing is asked for
after --valid-for, however long a roll takes.`,
		Example: `  mandrill schedule add nightly --cron "0 3 * * TUE" --tz Europe/Berlin --valid-for 3h -- roll --known web --batch 1,5%
  mandrill schedule add once --at 2030-01-02T03:00:00Z -- roll --file hosts.txt
  mandrill schedule add often --every 6h -- restart cattle-a1b2 --reason "it leaks"`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.scheduleAdd(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.cron, "cron", "", "minute, hour, day of the month, month and day of the week, as in \"0 3 * * TUE\"")
	f.StringVar(&o.zone, "tz", "", "the time zone of --cron, such as Europe/Berlin (default UTC)")
	f.StringVar(&o.at, "at", "", "once, at a time such as 2006-01-02T15:04:05Z")
	f.StringVar(&o.every, "every", "", "at even intervals from midnight, UTC, such as 30s, 15m or 6h")
	f.DurationVar(&o.validFor, "valid-for", time.Hour, "how long after its time a run may still restart anything")
	f.BoolVar(&o.catchUp, "catch-up", false, "do a run late, once, that was missed because the server was away")
	o.out = addOutput(cmd)
	config.AddFlags(f, steerSettings...)
	return cmd
}

func (a *app) scheduleAdd(cmd *cobra.Command, args []string, o scheduleAddOptions) error {
	now := time.Now()
	dash := cmd.ArgsLenAtDash()
	if dash < 0 || dash == len(args) {
		return usagef("schedule add: say after -- what is done, as in -- restart HOST, or -- roll HOST...")
	}
	if err := checkScheduleName(cmd, args[:dash]); err != nil {
		return err
	}
	d := schedule.Definition{
		Name: args[0], ValidFor: restart.Duration(o.validFor), CatchUp: o.catchUp, By: a.whoami(), At: now.UTC(), Since: now.UTC(),
	}
	var err error
	if d.Spec, err = o.spec(cmd, now); err != nil {
		return err
	}
	work, err := a.parseScheduled(cmd, args[dash:], &d, now)
	if err != nil {
		return err
	}
	if err := d.Validate(); err != nil {
		return fieldUsage(err)
	}
	return a.withScheduleStream(cmd.Context(), work.cfg, "add", func(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
		return stream.EnsureSchedules(ctx, js, stream.Settings{Replicas: work.cfg.Replicas})
	}, func(ctx context.Context, store *schedule.Store) error {
		err := store.Add(ctx, d, now)
		if errors.Is(err, schedule.ErrExists) {
			return usagef("schedule add: %w; remove it first, or choose another name", err)
		}
		if err != nil {
			return fieldUsage(err)
		}
		for _, warning := range work.warnings(&d) {
			fmt.Fprintf(a.stderr, "mandrill: warning: %s\n", warning)
		}
		line := newScheduleLine(d, now)
		if *o.out == outputJSON {
			return a.printJSON(line)
		}
		fmt.Fprintf(a.stdout, "added %s: %s, %s\n", d.Name, whatText(d), whenText(d.Spec))
		for _, next := range line.Next {
			fmt.Fprintf(a.stdout, "next\t%s\n", next.Format(zoneTime))
		}
		return nil
	})
}

// spec returns when it is due.
func (o *scheduleAddOptions) spec(cmd *cobra.Command, now time.Time) (s schedule.Spec, err error) {
	var given []string
	for _, flag := range []string{"cron", "at", "every"} {
		if cmd.Flags().Changed(flag) {
			given = append(given, "--"+flag)
		}
	}
	switch {
	case len(given) == 0:
		return s, usagef("schedule add: say when, with --cron, --at or --every")
	case len(given) > 1:
		return s, usagef("schedule add: say when in one way, and not with %s", strings.Join(given, " and "))
	case o.zone != "" && given[0] != "--cron":
		return s, usagef("--tz: is only for --cron")
	}
	switch given[0] {
	case "--cron":
		s, err = schedule.ParseCron(o.cron, o.zone)
	case "--at":
		s, err = schedule.ParseAt(o.at)
	default:
		s, err = schedule.ParseEvery(o.every)
	}
	if err == nil && s.Next(now).IsZero() {
		err = &restart.FieldError{Field: "at", Problem: fmt.Sprintf("%s has passed", s.Expr)}
	}
	return s, fieldUsage(err)
}

// fieldUsage names the flag of a schedule's field that is wrong; what is wrong otherwise it leaves as it is.
func fieldUsage(err error) error {
	var field *restart.FieldError
	if !errors.As(err, &field) {
		return err
	}
	switch field.Field {
	case "cron", "tz", "at", "every":
		return usagef("--%s: %s", field.Field, field.Problem)
	case "valid_for":
		return usagef("--valid-for: %s", field.Problem)
	}
	return &config.UsageError{Err: err}
}

// scheduled is what a schedule does, and what the command line has said beside it.
type scheduled struct {
	cfg      config.Config
	template *rollTemplate // nil for a single restart
}

// parseScheduled reads what follows --, as the verbs of that name read it, and puts it into the definition.
func (a *app) parseScheduled(cmd *cobra.Command, words []string, d *schedule.Definition, now time.Time) (scheduled, error) {
	switch words[0] {
	case "restart":
		return a.parseRestart(cmd, words[1:], d)
	case "roll":
		return a.parseRoll(cmd, words[1:], d, now)
	}
	return scheduled{}, usagef("schedule add: after -- stands restart or roll, not %q", words[0])
}

// parseWords parses the flags of a verb within a verb, and returns its arguments and the configuration with its settings.
func (a *app) parseWords(cmd, inner *cobra.Command, words []string) ([]string, config.Config, error) {
	config.AddFlags(inner.Flags(), "group", "domain")
	if err := inner.ParseFlags(words); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			err = fmt.Errorf("see 'mandrill %s --help'", cmd.CommandPath()[len(cmd.Root().Name())+1:])
		}
		return nil, config.Config{}, usagef("schedule add: %s: %w", inner.Name(), err)
	}
	extra := map[string]string{}
	for key, values := range config.ChangedFlags(inner.Flags()) {
		if len(values) > 1 {
			return nil, config.Config{}, usagef("--%s: is for one, not for %d", key, len(values))
		}
		extra[key] = values[0]
	}
	loaded, err := a.loadConfig(cmd, extra)
	if err != nil {
		return nil, config.Config{}, err
	}
	return inner.Flags().Args(), loaded.Config, nil
}

func (a *app) parseRestart(cmd *cobra.Command, words []string, d *schedule.Definition) (s scheduled, err error) {
	inner := &cobra.Command{Use: "restart"}
	reason := inner.Flags().String("reason", "", "")
	args, cfg, err := a.parseWords(cmd, inner, words)
	switch {
	case err != nil:
		return s, err
	case len(args) != 1:
		return s, usagef("schedule add: restart takes one host, not %d; roll takes many", len(args))
	case len(cfg.Groups) != 1:
		return s, usagef("group: a request is for one group, not for %d", len(cfg.Groups))
	}
	host, err := restart.HostOf(args[0], cfg.Domain)
	if err != nil {
		return s, &config.UsageError{Err: err}
	}
	d.Restart = &schedule.Restart{Group: cfg.Groups[0], Host: host, Instance: args[0], Reason: *reason}
	return scheduled{cfg: cfg}, nil
}

func (a *app) parseRoll(cmd *cobra.Command, words []string, d *schedule.Definition, now time.Time) (s scheduled, err error) {
	inner := &cobra.Command{Use: "roll"}
	var o rollOptions
	o.addFlags(inner)
	args, cfg, err := a.parseWords(cmd, inner, words)
	if err != nil {
		return s, err
	}
	if o.notAfter != "" {
		return s, usagef("--not-after: is for a roll that begins now; a schedule has --valid-for, before --")
	}
	if err := o.source.check(inner, args); err != nil {
		return s, err
	}
	group, err := o.source.group(inner, cfg)
	if err != nil {
		return s, err
	}
	spec, err := o.spec(a, cfg.For(group), group, now)
	if err != nil {
		return s, err
	}
	t := &rollTemplate{
		Group: group, Known: o.source.known != "", Order: spec.Order, Seed: spec.Seed, Batches: spec.Batches,
		MaxUnavailable: spec.MaxUnavailable, Settle: spec.Settle, StopAfter: spec.StopAfter, MinUptime: spec.MinUptime, Reason: spec.Reason,
	}
	if o.source.sinceText != "" {
		span, err := time.ParseDuration(o.source.sinceText)
		if err != nil {
			return s, usagef("--since: %q is no span such as 720h, which is what a schedule needs", o.source.sinceText)
		}
		t.Since = restart.Duration(span)
	}
	d.By = cmp.Or(o.requestedBy, d.By)
	if t.Hosts, err = o.source.read(a, args, cfg.Domain); err != nil {
		return s, err
	}
	if !t.Known {
		if t.Hosts, err = campaign.Arrange(campaign.OrderGiven, 0, t.Hosts, nil); err != nil {
			return s, err
		}
		spec.ID, spec.Hosts = uuid.New(), t.Hosts
		if err := spec.Validate(); err != nil {
			return s, &config.UsageError{Err: err}
		}
	}
	if d.Roll, err = json.Marshal(t); err != nil {
		return s, err
	}
	return scheduled{cfg: cfg, template: t}, nil
}

// warnings tell of a roll that is too long for its time, as far as its hosts are known.
func (s *scheduled) warnings(d *schedule.Definition) []string {
	if s.template == nil || s.template.Known {
		return nil
	}
	f := schedule.Firing{Definition: *d, ID: uuid.New(), Planned: d.Spec.Next(d.Since)}
	f.Fired, f.NotAfter = f.Planned, f.Planned.Add(time.Duration(d.ValidFor))
	run := s.template.spec(f)
	run.Hosts, run.Takes = s.template.Hosts, restart.Duration(s.cfg.For(run.Group).Window.RestartTakes)
	asked := 0
	for _, b := range campaign.NewPlan(run, f.Planned, nil).Batches {
		if b.Begin.Before(f.NotAfter) {
			asked = b.To
		}
	}
	if asked == len(run.Hosts) {
		return nil
	}
	return []string{fmt.Sprintf("about %d of %d hosts would be asked for within --valid-for %s, even if nothing fails", asked, len(run.Hosts), time.Duration(d.ValidFor))}
}
