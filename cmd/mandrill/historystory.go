package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A story is all that is known of one request.
type story struct {
	// Request is null where only an outcome is on record, because the message could not be read.
	Request  *restart.Request  `json:"request"`
	Raw      []byte            `json:"raw,omitempty"` // the request as it came, in base64
	Attempts []restart.Attempt `json:"attempts"`
	Outcome  *restart.Outcome  `json:"outcome"` // null while there is none
}

// checkStoryFlags refuses what has no meaning for one request.
func checkStoryFlags(cmd *cobra.Command, out output) error {
	for _, flag := range historyFilterFlags {
		if cmd.Flags().Changed(flag) {
			return usagef("history: --%s chooses among requests, and is not for one id", flag)
		}
	}
	if out == outputCSV {
		return usagef("history: --output csv is not for one id")
	}
	return nil
}

// historyFilterFlags are the flags that historyFilter adds.
var historyFilterFlags = []string{"host", "group", "outcome", "since", "until", "limit"}

func (a *app) historyOf(cmd *cobra.Command, text string, out output) error {
	id, err := parseID("history", text)
	if err != nil {
		return err
	}
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	return a.withHistory(cmd.Context(), loaded.Config, func(ctx context.Context, db store.Store) error {
		s, err := tellStory(ctx, db, id)
		switch {
		case err != nil:
			return err
		case out == outputJSON:
			return a.printJSON(s)
		}
		return s.print(a.stdout)
	})
}

// tellStory reads what the database knows of a request.
func tellStory(ctx context.Context, db store.Store, id uuid.UUID) (story, error) {
	s := story{Attempts: []restart.Attempt{}}
	r, err := db.Request(ctx, id)
	switch {
	case err == nil:
		s.Request, s.Raw = &r, r.Raw
	case !errors.Is(err, store.ErrNotFound):
		return story{}, err
	}
	o, err := db.Outcome(ctx, id)
	switch {
	case err == nil:
		s.Outcome = &o
	case !errors.Is(err, store.ErrNotFound):
		return story{}, err
	}
	if s.Request == nil && s.Outcome == nil {
		return story{}, fmt.Errorf("there is no request %s in the database", id)
	}
	attempts, err := db.Attempts(ctx, id)
	if err != nil {
		return story{}, err
	}
	s.Attempts = append(s.Attempts, attempts...)
	return s, nil
}

// print prints the story for people.
func (s story) print(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	if s.Request != nil {
		printRequest(buffered, *s.Request)
	} else {
		fmt.Fprintf(buffered, "%-14s %s\n", "request", "not on record")
	}
	fmt.Fprintln(buffered)
	if err := printAttempts(buffered, s.Attempts); err != nil {
		return err
	}
	fmt.Fprintln(buffered)
	if s.Outcome != nil {
		printOutcome(buffered, s)
	} else {
		fmt.Fprintf(buffered, "%-14s %s\n", "outcome", "none yet")
	}
	return buffered.Flush()
}

// A fact is a line for people.
type fact struct{ name, value string }

func printFacts(w io.Writer, facts []fact) {
	for _, f := range facts {
		fmt.Fprintf(w, "%-14s %s\n", f.name, plain(f.value))
	}
}

func printRequest(w io.Writer, r restart.Request) {
	facts := []fact{
		{"request", r.ID.String()},
		{"host", string(r.Host)},
		{"group", string(r.Group)},
		{"instance", r.Instance},
		{"reason", r.Reason},
		{"requested by", r.RequestedBy},
		{"requested at", timeText(r.RequestedAt, preciseTime)},
		{"not after", timeText(r.NotAfter, preciseTime)},
		{"min uptime", spanText(r.MinUptime)},
		{"campaign", r.Campaign},
		{"replay of", r.ReplayOf},
		{"requeued from", r.RequeuedFrom},
	}
	if saysMore(r) {
		facts = append(facts, fact{"as it came", string(r.Raw)})
	}
	printFacts(w, facts)
}

// saysMore reports whether a request's own bytes say anything else than its fields. Times are kept less precisely than
// they came, which is not it.
func saysMore(r restart.Request) bool {
	if r.Raw == nil {
		return false
	}
	encoded, err := r.Encode()
	var came, known map[string]json.RawMessage
	if err != nil || json.Unmarshal(encoded, &known) != nil || json.Unmarshal(r.Raw, &came) != nil {
		return true
	}
	for name, value := range came {
		if name != "requested_at" && name != "not_after" && !bytes.Equal(value, known[name]) {
			return true
		}
	}
	return false
}

func printAttempts(w io.Writer, attempts []restart.Attempt) error {
	if len(attempts) == 0 {
		_, err := fmt.Fprintf(w, "%-14s %s\n", "attempts", "never triggered")
		return err
	}
	t := newTable(w, "ATTEMPT", "WORKER", "STARTED", "ENDED", "FROM", "TO", "ERROR")
	for _, a := range attempts {
		if err := t.row(strconv.Itoa(a.Number), a.Worker, timeText(a.StartedAt, preciseTime), timeText(a.EndedAt, preciseTime),
			string(a.From), string(a.To), a.Error); err != nil {
			return err
		}
	}
	return t.end()
}

func printOutcome(w io.Writer, s story) {
	o := *s.Outcome
	e := store.Entry{Outcome: o}
	e.Request.RequestedAt = o.Receipt.RequestedAt
	if s.Request != nil {
		e.Request = *s.Request
	}
	facts := []fact{
		{"outcome", string(o.Kind)},
		{"reason", string(o.Reason)},
		{"detail", o.Detail},
		{"at", timeText(o.At, preciseTime)},
		{"seconds", secondsTaken(e, 3)},
		{"worker", o.Receipt.Worker},
		{"attempt", strconv.Itoa(o.Receipt.Attempt)},
		{"from", string(o.Receipt.From)},
		{"to", string(o.Receipt.To)},
		{"triggered at", timeText(o.Receipt.TriggeredAt, preciseTime)},
		{"verified at", timeText(o.Receipt.VerifiedAt, preciseTime)},
		{"down", spanText(o.Receipt.Down)},
	}
	for _, c := range o.Receipt.Checks {
		facts = append(facts, fact{"check", c.Name + ": " + c.Result})
	}
	if s.Request == nil {
		facts = append(facts, fact{"host", string(o.Host)}, fact{"group", string(o.Group)})
	}
	printFacts(w, facts)
}
