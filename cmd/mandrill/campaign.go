package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func (a *app) campaignCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "campaign",
		Short: "Look at rolling restarts, pause, resume or abort one",
		Long: `Look at rolling restarts that 'mandrill roll' or a schedule has begun, and pause, resume or abort one. A campaign is named
by its id, or by four or more characters of the id's beginning or end, if no other has them.`,
		Example: `  mandrill campaign list
  mandrill campaign show 60539a1e765f
  mandrill campaign abort 60539a1e765f --reason "wrong image"`,
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("campaign: say list, show, pause, resume, abort or report")
		},
	}
	cmd.AddCommand(a.campaignListCommand(), a.campaignShowCommand(), a.campaignPauseCommand(), a.campaignResumeCommand(),
		a.campaignAbortCommand(), a.campaignReportCommand())
	return cmd
}

// A campaignWheel is a wheel with the documents of the campaigns.
type campaignWheel struct {
	*wheel
	docs *campaign.Documents
	cfg  config.Config
}

// withCampaigns calls do with the documents of the campaigns, whose bucket the first worker creates.
func (a *app) withCampaigns(ctx context.Context, cfg config.Config, verb string, do func(context.Context, *campaignWheel) error) error {
	return a.withWheel(ctx, cfg, verb, func(ctx context.Context, w *wheel) error {
		docs, err := w.campaigns(ctx)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return fmt.Errorf("there is no bucket %s, which the first worker creates: start a worker", stream.CampaignBucket)
		}
		if err != nil {
			return err
		}
		return do(ctx, &campaignWheel{w, docs, cfg})
	})
}

// campaigns returns the documents of the campaigns, or an error that wraps jetstream.ErrBucketNotFound.
func (w *wheel) campaigns(ctx context.Context) (*campaign.Documents, error) {
	kv, err := w.js.KeyValue(ctx, stream.CampaignBucket)
	if err != nil {
		return nil, fmt.Errorf("cannot use bucket %q: %w", stream.CampaignBucket, err)
	}
	return campaign.NewDocuments(w.js, kv, w.kv)
}

// shortID is a part of an id that is long enough to be one.
var shortID = regexp.MustCompile(`^[0-9a-f-]{4,36}$`)

// withCampaign calls do with the one campaign that an argument names.
func (a *app) withCampaign(cmd *cobra.Command, args []string, do func(context.Context, *campaignWheel, campaign.Campaign) error) error {
	verb := "campaign " + cmd.Name()
	if len(args) != 1 {
		return usagef("%s: say one campaign, by its id", verb)
	}
	text := strings.ToLower(args[0])
	if !shortID.MatchString(text) {
		return usagef("%s: %q is neither a campaign's id nor four or more characters of its beginning or end", verb, args[0])
	}
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	return a.withCampaigns(cmd.Context(), loaded.Config, verb, func(ctx context.Context, w *campaignWheel) error {
		c, err := w.find(ctx, verb, text)
		if err != nil {
			return err
		}
		return do(ctx, w, c)
	})
}

// find returns the campaign of an id, or of a part of one that no other has.
func (w *campaignWheel) find(ctx context.Context, verb, text string) (c campaign.Campaign, err error) {
	id, err := uuid.Parse(text)
	if err != nil {
		ids, err := w.docs.List(ctx)
		if err != nil {
			return c, err
		}
		found := 0
		for _, each := range ids {
			if s := each.String(); strings.HasPrefix(s, text) || strings.HasSuffix(s, text) {
				id = each
				found++
			}
		}
		if found > 1 {
			return c, usagef("%s: %d campaigns have %s at the beginning or end of their id: give more of it", verb, found, text)
		}
	}
	if id != uuid.Nil {
		c, err = w.docs.Load(ctx, id)
	}
	if id == uuid.Nil || errors.Is(err, campaign.ErrNotFound) {
		return c, fmt.Errorf("there is no campaign %s; see mandrill campaign list", text)
	}
	if err != nil {
		return c, fmt.Errorf("cannot look at campaign %s: %w", id, err)
	}
	return c, nil
}

// overText says how a campaign that is over has ended.
func overText(c campaign.Campaign) string {
	text := fmt.Sprintf("it has %s at %s", c.Progress.State, clockText(c.Progress.Over))
	if c.Progress.State == campaign.Aborted {
		text = "it was aborted, and over at " + clockText(c.Progress.Over)
	}
	if c.Progress.Why != "" {
		text += ", " + c.Progress.Why
	}
	return text
}

// A campaignLine is how far one campaign is.
type campaignLine struct {
	Campaign uuid.UUID      `json:"campaign"`
	Group    restart.Group  `json:"group"`
	State    campaign.State `json:"state"`
	Waits    string         `json:"waits,omitempty"`
	Why      string         `json:"why,omitempty"`
	Hosts    int            `json:"hosts"`
	Done     int            `json:"done"`
	Failed   int            `json:"failed"` // of those that are done
	InWork   int            `json:"in_work"`
	Batch    int            `json:"batch"` // the latest that has begun
	Created  time.Time      `json:"created"`
	Started  time.Time      `json:"started,omitzero"`
	Over     time.Time      `json:"over,omitzero"`
	Expected time.Time      `json:"expected_end,omitzero"`
	Reason   string         `json:"reason,omitempty"`
	By       string         `json:"by,omitempty"`
	Paused   *campaign.Mark `json:"paused,omitempty"` // by 'mandrill campaign pause'
	Aborted  *campaign.Mark `json:"aborted,omitempty"`
}

func newCampaignLine(c campaign.Campaign, now time.Time, fits campaign.Fits) campaignLine {
	s, p := c.Spec, c.Progress
	counts := p.Counts()
	l := campaignLine{
		Campaign: s.ID, Group: s.Group, State: p.State, Waits: p.Waits, Why: p.Why, Hosts: len(p.Hosts), Failed: counts.Failed(),
		Done: len(p.Hosts) - counts.Pending - counts.Open, InWork: counts.Open, Batch: len(p.Batches),
		Created: s.Created, Started: p.Started, Over: p.Over, Reason: s.Reason, By: s.By, Paused: c.Wish.Paused, Aborted: c.Wish.Aborted,
	}
	switch {
	case p.State.Final():
		l.Done -= counts.Left
		return l
	case c.Wish.Aborted != nil:
		l.State = campaign.Aborting // whoever drives it will know
	case p.State == campaign.Submitted:
		l.State, l.Waits = "submitted", "a worker that takes it up"
		if !now.Before(s.NotAfter) {
			l.Waits = "nothing: its time was over before a worker took it up"
		}
	}
	if l.State == campaign.Running {
		l.Expected = endOf(campaign.Forecast(&s, p, now, fits))
	}
	return l
}

// text says in one line how far it is.
func (l campaignLine) text(now time.Time) string {
	text := fmt.Sprintf("%s, batch %d, %d of %d done, %d failed", l.State, l.Batch, l.Done, l.Hosts, l.Failed)
	if !l.Expected.IsZero() {
		text += fmt.Sprintf(", about %s left", max(0, l.Expected.Sub(now)).Round(time.Second))
	}
	if l.Waits != "" {
		text += "; waits: " + l.Waits
	}
	if l.Why != "" {
		text += "; " + l.Why
	}
	return text
}

// fits returns when restarts of a group may begin by this configuration, for an estimate. The workers go by theirs.
func (w *campaignWheel) fits(group restart.Group) campaign.Fits {
	rules, err := newRules(w.cfg.For(group))
	if err != nil {
		return nil
	}
	return fitsOf(rules)
}
