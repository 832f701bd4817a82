package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// maxBudget is as far as a budget goes.
const maxBudget = 1_000_000

func (a *app) budgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "budget GROUP [N]",
		Short: "Show or change how many hosts of a group may be down at once",
		Long: `Show or change the budget of a group: how many of its messages all workers together may hold at once, and so how many
of its hosts may be down at once by Mandrill's doing. It counts messages: a host that waits for its next attempt counts
too. What is set here stays, whatever workers have in their configuration. A lower budget takes nothing away from a
worker: it counts for what is handed out from now on.`,
		Example: `  mandrill budget web
  mandrill budget web 5`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("budget: say a group and, to change its budget, a number")
			}
			return nil
		},
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n := 0
		if len(args) == 2 {
			var err error
			if n, err = strconv.Atoi(args[1]); err != nil || n < 1 || n > maxBudget {
				return usagef("budget: %q is not a number from 1 to %d", args[1], maxBudget)
			}
		}
		return a.steer(cmd, args[0], func(ctx context.Context, w *wheel, group restart.Group) error {
			if n > 0 {
				if err := w.setBudget(ctx, group, n); err != nil {
					return err
				}
			}
			return w.showBudget(ctx, group, *out)
		})
	}
	return cmd
}

func (w *wheel) setBudget(ctx context.Context, group restart.Group, n int) error {
	b := control.Budget{Messages: n, By: w.app.whoami(), At: time.Now().UTC()}
	if err := control.PutBudget(ctx, w.kv, group, b); err != nil {
		return err
	}
	return w.derive(ctx, group)
}

// A budgetLine is what is printed of a budget.
type budgetLine struct {
	Group    restart.Group   `json:"group"`
	Budget   int             `json:"budget"`
	InFlight int             `json:"in_flight"` // messages that workers hold
	Queued   uint64          `json:"queued"`    // messages that nobody holds
	Set      *control.Budget `json:"set"`       // null: the budget is the first worker's configuration
}

func (w *wheel) showBudget(ctx context.Context, group restart.Group, out output) error {
	state, err := control.Read(ctx, w.kv, group)
	if err != nil {
		return err
	}
	line := budgetLine{Group: group, Budget: state.Budget.Messages}
	if state.Budget.Messages > 0 {
		line.Set = &state.Budget
	}
	consumer, err := w.js.Consumer(ctx, stream.Work, stream.ConsumerName(group))
	switch {
	case err == nil:
		info := consumer.CachedInfo()
		line.Budget, line.InFlight, line.Queued = info.Config.MaxAckPending, info.NumAckPending, info.NumPending
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("cannot look at group %q: %w", group, err)
	case line.Set == nil:
		return fmt.Errorf("no worker has served group %q yet", group)
	}
	if out == outputJSON {
		return w.app.printJSON(line)
	}
	origin := "the configuration of the worker that created it"
	if line.Set != nil {
		origin = fmt.Sprintf("set by %s at %s", line.Set.By, timeText(line.Set.At, secondsTime))
	}
	_, err = fmt.Fprintf(w.app.stdout, "group %s: budget %d (%s), in flight %d, queued %d\n",
		group, line.Budget, plain(origin), line.InFlight, line.Queued)
	return err
}
