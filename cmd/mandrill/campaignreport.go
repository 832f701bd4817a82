package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

func (a *app) campaignReportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report ID",
		Short: "Say of each host of a rolling restart what became of it",
		Long: `Say of each host of a rolling restart what became of it: outcome, reason, how long it took, and its boot before and after.
It can be asked at any time; hosts that were not asked for are named as such. Reasons, times and boots come from the
database; where that cannot be read, it says so, and tells what the campaign itself has noted.`,
		Example: `  mandrill campaign report 60539a1e765f
  mandrill campaign report 60539a1e765f --output csv`,
	}
	out := addOutput(cmd, outputCSV)
	config.AddFlags(cmd.Flags(), append([]string{"database", "save_timeout"}, steerSettings...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withCampaign(cmd, args, func(ctx context.Context, w *campaignWheel, c campaign.Campaign) error {
			r, err := w.report(ctx, c)
			if err != nil {
				return err
			}
			var b bytes.Buffer
			switch *out {
			case outputJSON:
				err = r.WriteJSON(&b)
			case outputCSV:
				err = r.WriteCSV(&b)
			default:
				err = r.WriteText(&b)
			}
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(b.Bytes())
			return err
		})
	}
	return cmd
}

// report returns what became of each host, as the database has it. Where that cannot be read, it says so.
func (w *campaignWheel) report(ctx context.Context, c campaign.Campaign) (r campaign.Report, err error) {
	err = w.app.withHistory(ctx, w.cfg, func(ctx context.Context, db store.Store) error {
		var missing error
		r = campaign.NewReport(&c.Spec, c.Progress, func(id uuid.UUID) (restart.Outcome, bool) {
			if missing != nil {
				return restart.Outcome{}, false
			}
			o, err := db.Outcome(ctx, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				missing = err
			}
			return o, err == nil
		})
		return missing
	})
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if err != nil {
		fmt.Fprintf(w.app.stderr, "mandrill: warning: without the database it is only known how hosts ended: %v\n", err)
		r = reportWithout(c)
	}
	return r, nil
}
