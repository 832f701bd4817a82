// Package lag measures how late this process gets to run: it sleeps until a beat, and looks how much later than that it
// woke. A lag that grows says that something keeps the processors busy, or blocks them, before any user notices.
//
// Beats are multiples of one interval from the start: neither a late wake nor the time that readings take moves them. A
// beat that has passed by the time the last one is dealt with is left out, never made up for. What is measured is the Go
// scheduler, the operating system's and its timers together. A machine that was suspended shows no lag, because the
// monotonic clock stands still.
package lag

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultEvery = 250 * time.Millisecond

	// One late wake is a hiccup, three in a row are an overload: most of a second at the usual interval. It is over when
	// a dozen in a row were at most half as late as the threshold, so that a lag around the threshold does not switch
	// intake on and off.
	hotReadings  = 3
	calmReadings = 12
)

// ErrRunning is returned by a second Run.
var ErrRunning = errors.New("lag is being measured already")

// Config says how lag is measured.
type Config struct {
	// Every is the time between readings. Zero means 250 ms.
	Every time.Duration
	// Threshold is the lag above which a process counts as overloaded, after three readings in a row, until twelve in a
	// row are at most half of it. It must be positive.
	Threshold time.Duration
	// Observe, if not nil, is called with each reading. What it takes is no lag, but it holds up the next reading.
	Observe func(lag time.Duration)
	// Changed, if not nil, is called when the process becomes overloaded, and when that is over.
	Changed func(overloaded bool)
}

// A Meter measures lag.
type Meter struct {
	cfg        Config
	once       sync.Mutex // held while Run runs
	last       atomic.Int64
	overloaded atomic.Bool
	inRow      int // readings that speak for the other state; Run's alone
}

// New returns a meter. An error names the field that is wrong.
func New(cfg Config) (*Meter, error) {
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	switch {
	case cfg.Every < 0:
		return nil, fmt.Errorf("every: %s is negative", cfg.Every)
	case cfg.Threshold == 0:
		return nil, errors.New("threshold: is missing")
	case cfg.Threshold < 0:
		return nil, fmt.Errorf("threshold: %s is negative", cfg.Threshold)
	}
	return &Meter{cfg: cfg}, nil
}

// Last returns the latest reading; 0 before the first.
func (m *Meter) Last() time.Duration { return time.Duration(m.last.Load()) }

// Overloaded reports whether the process is overloaded.
func (m *Meter) Overloaded() bool { return m.overloaded.Load() }

// Run measures until ctx ends, and returns nil.
func (m *Meter) Run(ctx context.Context) error {
	if !m.once.TryLock() {
		return ErrRunning
	}
	defer m.once.Unlock()

	beat := time.Now().Add(m.cfg.Every)
	timer := time.NewTimer(m.cfg.Every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		m.read(max(0, time.Since(beat)))
		now := time.Now()
		beat = nextBeat(beat, now, m.cfg.Every)
		timer.Reset(beat.Sub(now))
	}
}

// nextBeat returns the first beat after now.
func nextBeat(last, now time.Time, every time.Duration) time.Time {
	missed := max(0, now.Sub(last)) / every
	return last.Add((missed + 1) * every)
}

func (m *Meter) read(lag time.Duration) {
	m.last.Store(int64(lag))
	if m.cfg.Observe != nil {
		m.cfg.Observe(lag)
	}
	overloaded := m.overloaded.Load()
	other, enough := lag > m.cfg.Threshold, hotReadings
	if overloaded {
		other, enough = lag <= m.cfg.Threshold/2, calmReadings
	}
	if !other {
		m.inRow = 0
		return
	}
	if m.inRow++; m.inRow < enough {
		return
	}
	m.inRow = 0
	m.overloaded.Store(!overloaded)
	if m.cfg.Changed != nil {
		m.cfg.Changed(!overloaded)
	}
}
