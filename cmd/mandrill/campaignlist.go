package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// campaignListOptions are the flags of campaign list that are no settings.
type campaignListOptions struct {
	group   string
	running bool
	limit   int
	out     *output
}

func (a *app) campaignListCommand() *cobra.Command {
	var o campaignListOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List rolling restarts, the latest first",
		Long:  `List rolling restarts, the latest first, with how far they are. One that is over is remembered for 90 days.`,
		Example: `  mandrill campaign list
  mandrill campaign list --running --group web --output json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "only those of this group")
	f.BoolVar(&o.running, "running", false, "only those that are not over")
	f.IntVar(&o.limit, "limit", 20, "how many at most, the latest; 0 is all")
	o.out = addOutput(cmd)
	config.AddFlags(f, steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var group restart.Group
		if o.group != "" {
			var err error
			if group, err = restart.ParseGroup(o.group); err != nil {
				return usagef("--group: %w", err)
			}
		}
		if o.limit < 0 {
			return usagef("--limit: %d is negative", o.limit)
		}
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		return a.withCampaigns(cmd.Context(), loaded.Config, "campaign list", func(ctx context.Context, w *campaignWheel) error {
			return w.list(ctx, group, o)
		})
	}
	return cmd
}

func (w *campaignWheel) list(ctx context.Context, group restart.Group, o campaignListOptions) error {
	ids, err := w.docs.List(ctx)
	if err != nil {
		return err
	}
	lines := []campaignLine{}
	now := time.Now().UTC()
	for _, id := range ids {
		c, err := w.docs.Load(ctx, id)
		switch {
		case errors.Is(err, campaign.ErrNotFound): // forgotten meanwhile
			continue
		case errors.Is(err, campaign.ErrUnreadable):
			fmt.Fprintf(w.app.stderr, "mandrill: campaign %s is left out: %v\n", id, err)
			continue
		case err != nil:
			return fmt.Errorf("cannot look at campaign %s: %w", id, err)
		case group != "" && c.Spec.Group != group, o.running && c.Progress.State.Final():
			continue
		}
		lines = append(lines, newCampaignLine(c, now, w.fits(c.Spec.Group)))
	}
	// Not by the ids: those of a schedule's campaigns have no time in them.
	slices.SortStableFunc(lines, func(a, b campaignLine) int { return b.Created.Compare(a.Created) })
	if o.limit > 0 {
		lines = lines[:min(o.limit, len(lines))]
	}
	if *o.out == outputJSON {
		return w.app.printJSON(map[string]any{"campaigns": lines})
	}
	if len(lines) == 0 {
		fmt.Fprintln(w.app.stderr, "mandrill: there are no such campaigns")
	}
	var b bytes.Buffer
	t := newTable(&b, "CREATED", "GROUP", "STATE", "BATCH", "HOSTS", "DONE", "FAILED", "BY", "REASON", "ID")
	for _, l := range lines {
		if err := t.row(clockText(l.Created), string(l.Group), string(l.State), strconv.Itoa(l.Batch), strconv.Itoa(l.Hosts), strconv.Itoa(l.Done),
			strconv.Itoa(l.Failed), l.By, l.Reason, l.Campaign.String()); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	_, err = w.app.stdout.Write(b.Bytes())
	return err
}

// runningCampaigns returns how far the campaigns are that are not over, as their queue has them.
func (w *wheel) runningCampaigns(ctx context.Context, cfg config.Config) (lines []campaignLine, err error) {
	docs, err := w.campaigns(ctx)
	if errors.Is(err, jetstream.ErrBucketNotFound) { // no worker knows of campaigns yet
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	queue, err := w.js.Stream(ctx, stream.Campaigns)
	if err != nil {
		return nil, err
	}
	info, err := queue.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	var ids []uuid.UUID
	for subject := range info.State.Subjects {
		if _, id, err := stream.ParseCampaignSubject(subject); err == nil {
			ids = append(ids, id)
		}
	}
	both := &campaignWheel{w, docs, cfg}
	var unknown []error // one that cannot be read must not hide the others
	for _, id := range ids {
		switch c, err := docs.Load(ctx, id); {
		case err != nil:
			unknown = append(unknown, fmt.Errorf("campaign %s: %w", id, err))
		case !c.Progress.State.Final():
			lines = append(lines, newCampaignLine(c, time.Now().UTC(), both.fits(c.Spec.Group)))
		}
	}
	slices.SortFunc(lines, func(a, b campaignLine) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), a.Created.Compare(b.Created))
	})
	return lines, errors.Join(unknown...)
}
