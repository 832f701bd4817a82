package campaign

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// MaxLife is how long a campaign may go on after it was created.
	MaxLife = 30 * 24 * time.Hour

	// maxDocument is how large a stored document may be: what a server takes by default, with room for its headers.
	maxDocument = 1_000_000

	maxText = 4096
)

// A Spec is what a campaign is to do. It never changes.
type Spec struct {
	ID    uuid.UUID      `json:"id"`
	Group restart.Group  `json:"group"`
	Hosts []restart.Host `json:"hosts"` // in the order in which they are restarted
	Order Order          `json:"order"` // how that came about, for people
	Seed  uint64         `json:"seed,omitempty"`

	// Batches are the sizes of the first batches; the last is that of all others. A batch with a failure is followed
	// by one of the first size.
	Batches []Amount `json:"batches"`
	// MaxUnavailable is how many hosts may be down, asked for or failed at the same time.
	MaxUnavailable Amount `json:"max_unavailable"`
	// Settle is for how long checks must be good after a batch, before the next.
	Settle restart.Duration `json:"settle,omitzero"`
	// StopAfter is how many failures abort the campaign. Zero means as many as MaxUnavailable, after which it could
	// never go on.
	StopAfter Amount           `json:"stop_after,omitzero"`
	MinUptime restart.Duration `json:"min_uptime,omitzero"`
	NotAfter  time.Time        `json:"not_after"` // nothing is asked for from then on
	// Takes is how long a restart is expected to take, for an estimate before any has been seen.
	Takes restart.Duration `json:"takes,omitzero"`

	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by,omitempty"`
	Created time.Time `json:"created"`
}

// Validate returns a *restart.FieldError for the first field that is not as it must be.
func (s *Spec) Validate() error {
	bad := func(field, format string, args ...any) error {
		return &restart.FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	if _, err := restart.ParseGroup(string(s.Group)); err != nil {
		return err
	}
	switch {
	case s.ID == uuid.Nil:
		return bad("id", "is missing")
	case len(s.Hosts) == 0:
		return bad("hosts", "are none")
	case len(s.Batches) == 0:
		return bad("batch", "is missing")
	case s.MaxUnavailable.IsZero():
		return bad("max_unavailable", "is missing")
	case s.Settle < 0:
		return bad("settle", "is negative")
	case s.MinUptime < 0:
		return bad("min_uptime", "is negative")
	case s.Takes < 0:
		return bad("takes", "is negative")
	case s.Created.IsZero():
		return bad("created", "is missing")
	case !s.NotAfter.After(s.Created):
		return bad("not_after", "%s has passed", s.NotAfter.Format(time.RFC3339))
	case s.NotAfter.Sub(s.Created) > MaxLife:
		return bad("not_after", "%s is more than %s from now", s.NotAfter.Format(time.RFC3339), MaxLife)
	case len(s.Reason) > maxText:
		return bad("reason", "has %d bytes, more than %d", len(s.Reason), maxText)
	case len(s.By) > maxText:
		return bad("by", "has %d bytes, more than %d", len(s.By), maxText)
	}
	if _, err := ParseAmount(s.MaxUnavailable.String()); err != nil {
		return bad("max_unavailable", "%v", err)
	}
	if _, err := ParseAmount(s.StopAfter.String()); err != nil && !s.StopAfter.IsZero() {
		return bad("stop_after", "%v", err)
	}
	for i, a := range s.Batches {
		if _, err := ParseAmount(a.String()); err != nil {
			return bad("batch", "number %d: %v", i+1, err)
		}
	}
	seen := make(map[restart.Host]int, len(s.Hosts))
	for i, h := range s.Hosts {
		if err := h.Check(); err != nil {
			return bad("hosts", "number %d: %v", i+1, err)
		}
		if first, twice := seen[h]; twice {
			return bad("hosts", "%s is there twice, as number %d and %d", h, first+1, i+1)
		}
		seen[h] = i
	}
	if data, err := json.Marshal(s); err != nil || len(data) > maxDocument {
		return bad("hosts", "%d are too many for one campaign: their names take more than %d bytes", len(s.Hosts), maxDocument)
	}
	return nil
}

// batchSize returns how many hosts the batch of a step has. Sizes never fall from one step to the next, also where a
// share of few hosts is less than the number before it.
func (s *Spec) batchSize(step int) int {
	size := 0
	for _, a := range s.Batches[:min(step, len(s.Batches)-1)+1] {
		size = max(size, a.atLeast(len(s.Hosts)))
	}
	return size
}

func (s *Spec) maxUnavailable() int { return s.MaxUnavailable.atMost(len(s.Hosts)) }

// An Order is how the hosts' order comes about.
type Order string

const (
	OrderGiven   Order = "given"
	OrderRandom  Order = "random"
	OrderLongest Order = "longest_up" // those that have been up the longest come first
)

// Arrange returns the hosts in the order, each once. Since says when their boots began; hosts of which that is not
// known come last in OrderLongest, in the order given.
func Arrange(order Order, seed uint64, hosts []restart.Host, since map[restart.Host]time.Time) ([]restart.Host, error) {
	arranged := make([]restart.Host, 0, len(hosts))
	seen := make(map[restart.Host]bool, len(hosts))
	for _, h := range hosts {
		if !seen[h] {
			seen[h] = true
			arranged = append(arranged, h)
		}
	}
	switch order {
	case OrderGiven:
	case OrderRandom:
		slices.SortFunc(arranged, func(a, b restart.Host) int { return strings.Compare(string(a), string(b)) })
		shuffle := rand.New(rand.NewPCG(seed, 0))
		shuffle.Shuffle(len(arranged), func(i, j int) { arranged[i], arranged[j] = arranged[j], arranged[i] })
	case OrderLongest:
		slices.SortStableFunc(arranged, func(a, b restart.Host) int {
			switch x, y := since[a], since[b]; {
			case x.IsZero() && y.IsZero():
				return 0
			case x.IsZero():
				return 1
			case y.IsZero():
				return -1
			default:
				return x.Compare(y)
			}
		})
	default:
		return nil, fmt.Errorf("order %q is none of %s, %s and %s", order, OrderGiven, OrderRandom, OrderLongest)
	}
	return arranged, nil
}
