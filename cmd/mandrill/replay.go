package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// replayOptions are the flags of replay that are no settings.
type replayOptions struct {
	askAgain
	filter historyFilter
	name   string
	reason string
	out    *output
}

func (a *app) replayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay [ID...] --name NAME",
		Short: "Ask again for what was asked for before",
		Long: `Ask again for what was asked for before: stored requests, chosen by id or by what they were, are published as new
ones. Each new request keeps host, group and min_uptime of the old one, names it as replay_of, and is asked for now.

Its id is made of the old id and --name. So the same replay can be run again under the same name, after it was
interrupted or to be sure, and restarts nothing twice; under another name it is another replay. Give --since and --until
as times, not as spans, where a later run is to choose the same.

The database is only read, and may be a copy of another one (--database). A host takes one request at a time, and to
send two would restart it twice: of several requests for one host, only the latest is sent, and the others are reported
as superseded. What this replay itself has made is never chosen. A request that already has its outcome in the database
is reported as already done, one that is queued as already queued, and one that could not be read as skipped; these are
no failures. The exit code is 3 if some could not be published, or the replay was stopped in the middle.`,
		Example: `  mandrill replay --outcome dead --since 2h --name after-the-outage --dry-run
  mandrill replay --outcome dead --since 2h --name after-the-outage --rate 10
  mandrill replay 01a1fbe2-e6cc-736c-b479-60539a1e765f --name once-more`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.replay(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of this replay, required: 1 to 64 letters, digits, '-', '_' or '.'; the same name never doubles anything")
	f.StringVar(&o.reason, "reason", "", "why, for people (default the old request's)")
	o.askAgain.addFlags(cmd)
	o.filter.addFlags(cmd, 0)
	o.out = addOutput(cmd)
	config.AddFlags(f, append([]string{
		"nats", "nats_context", "creds", "token", "tls.ca", "tls.cert", "tls.key",
		"publish.window", "publish.timeout",
	}, historyDatabase...)...)
	return cmd
}

var replayName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// check returns the ids that were given, or else the filter.
func (o *replayOptions) check(cmd *cobra.Command, args []string, domain string, now time.Time) ([]uuid.UUID, store.Filter, error) {
	switch {
	case o.name == "":
		return nil, store.Filter{}, usagef("replay: --name is missing: ids are made of it, so that the same replay can be run again")
	case !replayName.MatchString(o.name):
		return nil, store.Filter{}, usagef("--name: %q is not 1 to 64 letters, digits, '-', '_' or '.'", o.name)
	case len(args) == 0 && !o.filter.given():
		return nil, store.Filter{}, usagef("replay: choose requests, by id or by flags such as --since")
	}
	if len(args) == 0 {
		filter, err := o.filter.filter(domain, now)
		return nil, filter, err
	}
	for _, flag := range historyFilterFlags {
		if cmd.Flags().Changed(flag) {
			return nil, store.Filter{}, usagef("replay: choose by ids or by --%s, not by both", flag)
		}
	}
	ids := make([]uuid.UUID, len(args))
	for i, text := range args {
		var err error
		if ids[i], err = parseID("replay", text); err != nil {
			return nil, store.Filter{}, err
		}
	}
	return ids, store.Filter{}, nil
}

// again returns the new request for an old one, as it is asked for at that time.
func (o *replayOptions) again(old restart.Request, now time.Time) (restart.Request, error) {
	return o.ask(restart.Request{
		ID: restart.ReplayID(old.ID, o.name), ReplayOf: old.ID.String(), Reason: cmp.Or(o.reason, old.Reason),
		Instance: old.Instance, Host: old.Host, Group: old.Group, MinUptime: old.MinUptime,
	}, now)
}

func (a *app) replay(cmd *cobra.Command, args []string, o replayOptions) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	now := time.Now()
	if err := o.askAgain.check(a, now); err != nil {
		return err
	}
	ids, filter, err := o.check(cmd, args, cfg.Domain, now)
	if err != nil {
		return err
	}
	return a.withHistory(cmd.Context(), cfg, func(ctx context.Context, db store.Store) error {
		plan := &replayPlan{db: db, name: o.name, again: o.again}
		if len(ids) > 0 {
			if err := plan.chooseIDs(ctx, ids); err != nil {
				return err
			}
		} else {
			plan.chooseFilter(filter, now)
		}
		if o.dryRun {
			return a.showReplay(ctx, plan, o)
		}
		return a.sendReplay(ctx, plan, cfg, o)
	})
}

// showReplay prints what would be sent.
func (a *app) showReplay(ctx context.Context, plan *replayPlan, o replayOptions) error {
	report := newReplayReport(a.stdout, o)
	for step, err := range plan.steps(ctx) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return errors.Join(err, report.end())
		}
		report.add(newReplayLine(step))
	}
	return report.end()
}

// sendReplay publishes what is to be sent, and reports on all.
func (a *app) sendReplay(ctx context.Context, plan *replayPlan, cfg config.Config, o replayOptions) (err error) {
	log := a.newLogger(cfg.Log)
	e, err := a.endpoint(cfg)
	if err != nil {
		return err
	}
	conn, err := e.connect(ctx, "mandrill replay", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	if _, err := openWork(ctx, conn); err != nil { // before the first of many publishes finds out
		return fmt.Errorf("cannot replay: %w", err)
	}
	total, err := plan.count(ctx)
	if err != nil {
		return err
	}
	if err := a.confirm(ctx, o.yes, total, fmt.Sprintf("Ask for %d hosts to be restarted again?", total)); err != nil {
		return err
	}
	return withPublisher(ctx, conn, cfg, log, func(p *publisher.Publisher) error {
		report := newReplayReport(a.stdout, o)
		bar := a.newProgress("replaying", total)
		defer bar.stop()
		sender := &replaySender{
			publish: p.Publish, again: o.again, pace: newPace(o.rate),
			report: func(l replayLine) { bar.add(); report.add(l) },
		}
		stopped := sender.run(ctx, plan.steps(ctx), report.add)
		bar.stop()
		return report.result(stopped)
	})
}
