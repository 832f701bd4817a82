package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// rollOptions are the flags of roll that are no settings.
type rollOptions struct {
	source rollSource

	order          string
	seed           uint64
	batch          string
	maxUnavailable string
	settle         time.Duration
	stopAfter      string
	minUptime      time.Duration
	notAfter       string
	reason         string
	requestedBy    string

	dryRun, anyway, yes bool
	waiting             waitFlags
	out                 *output
}

// defaultRollLife is for how long a campaign may ask for hosts, unless it is said: a fleet with a window of a few hours a
// day takes days.
const defaultRollLife = 7 * 24 * time.Hour

func (a *app) rollCommand() *cobra.Command {
	var o rollOptions
	cmd := &cobra.Command{
		Use:   "roll HOST... | --file FILE | --stdin | --known GROUP",
		Short: "Restart many hosts, a few at a time",
		Long: `Restart many hosts, a few at a time, as a campaign: a worker asks for a batch of hosts, awaits them, lets them settle, and
goes on with the next. It goes on in another worker when that one dies, waits while its group is paused or its window is
closed, and stops by itself when too many hosts have failed.

Sizes are numbers of hosts, as in 5, or shares of all of them, as in 5%. Several batches are separated by commas, and the
last is for all that follow; after a batch with a failure it goes back to the first.

With --dry-run the plan is shown and stored, and nothing is restarted. The same command without it, within a day, takes
that plan; or it says what has changed since, and starts nothing. The plan is the one of the same person, group and source.

The id of the campaign is printed first. The exit code is 3 if --wait saw a host end otherwise than restarted or skipped.`,
		Example: `  mandrill roll cattle-1 cattle-2 cattle-3 --reason "kernel update" --wait
  mandrill roll --file hosts.txt --group web --batch 1,5%,25% --max-unavailable 20 --dry-run
  mandrill roll --known web --order longest-up --min-uptime 168h`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.roll(cmd, args, o) },
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "show the plan with its times and store it, and restart nothing")
	f.BoolVar(&o.anyway, "anyway", false, "do not look for the plan of a dry run, and start what is asked for now")
	f.BoolVar(&o.yes, "yes", false, fmt.Sprintf("do not ask before more than %d are restarted of which no plan was made", confirmAbove))
	o.waiting.addFlags(f, "show how far it is until it is over")
	o.out = addOutput(cmd)
	config.AddFlags(f, rollSettings...)
	return cmd
}

// rollSettings are the settings of a verb that begins a campaign.
var rollSettings = append([]string{
	"group", "domain", "database", "save_timeout", "window.open", "window.except", "window.zone", "window.restart_takes", "deny", "only",
}, steerSettings...)

// addFlags adds the flags that say what is to be done.
func (o *rollOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.source.addFlags(f)
	f.StringVar(&o.order, "order", "given", "in which order: given, random or longest-up")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the random order, so that it can be repeated; 0 draws one")
	f.StringVar(&o.batch, "batch", "1,5%,25%", "how many hosts each batch has: the first, the second, …, and all others")
	f.StringVar(&o.maxUnavailable, "max-unavailable", "10%", "how many hosts may be down, being restarted or failed at the same time")
	f.DurationVar(&o.settle, "settle", 2*time.Minute, "for how long the group's checks must be good after a batch, before the next")
	f.StringVar(&o.stopAfter, "stop-after", "", "how many failed hosts end the campaign (default as many as --max-unavailable)")
	f.DurationVar(&o.minUptime, "min-uptime", 0, "only restart hosts that have been up for longer than this")
	f.StringVar(&o.notAfter, "not-after", "", "when nothing more is asked for: a span such as 12h, or a time such as 2006-01-02T15:04:05Z (default 168h)")
	f.StringVar(&o.reason, "reason", "", "why, for people")
	f.StringVar(&o.requestedBy, "requested-by", "", "who asks (default your user and host name)")
}

