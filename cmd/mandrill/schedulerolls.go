package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A rollTemplate is a campaign without what is each run's own: what a schedule of rolls stores.
type rollTemplate struct {
	Group restart.Group  `json:"group"`
	Hosts []restart.Host `json:"hosts,omitempty"` // in the order given
	// Known is whether the hosts are, instead, those of the group that the database knows of when it is time, and Since
	// how long ago they were asked for at most.
	Known bool             `json:"known,omitempty"`
	Since restart.Duration `json:"since,omitzero"`

	Order          campaign.Order    `json:"order"`
	Seed           uint64            `json:"seed,omitempty"` // zero: another for each run
	Batches        []campaign.Amount `json:"batches"`
	MaxUnavailable campaign.Amount   `json:"max_unavailable"`
	Settle         restart.Duration  `json:"settle,omitzero"`
	StopAfter      campaign.Amount   `json:"stop_after,omitzero"`
	MinUptime      restart.Duration  `json:"min_uptime,omitzero"`
	Reason         string            `json:"reason,omitempty"`
}

// parseRollTemplate refuses what it does not know: to leave a word out may be to restart more than was meant.
func parseRollTemplate(data []byte) (t rollTemplate, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return t, &restart.FieldError{Field: "roll", Problem: fmt.Sprintf("is not understood by this worker: %v", err)}
	}
	if t.Known == (len(t.Hosts) > 0) {
		return t, &restart.FieldError{Field: "roll", Problem: "names hosts or those that are known, and not both"}
	}
	return t, nil
}

// spec returns the campaign of a firing, without its hosts.
func (t *rollTemplate) spec(f schedule.Firing) campaign.Spec {
	s := campaign.Spec{
		ID: campaignOf(f.ID), Group: t.Group, Order: t.Order, Seed: t.Seed, Batches: t.Batches, MaxUnavailable: t.MaxUnavailable,
		Settle: t.Settle, StopAfter: t.StopAfter, MinUptime: t.MinUptime,
		Reason: cmp.Or(t.Reason, "schedule "+f.Name), By: requestedBy(f), Created: f.Fired.UTC(), NotAfter: f.NotAfter.UTC(),
	}
	if s.Order == campaign.OrderRandom && s.Seed == 0 {
		s.Seed = binary.BigEndian.Uint64(f.ID[:8])
	}
	return s
}

// campaignOf returns the id of a firing's campaign.
func campaignOf(firing uuid.UUID) uuid.UUID { return uuid.NewSHA1(firing, []byte("campaign")) }

