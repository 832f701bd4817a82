package campaign

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Row is what became of one host.
type Row struct {
	Host    restart.Host `json:"host"`
	Batch   int          `json:"batch,omitempty"` // from 1; zero: it was not asked for
	Request uuid.UUID    `json:"request"`         // the one that it counts as
	Other   bool         `json:"other,omitempty"` // it was not the campaign's own
	// Outcome is the kind of the request's outcome, or one of the words for hosts that have none.
	Outcome  string           `json:"outcome"`
	Reason   restart.Reason   `json:"reason,omitempty"`
	Detail   string           `json:"detail,omitempty"`
	At       time.Time        `json:"at,omitzero"`
	Duration restart.Duration `json:"duration,omitzero"` // from the trigger to the verification
	From     restart.Epoch    `json:"from,omitempty"`
	To       restart.Epoch    `json:"to,omitempty"`
}

// The outcomes of hosts whose requests have none.
const (
	NotAsked    = "not_asked"     // the campaign has not come to it
	InWork      = "in_work"       // it is queued or being restarted
	LeftToOther = "left_to_other" // it counts as another request, which an aborted campaign does not await
)

// A Report is what became of a campaign's hosts.
type Report struct {
	Campaign uuid.UUID     `json:"campaign"`
	Group    restart.Group `json:"group"`
	State    State         `json:"state"`
	Why      string        `json:"why,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	By       string        `json:"by,omitempty"`
	Started  time.Time     `json:"started,omitzero"`
	Over     time.Time     `json:"over,omitzero"`
	Rows     []Row         `json:"hosts"`
}

// NewReport returns the report of a campaign. Outcome returns what is on record under a request's id, if anything is;
// what is not is told as the campaign's progress has it.
func NewReport(s *Spec, p Progress, outcome func(uuid.UUID) (restart.Outcome, bool)) Report {
	r := Report{
		Campaign: s.ID, Group: s.Group, State: p.State, Why: p.Why, Reason: s.Reason, By: s.By, Started: p.Started, Over: p.Over,
		Rows: make([]Row, len(s.Hosts)),
	}
	for i, host := range s.Hosts {
		row := Row{Host: host, Batch: p.Batch(i), Request: restart.CampaignID(s.ID, host)}
		if other, ok := p.Others[i]; ok {
			row.Request, row.Other = other, true
		}
		switch code := p.Hosts[i]; code {
		case pending:
			row.Batch, row.Outcome = 0, NotAsked
		case open:
			row.Outcome = InWork
		case left:
			row.Outcome = LeftToOther
		default:
			row.Outcome, row.Reason = string(ending[code].kind), ending[code].reason
		}
		if row.Outcome != NotAsked {
			if o, ok := outcome(row.Request); ok {
				row.take(o)
			}
		}
		r.Rows[i] = row
	}
	return r
}

func (r *Row) take(o restart.Outcome) {
	r.Outcome, r.Reason, r.Detail, r.At = string(o.Kind), o.Reason, o.Detail, o.At
	r.From, r.To = o.Receipt.From, o.Receipt.To
	if began, done := o.Receipt.TriggeredAt, o.Receipt.VerifiedAt; !began.IsZero() && done.After(began) {
		r.Duration = restart.Duration(done.Sub(began))
	}
}

// WriteJSON writes the report as one document.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteCSV writes a line for each host, after one with the names of the columns.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	lines := [][]string{{"host", "batch", "request", "outcome", "reason", "at", "seconds", "from", "to"}}
	for _, row := range r.Rows {
		lines = append(lines, []string{
			string(row.Host), number(row.Batch), row.Request.String(), row.Outcome, string(row.Reason), clock(row.At),
			seconds(row.Duration), string(row.From), string(row.To),
		})
	}
	return c.WriteAll(lines)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	head := fmt.Sprintf("campaign %s, group %s: %s", r.Campaign, r.Group, orSubmitted(r.State))
	if r.Why != "" {
		head += ", " + r.Why
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n\n", head, r.tally()); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tBATCH\tOUTCOME\tREASON\tTOOK\tFROM\tTO")
	for _, row := range r.Rows {
		took := "-"
		if row.Duration > 0 {
			took = time.Duration(row.Duration).Round(time.Millisecond).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Host, dash(number(row.Batch)), row.Outcome, dash(string(row.Reason)), took,
			dash(string(row.From)), dash(string(row.To)))
	}
	return t.Flush()
}

// tally counts the outcomes, for people.
func (r *Report) tally() string {
	counts := map[string]int{}
	for _, row := range r.Rows {
		counts[row.Outcome]++
	}
	words := []string{NotAsked, InWork, LeftToOther}
	for _, kind := range restart.Kinds {
		words = append(words, string(kind))
	}
	parts := []string{strconv.Itoa(len(r.Rows)) + " hosts"}
	for _, word := range words {
		if counts[word] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(word, "_", " "), counts[word]))
		}
	}
	return strings.Join(parts, ", ")
}

func orSubmitted(s State) string {
	if s == Submitted {
		return "submitted"
	}
	return string(s)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func seconds(d restart.Duration) string {
	if d == 0 {
		return ""
	}
	return strconv.FormatFloat(time.Duration(d).Seconds(), 'f', 3, 64)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
