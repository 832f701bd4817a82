package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
)

// heedWait bounds how long a pause waits until whoever drives the campaign has taken notice, which looks every second.
const heedWait = 6 * time.Second

func (a *app) campaignPauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause ID",
		Short: "Have a rolling restart ask for no more hosts until it is resumed",
		Long: `Have a rolling restart ask for no more hosts until it is resumed. What it has asked for already goes on, and so does
everything else in its group: 'mandrill pause GROUP' holds all of that back. Its time, --not-after, goes on too.`,
		Example: `  mandrill campaign pause 60539a1e765f --reason "looking at batch 2"`,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withCampaign(cmd, args, func(ctx context.Context, w *campaignWheel, c campaign.Campaign) error {
			return w.pauseCampaign(ctx, c, reason, *out)
		})
	}
	return cmd
}

func (w *campaignWheel) pauseCampaign(ctx context.Context, c campaign.Campaign, reason string, out output) error {
	id := c.Spec.ID
	if err := stillOn("pause", c); err != nil {
		return err
	}
	revision, err := w.docs.Pause(ctx, id, w.mark(reason))
	if err != nil {
		return err
	}
	before := c
	heeded := func(c campaign.Campaign) bool { return heeds(before, c, revision) }
	c, ok, err := w.until(ctx, id, heedWait, heeded)
	if err != nil {
		return fmt.Errorf("the pause is stored, and it is not known whether the campaign heeds it: %w", err)
	}
	l := newCampaignLine(c, time.Now(), w.fits(c.Spec.Group))
	if out == outputJSON {
		return w.app.printJSON(map[string]any{"campaign": id, "paused": true, "heeded": ok, "in_work": l.InWork, "not_asked": c.Progress.Counts().Pending})
	}
	text := fmt.Sprintf("paused campaign %s: %d hosts in work, %d not asked for", id, l.InWork, c.Progress.Counts().Pending)
	if !ok {
		text += "; no worker has taken notice yet, and it counts as soon as one does"
	}
	_, err = fmt.Fprintln(w.app.stdout, text)
	return err
}

// heeds reports whether a campaign asks for no more hosts since a pause of that revision: it has noted it, is over, or has
// nothing left to ask for. Where it was paused before by its group alone, only what was noted after counts: what has been
// noted before may have been seen without this pause. Where it was paused by hand before, it has noted that.
func heeds(before, now campaign.Campaign, revision uint64) bool {
	p := now.Progress
	noted := p.Revision > revision || before.Wish.Paused != nil
	return p.State == campaign.Paused && noted || p.State.Final() || p.Counts().Pending == 0
}

// mark is what somebody wants of a campaign.
func (w *campaignWheel) mark(why string) campaign.Mark {
	return campaign.Mark{By: w.app.whoami(), Why: why, At: time.Now().UTC()}
}

// stillOn refuses a campaign that is over.
func stillOn(verb string, c campaign.Campaign) error {
	if c.Progress.State.Final() {
		return fmt.Errorf("cannot %s campaign %s: %s", verb, c.Spec.ID, overText(c))
	}
	return nil
}

// until looks at a campaign until it is as it should be, or the time is over.
func (w *campaignWheel) until(ctx context.Context, id uuid.UUID, within time.Duration, is func(campaign.Campaign) bool) (c campaign.Campaign, ok bool, err error) {
	for end := time.Now().Add(within); ; {
		if err = w.refresh(ctx, id, &c); err != nil {
			return c, false, err
		}
		if is(c) || time.Now().After(end) {
			return c, is(c), nil
		}
		select {
		case <-ctx.Done():
			return c, false, context.Cause(ctx)
		case <-time.After(campaignEvery):
		}
	}
}

func (a *app) campaignResumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume ID",
		Short: "Let a rolling restart go on that was paused",
		Long: `Let a rolling restart go on that was paused by 'mandrill campaign pause'. What holds its whole group back is named, and
holds on: 'mandrill resume GROUP' ends that.`,
		Example: `  mandrill campaign resume 60539a1e765f`,
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withCampaign(cmd, args, func(ctx context.Context, w *campaignWheel, c campaign.Campaign) error {
			return w.resumeCampaign(ctx, c, *out)
		})
	}
	return cmd
}

func (w *campaignWheel) resumeCampaign(ctx context.Context, c campaign.Campaign, out output) error {
	if err := stillOn("resume", c); err != nil {
		return err
	}
	if c.Wish.Aborted != nil {
		return fmt.Errorf("cannot resume campaign %s: it was aborted at %s %s", c.Spec.ID, clockText(c.Wish.Aborted.At), c.Wish.Aborted)
	}
	was, err := w.docs.Resume(ctx, c.Spec.ID)
	if err != nil {
		return err
	}
	state, err := control.Read(ctx, w.kv, c.Spec.Group)
	if err != nil {
		return err
	}
	holds := pauseLines(state.InForce(time.Now()))
	if out == outputJSON {
		return w.app.printJSON(map[string]any{"campaign": c.Spec.ID, "was_paused": was, "holds": holds})
	}
	text := fmt.Sprintf("resumed campaign %s", c.Spec.ID)
	if !was {
		text = fmt.Sprintf("campaign %s was not paused", c.Spec.ID)
	}
	fmt.Fprintln(w.app.stdout, text)
	for _, l := range holds {
		fmt.Fprintf(w.app.stdout, "group %s holds on\t%s\n", c.Spec.Group, plain(l.String()))
	}
	return nil
}
