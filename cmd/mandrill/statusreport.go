package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// clearScreen begins a terminal anew, from its upper left corner.
const clearScreen = "\x1b[H\x1b[2J"

// printStatus prints a report at once, so that nobody sees half of it.
func (a *app) printStatus(r statusReport, inFlight, watch bool) error {
	var b bytes.Buffer
	if watch && a.stdoutIsTerminal() {
		b.WriteString(clearScreen)
	}
	groups := newTable(&b, "GROUP", "QUEUED", "IN FLIGHT", "BUDGET", "OLDEST", "LAST HOUR", "PAUSED")
	for _, g := range r.Groups {
		if err := groups.row(string(g.Group), strconv.FormatUint(g.Queued, 10), strconv.Itoa(g.InFlight), strconv.Itoa(g.Budget),
			ageText(r.At, g.Oldest), countsText(g.Outcomes), pausedText(g.Paused)); err != nil {
			return err
		}
	}
	if err := groups.end(); err != nil {
		return err
	}
	if len(r.Groups) == 0 {
		fmt.Fprintln(&b, "no worker has served any group yet")
	}
	for _, c := range r.Campaigns {
		fmt.Fprintf(&b, "campaign %s of group %s: %s\n", c.Campaign, c.Group, plain(c.text(r.At)))
	}
	fmt.Fprintln(&b)
	if err := printWorkers(&b, r); err != nil {
		return err
	}
	if inFlight {
		fmt.Fprintln(&b)
		if err := printInFlight(&b, r); err != nil {
			return err
		}
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "not known: %s\n", plain(u))
	}
	if watch {
		fmt.Fprintln(&b)
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}

func printWorkers(b *bytes.Buffer, r statusReport) error {
	if len(r.Workers)+len(r.Silent) == 0 {
		fmt.Fprintln(b, "no worker answers")
		return nil
	}
	t := newTable(b, "WORKER", "VERSION", "GROUPS", "IN FLIGHT", "PHASES", "LAG", "UP")
	for _, w := range r.Workers {
		var groups, phases []string
		held := 0
		for _, g := range w.Groups {
			groups = append(groups, string(g.Group))
			held += g.InFlight
			phases = append(phases, phasesText(g))
		}
		lag := fmt.Sprintf("%.1f ms", w.LagSeconds*1000)
		if w.Overloaded {
			lag += ", overloaded"
		}
		if err := t.row(w.Worker, w.Version, strings.Join(groups, ","), strconv.Itoa(held), strings.TrimSpace(strings.Join(phases, " ")),
			lag, ageText(r.At, w.Started)); err != nil {
			return err
		}
	}
	for _, i := range r.Silent {
		if err := t.row(i.Worker, i.Version, "", "", "does not answer", "", ""); err != nil {
			return err
		}
	}
	return t.end()
}

func printInFlight(b *bytes.Buffer, r statusReport) error {
	if len(r.InFlight) == 0 {
		fmt.Fprintln(b, "nothing is in flight")
		return nil
	}
	t := newTable(b, "HOST", "GROUP", "PHASE", "FOR", "ATTEMPT", "WORKER", "ID")
	for _, m := range r.InFlight {
		if err := t.row(string(m.Host), string(m.Group), m.Phase, ageText(r.At, m.Since), strconv.Itoa(m.Attempt), m.Worker, m.ID.String()); err != nil {
			return err
		}
	}
	return t.end()
}

// phasesText names the phases that a worker's messages of a group are in.
func phasesText(g fleet.GroupStatus) string {
	var parts []string
	for _, phase := range []string{"gate", "slot", "restart", "verify", "save", "finish", "settle"} {
		if n := g.Phases[phase]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", phase, n))
		}
	}
	return strings.Join(parts, ", ")
}

// countsText names the outcomes that there were.
func countsText(counts map[restart.Kind]int) string {
	var parts []string
	for _, kind := range restart.Kinds {
		if n := counts[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", kind, n))
		}
	}
	return strings.Join(parts, ", ")
}

func pausedText(pauses []pauseLine) string {
	var parts []string
	for _, p := range pauses {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "; ")
}

// ageText returns how long ago it was, or nothing for never.
func ageText(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return max(0, now.Sub(then)).Round(time.Second).String()
}
