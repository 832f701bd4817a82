package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
)

func (a *app) campaignShowCommand() *cobra.Command {
	var waiting waitFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one rolling restart: what it is to do, how far it is and what it waits for",
		Long: `Show one rolling restart: what it is to do, how far it is, what it waits for, and when its batches are expected to end.
With --wait, show how far it is until it is over, as 'mandrill roll --wait' does.`,
		Example: `  mandrill campaign show 60539a1e765f
  mandrill campaign show 60539a1e765f --wait`,
	}
	f := cmd.Flags()
	waiting.addFlags(f, "show how far it is until it is over")
	out := addOutput(cmd)
	config.AddFlags(f, steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := waiting.check(cmd.Flags()); err != nil {
			return err
		}
		return a.withCampaign(cmd, args, func(ctx context.Context, w *campaignWheel, c campaign.Campaign) error {
			if !waiting.wait {
				return w.show(c, *out)
			}
			end, err := w.await(ctx, c.Spec.ID, w.fits(c.Spec.Group), waiting.timeout)
			switch {
			case err != nil:
				return err
			case *out == outputJSON:
				return errors.Join(a.printJSON(end), end.err())
			}
			return errors.Join(end.print(a.stdout), end.err())
		})
	}
	return cmd
}

// A shownCampaign is what is printed of one campaign.
type shownCampaign struct {
	campaignLine
	NotAsked int                     `json:"not_asked"`
	Outcomes map[string]int          `json:"outcomes"`
	Driver   string                  `json:"driver,omitempty"` // the worker that drives it, or did last
	Planned  []campaign.PlannedBatch `json:"planned"`
	Spec     campaign.Spec           `json:"spec"`
}

func (w *campaignWheel) show(c campaign.Campaign, out output) error {
	now := time.Now().UTC()
	shown := shownCampaign{
		campaignLine: newCampaignLine(c, now, w.fits(c.Spec.Group)), Outcomes: map[string]int{}, Driver: c.Progress.Driver,
		Planned: []campaign.PlannedBatch{}, Spec: c.Spec,
	}
	counts := c.Progress.Counts()
	shown.NotAsked = counts.Pending
	for kind, n := range counts.Ended {
		shown.Outcomes[string(kind)] = n
	}
	if !c.Progress.State.Final() && c.Wish.Aborted == nil {
		shown.Planned = append(shown.Planned, campaign.Forecast(&c.Spec, c.Progress, now, w.fits(c.Spec.Group))...)
	}
	if out == outputJSON {
		return w.app.printJSON(shown)
	}
	return shown.print(w.app, now)
}

func (s shownCampaign) print(a *app, now time.Time) error {
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%-14s %s\n", name, plain(value)) }
	mark := func(m *campaign.Mark) string {
		if m == nil {
			return ""
		}
		return fmt.Sprintf("since %s, %s", clockText(m.At), m)
	}
	field("campaign", s.Campaign.String())
	field("group", string(s.Group))
	field("state", s.text(now))
	field("how", howText(s.Spec))
	field("reason", s.Reason)
	field("asked by", s.By)
	field("created", clockText(s.Created))
	field("started", clockText(s.Started))
	field("not after", clockText(s.Spec.NotAfter))
	field("over", clockText(s.Over))
	field("expected end", clockText(s.Expected))
	field("driven by", s.Driver)
	field("paused", mark(s.Paused))
	field("aborted", mark(s.Aborted))
	fmt.Fprintf(&b, "%-14s %d not asked for, %d in work", "hosts", s.NotAsked, s.InWork)
	for _, kind := range kindsIn(s.Outcomes) {
		fmt.Fprintf(&b, ", %d %s", s.Outcomes[kind], kind)
	}
	fmt.Fprintln(&b)
	if len(s.Planned) > 0 {
		fmt.Fprintln(&b)
		t := newTable(&b, "BATCH", "HOSTS", "BEGINS", "ENDS", "WHICH")
		for _, p := range s.Planned {
			begins := cmp.Or(clockText(p.Begin), "has begun")
			if err := t.row(strconv.Itoa(p.Number), strconv.Itoa(p.To-p.From), begins, clockText(p.End), fromTo(s.Spec.Hosts[p.From:p.To])); err != nil {
				return err
			}
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}
