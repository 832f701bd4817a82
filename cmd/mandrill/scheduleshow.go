package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

const (
	// nextTimes is how many of the times to come are shown.
	nextTimes = 5

	// zoneTime is how people are told a time of a schedule: on the clocks of its zone.
	zoneTime = "Mon 2006-01-02 15:04:05 -0700"
)

// A scheduleLine is what is printed of a schedule.
type scheduleLine struct {
	schedule.Definition
	Next []time.Time `json:"next"` // none while it is paused
}

func newScheduleLine(d schedule.Definition, now time.Time) scheduleLine {
	l := scheduleLine{d, []time.Time{}}
	if !d.Paused && d.Spec.Kind != "" {
		l.Next = append(l.Next, d.Spec.NextN(now, nextTimes)...)
	}
	return l
}

func (l *scheduleLine) nextTexts() []string {
	if l.Paused {
		return []string{"paused"}
	}
	texts := make([]string, len(l.Next))
	for i, t := range l.Next {
		texts[i] = t.Format(zoneTime)
	}
	return texts
}

// whenText says when a schedule is due.
func whenText(s schedule.Spec) string {
	if s.Kind == schedule.Cron {
		return fmt.Sprintf("cron %s, %s", s.Expr, s.Zone)
	}
	return string(s.Kind) + " " + s.Expr
}

// whatText says what a schedule does.
func whatText(d schedule.Definition) string {
	if d.Restart != nil {
		return fmt.Sprintf("restart %s of group %s", d.Restart.Host, d.Restart.Group)
	}
	t, err := parseRollTemplate(d.Roll)
	switch {
	case err != nil:
		return err.Error()
	case t.Known:
		return fmt.Sprintf("roll the known hosts of group %s", t.Group)
	}
	return fmt.Sprintf("roll %d hosts of group %s", len(t.Hosts), t.Group)
}

func (a *app) scheduleListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the schedules, with their next five times",
		Long: `List the schedules, with their next five times, on the clocks of each schedule's own zone. One that was planned for a
single time is gone once it has come.`,
		Example: `  mandrill schedule list`,
		Args:    noArgs,
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		var all []schedule.Definition
		var unreadable error
		err = a.withSchedules(cmd.Context(), loaded.Config, "list", func(ctx context.Context, store *schedule.Store) error {
			all, unreadable = store.List(ctx)
			return nil
		})
		if err != nil && !errors.Is(err, schedule.ErrNotFound) {
			return err
		}
		return errors.Join(a.printSchedules(all, *out), unreadable)
	}
	return cmd
}

func (a *app) printSchedules(all []schedule.Definition, out output) error {
	lines, now := make([]scheduleLine, len(all)), time.Now()
	for i, d := range all {
		lines[i] = newScheduleLine(d, now)
	}
	if out == outputJSON {
		return a.printJSON(map[string]any{"schedules": lines})
	}
	t := newTable(a.stdout, "NAME", "WHEN", "WHAT", "NEXT")
	for _, l := range lines {
		if err := t.row(l.Name, whenText(l.Spec), whatText(l.Definition), strings.Join(l.nextTexts(), ", ")); err != nil {
			return err
		}
	}
	return t.end()
}

// A shownSchedule is what show prints.
type shownSchedule struct {
	scheduleLine
	Over    bool              `json:"over,omitempty"` // it was planned for a single time, and nothing else is known of it any more
	Results []schedule.Result `json:"results"`        // the oldest first
}

func (a *app) scheduleShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a schedule, its next five times, and what has become of its last runs",
		Long: `Show a schedule, its next five times, and what has become of its last runs: started, skipped (the run before was not over,
or the schedule was paused), refused (what was asked for is not allowed), missed (nobody was there in time) or failed.

Of a schedule that is over, the results are shown for thirty days.`,
		Example: `  mandrill schedule show nightly`,
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withSchedule(cmd, args, func(ctx context.Context, store *schedule.Store, name string) error {
			d, missing := store.Get(ctx, name)
			if missing != nil && !errors.Is(missing, schedule.ErrNotFound) {
				return missing
			}
			results, err := store.Results(ctx, name)
			switch {
			case err != nil:
				return err
			case missing != nil && len(results) == 0:
				return missing
			case missing != nil:
				d = schedule.Definition{Name: name}
			}
			shown := shownSchedule{newScheduleLine(d, time.Now()), missing != nil, append([]schedule.Result{}, results...)}
			if *out == outputJSON {
				return a.printJSON(shown)
			}
			return a.printSchedule(shown)
		})
	}
	return cmd
}

func (a *app) printSchedule(s shownSchedule) error {
	var b bytes.Buffer
	line := func(name, text string) { fmt.Fprintf(&b, "%-10s %s\n", name, plain(text)) }
	line("schedule", s.Name)
	if s.Over {
		line("when", "it is over")
	} else {
		s.describe(line)
	}
	if len(s.Results) > 0 {
		b.WriteByte('\n')
	}
	t := newTable(&b, "PLANNED", "OUTCOME", "MADE", "WHY")
	for _, r := range s.Results {
		planned := clockText(r.Planned)
		if r.Manual {
			planned += " by hand"
		}
		if err := t.row(planned, string(r.Outcome), r.Made, r.Why); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}

func (s *shownSchedule) describe(line func(name, text string)) {
	line("when", whenText(s.Spec))
	line("what", whatText(s.Definition))
	if t, err := parseRollTemplate(s.Roll); s.Restart == nil && err == nil {
		run := t.spec(schedule.Firing{})
		if t.Seed == 0 && t.Order == campaign.OrderRandom {
			run.Order = "random, another each time"
		}
		line("how", howText(run))
		if !t.Known {
			line("hosts", hostsText(t.Hosts))
		}
	}
	late := "a run that was due while the server was away is skipped"
	if s.CatchUp {
		late = "a run that was due while the server was away is done late, once"
	}
	line("valid for", time.Duration(s.ValidFor).String())
	line("late", late)
	line("added", clockText(s.At)+" by "+plain(s.By))
	for i, next := range s.nextTexts() {
		line([]string{"next", ""}[min(i, 1)], next)
	}
}

// hostsText names hosts, as far as they fit.
func hostsText(hosts []restart.Host) string {
	names := make([]string, 0, len(hosts))
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return few(names)
}
