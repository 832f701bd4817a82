package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// campaignAbortOptions are the flags of campaign abort that are no settings.
type campaignAbortOptions struct {
	reason  string
	waiting waitFlags
	out     *output
}

func (a *app) campaignAbortCommand() *cobra.Command {
	var o campaignAbortOptions
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "End a rolling restart for good",
		Long: `End a rolling restart for good. Hosts that it has not triggered are not triggered any more; those that it has are verified
to their end. What was and what was not restarted is said, as far as it is known then; with --wait, when all have ended.

It returns when every worker of the group that is there has confirmed it: nothing is triggered for the campaign after that.
A worker that does not answer is waited for as long as it could trigger something, and is named.`,
		Example: `  mandrill campaign abort 60539a1e765f --reason "wrong image"
  mandrill campaign abort 60539a1e765f --wait --output json`,
	}
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "why, for people")
	o.waiting.addFlags(f, "wait until what was triggered has ended")
	o.out = addOutput(cmd)
	config.AddFlags(f, append([]string{"database", "save_timeout"}, steerSettings...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.waiting.check(cmd.Flags()); err != nil {
			return err
		}
		return a.withCampaign(cmd, args, func(ctx context.Context, w *campaignWheel, c campaign.Campaign) error {
			return w.abort(ctx, c, o)
		})
	}
	return cmd
}

// An aborted is what abort has brought about.
type aborted struct {
	Campaign uuid.UUID      `json:"campaign"`
	Group    restart.Group  `json:"group"`
	State    campaign.State `json:"state"`
	Mark     *campaign.Mark `json:"aborted"` // the first one counts
	confirmation
	Restarted []restart.Host `json:"restarted"`
	InWork    []restart.Host `json:"in_work"` // triggered, and not yet verified; or about to be cancelled
	Others    []unwellHost   `json:"not_restarted"`
}

func (w *campaignWheel) abort(ctx context.Context, c campaign.Campaign, o campaignAbortOptions) error {
	if err := stillOn("abort", c); err != nil {
		return err
	}
	id := c.Spec.ID
	mark := w.mark(o.reason)
	revision, err := w.docs.Abort(ctx, id, mark)
	if err != nil {
		return err
	}
	if c.Progress.State == campaign.Submitted { // no worker may ever come to end it
		withdrawing, cancel := context.WithTimeout(ctx, submitTimeout)
		_, err := w.docs.Withdraw(withdrawing, c.Spec, mark)
		cancel()
		if err != nil {
			fmt.Fprintf(w.app.stderr, "mandrill: warning: it ends when a worker takes it up: %v\n", err)
		}
	}
	within, err := w.longestLease(ctx, c.Spec.Group)
	if err != nil {
		return fmt.Errorf("the abort is stored, and it is not known for how long a worker may not have heard of it: %w", err)
	}
	result := aborted{Campaign: id, Group: c.Spec.Group}
	if result.confirmation, err = w.awaitConfirmed(ctx, "abort", c.Spec.Group, revision, within); err != nil {
		return err
	}
	if o.waiting.wait {
		if _, err := w.await(ctx, id, nil, o.waiting.timeout); err != nil {
			return err
		}
	}
	if c, err = w.docs.Load(ctx, id); err != nil {
		return err
	}
	report, err := w.report(ctx, c)
	if err != nil {
		return err
	}
	result.take(c, report)
	if *o.out == outputJSON {
		return w.app.printJSON(result)
	}
	_, err = fmt.Fprint(w.app.stdout, result)
	return err
}

func (r *aborted) take(c campaign.Campaign, report campaign.Report) {
	r.State, r.Mark = newCampaignLine(c, time.Now(), nil).State, c.Wish.Aborted
	r.Restarted, r.InWork, r.Others = []restart.Host{}, []restart.Host{}, []unwellHost{}
	for _, row := range report.Rows {
		switch row.Outcome {
		case string(restart.Restarted):
			r.Restarted = append(r.Restarted, row.Host)
		case campaign.InWork:
			r.InWork = append(r.InWork, row.Host)
		default:
			r.Others = append(r.Others, unwellHost{row.Host, row.Outcome, row.Reason})
		}
	}
}

func (r aborted) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "aborted campaign %s: %s\n", r.Campaign, r.confirmation)
	hosts := func(what string, hosts []restart.Host) {
		fmt.Fprintf(&b, "%s\t%d", what, len(hosts))
		for _, h := range hosts {
			fmt.Fprintf(&b, " %s", h)
		}
		fmt.Fprintln(&b)
	}
	hosts("restarted", r.Restarted)
	if len(r.InWork) > 0 {
		hosts("in work", r.InWork)
	}
	others := slices.Clone(r.Others)
	for len(others) > 0 {
		first := others[0]
		var same []restart.Host
		others = slices.DeleteFunc(others, func(u unwellHost) bool {
			is := u.Outcome == first.Outcome && u.Reason == first.Reason
			if is {
				same = append(same, u.Host)
			}
			return is
		})
		what := strings.ReplaceAll(first.Outcome, "_", " ")
		if first.Reason != "" {
			what += " (" + string(first.Reason) + ")"
		}
		hosts(what, same)
	}
	return b.String()
}