// spec returns a campaign without hosts, as the flags say.
func (o *rollOptions) spec(a *app, cfg config.Config, group restart.Group, now time.Time) (s campaign.Spec, err error) {
	s = campaign.Spec{
		Group: group, Settle: restart.Duration(o.settle), MinUptime: restart.Duration(o.minUptime), Takes: restart.Duration(cfg.Window.RestartTakes),
		Reason: o.reason, By: cmp.Or(o.requestedBy, a.whoami()),
	}
	s.Created = now.UTC().Truncate(time.Millisecond)
	s.NotAfter = s.Created.Add(defaultRollLife)
	s.Order = campaign.Order(strings.ReplaceAll(o.order, "-", "_"))
	switch s.Order {
	case campaign.OrderGiven, campaign.OrderLongest:
		if o.seed != 0 {
			return s, usagef("--seed: is only for --order random")
		}
	case campaign.OrderRandom:
		s.Seed = o.seed
	default:
		return s, usagef("--order: %q is none of given, random and longest-up", o.order)
	}
	if s.Batches, err = campaign.ParseBatches(o.batch); err != nil {
		return s, usagef("--batch: %w", err)
	}
	if s.MaxUnavailable, err = campaign.ParseAmount(o.maxUnavailable); err != nil {
		return s, usagef("--max-unavailable: %w", err)
	}
	if o.stopAfter != "" {
		if s.StopAfter, err = campaign.ParseAmount(o.stopAfter); err != nil {
			return s, usagef("--stop-after: %w", err)
		}
	}
	if o.notAfter != "" {
		var at time.Time
		if at, err = parseNotAfter(o.notAfter, now); err != nil {
			return s, err
		}
		s.NotAfter = at.UTC().Truncate(time.Millisecond)
	}
	probe := s // what is wrong beside the hosts
	probe.ID, probe.Hosts = uuid.New(), []restart.Host{"host"}
	if err := probe.Validate(); err != nil {
		return s, &config.UsageError{Err: err}
	}
	return s, nil
}

func (o *rollOptions) check(cmd *cobra.Command) error {
	switch {
	case o.dryRun && o.waiting.wait:
		return usagef("roll: --wait is not for --dry-run, which starts nothing")
	case o.dryRun && o.anyway:
		return usagef("roll: --anyway is not for --dry-run, which makes a new plan")
	}
	return o.waiting.check(cmd.Flags())
}

// A roll is a campaign that is about to be planned or begun.
type roll struct {
	*campaignWheel
	o        rollOptions
	spec     campaign.Spec
	fits     campaign.Fits
	asked    string   // names the source, to find the plan of a dry run
	warnings []string // what is told before anything is begun
}

func (a *app) roll(cmd *cobra.Command, args []string, o rollOptions) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	if err := o.check(cmd); err != nil {
		return err
	}
	if err := o.source.check(cmd, args); err != nil {
		return err
	}
	group, err := o.source.group(cmd, loaded.Config)
	if err != nil {
		return err
	}
	r := &roll{o: o}
	cfg := loaded.Config.For(group)
	if r.spec, err = o.spec(a, cfg, group, time.Now()); err != nil {
		return err
	}
	listed, err := o.source.read(a, args, cfg.Domain)
	if err != nil {
		return err
	}
	rules, err := newRules(cfg)
	if err != nil {
		return err
	}
	r.fits = fitsOf(rules)
	if err := r.refused(rules, listed); err != nil {
		return err
	}
	return a.withCampaigns(cmd.Context(), loaded.Config, "roll", func(ctx context.Context, w *campaignWheel) error {
		r.campaignWheel = w
		if o.source.known != "" {
			if listed, err = w.knownHosts(ctx, group, o.source.since); err != nil {
				return err
			}
			if err := r.refused(rules, listed); err != nil {
				return err
			}
		}
		r.asked = strings.Join([]string{a.whoami(), string(group), o.source.name(listed)}, "\n")
		if err := r.arrange(ctx, cfg, listed); err != nil {
			return err
		}
		return r.planOrBegin(ctx)
	})
}

// planOrBegin stores a plan, or begins what was planned, or else what is asked for now.
func (r *roll) planOrBegin(ctx context.Context) error {
	r.spec.ID = uuid.Must(uuid.NewV7())
	if err := r.spec.Validate(); err != nil {
		return &config.UsageError{Err: err}
	}
	var taken bool
	if !r.o.dryRun && !r.o.anyway {
		var err error
		if taken, err = r.takePlan(ctx); err != nil {
			return err
		}
	}
	plan := campaign.NewPlan(r.spec, time.Now().UTC(), r.fits)
	if err := r.checkTimes(plan); err != nil {
		return err
	}
	for _, warning := range r.warnings {
		fmt.Fprintf(r.app.stderr, "mandrill: warning: %s\n", plain(warning))
	}
	if r.o.dryRun {
		return r.showPlan(ctx, plan)
	}
	if !taken {
		question := fmt.Sprintf("Restart %d hosts of group %s?", len(r.spec.Hosts), r.spec.Group)
		if err := r.app.confirm(ctx, r.o.yes, len(r.spec.Hosts), question); err != nil {
			return err
		}
	}
	return r.begin(ctx, plan, taken)
}

