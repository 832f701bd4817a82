package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
)

func (a *app) deadPurgeCommand() *cobra.Command {
	var filter deadFilter
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge [ID...]",
		Short: "Remove dead letters for good",
		Long: `Remove dead letters for good. What became of their requests stays in the database. Choose them by id, by flags or
with --all, which also removes those that cannot be read. Exit code 3: some were removed, and then it failed.`,
		Example: `  mandrill dead purge --requeued --older-than 168h
  mandrill dead purge 01a1fbe2-e6cc-736c-b479-60539a1e765f
  mandrill dead purge --all --yes`,
	}
	filter.addChoice(cmd)
	f := cmd.Flags()
	f.BoolVar(&filter.requeued, "requeued", false, "only those that were requeued")
	f.StringVar(&filter.olderThan, "older-than", "", "only what was given up longer ago than this span, such as 168h")
	f.BoolVar(&yes, "yes", false, fmt.Sprintf("do not ask before more than %d are removed", confirmAbove))
	out := addOutput(cmd)
	config.AddFlags(f, deadSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		chosen, err := filter.choice("dead purge", args, loaded.Config.Domain, time.Now())
		if err != nil {
			return err
		}
		return a.withDeadLetters(cmd.Context(), loaded.Config, func(ctx context.Context, box *deadBox) error {
			return box.purge(ctx, chosen, filter.all, yes, *out)
		})
	}
	return cmd
}

// purge removes what is chosen, and prints how many that were.
func (b *deadBox) purge(ctx context.Context, f deadletter.Filter, all, yes bool, out output) error {
	entries, err := b.toPurge(ctx, f, all)
	if err != nil {
		return err
	}
	if err := b.app.confirm(ctx, yes, len(entries), fmt.Sprintf("Remove %d dead letters for good?", len(entries))); err != nil {
		return err
	}
	removed, failed := b.remove(ctx, entries)
	if out == outputJSON {
		err = b.app.printJSON(map[string]int{"removed": removed})
	} else {
		_, err = fmt.Fprintf(b.app.stdout, "removed %d\n", removed)
	}
	if failed != nil && removed > 0 {
		failed = fmt.Errorf("%w: %d of %d dead letters were removed: %v", errPartly, removed, len(entries), failed)
	}
	return errors.Join(failed, err)
}

// toPurge returns what is to be removed, without its data.
func (b *deadBox) toPurge(ctx context.Context, f deadletter.Filter, all bool) (entries []deadletter.Entry, err error) {
	letters := b.letters
	if all {
		letters = b.Letters
	}
	found := map[uuid.UUID]bool{}
	for e, err := range letters(ctx, f) {
		if _, unreadable := errors.AsType[*deadletter.UnreadableError](err); err != nil && !unreadable {
			return nil, err
		}
		found[e.Outcome.ID] = true
		e.Data = nil
		entries = append(entries, e)
	}
	return entries, missing(f.IDs, found)
}

// remove returns how many it has removed, and why it could not go on.
func (b *deadBox) remove(ctx context.Context, entries []deadletter.Entry) (removed int, err error) {
	bar := b.app.newProgress("removing", len(entries))
	defer bar.stop()
	for _, e := range entries {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		done, err := b.Remove(ctx, e)
		if err != nil {
			return removed, err
		}
		if done {
			removed++
		}
		bar.add()
	}
	return removed, nil
}
