package campaign

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A State is how a campaign stands.
type State string

const (
	Submitted State = ""         // no worker has taken it up
	Running   State = "running"  // or waiting for something that passes by itself, as Waits says
	Paused    State = "paused"   // by somebody, as Waits says
	Aborting  State = "aborting" // what was triggered is being awaited
	Aborted   State = "aborted"
	Ended     State = "ended"
)

// Final reports whether the campaign is over.
func (s State) Final() bool { return s == Aborted || s == Ended }

// Progress is how far a campaign has come. Hosts are named by their place in the Spec. It is as compact as it can be,
// because it is written again with each step: what a host's request came to in detail is in the database, under its id.
type Progress struct {
	Campaign uuid.UUID `json:"campaign"`
	State    State     `json:"state"`
	Waits    string    `json:"waits,omitempty"` // for what, for people
	Why      string    `json:"why,omitempty"`   // it is aborted, or ended early

	Hosts States `json:"hosts"`
	// Batches are the places of the first hosts of the batches that have begun, and BatchEnd that after the last host
	// of the latest. Step is which of the sizes the latest has.
	Batches  []int `json:"batches,omitempty"`
	BatchEnd int   `json:"batch_end"`
	Step     int   `json:"step"`
	// Next is the step of the next batch, Settled from when checks count for it; the zero time while the latest batch
	// lasts.
	Next    int       `json:"next"`
	Settled time.Time `json:"settled,omitzero"`
	Calm    bool      `json:"calm,omitempty"` // nothing has happened in the latest batch that had to settle
	// Waves are the hosts that were asked for together, as long as one of them is open: a request must be the same
	// whenever it is published.
	Waves []Wave `json:"waves,omitempty"`
	// Others are the requests that hosts count as, because they were queued before ours.
	Others map[int]uuid.UUID `json:"others,omitempty"`

	// Took is how long Timed restarts took together, from when they were asked for.
	Took  restart.Duration `json:"took,omitzero"`
	Timed int              `json:"timed,omitempty"`

	Driver  string    `json:"driver"`          // who drives it
	Write   int       `json:"write"`           // counts the writes, so that a driver knows its own
	Taken   int       `json:"taken,omitempty"` // how often it was taken up since it last came forward
	Started time.Time `json:"started,omitzero"`
	At      time.Time `json:"at,omitzero"` // of the last write
	Over    time.Time `json:"over,omitzero"`

	// Revision is that of the stored document; zero if there is none yet.
	Revision uint64 `json:"-"`
}

// A Wave is the hosts from From to before To, which were asked for together.
type Wave struct {
	From     int       `json:"from"`
	To       int       `json:"to"`
	At       time.Time `json:"at"`
	NotAfter time.Time `json:"not_after"`
}

// newProgress returns the progress of a campaign that nothing was done about.
func newProgress(s *Spec) Progress {
	return Progress{Campaign: s.ID, Hosts: bytes.Repeat([]byte{pending}, len(s.Hosts))}
}

// clone returns a progress that shares nothing with p.
func (p *Progress) clone() Progress {
	c := *p
	c.Hosts, c.Batches, c.Waves = slices.Clone(p.Hosts), slices.Clone(p.Batches), slices.Clone(p.Waves)
	c.Others = maps.Clone(p.Others)
	return c
}

// fits returns an error unless p is the progress of s.
func (p *Progress) fits(s *Spec) error {
	switch {
	case p.Campaign != s.ID:
		return fmt.Errorf("progress is of campaign %s, not of %s", p.Campaign, s.ID)
	case len(p.Hosts) != len(s.Hosts), p.BatchEnd < 0, p.BatchEnd > len(s.Hosts):
		return fmt.Errorf("progress of campaign %s does not fit its %d hosts", s.ID, len(s.Hosts))
	}
	for _, w := range p.Waves {
		if w.From < 0 || w.To < w.From || w.To > len(s.Hosts) {
			return fmt.Errorf("progress of campaign %s has a wave beyond its hosts", s.ID)
		}
	}
	return nil
}

// begun returns how many hosts were asked for: the first ones.
func (p *Progress) begun() int {
	if i := bytes.IndexByte(p.Hosts, pending); i >= 0 {
		return i
	}
	return len(p.Hosts)
}

