// Package bounded keeps a driver within bounds of number and time, so that a bad driver costs its own message and no
// more.
//
// A call ends with the driver's answer, with its context, or, where a driver ignores its context, a while after that:
// then the call is given up, and nobody knows what becomes of it. A panic is an error of its one call. No call beyond
// the number of slots ever runs, whether somebody waits for it or not.
//
// What remains possible: a call that was given up runs on until it returns of itself, and a restart may take effect
// until then. Go cannot end a goroutine from outside, so nobody can wait for these strays within a bound, and nothing
// here does; they are counted and logged instead. Each keeps its place, so that a driver that never returns comes to a
// standstill after as many calls as there are slots, and does not use up the process's memory.
package bounded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const defaultOverrun = 5 * time.Second

// Config says what is bounded, and how.
type Config struct {
	Driver restart.Driver

	Slots          int           // how many calls may run at once, those that were given up included
	ProbeTimeout   time.Duration // of one probe
	RestartTimeout time.Duration // of one restart, or what its trigger allows where that is less

	// Overrun is how much longer than its context a call may take before it is given up. Zero means 5 s.
	Overrun time.Duration

	// Logger is told of every call that is given up, and of its late return. The zero value is silent.
	Logger zerolog.Logger
}

// A Driver is a driver within bounds.
type Driver struct {
	cfg    Config
	log    zerolog.Logger
	places chan struct{} // holds one for each slot in use; who waits for one gets it in turn
	strays atomic.Int64
	timers sync.Pool // of calls that are over
}

// New returns a driver within bounds. An error names the field that is wrong.
func New(cfg Config) (*Driver, error) {
	if cfg.Overrun == 0 {
		cfg.Overrun = defaultOverrun
	}
	switch {
	case cfg.Driver == nil:
		return nil, errors.New("driver: is missing")
	case cfg.Slots <= 0:
		return nil, fmt.Errorf("slots: %d is not positive", cfg.Slots)
	case cfg.ProbeTimeout <= 0:
		return nil, fmt.Errorf("probe_timeout: %s is not positive", cfg.ProbeTimeout)
	case cfg.RestartTimeout <= 0:
		return nil, fmt.Errorf("restart_timeout: %s is not positive", cfg.RestartTimeout)
	case cfg.Overrun < 0:
		return nil, fmt.Errorf("overrun: %s is negative", cfg.Overrun)
	}
	return &Driver{
		cfg:    cfg,
		log:    cfg.Logger.With().Str("component", "driver").Logger(),
		places: make(chan struct{}, cfg.Slots),
	}, nil
}

// Traits are those of the driver.
func (d *Driver) Traits() restart.Traits { return d.cfg.Driver.Traits() }

// Acquire waits for a slot, which the caller releases. The error is the context's cause.
func (d *Driver) Acquire(ctx context.Context) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case d.places <- struct{}{}:
		return &Slot{d: d}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Slots returns how many calls may run at once.
func (d *Driver) Slots() int { return d.cfg.Slots }

// InUse returns how many slots are in use, by their holders or by strays.
func (d *Driver) InUse() int { return len(d.places) }

// Strays returns how many calls were given up and still run.
func (d *Driver) Strays() int { return int(d.strays.Load()) }

func (d *Driver) startTimer(after time.Duration) *time.Timer {
	if timer, ok := d.timers.Get().(*time.Timer); ok {
		timer.Reset(after)
		return timer
	}
	return time.NewTimer(after)
}

func (d *Driver) stopTimer(timer *time.Timer) {
	timer.Stop() // nothing of what it was set for is left in its channel
	d.timers.Put(timer)
}
