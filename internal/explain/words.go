package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// clock returns a time as people are told it.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// endOf says how a request ended.
func endOf(o restart.Outcome) string {
	return fmt.Sprintf("%s (%s) at %s: %s", o.Kind, o.Reason, clock(o.At), o.Detail)
}

// ends says what a refusal does.
func ends(r policy.Refusal) string { return fmt.Sprintf("%s; the request ends %s", r.Detail, r.Kind) }

// outcomeOf returns what a terminal event says of the outcome that it becomes.
func outcomeOf(e journal.Event) restart.Outcome {
	return restart.Outcome{Kind: restart.Kind(e.Kind), Reason: e.Reason, Detail: e.Detail, At: e.At}
}

// inTheWay names what blocks.
func (e *explainer) inTheWay() string {
	var names []string
	for _, c := range e.report.Causes {
		if c.Blocks && !slices.Contains(names, string(c.Code)) {
			names = append(names, string(c.Code))
		}
	}
	if len(names) == 1 {
		return names[0] + " is in the way"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are in the way"
}
