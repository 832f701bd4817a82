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

// roll begins the campaign of a firing, unless that of another run is not over.
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
	s, other, err := w.prepare(ctx, docs, t, f)
	switch {
	case err != nil:
		return schedule.Result{}, err
	case other != uuid.Nil:
		return schedule.Result{Outcome: schedule.Skipped, Why: fmt.Sprintf("campaign %s, of another run, is not over", other)}, nil
	}
	return w.submit(ctx, docs, s)
}

// rollBegun hands the campaign of a firing in that an earlier delivery has stored, and perhaps handed in: to do so again
// changes nothing.
func (w *firings) rollBegun(ctx context.Context, f schedule.Firing) (r schedule.Result, begun bool, err error) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	docs, err := w.documents(asking)
	if err != nil {
		return r, false, err
	}
	s, err := docs.Spec(asking, campaignOf(f.ID))
	if err != nil {
		if errors.Is(err, campaign.ErrNotFound) {
			err = nil
		}
		return r, false, err
	}
	r, err = w.submit(ctx, docs, s)
	return r, true, err
}

// prepare returns the campaign of a firing, whose turn it is from then on; or that of another run which is not over. It is
// looked for twice, because it takes a while to find hosts, and who finds none must not have the turn.
func (w *firings) prepare(ctx context.Context, docs *campaign.Documents, t rollTemplate, f schedule.Firing) (s campaign.Spec, other uuid.UUID, err error) {
	s = t.spec(f)
	s.Takes = restart.Duration(w.service.cfg.For(t.Group).Window.RestartTakes)
	if _, other, err = before(ctx, docs, f.Name, s.ID); err != nil || other != uuid.Nil {
		return s, other, err
	}
	if s.Hosts, err = w.hosts(ctx, t, s); err == nil {
		err = s.Validate()
	}
	if err == nil {
		other, err = takeTurn(ctx, docs, f, s.ID)
	}
	return s, other, err
}

// takeTurn makes a campaign the one of its schedule that may run, unless there is another that is not over, which it
// returns. Of runs that begin at the same moment one is compared and set; the others see it.
func takeTurn(ctx context.Context, docs *campaign.Documents, f schedule.Firing, id uuid.UUID) (other uuid.UUID, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for {
		turn, other, err := before(ctx, docs, f.Name, id)
		if err != nil || other != uuid.Nil || turn.Campaign == id {
			return other, err
		}
		err = docs.TakeTurn(ctx, f.Name, turn, campaign.Turn{Campaign: id, Until: f.NotAfter})
		if !errors.Is(err, campaign.ErrConflict) {
			return uuid.Nil, err
		}
	}
}

// before returns whose turn it is, and that campaign if it is another than id and not over. One that no worker has taken
// up, because it waits for one or because it is about to be handed in, has its turn until its time is over.
func before(ctx context.Context, docs *campaign.Documents, name string, id uuid.UUID) (turn campaign.Turn, other uuid.UUID, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if turn, err = docs.Turn(ctx, name); err != nil || turn.Campaign == uuid.Nil || turn.Campaign == id {
		return turn, uuid.Nil, err
	}
	p, err := docs.Progress(ctx, turn.Campaign)
	switch taken := p.Revision > 0; {
	case err != nil:
		return turn, uuid.Nil, err
	case taken && !p.State.Final(), !taken && time.Now().Before(turn.Until):
		return turn, turn.Campaign, nil
	}
	return turn, uuid.Nil, nil
}

// submit hands a campaign to the workers. Where that is not permitted, it is withdrawn.
func (w *firings) submit(ctx context.Context, docs *campaign.Documents, s campaign.Spec) (schedule.Result, error) {
	submitting, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := docs.Submit(submitting, s)
	if err != nil {
		err = w.notPermitted(err, stream.CampaignSubject(s.Group, s.ID))
	}
	if errors.As(err, new(refusal)) {
		withdrawing, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		done, unknown := docs.Withdraw(withdrawing, s, campaign.Mark{By: s.By, Why: err.Error(), At: time.Now().UTC()})
		switch {
		case unknown != nil:
			err = unknown // and the firing comes again
		case !done:
			err = nil // a worker has it all the same
		}
	}
	if err != nil {
		return schedule.Result{}, err
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

// hosts returns the hosts of a campaign in their order.
func (w *firings) hosts(ctx context.Context, t rollTemplate, s campaign.Spec) (hosts []restart.Host, err error) {
	i := slices.IndexFunc(w.service.groups, func(g *served) bool { return g.name == t.Group })
	if i < 0 && (t.Known || t.Order == campaign.OrderLongest) {
		return nil, fmt.Errorf("group %s is not served by this worker, and only one that serves it knows its hosts", t.Group)
	}
	hosts = t.Hosts
	if t.Known {
		filter := store.Filter{Group: t.Group}
		if t.Since > 0 {
			filter.Since = s.Created.Add(-time.Duration(t.Since))
		}
		switch hosts, err = hostsIn(ctx, w.service.store, filter); {
		case err != nil:
			return nil, err
		case len(hosts) == 0:
			return nil, noHostsIn(t.Group)
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
