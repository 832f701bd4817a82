package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func (a *app) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Restart at set times: add, list, show, remove, pause, resume or run a schedule",
		Long: `Restart at set times: add, list, show, remove, pause, resume or run a schedule. The NATS server keeps the time, and any
worker does what a schedule asks for when it is due.`,
		Example: `  mandrill schedule add nightly --cron "0 3 * * TUE" --tz Europe/Berlin -- roll --known web --batch 1,5%
  mandrill schedule list
  mandrill schedule show nightly`,
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("schedule: say add, list, show, remove, pause, resume or run-now")
		},
	}
	cmd.AddCommand(a.scheduleAddCommand(), a.scheduleListCommand(), a.scheduleShowCommand(), a.scheduleRemoveCommand(),
		a.schedulePauseCommand(), a.scheduleResumeCommand(), a.scheduleRunNowCommand())
	return cmd
}

// withSchedules calls do with the schedules. Where there are none, because nothing has created their stream, the error
// wraps schedule.ErrNotFound.
func (a *app) withSchedules(ctx context.Context, cfg config.Config, verb string, do func(context.Context, *schedule.Store) error) error {
	return a.withScheduleStream(ctx, cfg, verb, func(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
		s, err := js.Stream(ctx, stream.Schedules)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, fmt.Errorf("schedule %s: %w", verb, schedule.ErrNotFound)
		case err != nil:
			return nil, fmt.Errorf("cannot look at stream %q: %w", stream.Schedules, err)
		}
		return s, nil
	}, do)
}

// withScheduleStream calls do with the schedules in the stream that open returns.
func (a *app) withScheduleStream(ctx context.Context, cfg config.Config, verb string,
	open func(context.Context, jetstream.JetStream) (jetstream.Stream, error), do func(context.Context, *schedule.Store) error,
) error {
	return a.withJetStream(ctx, cfg, "schedule "+verb, func(_ *connection, js jetstream.JetStream) error {
		held, err := open(ctx, js)
		if err != nil {
			return err
		}
		store, err := schedule.NewStore(js, held)
		if err != nil {
			return err
		}
		return do(ctx, store)
	})
}

// withSchedule calls do for the schedule that a verb was given as its one argument.
func (a *app) withSchedule(cmd *cobra.Command, args []string, do func(ctx context.Context, store *schedule.Store, name string) error) error {
	if err := checkScheduleName(cmd, args); err != nil {
		return err
	}
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	return a.withSchedules(cmd.Context(), loaded.Config, cmd.Name(), func(ctx context.Context, store *schedule.Store) error {
		return do(ctx, store, args[0])
	})
}

func checkScheduleName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("schedule %s: say one schedule, by its name", cmd.Name())
	}
	if err := schedule.CheckName(args[0]); err != nil {
		return usagef("schedule %s: %w", cmd.Name(), err)
	}
	return nil
}
