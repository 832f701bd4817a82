package main

import (
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxLags bounds the acknowledgement lags that are kept: the latest ones.
const maxLags = 100_000

// A tally counts what became of deliveries.
type tally struct {
	mu          sync.Mutex
	outcomes    map[restart.Kind]int
	redelivered int
	extended    int
	handedBack  int
	unverified  int
	leasesLost  int
	stopping    bool
	leftBehind  int             // leases lost since the stop began
	lags        []time.Duration // a ring of maxLags
	next        int
}

func newTally() *tally { return &tally{outcomes: make(map[restart.Kind]int)} }

// add is what a handler reports to.
func (t *tally) add(r handler.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Deliveries > 1 {
		t.redelivered++
	}
	t.extended += r.Extended
	switch {
	case r.HandedBack:
		t.handedBack++
	case r.Unknown:
		t.unverified++
	case r.LeaseLost():
		t.leasesLost++
		if t.stopping {
			t.leftBehind++
		}
	}
	if r.Outcome.Kind == "" || r.Retried() || r.SettleErr != nil {
		return
	}
	t.outcomes[r.Outcome.Kind]++
	if len(t.lags) < maxLags {
		t.lags = append(t.lags, r.AckLag)
	} else {
		t.lags[t.next] = r.AckLag
		t.next = (t.next + 1) % maxLags
	}
}

// stop marks the beginning of the stop. A lease that was lost before it is another worker's business since then.
func (t *tally) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
}

// undecided returns how many messages were in work when the worker stopped, and are neither finished nor handed back.
func (t *tally) undecided() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unverified + t.leftBehind
}

// deliveries returns how many were not the first of their message, and how often leases were extended.
func (t *tally) deliveries() (redelivered, extended int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.redelivered, t.extended
}

// MarshalZerologObject writes the counts to a log line.
func (t *tally) MarshalZerologObject(e *zerolog.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range restart.Kinds {
		e.Int(string(kind), t.outcomes[kind])
	}
	e.Int("handed_back", t.handedBack).Int("unverified", t.unverified).Int("leases_lost", t.leasesLost)
}

// lagQuantiles returns the median, the 99th percentile and the maximum of the acknowledgement lags.
func (t *tally) lagQuantiles() (p50, p99, most time.Duration) {
	t.mu.Lock()
	sorted := slices.Clone(t.lags)
	t.mu.Unlock()
	if len(sorted) == 0 {
		return 0, 0, 0
	}
	slices.Sort(sorted)
	at := func(q float64) time.Duration { return sorted[int(q*float64(len(sorted)-1))] }
	return at(0.50), at(0.99), sorted[len(sorted)-1]
}