// A begun is what is printed of a campaign that was handed to the workers, and with --wait of its end.
type begun struct {
	Campaign uuid.UUID     `json:"campaign"`
	Group    restart.Group `json:"group"`
	Hosts    int           `json:"hosts"`
	Plan     string        `json:"plan,omitempty"` // that of a dry run which it has taken
	Expected time.Time     `json:"expected_end,omitzero"`
	Warnings []string      `json:"warnings,omitempty"`
	*campaignEnd
}

// begin hands the campaign to the workers. Its id is told first, so that it is known whatever happens then.
func (r *roll) begin(ctx context.Context, plan campaign.Plan, taken bool) error {
	b := begun{Campaign: r.spec.ID, Group: r.spec.Group, Hosts: len(r.spec.Hosts), Expected: endOf(plan.Batches), Warnings: r.warnings}
	if taken {
		b.Plan = plan.Hash
	}
	if *r.o.out == outputText {
		fmt.Fprintf(r.app.stdout, "campaign %s\n", r.spec.ID)
	} else {
		fmt.Fprintf(r.app.stderr, "mandrill: campaign %s\n", r.spec.ID)
	}
	if err := r.submit(ctx); err != nil {
		return r.withdraw(ctx, err)
	}
	if *r.o.out == outputText {
		as := ""
		if taken {
			as = " as planned (" + plan.Hash + ")"
		}
		fmt.Fprintf(r.app.stdout, "begun%s: %d hosts of group %s in about %d batches%s\n",
			as, b.Hosts, b.Group, len(plan.Batches), expectedText(b.Expected))
	}
	if warning := r.app.warnUnserved(ctx, r.conn, r.spec.Group); warning != "" {
		b.Warnings = append(b.Warnings, warning)
	}
	if !r.o.waiting.wait {
		if *r.o.out == outputJSON {
			return r.app.printJSON(b)
		}
		return nil
	}
	end, err := r.await(ctx, r.spec.ID, r.fits, r.o.waiting.timeout)
	if err != nil {
		return err
	}
	b.campaignEnd = end
	if *r.o.out == outputJSON {
		return errors.Join(r.app.printJSON(b), end.err())
	}
	return errors.Join(end.print(r.app.stdout), end.err())
}

const (
	// submitTries bounds how often a campaign is handed in that may not have arrived, each time for submitTimeout.
	submitTries   = 4
	submitTimeout = 5 * time.Second
	submitRetry   = 500 * time.Millisecond
)

// submit hands the campaign in. To do so again changes nothing, so what got no answer is tried again; what is not permitted
// gets none.
func (r *roll) submit(ctx context.Context) error {
	ctx, deny := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case err := <-r.conn.denied:
			deny(err)
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer deny(nil)
	for try := 1; ; try++ {
		bound, cancel := context.WithTimeout(ctx, submitTimeout)
		err := r.docs.Submit(bound, r.spec)
		cancel()
		switch {
		case err == nil, errors.Is(err, campaign.ErrOther), try == submitTries:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("cannot submit campaign %s: %w", r.spec.ID, context.Cause(ctx))
		}
		select {
		case <-ctx.Done():
		case <-time.After(submitRetry):
		}
	}
}

// withdraw takes back a campaign that could not be handed in, or of which that is not known, and says what has come of it.
func (r *roll) withdraw(ctx context.Context, why error) error {
	if errors.Is(why, campaign.ErrOther) { // it is not ours
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
	defer cancel()
	done, err := r.docs.Withdraw(ctx, r.spec, r.mark("it could not be handed in"))
	switch {
	case err != nil:
		return fmt.Errorf("%w; it is not known whether a worker has it: 'mandrill campaign show %s' tells, and 'mandrill campaign abort' ends it", why, r.spec.ID)
	case !done:
		return fmt.Errorf("%w; a worker has taken it up all the same: 'mandrill campaign show %s' tells how far it is", why, r.spec.ID)
	}
	return fmt.Errorf("%w; it was withdrawn, and nothing is restarted by it", why)
}

func expectedText(end time.Time) string {
	if end.IsZero() {
		return ""
	}
	return ", expected to end at " + clockText(end)
}
