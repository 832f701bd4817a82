package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// requeueOptions are the flags of dead requeue that are no settings.
type requeueOptions struct {
	askAgain
	filter deadFilter
	out    *output
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
	o.askAgain.addFlags(cmd)
	o.out = addOutput(cmd)
	config.AddFlags(cmd.Flags(), append([]string{"publish.window", "publish.timeout"}, deadSettings...)...)
	return cmd
}

func (a *app) deadRequeue(cmd *cobra.Command, args []string, o requeueOptions) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	now := time.Now()
	if err := o.check(a, now); err != nil {
		return err
	}
	filter, err := o.filter.choice("dead requeue", args, cfg.Domain, now)
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
func (b *deadBox) requeue(ctx context.Context, steps []requeueStep, report *requeueReport, cfg config.Config, o requeueOptions) error {
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
	return withPublisher(ctx, b.conn, cfg, b.app.newLogger(cfg.Log), func(p *publisher.Publisher) error {
		for _, s := range steps {
			if s.line.Status != requeuePlanned {
				report.add(s.line)
			}
		}
		bar := b.app.newProgress("requeueing", len(planned))
		defer bar.stop()
		sender := &requeueSender{
			publish: p.Publish, mark: b.Mark, asked: o.ask, pace: newPace(o.rate),
			report: func(l requeueLine) { bar.add(); report.add(l) },
		}
		stopped := sender.run(ctx, planned)
		bar.stop()
		return report.end(stopped)
	})
}
