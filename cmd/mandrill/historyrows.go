package main

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// historyJSON prints requests as one JSON array, an element a line.
type historyJSON struct {
	w     io.Writer
	begun bool
}

// A historyElement is a request as it goes on the wire, with its outcome.
type historyElement struct {
	restart.Request
	Outcome *restart.Outcome `json:"outcome"` // null while there is none
}

func (j *historyJSON) add(e store.Entry) error {
	element := historyElement{Request: e.Request}
	if e.Outcome.Kind != "" {
		element.Outcome = &e.Outcome
	}
	data, err := json.Marshal(element)
	if err != nil {
		return err
	}
	before := ",\n"
	if !j.begun {
		j.begun, before = true, "[\n"
	}
	_, err = j.w.Write(append([]byte(before), data...))
	return err
}

func (j *historyJSON) end() error {
	after := "\n]\n"
	if !j.begun {
		after = "[]\n"
	}
	_, err := io.WriteString(j.w, after)
	return err
}

// historyCSV prints requests as CSV, after a header.
type historyCSV struct{ csv *csv.Writer }

// historyColumns is the header.
var historyColumns = []string{
	"id", "host", "group", "instance", "reason", "requested_by", "requested_at", "not_after", "campaign", "replay_of",
	"requeued_from", "min_uptime", "outcome", "outcome_reason", "detail", "at", "seconds", "worker", "attempt", "from",
	"to", "triggered_at", "verified_at",
}

func newHistoryCSV(w io.Writer) historyCSV {
	c := historyCSV{csv.NewWriter(w)}
	_ = c.csv.Write(historyColumns) // kept by the writer: Error tells
	return c
}

func (c historyCSV) add(e store.Entry) error {
	r, o := e.Request, e.Outcome
	attempt := ""
	if o.Kind != "" {
		attempt = strconv.Itoa(o.Receipt.Attempt)
	}
	return c.csv.Write([]string{
		r.ID.String(), string(r.Host), string(r.Group), r.Instance, r.Reason, r.RequestedBy,
		timeText(r.RequestedAt, preciseTime), timeText(r.NotAfter, preciseTime), r.Campaign, r.ReplayOf,
		r.RequeuedFrom, spanText(r.MinUptime), string(o.Kind), string(o.Reason), o.Detail, timeText(o.At, preciseTime), secondsTaken(e, 6),
		o.Receipt.Worker, attempt, string(o.Receipt.From),
		string(o.Receipt.To), timeText(o.Receipt.TriggeredAt, preciseTime), timeText(o.Receipt.VerifiedAt, preciseTime),
	})
}

func (c historyCSV) end() error {
	c.csv.Flush()
	return c.csv.Error()
}
