package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// An explanation is what is printed.
type explanation struct {
	Host  restart.Host  `json:"host"`
	Group restart.Group `json:"group"`
	explain.Report
	Request  *restart.Request `json:"request"` // that is queued; null: none is, or it cannot be read
	Events   []journal.Event  `json:"events"`  // of that request, or else of the host's newest one
	Epoch    *epochLine       `json:"epoch"`   // null: not known
	Workers  *workersLine     `json:"workers"` // null: not known, or no worker has ever served the group
	Outcome  *restart.Outcome `json:"outcome"` // the host's newest on record; null: none is, or not known
	NotKnown []explain.Gap    `json:"not_known"`
}

// An epochLine is what a probe saw.
type epochLine struct {
	Epoch restart.Epoch `json:"epoch"`
	Since time.Time     `json:"since,omitzero"`
	Ready bool          `json:"ready"`
}

// A workersLine is how the workers of the group stand.
type workersLine struct {
	Budget   int    `json:"budget"`
	InFlight int    `json:"in_flight"` // messages that workers hold, or that wait for another attempt
	Queued   uint64 `json:"queued"`    // messages that no worker was handed yet
	Asking   bool   `json:"asking"`    // whether a worker has asked for work in the last second
}

func newExplanation(f explain.Facts, r explain.Report) explanation {
	e := explanation{
		Host: f.Host, Group: f.Group, Report: r,
		Events: append([]journal.Event{}, f.Events...), NotKnown: append([]explain.Gap{}, f.Gaps...), Outcome: f.Outcome,
	}
	if f.Queued != nil && f.Queued.Err == nil {
		e.Request = &f.Queued.Request
	}
	if s := f.State; s != nil {
		e.Epoch = &epochLine{s.Epoch, s.Since, s.Ready}
	}
	if c := f.Consumer; c != nil {
		e.Workers = &workersLine{c.Budget, c.InFlight, c.Pending, c.Waiting > 0}
	}
	return e
}

// print prints the explanation for people: the answer, what stands behind it, and what is not known.
func (e explanation) print(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	fmt.Fprintf(buffered, "%s\n\n", plain(e.Summary))
	causes := newTable(buffered, "CAUSE", "BLOCKS", "UNTIL", "DETAIL")
	for _, c := range e.Causes {
		blocks := "no"
		if c.Blocks {
			blocks = "yes"
		}
		if err := causes.row(string(c.Code), blocks, timeText(c.Until, secondsTime), c.Detail); err != nil {
			return err
		}
	}
	if err := causes.end(); err != nil {
		return err
	}
	if len(e.Causes) > 0 {
		fmt.Fprintln(buffered)
	}
	printFacts(buffered, e.lines())
	if err := e.printEvents(buffered); err != nil {
		return err
	}
	for _, line := range e.notKnown() {
		fmt.Fprintf(buffered, "not known: %s\n", plain(line))
	}
	return buffered.Flush()
}

func (e explanation) lines() []fact {
	facts := []fact{
		{"host", string(e.Host)},
		{"group", string(e.Group)},
		{"verdict", string(e.Verdict)},
	}
	if r := e.Request; r != nil {
		facts = append(facts,
			fact{"could be at", timeText(e.Next, secondsTime)},
			fact{"expires at", timeText(e.Expires, secondsTime)},
			fact{"request", r.ID.String()},
			fact{"reason", r.Reason},
			fact{"requested by", r.RequestedBy},
			fact{"requested at", timeText(r.RequestedAt, secondsTime)},
			fact{"gates", "as this configuration says; a worker's may be another"},
		)
	}
	if s := e.Epoch; s != nil {
		text := string(s.Epoch)
		if !s.Since.IsZero() {
			text += ", since " + timeText(s.Since, secondsTime)
		}
		if s.Ready {
			text += ", ready"
		} else {
			text += ", not ready"
		}
		facts = append(facts, fact{"epoch", text})
	}
	if g := e.Workers; g != nil {
		text := fmt.Sprintf("%d of %d messages in flight, %d queued", g.InFlight, g.Budget, g.Queued)
		if !g.Asking {
			text += ", no worker asks for more"
		}
		facts = append(facts, fact{"workers", text})
	}
	if o := e.Outcome; o != nil {
		facts = append(facts, fact{"last outcome", fmt.Sprintf("%s (%s) at %s, request %s", o.Kind, o.Reason, timeText(o.At, secondsTime), o.ID)})
	}
	return facts
}

// lastEvents is how many events people are shown.
const lastEvents = 10

func (e explanation) printEvents(w io.Writer) error {
	events := e.Events[max(0, len(e.Events)-lastEvents):]
	if len(events) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "AT", "EVENT", "ATTEMPT", "WORKER", "DETAIL")
	for _, v := range events {
		kind := string(v.Kind)
		if v.Takeover {
			kind += " (taken over)"
		}
		detail := v.Detail
		if v.Reason != "" {
			detail = fmt.Sprintf("%s: %s", v.Reason, v.Detail)
		}
		if err := t.row(timeText(v.At, secondsTime), kind, strconv.Itoa(v.Attempt), v.Worker, detail); err != nil {
			return err
		}
	}
	return t.end()
}

// notKnown returns a line for each reason why something is not known.
func (e explanation) notKnown() (lines []string) {
	var whys []string
	parts := map[string][]string{}
	for _, g := range e.NotKnown {
		if parts[g.Why] == nil {
			whys = append(whys, g.Why)
		}
		parts[g.Why] = append(parts[g.Why], string(g.Part))
	}
	for _, why := range whys {
		lines = append(lines, strings.Join(parts[why], ", ")+": "+why)
	}
	return lines
}
