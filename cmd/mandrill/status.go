package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	// workersWait bounds how long workers are waited for that do not answer.
	workersWait = 2 * time.Second
	// watchEvery is the time between two looks of --watch.
	watchEvery = 2 * time.Second
	// lately is how far back outcomes are counted.
	lately = time.Hour
)

func (a *app) statusCommand() *cobra.Command {
	var watch, inFlight bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show groups, workers and what is in flight",
		Long: `Show each group with what is queued and in flight, its budget, what holds it back, its oldest request and the outcomes of
what was asked for in the last hour; each campaign that is not over; and each worker that answers, with its version, what
it holds and its lag. What cannot be found out is named.`,
		Example: `  mandrill status
  mandrill status --watch
  mandrill status --in-flight --output json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.BoolVar(&watch, "watch", false, "go on until stopped, and show it again every two seconds")
	f.BoolVar(&inFlight, "in-flight", false, "list the messages that workers hold, the oldest phase first")
	out := addOutput(cmd)
	config.AddFlags(f, append([]string{"database", "save_timeout"}, steerSettings...)...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		return a.withWheel(cmd.Context(), loaded.Config, "status", func(ctx context.Context, w *wheel) error {
			for {
				if err := w.status(ctx, loaded.Config, inFlight, watch, *out); err != nil || !watch {
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(watchEvery):
				}
			}
		})
	}
	return cmd
}

// A statusReport is how the fleet stands.
type statusReport struct {
	At       time.Time            `json:"at"`
	Groups   []groupReport        `json:"groups"`
	Workers  []fleet.WorkerStatus `json:"workers"`
	Silent   []fleet.Instance     `json:"silent"` // workers that are there and do not answer
	InFlight []fleet.Message      `json:"in_flight,omitempty"`
	// Campaigns are those that are not over.
	Campaigns []campaignLine `json:"campaigns,omitempty"`
	Unknown   []string       `json:"unknown"` // what could not be found out, and why
}

// A groupReport is how one group stands.
type groupReport struct {
	Group    restart.Group        `json:"group"`
	Queued   uint64               `json:"queued"`    // nobody holds them
	InFlight int                  `json:"in_flight"` // workers hold them, or wait to try again
	Budget   int                  `json:"budget"`
	Paused   []pauseLine          `json:"paused"`
	Oldest   time.Time            `json:"oldest,omitzero"` // when the oldest request was stored
	Outcomes map[restart.Kind]int `json:"outcomes,omitempty"`
}

func (w *wheel) status(ctx context.Context, cfg config.Config, inFlight, watch bool, out output) error {
	r := statusReport{At: time.Now().UTC(), Workers: []fleet.WorkerStatus{}, Silent: []fleet.Instance{}, Unknown: []string{}}
	var err error
	if r.Groups, err = w.groupReports(ctx); err != nil {
		return err
	}
	unknown := func(what string, err error) {
		if err != nil {
			r.Unknown = append(r.Unknown, fmt.Sprintf("%s: %v", what, err))
		}
	}
	unknown("outcomes", w.countOutcomes(ctx, cfg, r.Groups))
	r.Campaigns, err = w.runningCampaigns(ctx, cfg)
	unknown("campaigns", err)
	workers, silent, err := fleet.Workers(ctx, w.conn.Conn, workersWait)
	unknown("workers", err)
	r.Workers, r.Silent = append(r.Workers, workers...), append(r.Silent, silent...)
	if inFlight {
		r.InFlight, _, err = fleet.InFlight(ctx, w.conn.Conn, workersWait)
		unknown("in flight", err)
	}
	switch {
	case ctx.Err() != nil && watch:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case out == outputJSON:
		return w.app.printJSON(r)
	}
	return w.app.printStatus(r, inFlight, watch)
}

// groupReports returns how each group stands that workers have served.
func (w *wheel) groupReports(ctx context.Context) ([]groupReport, error) {
	work, err := w.js.Stream(ctx, stream.Work)
	if err != nil {
		return nil, fmt.Errorf("cannot look at the groups: %w", err)
	}
	consumers, err := w.consumers(ctx, control.AllGroups)
	if err != nil {
		return nil, err
	}
	reports := []groupReport{}
	for group, info := range consumers {
		reports = append(reports, groupReport{
			Group: group, Queued: info.NumPending, InFlight: info.NumAckPending, Budget: info.Config.MaxAckPending,
		})
	}
	slices.SortFunc(reports, func(a, b groupReport) int { return cmp.Compare(a.Group, b.Group) })
	for i := range reports {
		r := &reports[i]
		state, err := control.Look(ctx, w.js, w.kv, r.Group)
		if err != nil {
			return nil, err
		}
		r.Paused = pauseLines(state.InForce(time.Now()))
		oldest, err := work.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(stream.WorkFilter(r.Group)))
		switch {
		case err == nil:
			r.Oldest = oldest.Time
		case !errors.Is(err, jetstream.ErrMsgNotFound):
			return nil, fmt.Errorf("cannot look for the oldest request of group %q: %w", r.Group, err)
		}
	}
	return reports, nil
}

// countOutcomes fills in what the database knows.
func (w *wheel) countOutcomes(ctx context.Context, cfg config.Config, groups []groupReport) error {
	return w.app.withHistory(ctx, cfg, func(ctx context.Context, db store.Store) error {
		counts, err := db.Ended(ctx, time.Now().Add(-lately))
		if err != nil {
			return err
		}
		for i := range groups {
			groups[i].Outcomes = map[restart.Kind]int{}
			maps.Copy(groups[i].Outcomes, counts[groups[i].Group])
		}
		return nil
	})
}
