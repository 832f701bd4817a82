package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// historyLimit is how many requests are shown unless asked otherwise.
const historyLimit = 100

// historyDatabase are the settings of a verb that reads the database.
var historyDatabase = []string{"database", "data", "domain", "save_timeout", "log.level", "log.format"}

func (a *app) historyCommand() *cobra.Command {
	var filter historyFilter
	cmd := &cobra.Command{
		Use:   "history [ID]",
		Short: "Show what was asked for, and what came of it",
		Long: `Show what was asked for, and what came of it, the latest first; or all that is known of one request.

It only reads the database, so a worker may have it open, and the database may be a copy. All times are in UTC.`,
		Example: `  mandrill history
  mandrill history --host cattle-a1b2 --since 24h
  mandrill history --outcome dead --limit 0 --output csv
  mandrill history 01a1fbe2-e6cc-736c-b479-60539a1e765f`,
	}
	filter.addFlags(cmd, historyLimit)
	out := addOutput(cmd, outputCSV)
	config.AddFlags(cmd.Flags(), historyDatabase...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usagef("history: takes one id, and got %d", len(args))
		case len(args) == 1:
			return checkStoryFlags(cmd, *out)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return a.historyOf(cmd, args[0], *out)
		}
		return a.history(cmd, filter, *out)
	}
	cmd.AddCommand(a.repairCommand())
	return cmd
}

// history prints the requests that a filter chooses.
func (a *app) history(cmd *cobra.Command, chosen historyFilter, out output) error {
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	filter, err := chosen.filter(loaded.Config.Domain, time.Now())
	if err != nil {
		return err
	}
	return a.withHistory(cmd.Context(), loaded.Config, func(ctx context.Context, db store.Store) error {
		n, err := printHistory(ctx, a.stdout, out, db.History(ctx, filter))
		if err == nil && n == 0 && out == outputText {
			fmt.Fprintln(a.stderr, "mandrill: there are no such requests in the database")
		}
		return err
	})
}

// withHistory calls do with the database, which is only read.
func (a *app) withHistory(ctx context.Context, cfg config.Config, do func(context.Context, store.Store) error) (err error) {
	db, err := openDatabase(ctx, cfg, store.Reader, a.newLogger(cfg.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return do(ctx, db)
}

// A historyPrinter prints requests, one after another, and holds no more of them than a page.
type historyPrinter interface {
	add(store.Entry) error
	// end prints what belongs after the last.
	end() error
}

func newHistoryPrinter(w io.Writer, out output) historyPrinter {
	switch out {
	case outputJSON:
		return &historyJSON{w: w}
	case outputCSV:
		return newHistoryCSV(w)
	default:
		return newHistoryTable(w)
	}
}

// printHistory prints entries as they come, and returns how many there were. After an error or a stop, what was read
// before is printed, and a JSON array is left open, so that nobody takes it for the whole.
func printHistory(ctx context.Context, w io.Writer, out output, entries iter.Seq2[store.Entry, error]) (n int, err error) {
	buffered := bufio.NewWriterSize(w, 64<<10)
	printer := newHistoryPrinter(buffered, out)
	for e, err := range entries {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			if out != outputJSON {
				err = errors.Join(err, printer.end())
			}
			return n, errors.Join(err, buffered.Flush())
		}
		if err := printer.add(e); err != nil {
			return n, err
		}
		n++
	}
	if err := printer.end(); err != nil {
		return n, err
	}
	return n, buffered.Flush()
}

// parseID reads an argument that is a request's id.
func parseID(verb, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len(id.String()) { // uuid.Parse takes braces and URNs too
		return uuid.Nil, usagef("%s: %q is not an id such as 01a1fbe2-e6cc-736c-b479-60539a1e765f", verb, text)
	}
	return id, nil
}
