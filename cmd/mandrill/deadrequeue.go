package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// requeueOptions are the flags of dead requeue that are no settings.
type requeueOptions struct {
	filter      deadFilter
	requestedBy string
	notAfter    string
	rate        float64
	dryRun      bool
	yes         bool
	out         *output
}

func (a *app) deadRequeueCommand() *cobra.Command {
	var o requeueOptions
	cmd := &cobra.Command{
		Use:   "requeue [ID...]",
		Short: "Ask again for what was given up",
		Long: `Ask again for what was given up: dead letters, chosen by id, by flags or with --all, are published as new requests.
Each keeps host, group, reason and min_uptime of the old one, names it as requeued_from, and is asked for now. Its letter
is marked with the new id, and is not requeued again.

The new id is made of the old one. So a requeue that was interrupted can be run again, and two people can run it at
once: nothing is restarted twice. A host takes one request at a time. Of several letters for one host, the latest is
requeued; the others, and those whose host has another request queued, are reported as already queued and keep for a
later run. A letter that was requeued before is reported as such. None of these is a failure. Letters that cannot be read
as a request, or of which only the beginning was kept, are refused. The exit code is 3 if some could not be requeued, and
1 if none could.`,
		Example: `  mandrill dead requeue --reason attempts --since 2h --dry-run
  mandrill dead requeue --reason attempts --since 2h --rate 10
  mandrill dead requeue 01a1fbe2-e6cc-736c-b479-60539a1e765f`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.deadRequeue(cmd, args, o) },
	}
	o.filter.addChoice(cmd)
	f := cmd.Flags()
	f.StringVar(&o.requestedBy, "requested-by", "", "who asks (default your user and host name)")
	f.StringVar(&o.notAfter, "not-after", "", "when a new request expires: a span from when it is sent, such as 2h, or a time such as 2006-01-02T15:04:05Z (default 24h)")
	f.Float64Var(&o.rate, "rate", 0, "how many are sent a second at most; 0 is as fast as it goes")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be sent, and send nothing")
	f.BoolVar(&o.yes, "yes", false, fmt.Sprintf("do not ask before more than %d are sent", confirmAbove))
	o.out = addOutput(cmd)
	config.AddFlags(f, append([]string{"publish.window", "publish.timeout"}, deadSettings...)...)
	return cmd
}

// check returns what the flags choose.
func (o *requeueOptions) check(args []string, domain string, now time.Time) (deadletter.Filter, error) {
	if o.rate != 0 && !(o.rate >= leastRate && o.rate <= math.MaxFloat64) { // NaN is refused too
		return deadletter.Filter{}, usagef("--rate: %v is neither 0 nor a number of at least %v", o.rate, leastRate)
	}
	// What is wrong with a flag is wrong with every request.
	if _, err := o.asked(restart.Request{Host: "host", Group: restart.DefaultGroup}, now); err != nil {
		return deadletter.Filter{}, usagef("dead requeue: %w", err)
	}
	return o.filter.choice("dead requeue", args, domain, now)
}

// asked returns the request as it is asked for at that time.
func (o *requeueOptions) asked(r restart.Request, now time.Time) (restart.Request, error) {
	var err error
	if r.NotAfter, err = parseNotAfter(o.notAfter, now); err != nil {
		return restart.Request{}, err
	}
	r.RequestedBy, r.RequestedAt = o.requestedBy, now
	return r, r.Complete("", now) // the domain is for requests without a host
}

func (a *app) deadRequeue(cmd *cobra.Command, args []string, o requeueOptions) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	o.requestedBy = cmp.Or(o.requestedBy, a.whoami())
	filter, err := o.check(args, cfg.Domain, time.Now())
	if err != nil {
		return err
	}
	return a.withDeadLetters(cmd.Context(), cfg, func(ctx context.Context, box *deadBox) error {
		steps, err := box.requeueSteps(ctx, filter)
		if err != nil {
			return err
		}
		if len(steps) == 0 {
			box.noneSuch()
		}
		report := &requeueReport{app: a, out: *o.out, dryRun: o.dryRun, unreadable: box.unreadable}
		if o.dryRun {
			for _, s := range steps {
				report.add(s.line)
			}
			return report.end(nil)
		}
		return box.requeue(ctx, steps, report, cfg, o)
	})
}

// requeue sends what is to be sent, and reports on all.
func (b *deadBox) requeue(ctx context.Context, steps []requeueStep, report *requeueReport, cfg config.Config, o requeueOptions) (err error) {
	var planned []requeueStep
	for _, s := range steps {
		if s.line.Status == requeuePlanned {
			planned = append(planned, s)
		}
	}
	question := fmt.Sprintf("Ask for %d hosts to be restarted again?", len(planned))
	if err := b.app.confirm(ctx, o.yes, len(planned), question); err != nil {
		return err
	}
	p, err := newPublisher(ctx, b.conn, cfg, b.app.newLogger(cfg.Log))
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Publish.Timeout)
		defer cancel()
		err = errors.Join(err, p.Close(closing))
	}()
	for _, s := range steps {
		if s.line.Status != requeuePlanned {
			report.add(s.line)
		}
	}
	bar := b.app.newProgress("requeueing", len(planned))
	defer bar.stop()
	sender := &requeueSender{
		publish: p.Publish, mark: b.Mark, asked: o.asked, pace: newPace(o.rate),
		report: func(l requeueLine) { bar.add(); report.add(l) },
	}
	stopped := sender.run(ctx, planned)
	bar.stop()
	return report.end(stopped)
}
