package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

func (a *app) scheduleRemoveCommand() *cobra.Command {
	return a.scheduleChangeCommand(&cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a schedule, and what is known of its runs",
		Long: `Remove a schedule, and what is known of its runs. A run that was due and that no worker has taken yet is not done. What
was started goes on: 'mandrill campaign abort' and 'mandrill cancel' end it.`,
		Example: `  mandrill schedule remove nightly`,
	}, func(ctx context.Context, store *schedule.Store, name string) (any, string, error) {
		return map[string]string{"removed": name}, "removed " + name, store.Remove(ctx, name)
	})
}

func (a *app) schedulePauseCommand() *cobra.Command {
	return a.scheduleChangeCommand(&cobra.Command{
		Use:   "pause NAME",
		Short: "Keep a schedule from running until it is resumed",
		Long: `Keep a schedule from running until it is resumed. A run that was due and that no worker has taken yet is skipped. What was
started goes on. 'run-now' still runs it.`,
		Example: `  mandrill schedule pause nightly`,
	}, func(ctx context.Context, store *schedule.Store, name string) (any, string, error) {
		d, err := store.Pause(ctx, name)
		return newScheduleLine(d, time.Now()), "paused " + name, err
	})
}

func (a *app) scheduleResumeCommand() *cobra.Command {
	return a.scheduleChangeCommand(&cobra.Command{
		Use:     "resume NAME",
		Short:   "Let a paused schedule run again, from its next time on",
		Long:    `Let a paused schedule run again, from its next time on. What was due in between is not made up for.`,
		Example: `  mandrill schedule resume nightly`,
	}, func(ctx context.Context, store *schedule.Store, name string) (any, string, error) {
		now := time.Now()
		d, err := store.Resume(ctx, name, now)
		if err != nil {
			return nil, "", err
		}
		l := newScheduleLine(d, now)
		return l, fmt.Sprintf("resumed %s, next %s", name, l.nextTexts()[0]), nil
	})
}

func (a *app) scheduleRunNowCommand() *cobra.Command {
	return a.scheduleChangeCommand(&cobra.Command{
		Use:   "run-now NAME",
		Short: "Do now what a schedule does, also if it is paused",
		Long: `Do now what a schedule does, also if it is paused. Its times stay as they are. It returns when the run is on its way to
the workers; 'mandrill schedule show' tells what has become of it. The run before must be over, as always.`,
		Example: `  mandrill schedule run-now nightly`,
	}, func(ctx context.Context, store *schedule.Store, name string) (any, string, error) {
		id, err := store.RunNow(ctx, name, a.whoami())
		return struct {
			Schedule string    `json:"schedule"`
			Run      uuid.UUID `json:"run"`
		}{name, id}, fmt.Sprintf("run %s of %s is on its way", id, name), err
	})
}

// scheduleChangeCommand completes a verb that changes one schedule, and then prints what do returns: as JSON, or as text.
func (a *app) scheduleChangeCommand(cmd *cobra.Command, do func(context.Context, *schedule.Store, string) (any, string, error)) *cobra.Command {
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withSchedule(cmd, args, func(ctx context.Context, store *schedule.Store, name string) error {
			result, text, err := do(ctx, store, name)
			switch {
			case err != nil:
				return err
			case *out == outputJSON:
				return a.printJSON(result)
			}
			_, err = fmt.Fprintln(a.stdout, text)
			return err
		})
	}
	return cmd
}
