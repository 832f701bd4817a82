package main

import (
	"context"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// deadLimit is how many dead letters are listed unless asked otherwise.
const deadLimit = 100

func (a *app) deadListCommand() *cobra.Command {
	var filter deadFilter
	limit := deadLimit
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the requests that were given up",
		Long:  `List the requests that were given up, the latest first. All times are in UTC.`,
		Example: `  mandrill dead list
  mandrill dead list --group web --reason not_ready --since 24h
  mandrill dead list --limit 0 --output json`,
		Args: noArgs,
	}
	filter.addFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, "how many at most, the latest; 0 is all")
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), deadSettings...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		f, err := filter.filter(loaded.Config.Domain, time.Now())
		if err != nil {
			return err
		}
		if limit < 0 {
			return usagef("--limit: %d is negative", limit)
		}
		return a.withDeadLetters(cmd.Context(), loaded.Config, func(ctx context.Context, box *deadBox) error {
			return box.list(ctx, f, limit, *out)
		})
	}
	return cmd
}

// A deadRow is a letter as far as it is listed.
type deadRow struct {
	At         time.Time      `json:"at"`
	Host       restart.Host   `json:"host"`
	Group      restart.Group  `json:"group"`
	Reason     restart.Reason `json:"reason"`
	Attempts   int            `json:"attempts"`
	LastError  string         `json:"last_error"`
	ID         uuid.UUID      `json:"id"`
	RequeuedAs uuid.UUID      `json:"requeued_as,omitzero"`
	RequeuedAt time.Time      `json:"requeued_at,omitzero"`
}

func newDeadRow(l deadletter.Letter) deadRow {
	o := l.Outcome
	return deadRow{o.At, o.Host, o.Group, o.Reason, o.Receipt.Attempt, o.Detail, o.ID, l.RequeuedAs, l.RequeuedAt}
}

func (b *deadBox) list(ctx context.Context, f deadletter.Filter, limit int, out output) error {
	latest := latestRows{limit: limit, rows: []deadRow{}}
	for e, err := range b.letters(ctx, f) {
		if err != nil {
			return err
		}
		latest.add(newDeadRow(e.Letter))
	}
	latest.trim()
	if out == outputJSON {
		if err := b.app.printJSON(latest.rows); err != nil {
			return err
		}
		return b.incomplete()
	}
	if len(latest.rows) == 0 {
		b.noneSuch()
	}
	t := newTable(b.app.stdout, "GIVEN UP", "HOST", "GROUP", "REASON", "ATTEMPTS", "LAST ERROR", "ID", "REQUEUED AS")
	for _, r := range latest.rows {
		if err := t.row(timeText(r.At, secondsTime), string(r.Host), string(r.Group), string(r.Reason), strconv.Itoa(r.Attempts),
			shortened(r.LastError), r.ID.String(), idText(r.RequeuedAs)); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	return b.incomplete()
}

// latestRows keeps the latest rows, and never holds more than twice as many. They come nearly in order of time.
type latestRows struct {
	limit int // 0: all
	rows  []deadRow
}

func (l *latestRows) add(r deadRow) {
	l.rows = append(l.rows, r)
	if l.limit > 0 && len(l.rows)-l.limit >= l.limit {
		l.trim()
	}
}

// trim puts the latest first, and drops what is too many.
func (l *latestRows) trim() {
	slices.SortStableFunc(l.rows, func(a, b deadRow) int { return b.At.Compare(a.At) })
	if l.limit > 0 {
		l.rows = l.rows[:min(l.limit, len(l.rows))]
	}
}

// shortened returns as much of a text as a column is wide.
func shortened(text string) string {
	if utf8.RuneCountInString(text) <= widestColumn {
		return text
	}
	return string([]rune(text)[:widestColumn-1]) + "…"
}

// idText returns an id, or nothing for none.
func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
