package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// planLife is for how long the plan of a dry run counts.
const planLife = 24 * time.Hour

// fitsOf returns when restarts may begin, as the rules say.
func fitsOf(rules policy.Rules) campaign.Fits {
	if rules.Windows == nil {
		return nil
	}
	return func(at time.Time) (bool, time.Time) { return rules.Windows.Fits(at, rules.Takes) }
}

// endOf returns when the last of the batches is expected to end.
func endOf(batches []campaign.PlannedBatch) time.Time {
	if len(batches) == 0 {
		return time.Time{}
	}
	return batches[len(batches)-1].End
}

// checkTimes refuses a campaign that can never begin, and warns of one that will not come to all hosts.
func (r *roll) checkTimes(plan campaign.Plan) error {
	asked := 0
	for _, b := range plan.Batches {
		if b.Begin.Before(r.spec.NotAfter) {
			asked = b.To
		}
	}
	switch {
	case len(plan.Batches) == 0:
		return usagef("window.open: does not open within a year for as long as a restart takes, so no host would be restarted")
	case asked == 0:
		return usagef("window.open: opens at %s, and nothing is asked for after %s (--not-after)",
			clockText(plan.Batches[0].Begin), clockText(r.spec.NotAfter))
	case asked < len(r.spec.Hosts):
		r.warn("about %d of %d hosts would be asked for until %s (--not-after)", asked, len(r.spec.Hosts), clockText(r.spec.NotAfter))
	}
	return nil
}

// A plannedRoll is what a dry run prints.
type plannedRoll struct {
	DryRun bool `json:"dry_run"`
	campaign.Plan
	Expected time.Time `json:"expected_end"`
	Until    time.Time `json:"until"` // from then on the plan does not count
	Warnings []string  `json:"warnings,omitempty"`
}

// showPlan stores the plan and prints it.
func (r *roll) showPlan(ctx context.Context, plan campaign.Plan) error {
	if err := r.docs.SavePlan(ctx, r.asked, plan); err != nil {
		return err
	}
	p := plannedRoll{true, plan, endOf(plan.Batches), plan.Spec.Created.Add(planLife), r.warnings}
	if *r.o.out == outputJSON {
		return r.app.printJSON(p)
	}
	var b bytes.Buffer
	s := plan.Spec
	fmt.Fprintf(&b, "would restart %d hosts of group %s: %s\n\n", len(s.Hosts), s.Group, howText(s))
	t := newTable(&b, "BATCH", "HOSTS", "BEGINS", "ENDS", "WHICH")
	for _, batch := range plan.Batches {
		if err := t.row(strconv.Itoa(batch.Number), strconv.Itoa(batch.To-batch.From), clockText(batch.Begin), clockText(batch.End),
			fromTo(s.Hosts[batch.From:batch.To])); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nexpected to end at %s, if a restart takes %s and nothing fails\n", clockText(p.Expected), takesOf(s))
	fmt.Fprintf(&b, "plan %s is stored: the same command without --dry-run takes it until %s\n", plan.Hash, clockText(p.Until))
	_, err := r.app.stdout.Write(b.Bytes())
	return err
}

// howText says how a campaign goes about its hosts.
func howText(s campaign.Spec) string {
	order := string(s.Order)
	if s.Order == campaign.OrderRandom {
		order += fmt.Sprintf(" (seed %d)", s.Seed)
	}
	parts := []string{"order " + order, "batch " + batchesText(s.Batches), "max_unavailable " + s.MaxUnavailable.String()}
	if s.Settle > 0 {
		parts = append(parts, "settle "+spanText(s.Settle))
	}
	if !s.StopAfter.IsZero() {
		parts = append(parts, "stop_after "+s.StopAfter.String())
	}
	if s.MinUptime > 0 {
		parts = append(parts, "min_uptime "+spanText(s.MinUptime))
	}
	return strings.Join(parts, ", ")
}

func batchesText(batches []campaign.Amount) string {
	texts := make([]string, len(batches))
	for i, b := range batches {
		texts[i] = b.String()
	}
	return strings.Join(texts, ",")
}

// takesOf returns how long a restart is taken to take before one was seen.
func takesOf(s campaign.Spec) string {
	if s.Takes == 0 {
		return "a minute"
	}
	return spanText(s.Takes)
}

func fromTo(hosts []restart.Host) string {
	if len(hosts) == 1 {
		return string(hosts[0])
	}
	return string(hosts[0]) + " … " + string(hosts[len(hosts)-1])
}

// takePlan makes the plan of a dry run the campaign, if there is one that counts and was not taken before. What has
// changed since then is an error: somebody has looked at something else than would be done.
func (r *roll) takePlan(ctx context.Context) (taken bool, err error) {
	plan, err := r.docs.LoadPlan(ctx, r.asked)
	switch {
	case errors.Is(err, campaign.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot look for the plan of a dry run: %w; --anyway does without it", err)
	case r.spec.Created.Sub(plan.Spec.Created) > planLife:
		return false, nil
	}
	switch _, err := r.docs.Spec(ctx, plan.Spec.ID); {
	case err == nil: // it was begun already
		return false, nil
	case !errors.Is(err, campaign.ErrNotFound):
		return false, fmt.Errorf("cannot look for the campaign of a dry run: %w; --anyway does without it", err)
	}
	changes := plan.Diff(r.spec)
	if r.o.seed != 0 && r.o.seed != plan.Spec.Seed {
		changes = append(changes, fmt.Sprintf("seed was %d and is %d", plan.Spec.Seed, r.o.seed))
	}
	if len(changes) > 0 {
		return false, fmt.Errorf("nothing was begun, because the plan of the dry run of %s has changed: %s; look at a new one with --dry-run, or go on with --anyway",
			clockText(plan.Spec.Created), strings.Join(changes, "; "))
	}
	r.spec.ID, r.spec.Hosts, r.spec.Seed = plan.Spec.ID, plan.Spec.Hosts, plan.Spec.Seed
	return true, nil
}