// roll begins the campaign of a firing, unless that of the run before is not over. Two runs that are begun within the same
// moment, as by hand and by the clock, do not see one another.
func (w *firings) roll(ctx context.Context, f schedule.Firing) (schedule.Result, error) {
	t, err := parseRollTemplate(f.Roll)
	if err != nil {
		return schedule.Result{}, err
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := w.checkServed(asking, t.Group); err != nil {
		return schedule.Result{}, err
	}
	docs, err := w.documents(asking)
	if err != nil {
		return schedule.Result{}, err
	}
	s, err := docs.Spec(asking, campaignOf(f.ID))
	if errors.Is(err, campaign.ErrNotFound) { // nobody has come so far with this firing
		if running, err := w.running(asking, docs, f); err != nil {
			return schedule.Result{}, err
		} else if running != uuid.Nil {
			return schedule.Result{Outcome: schedule.Skipped, Why: fmt.Sprintf("campaign %s, of the run before, is not over", running)}, nil
		}
		s = t.spec(f)
		s.Takes = restart.Duration(w.service.cfg.For(t.Group).Window.RestartTakes)
		s.Hosts, err = w.hosts(ctx, t, s)
	}
	if err != nil {
		return schedule.Result{}, err
	}
	submitting, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := docs.Submit(submitting, s); err != nil {
		return schedule.Result{}, w.notPermitted(err, stream.CampaignSubject(s.Group, s.ID))
	}
	return schedule.Result{Outcome: schedule.Started, Made: s.ID.String()}, nil
}

func (w *firings) documents(ctx context.Context) (*campaign.Documents, error) {
	campaigns, err := w.js.KeyValue(ctx, stream.CampaignBucket)
	if err != nil {
		return nil, fmt.Errorf("cannot use bucket %q: %w", stream.CampaignBucket, err)
	}
	control, err := w.js.KeyValue(ctx, stream.Control)
	if err != nil {
		return nil, fmt.Errorf("cannot use bucket %q: %w", stream.Control, err)
	}
	return campaign.NewDocuments(w.js, campaigns, control)
}

// running returns the campaign of the run before that is not over, or uuid.Nil. The run before is the last that was
// started or, where its result is not on record yet, the one that was planned last.
func (w *firings) running(ctx context.Context, docs *campaign.Documents, f schedule.Firing) (uuid.UUID, error) {
	results, err := w.stored.Results(ctx, f.Name)
	if err != nil {
		return uuid.Nil, err
	}
	var before []uuid.UUID
	planned := schedule.FiringID(f.Name, f.Spec.Planned(f.Planned.Add(-1)))
	if !slices.ContainsFunc(results, func(r schedule.Result) bool { return r.ID == planned }) {
		before = append(before, planned)
	}
	for _, r := range slices.Backward(results) {
		if r.Outcome == schedule.Started {
			before = append(before, r.ID)
			break
		}
	}
	for _, firing := range before {
		id := campaignOf(firing)
		if _, err := docs.Spec(ctx, id); errors.Is(err, campaign.ErrNotFound) {
			continue
		}
		if progress, err := docs.Progress(ctx, id); err != nil || !progress.State.Final() {
			return id, err
		}
	}
	return uuid.Nil, nil
}

// hosts returns the hosts of a campaign in their order.
func (w *firings) hosts(ctx context.Context, t rollTemplate, s campaign.Spec) (hosts []restart.Host, err error) {
	i := slices.IndexFunc(w.service.groups, func(g *served) bool { return g.name == t.Group })
	if i < 0 && (t.Known || t.Order == campaign.OrderLongest) {
		return nil, fmt.Errorf("group %s is not served by this worker, and only one that serves it knows its hosts", t.Group)
	}
	hosts = t.Hosts
	if t.Known {
		if hosts, err = w.known(ctx, t, s.Created); err != nil {
			return nil, err
		}
	}
	var since map[restart.Host]time.Time
	if t.Order == campaign.OrderLongest {
		since = w.service.groups[i].upSince(ctx, hosts)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	hosts, err = campaign.Arrange(t.Order, s.Seed, hosts, since)
	if err != nil {
		return nil, &restart.FieldError{Field: "roll", Problem: err.Error()}
	}
	return hosts, nil
}

// known returns the hosts of the group that the database knows of, by name.
func (w *firings) known(ctx context.Context, t rollTemplate, now time.Time) (hosts []restart.Host, err error) {
	filter := store.Filter{Group: t.Group}
	if t.Since > 0 {
		filter.Since = now.Add(-time.Duration(t.Since))
	}
	seen := map[restart.Host]bool{}
	for e, err := range w.service.store.History(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if h := e.Request.Host; !seen[h] {
			seen[h] = true
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return nil, refusal(fmt.Sprintf("the database knows of no hosts of group %s", t.Group))
	}
	slices.Sort(hosts)
	return hosts, nil
}

// upSince asks hosts since when they have been up. Those that cannot tell are left out.
func (g *served) upSince(ctx context.Context, hosts []restart.Host) map[restart.Host]time.Time {
	var (
		mu     sync.Mutex
		since  = map[restart.Host]time.Time{}
		asking errgroup.Group
	)
	asking.SetLimit(probesAtOnce)
	for _, h := range hosts {
		asking.Go(func() error {
			slot, err := g.bounded.Acquire(ctx)
			if err != nil {
				return nil
			}
			defer slot.Release()
			if state, err := slot.Probe(ctx, h); err == nil && !state.Since.IsZero() {
				mu.Lock()
				defer mu.Unlock()
				since[h] = state.Since
			}
			return nil
		})
	}
	_ = asking.Wait() // none returns an error: what ended ctx is the caller's to tell
	return since
}
