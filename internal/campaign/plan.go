package campaign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// usualRestart is how long a restart is taken to take where nobody has said and none was seen.
const usualRestart = time.Minute

// Fits reports whether a restart may begin at that time, and, if not, when one may: zero if never.
type Fits func(at time.Time) (ok bool, next time.Time)

// A PlannedBatch is one batch as it is expected: the hosts from place From to before To.
type PlannedBatch struct {
	Number int       `json:"number"` // from 1
	From   int       `json:"from"`
	To     int       `json:"to"`
	Begin  time.Time `json:"begin"`
	End    time.Time `json:"end"`
}

// Forecast returns the batches that are still to end, if nothing fails and nobody pauses the group, or those until
// the window never opens again. A nil fits means any time. The end of the last is the estimate of the campaign's end.
func Forecast(s *Spec, p Progress, now time.Time, fits Fits) (batches []PlannedBatch) {
	f := &forecast{spec: s, fits: fits, at: now, each: usualRestart}
	if s.Takes > 0 {
		f.each = time.Duration(s.Takes)
	}
	if p.Timed > 0 {
		f.each = time.Duration(p.Took) / time.Duration(p.Timed)
	}
	f.room = max(1, s.maxUnavailable()-p.Counts().Failed())
	number, from, step := len(p.Batches), p.BatchEnd, p.Next
	if number > 0 && p.Settled.IsZero() {
		first := p.Batches[number-1]
		left := 0
		for _, code := range p.Hosts[first:p.BatchEnd] {
			if code == open || code == pending {
				left++
			}
		}
		batch, ok := f.batch(number, first, p.BatchEnd, left)
		batches = append(batches, batch)
		if !ok {
			return batches
		}
		step = min(p.Step+1, len(s.Batches)-1)
		f.at = f.at.Add(time.Duration(s.Settle))
	} else if until := p.Settled.Add(time.Duration(s.Settle)); !p.Settled.IsZero() && !p.Calm && until.After(now) {
		f.at = until
	}
	for from < len(s.Hosts) {
		number++
		to := min(from+s.batchSize(step), len(s.Hosts))
		batch, ok := f.batch(number, from, to, to-from)
		if !ok {
			return batches
		}
		batches = append(batches, batch)
		from, step = to, min(step+1, len(s.Batches)-1)
		f.at = f.at.Add(time.Duration(s.Settle))
	}
	return batches
}

type forecast struct {
	spec *Spec
	fits Fits
	at   time.Time
	each time.Duration
	room int
}

// batch moves on to the end of a batch of which so many hosts are left.
func (f *forecast) batch(number, from, to, left int) (b PlannedBatch, ok bool) {
	b = PlannedBatch{Number: number, From: from, To: to}
	for ; left > 0; left -= f.room {
		if f.fits != nil {
			if fits, next := f.fits(f.at); !fits && next.IsZero() {
				return b, false
			} else if !fits {
				f.at = next
			}
		}
		if b.Begin.IsZero() {
			b.Begin = f.at
		}
		f.at = f.at.Add(f.each)
	}
	b.End = f.at
	return b, true
}

// A Plan is what a dry run has found. The real run takes it, or says what has changed.
type Plan struct {
	Spec    Spec           `json:"spec"`
	Batches []PlannedBatch `json:"batches"`
	Hash    string         `json:"hash"` // of what decides which hosts are restarted, in which order and how many at a time
}

// NewPlan returns the plan of a spec as things stand.
func NewPlan(s Spec, now time.Time, fits Fits) Plan {
	return Plan{Spec: s, Batches: Forecast(&s, newProgress(&s), now, fits), Hash: hashOf(s)}
}

func hashOf(s Spec) string {
	s.ID, s.Created, s.NotAfter, s.By, s.Reason, s.Takes = uuid.Nil, time.Time{}, time.Time{}, "", "", 0
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // unreachable: nothing in it can fail
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Diff returns, in words, what a spec would do otherwise than the plan; nothing if the plan can be taken in its
// place. The order of hosts does not count where it is random.
func (p *Plan) Diff(s Spec) (changes []string) {
	changed := func(what string, was, is any) {
		if was, is := fmt.Sprint(was), fmt.Sprint(is); was != is {
			changes = append(changes, fmt.Sprintf("%s was %s and is %s", what, was, is))
		}
	}
	changed("group", p.Spec.Group, s.Group)
	changed("order", p.Spec.Order, s.Order)
	changed("batch", p.Spec.Batches, s.Batches)
	changed("max_unavailable", p.Spec.MaxUnavailable, s.MaxUnavailable)
	changed("settle", time.Duration(p.Spec.Settle), time.Duration(s.Settle))
	changed("stop_after", p.Spec.StopAfter, s.StopAfter)
	changed("min_uptime", time.Duration(p.Spec.MinUptime), time.Duration(s.MinUptime))
	gone, added := without(p.Spec.Hosts, s.Hosts), without(s.Hosts, p.Spec.Hosts)
	if len(gone) > 0 {
		changes = append(changes, fmt.Sprintf("%d hosts are gone: %s", len(gone), some(gone)))
	}
	if len(added) > 0 {
		changes = append(changes, fmt.Sprintf("%d hosts are new: %s", len(added), some(added)))
	}
	if len(gone)+len(added) == 0 && s.Order == p.Spec.Order && s.Order != OrderRandom && !slices.Equal(p.Spec.Hosts, s.Hosts) {
		for i, h := range s.Hosts {
			if p.Spec.Hosts[i] != h {
				changes = append(changes, fmt.Sprintf("the order is another: host %d was %s and is %s", i+1, p.Spec.Hosts[i], h))
				break
			}
		}
	}
	return changes
}

// without returns the hosts of a that are not in b.
func without(a, b []restart.Host) (rest []restart.Host) {
	in := make(map[restart.Host]bool, len(b))
	for _, h := range b {
		in[h] = true
	}
	for _, h := range a {
		if !in[h] {
			rest = append(rest, h)
		}
	}
	return rest
}

// some names the first hosts of many.
func some(hosts []restart.Host) string {
	const most = 5
	text := ""
	for i, h := range hosts {
		switch {
		case i == most:
			return text + ", …"
		case i > 0:
			text += ", "
		}
		text += string(h)
	}
	return text
}

// SavePlan stores the plan of a dry run under what was asked for, in the place of an earlier one.
func (d *Documents) SavePlan(ctx context.Context, asked string, p Plan) error {
	data, err := json.Marshal(p)
	if err == nil && len(data) > maxDocument {
		p.Batches = nil // which can be made again from the rest
		data, err = json.Marshal(p)
	}
	if err == nil {
		_, err = d.campaigns.Put(ctx, planKey(asked), data)
	}
	if err != nil {
		return fmt.Errorf("cannot store the plan: %w", err)
	}
	return nil
}

// LoadPlan returns the latest plan of a dry run that asked for the same, or ErrNotFound.
func (d *Documents) LoadPlan(ctx context.Context, asked string) (p Plan, err error) {
	_, err = d.read(ctx, planKey(asked), &p)
	return p, err
}

// planKey returns a key of what may be any text.
func planKey(asked string) string {
	return planPrefix + fmt.Sprintf("%x", sha256.Sum256([]byte(asked)))
}