// open returns the places of the hosts that were asked for and have not ended.
func (p *Progress) open() (hosts []int) {
	for i, code := range p.Hosts {
		if code == open {
			hosts = append(hosts, i)
		}
	}
	return hosts
}

// wave returns the wave of an open host.
func (p *Progress) wave(host int) Wave {
	for _, w := range p.Waves {
		if w.From <= host && host < w.To {
			return w
		}
	}
	return Wave{} // unreachable: a wave stays as long as one of its hosts is open
}

// Batch returns the number, from 1, of the batch that a host is in; zero if that has not begun.
func (p *Progress) Batch(host int) int {
	if host >= p.BatchEnd {
		return 0
	}
	i, found := slices.BinarySearch(p.Batches, host)
	if found {
		i++
	}
	return i
}

// Counts are how many hosts are how far.
type Counts struct {
	Pending, Open int
	Ended         map[restart.Kind]int
	Left          int // to another request, when the campaign was aborted
}

// Failed returns how many hosts have failed: they are down, or nobody knows.
func (c Counts) Failed() int { return c.Ended[restart.Dead] + c.Ended[restart.Unknown] }

// Counts returns how many hosts are how far.
func (p *Progress) Counts() Counts {
	c := Counts{Ended: map[restart.Kind]int{}}
	for _, code := range p.Hosts {
		switch code {
		case pending:
			c.Pending++
		case open:
			c.Open++
		case left:
			c.Left++
		default:
			c.Ended[ending[code].kind]++
		}
	}
	return c
}

// States are how all hosts stand, one byte each.
type States []byte

const (
	pending = '.' // not asked for
	open    = 'o' // asked for, or about to be
	left    = 'b' // counts as another request, which was not awaited
)

type kindAndReason struct {
	kind   restart.Kind
	reason restart.Reason
}

// ending are the codes of hosts that have ended. Nothing changes it. A reason without a code of its own has its kind's.
var ending = map[byte]kindAndReason{
	'R': {restart.Restarted, ""}, 'v': {restart.Restarted, restart.ReasonVerified}, 'c': {restart.Restarted, restart.ReasonChangedElsewhere},
	'S': {restart.Skipped, ""}, 'u': {restart.Skipped, restart.ReasonMinUptime}, 'd': {restart.Skipped, restart.ReasonDenied},
	'l': {restart.Skipped, restart.ReasonNotListed}, 's': {restart.Skipped, restart.ReasonSelf}, 'y': {restart.Skipped, restart.ReasonDryRun},
	'X': {restart.Expired, ""}, 'x': {restart.Expired, restart.ReasonNotAfter},
	'C': {restart.Cancelled, ""}, 'h': {restart.Cancelled, restart.ReasonByHand}, 'a': {restart.Cancelled, restart.ReasonAborted},
	'D': {restart.Dead, ""}, 'm': {restart.Dead, restart.ReasonMalformed}, 'i': {restart.Dead, restart.ReasonIDReused},
	'p': {restart.Dead, restart.ReasonPoison}, 't': {restart.Dead, restart.ReasonAttempts}, 'e': {restart.Dead, restart.ReasonPermanent},
	'n': {restart.Dead, restart.ReasonNotReady}, 'f': {restart.Dead, restart.ReasonUnconfirmed}, 'j': {restart.Dead, restart.ReasonJournalHorizon},
	'U': {restart.Unknown, ""}, 'r': {restart.Unknown, restart.ReasonRepaired},
}

// codeOf returns the code of an outcome. A kind that has none counts as unknown, which is a failure.
func codeOf(kind restart.Kind, reason restart.Reason) byte {
	general := byte('U')
	for code, e := range ending {
		switch {
		case e.kind != kind:
		case e.reason == reason:
			return code
		case e.reason == "":
			general = code
		}
	}
	return general
}

func failed(code byte) bool {
	kind := ending[code].kind
	return kind == restart.Dead || kind == restart.Unknown
}

// MarshalText implements encoding.TextMarshaler.
func (s States) MarshalText() ([]byte, error) { return s, nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses what a later version may have written: whoever cannot
// read a campaign must not drive it.
func (s *States) UnmarshalText(text []byte) error {
	for i, code := range text {
		if _, known := ending[code]; !known && code != pending && code != open && code != left {
			return fmt.Errorf("host number %d has the unknown state %q", i+1, code)
		}
	}
	*s = slices.Clone(text)
	return nil
}
