package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/notify"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// driveEvery is the time between two looks of whoever drives a campaign: what it waits for takes seconds at least.
const driveEvery = time.Second

// openCampaigns makes the campaigns of the worker's groups ready to be driven.
func (s *service) openCampaigns(ctx context.Context) error {
	kv, err := stream.EnsureCampaigns(ctx, s.js, s.settings())
	if err != nil {
		return err
	}
	docs, err := campaign.NewDocuments(s.js, kv, s.bucket)
	if err != nil {
		return err
	}
	publisher, err := newPublisher(ctx, s.conn, s.cfg, s.log)
	if err != nil {
		return err
	}
	s.closers.add("publisher of campaigns", func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Publish.Timeout)
		defer cancel()
		return publisher.Close(ctx)
	})
	down := &fleetDown{conn: s.conn.Conn}
	for _, g := range s.groups {
		if err := s.openCampaignsOf(ctx, g, docs, publisher, down); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) openCampaignsOf(ctx context.Context, g *served, docs *campaign.Documents, p *publisher.Publisher, down *fleetDown) error {
	log := s.log.With().Str("component", "campaigns").Logger()
	consumer, err := stream.EnsureCampaignConsumer(ctx, s.js, g.name, s.settingsOf(g.name))
	if err != nil {
		return err
	}
	runner, err := campaign.NewRunner(campaign.RunnerConfig{
		Worker: s.name, Group: g.name, Every: driveEvery, Logger: log,
		Store: s.between.progress(docs), Steering: docs,
		Requests: s.between.requests(&campaignRequests{
			publisher: p, work: s.streams.Work, journal: s.journal, store: s.store, worker: s.name,
		}),
		Conditions: func(ctx context.Context, spec *campaign.Spec) (campaign.Conditions, error) {
			return s.conditions(ctx, g, spec, down)
		},
		Announce: func(spec *campaign.Spec, p campaign.Progress) { s.announceCampaign(log, spec, p) },
	})
	if err != nil {
		return err
	}
	g.campaigns, err = campaign.NewServer(campaign.ServerConfig{Conn: s.conn.Conn, Consumer: consumer, Run: runner.Run, Logger: log})
	return err
}

// announceCampaign tells people that a campaign is over.
func (s *service) announceCampaign(log zerolog.Logger, spec *campaign.Spec, p campaign.Progress) {
	if !p.State.Final() {
		return
	}
	detail := countsOf(p.Counts())
	log.Info().Stringer("campaign", spec.ID).Str("group", string(spec.Group)).Str("state", string(p.State)).Str("why", p.Why).
		Str("hosts", detail).Msg("campaign is over")
	if s.notifier != nil {
		s.notifier.Notify(notify.Notice{
			Kind: notify.CampaignEnded, Group: spec.Group, ID: spec.ID, Cause: string(p.State), Why: p.Why, Detail: detail, At: p.Over,
		})
	}
}

// countsOf says how many hosts of a campaign have come to what.
func countsOf(c campaign.Counts) string {
	var parts []string
	for _, kind := range restart.Kinds {
		if n := c.Ended[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	for _, rest := range []struct {
		n    int
		text string
	}{{c.Open, "in work"}, {c.Left, "left to another request"}, {c.Pending, "not asked for"}} {
		if rest.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", rest.n, rest.text))
		}
	}
	return strings.Join(parts, ", ")
}

// conditions returns what a campaign's group is like now, as this worker knows it.
func (s *service) conditions(ctx context.Context, g *served, spec *campaign.Spec, down *fleetDown) (c campaign.Conditions, err error) {
	holds, _, err := guardedGroup{g.control, g.name, s.checks}.Holds("", s.cfg.For(g.name).AckWait)
	if err != nil {
		return c, err
	}
	c = conditionsOf(holds, g.rules, time.Now())
	var good bool
	if c.Good, good = s.checks.GoodSince(g.name); good && c.Good.IsZero() {
		c.Good = time.Unix(0, 0) // nothing watches the group
	}
	c.Down, err = down.of(ctx, spec)
	return c, err
}

// conditionsOf returns what holds a campaign back whose group is held so and has these rules.
func conditionsOf(holds []policy.Hold, rules policy.Rules, now time.Time) (c campaign.Conditions) {
	for _, hold := range holds {
		if hold.Reason != string(control.ByWindow) { // which the rules are asked about
			c.Paused = cmp.Or(c.Paused, hold.String())
		}
	}
	fits, next := rules.Windows.Fits(now, rules.Takes)
	if !fits {
		c.Closed, c.Until = true, next
		return c
	}
	if _, ends := rules.Windows.Open(now); !ends.IsZero() {
		c.Until = ends.Add(-rules.Takes) // the last moment at which a restart may begin
	}
	return c
}
