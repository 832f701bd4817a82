package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func (a *app) resumeCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "resume GROUP | --all",
		Short: "Let a group go on that was paused",
		Long: `Let a group go on that was paused by hand, by a monitor, or because too many hosts in a row did not come back. It does
not open the group's window: outside of it the group waits on. With --all, what 'pause --all' has done is taken back: a
group that was paused by itself stays so.`,
		Example: `  mandrill resume web
  mandrill resume --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 == all {
				return usagef("resume: say one group, or --all")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all groups")
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), steerSettings...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.steerSome(cmd, args, func(ctx context.Context, w *wheel, group restart.Group) error {
			return w.resume(ctx, group, *out)
		})
	}
	return cmd
}

// A resumed is what resume has done, and what holds the group back all the same.
type resumed struct {
	Group  restart.Group `json:"group"`
	Lifted []pauseLine   `json:"lifted"`
	Holds  []pauseLine   `json:"holds"`
}

// A pauseLine is what is printed of a pause.
type pauseLine struct {
	Cause control.Cause `json:"cause"`
	control.Pause
}

func pauseLines(pauses []control.Pause) []pauseLine {
	lines := []pauseLine{}
	for _, p := range pauses {
		lines = append(lines, pauseLine{p.Cause, p})
	}
	return lines
}

func (l pauseLine) String() string {
	text := fmt.Sprintf("%s, since %s", l.Cause, timeText(l.Since, secondsTime))
	if !l.Until.IsZero() {
		text += ", until " + timeText(l.Until, secondsTime)
	}
	return fmt.Sprintf("%s, by %s: %s", text, l.By, l.Why)
}

func (w *wheel) resume(ctx context.Context, group restart.Group, out output) error {
	lifted, err := control.Resume(ctx, w.kv, group)
	if err != nil {
		return err
	}
	if err := w.deriveAll(ctx, group); err != nil {
		return err
	}
	state, err := control.Read(ctx, w.kv, group)
	if err != nil {
		return err
	}
	r := resumed{group, pauseLines(lifted), pauseLines(state.InForce(time.Now()))}
	if out == outputJSON {
		return w.app.printJSON(r)
	}
	for _, l := range r.Lifted {
		fmt.Fprintf(w.app.stdout, "lifted\t%s\n", plain(l.String()))
	}
	for _, l := range r.Holds {
		fmt.Fprintf(w.app.stdout, "holds on\t%s\n", plain(l.String()))
	}
	if len(r.Lifted)+len(r.Holds) == 0 {
		name := "group " + string(group) + " was"
		if group == control.AllGroups {
			name = "all groups together were"
		}
		fmt.Fprintf(w.app.stdout, "%s not paused\n", name)
	}
	return nil
}
