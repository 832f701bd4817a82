package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Kind is what a notice is about; the set is closed.
type Kind string

const (
	Paused        Kind = "paused"         // a group, by a person, a window or a monitor
	Resumed       Kind = "resumed"        // a group
	Breaker       Kind = "breaker"        // a group, because too many hosts in a row did not come back
	DeadLetter    Kind = "dead_letter"    // a request was given up
	CampaignEnded Kind = "campaign_ended" // a campaign, however it ended
)

// Kinds are all kinds.
var Kinds = []Kind{Paused, Resumed, Breaker, DeadLetter, CampaignEnded}

// A Notice is one thing that happened. What it does not know stays zero.
type Notice struct {
	Kind   Kind
	Group  restart.Group // empty: all groups, or none in particular
	Host   restart.Host
	ID     uuid.UUID // of the request or the campaign
	Cause  string    // for machines: why it is paused, the reason of a dead letter, how a campaign ended
	By     string    // who brought it about: a person or a worker
	Why    string    // in the words of whoever brought it about
	Detail string    // a sentence for people
	At     time.Time // zero: when Notify was called
	Until  time.Time // when a pause ends by itself

	// More is how many notices of this kind and group came since the last message and before this one. Whoever calls
	// Notify leaves it alone.
	More int
}

// Text returns the notice as one line for people, whatever line feeds are in its texts. Nothing in it is escaped for
// anybody.
func (n Notice) Text() string {
	var b strings.Builder
	b.WriteString(n.subject())
	if n.Cause != "" {
		fmt.Fprintf(&b, " (%s)", oneLine(n.Cause))
	}
	if n.By != "" {
		fmt.Fprintf(&b, ", by %s", oneLine(n.By))
	}
	if !n.Until.IsZero() {
		fmt.Fprintf(&b, ", until %s", n.Until.UTC().Format(time.RFC3339))
	}
	separator := ": "
	for _, text := range []string{n.Why, n.Detail} {
		if text != "" {
			b.WriteString(separator + oneLine(text))
			separator = "; "
		}
	}
	if n.More > 0 {
		fmt.Fprintf(&b, " (and %d more)", n.More)
	}
	return b.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (n Notice) subject() string {
	group, ofGroup := "All groups are", ""
	if n.Group != "" {
		group, ofGroup = fmt.Sprintf("Group %s is", n.Group), fmt.Sprintf(" of group %s", n.Group)
	}
	switch n.Kind {
	case Paused:
		return group + " paused"
	case Resumed:
		return group + " resumed"
	case Breaker:
		return group + " paused by the breaker"
	case CampaignEnded:
		return fmt.Sprintf("Campaign %s%s has ended", n.ID, ofGroup)
	case DeadLetter:
		if n.Host == "" { // its subject names none
			return fmt.Sprintf("Request %s%s is given up", n.ID, ofGroup)
		}
		return fmt.Sprintf("Request %s for host %s%s is given up", n.ID, n.Host, ofGroup)
	}
	return string(n.Kind) // unreachable: Notify takes no other
}
