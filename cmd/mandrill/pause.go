package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// pauseOptions are the flags of pause that are no settings.
type pauseOptions struct {
	all    bool
	span   time.Duration
	reason string
	out    *output
}

func (a *app) pauseCommand() *cobra.Command {
	var o pauseOptions
	cmd := &cobra.Command{
		Use:   "pause GROUP | --all",
		Short: "Stop restarting the hosts of a group, or of all groups",
		Long: `Stop restarting the hosts of a group, or of all groups, until they are resumed or --for is over. What was triggered goes
on being verified.

It returns when every worker that is there has confirmed it: nothing is triggered after that. A worker that does not
answer may trigger something for as long as ack_wait, and is waited for that long; then it is named, and nothing is
triggered any more by it either. One that is cut off cannot be seen: where messages are held by nobody who answers, it
says until when such a worker may trigger something.`,
		Example: `  mandrill pause web --reason "the service is burning"
  mandrill pause --all --for 30m`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 == o.all {
				return usagef("pause: say one group, or --all")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "all groups")
	f.DurationVar(&o.span, "for", 0, "resume by itself after this time")
	f.StringVar(&o.reason, "reason", "", "why, for people")
	o.out = addOutput(cmd)
	config.AddFlags(f, steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.span < 0 || o.span == 0 && cmd.Flags().Changed("for") {
			return usagef("--for: %s is not in the future", o.span)
		}
		return a.steerSome(cmd, args, func(ctx context.Context, w *wheel, group restart.Group) error {
			return w.pause(ctx, group, o)
		})
	}
	return cmd
}

// A paused is what pause has brought about.
type paused struct {
	Group restart.Group `json:"group"`
	Until time.Time     `json:"until,omitzero"`
	confirmation
}

// A confirmation is who has confirmed something after which nothing is to be triggered.
type confirmation struct {
	Confirmed []string `json:"confirmed"` // the workers
	Missing   []string `json:"missing"`   // those that were waited for in vain
	// Unaccounted is how many messages were handed out that no worker which confirmed holds: they wait to be tried again,
	// or are held by a worker that is cut off and cannot be seen, which may trigger something until Certain.
	Unaccounted int       `json:"unaccounted"`
	Certain     time.Time `json:"certain"` // from then on nothing is triggered, whoever is cut off
}

func (w *wheel) pause(ctx context.Context, group restart.Group, o pauseOptions) error {
	p := control.Pause{Group: group, Cause: control.ByHand, Since: time.Now().UTC(), By: w.app.whoami(), Why: o.reason}
	if o.span > 0 {
		p.Until = p.Since.Add(o.span)
	}
	revision, err := control.Put(ctx, w.kv, p)
	if err != nil {
		return err
	}
	if err := w.deriveAll(ctx, group); err != nil {
		return err
	}
	within, err := w.longestLease(ctx, group)
	if err != nil {
		return err
	}
	result := paused{Group: p.Group, Until: p.Until}
	if result.confirmation, err = w.awaitConfirmed(ctx, "pause", group, revision, within); err != nil {
		return err
	}
	if *o.out == outputJSON {
		return w.app.printJSON(result)
	}
	_, err = fmt.Fprintln(w.app.stdout, result)
	return err
}

func (p paused) String() string {
	text := "paused group " + string(p.Group)
	if p.Group == control.AllGroups {
		text = "paused all groups"
	}
	if !p.Until.IsZero() {
		text += " until " + timeText(p.Until, secondsTime)
	}
	return text + ": " + p.confirmation.String()
}

func (c confirmation) String() string {
	text := fmt.Sprintf("confirmed by %d workers", len(c.Confirmed))
	if len(c.Confirmed) == 1 {
		text = strings.TrimSuffix(text, "s")
	}
	if c.Unaccounted > 0 && len(c.Missing) == 0 {
		text += fmt.Sprintf("; %d messages wait to be tried again, or are held by a worker that is cut off, which may trigger something until %s",
			c.Unaccounted, timeText(c.Certain, secondsTime))
	}
	if len(c.Missing) > 0 {
		text += fmt.Sprintf(", and not by %s, which may trigger nothing any more either", strings.Join(c.Missing, ", "))
	}
	return text
}

// awaitConfirmed waits until every worker of the group has confirmed what stands in the control bucket at a revision, or
// until one that has not can trigger nothing any more.
func (w *wheel) awaitConfirmed(ctx context.Context, what string, group restart.Group, revision uint64, within time.Duration) (confirmation, error) {
	began := time.Now()
	result := confirmation{Confirmed: []string{}, Missing: []string{}, Certain: began.Add(within).UTC()}
	want := fleet.Wanted{Revision: revision, Within: within}
	if group != control.AllGroups {
		want.Group = group
	}
	c, err := fleet.Confirmed(ctx, w.conn.Conn, want)
	for _, s := range c.Confirmed {
		result.Confirmed = append(result.Confirmed, s.Worker)
	}
	for _, i := range c.Missing {
		result.Missing = append(result.Missing, i.Worker)
	}
	if err == nil {
		result.Unaccounted, err = w.unaccounted(ctx, group, c.Confirmed)
	}
	switch {
	case ctx.Err() != nil:
		return result, fmt.Errorf("the %s is stored, and not everybody has confirmed it: %w", what, context.Cause(ctx))
	case err != nil || len(c.Missing) > 0:
		// Whoever does not answer knows at the latest by then, or knows that it knows nothing.
		select {
		case <-time.After(time.Until(began.Add(within))):
		case <-ctx.Done():
			return result, fmt.Errorf("the %s is stored, and not everybody has confirmed it: %w", what, context.Cause(ctx))
		}
	}
	return result, nil
}

// unaccounted returns how many messages are handed out that none of these workers holds.
func (w *wheel) unaccounted(ctx context.Context, group restart.Group, workers []fleet.WorkerStatus) (int, error) {
	consumers, err := w.consumers(ctx, group)
	if err != nil {
		return 0, err
	}
	sum := 0
	for g, info := range consumers {
		held := 0
		for _, worker := range workers {
			for _, s := range worker.Groups {
				if s.Group == g {
					held += s.InFlight
				}
			}
		}
		sum += max(0, info.NumAckPending-held)
	}
	return sum, nil
}

// longestLease returns for how long a worker may trigger something that has not heard of a pause.
func (w *wheel) longestLease(ctx context.Context, group restart.Group) (time.Duration, error) {
	consumers, err := w.consumers(ctx, group)
	longest := time.Second // without a consumer nothing is handed out
	for _, info := range consumers {
		longest = max(longest, info.Config.AckWait)
	}
	return longest, err
}
