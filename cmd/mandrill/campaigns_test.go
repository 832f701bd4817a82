package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A campaign asks for hosts only while one of them may begin its restart, and lets none of its requests wait for the next
// night.
func TestConditionsOf_AreThoseInWhichARestartMayBegin(t *testing.T) {
	windows, err := policy.ParseWindows([]string{"22:00-23:00"}, nil, "UTC")
	if err != nil {
		t.Fatal(err)
	}
	at := func(hour, minute int) time.Time { return time.Date(2026, 5, 4, hour, minute, 0, 0, time.UTC) }
	nightly := policy.Rules{Windows: windows, Takes: 20 * time.Minute}
	byWindow := policy.Hold{Reason: "window", Until: at(22, 0)}
	monitor := policy.Hold{Reason: "monitor-api", By: "w1", Why: "503"}
	const text = "paused until it is resumed, reason monitor-api, by w1: 503"
	for _, tt := range []struct {
		name  string
		holds []policy.Hold
		rules policy.Rules
		now   time.Time
		want  campaign.Conditions
	}{
		{"Always", nil, policy.Rules{}, at(12, 0), campaign.Conditions{}},
		{"Paused", []policy.Hold{monitor}, policy.Rules{}, at(12, 0), campaign.Conditions{Paused: text}},
		{"Open", nil, nightly, at(22, 10), campaign.Conditions{Until: at(22, 40)}},
		{"TooShort", nil, nightly, at(22, 41), campaign.Conditions{Closed: true, Until: at(22, 0).AddDate(0, 0, 1)}},
		{"Closed", []policy.Hold{byWindow}, nightly, at(12, 0), campaign.Conditions{Closed: true, Until: at(22, 0)}},
		{
			"ClosedAndPaused",
			[]policy.Hold{byWindow, monitor},
			nightly, at(12, 0),
			campaign.Conditions{Paused: text, Closed: true, Until: at(22, 0)},
		},
	} {
		if diff := cmp.Diff(tt.want, conditionsOf(tt.holds, tt.rules, tt.now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// The fear: a pause is said to be in force, and the campaign begins another batch, because what was seen had been written
// down before.
func TestHeeds_BelievesOnlyWhatWasNotedAfterThePause(t *testing.T) {
	const revision = 10
	progress := func(state campaign.State, revision uint64, hosts string) campaign.Campaign {
		return campaign.Campaign{Progress: campaign.Progress{State: state, Revision: revision, Hosts: campaign.States(hosts)}}
	}
	byHand := campaign.Campaign{Wish: campaign.Wish{Paused: &campaign.Mark{By: "ops"}}}
	for _, tt := range []struct {
		name   string
		before campaign.Campaign
		now    campaign.Campaign
		want   bool
	}{
		{"Running", campaign.Campaign{}, progress(campaign.Running, 11, "o."), false},
		{"PausedSince", campaign.Campaign{}, progress(campaign.Paused, 11, "o."), true},
		{"PausedByItsGroupBefore", progress(campaign.Paused, 8, "o."), progress(campaign.Paused, 9, "o."), false},
		{"PausedByHandBefore", byHand, progress(campaign.Paused, 9, "o."), true},
		{"Over", campaign.Campaign{}, progress(campaign.Ended, 9, "v."), true},
		{"NothingLeft", campaign.Campaign{}, progress(campaign.Running, 9, "vo"), true},
	} {
		if got := heeds(tt.before, tt.now, revision); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The fear: one document that is broken, and the operator sees none of the campaigns that are under way.
func TestRunningCampaigns_AreToldBesideOneThatCannotBeRead(t *testing.T) {
	r := newRolls(t)
	const good = 5
	for n := range good {
		if got := r.do(t, r.firing(fmt.Sprintf("nightly-%d", n), uuid.New(), time.Hour)); got.Outcome != schedule.Started {
			t.Fatalf("got %+v", got)
		}
	}
	missing := uuid.New()
	if _, err := r.js.Publish(t.Context(), stream.CampaignSubject(restart.DefaultGroup, missing), nil); err != nil {
		t.Fatal(err)
	}
	control, err := r.js.KeyValue(t.Context(), stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := (&wheel{js: r.js, kv: control}).runningCampaigns(t.Context(), config.Config{})
	if !errors.Is(err, campaign.ErrNotFound) || !strings.Contains(err.Error(), missing.String()) || len(lines) != good {
		t.Errorf("got %d campaigns and %v, want %d and what is wrong with the other", len(lines), err, good)
	}
}
