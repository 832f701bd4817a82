package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// What a restart program says by its exit status. The first three are EX_TEMPFAIL, the one after it, which is free, and
// EX_CONFIG of sysexits.h; the last two are what a shell says of a program that it cannot run or find.
const (
	exitTaken     = 0
	exitRefused   = 75
	exitChanged   = 76
	exitPermanent = 78
	exitNotRun    = 126
	exitNotFound  = 127
)

var errTimeOver = errors.New("the time that it was given is over")

// Traits are as configured.
func (d *Driver) Traits() restart.Traits { return d.traits }

// Probe implements [restart.Driver].
func (d *Driver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	if err := host.Check(); err != nil {
		return restart.State{}, fmt.Errorf("cannot probe: %w", err)
	}
	argv, variables := d.probe.fill(string(host), string(d.group))
	stdout, stderr := &output{max: d.output}, &output{max: d.output}
	_, err := d.probe.run(ctx, argv, append(variables, d.environment...), stdout, stderr)
	if err == nil && stdout.cut {
		err = fmt.Errorf("it printed more than %d bytes", d.output)
	}
	var state restart.State
	if err == nil {
		state, err = parseState(string(stdout.kept))
	}
	if err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w%s", host, err, stderr.said())
	}
	return state, nil
}

// Restart implements [restart.Driver].
func (d *Driver) Restart(ctx context.Context, t restart.Trigger) error {
	if err := t.Host.Check(); err != nil {
		return fmt.Errorf("cannot restart: %w", err)
	}
	if err := d.trigger(ctx, t); err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

func (d *Driver) trigger(ctx context.Context, t restart.Trigger) error {
	if err := checkEpoch(t.From); err != nil {
		return fmt.Errorf("%w: the epoch cannot be used: %w", restart.ErrPermanent, err)
	}
	// Less than can be told would be told as no time at all.
	if t.Within < time.Millisecond {
		return fmt.Errorf("%w: there is no time left", restart.ErrRefused)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.Within, errTimeOver)
	defer cancel()
	argv, variables := d.restart.fill(string(t.Host), string(d.group),
		string(t.From), t.ID.String(), strconv.Itoa(t.Attempt), seconds(t.Within))

	// Both streams go to one place, so that the last line is the last, whichever stream it was printed to.
	out := &output{max: d.output}
	exit, err := d.restart.run(ctx, argv, append(variables, d.environment...), out, out)
	if exit == exitTaken {
		return nil // also if what it left in the background still holds its output
	}
	err = fmt.Errorf("%w%s", err, out.said())
	if class := classOf(exit, err); class != nil {
		return fmt.Errorf("%w: %w", class, err)
	}
	return err
}

// classOf returns what is known after a restart program that did not exit with 0, or nil.
func classOf(exit int, err error) error {
	switch exit {
	case exitRefused:
		return restart.ErrRefused
	case exitChanged:
		return restart.ErrChanged
	case exitPermanent, exitNotRun, exitNotFound:
		return restart.ErrPermanent
	}
	if !errors.Is(err, errNotStarted) {
		return nil
	}
	// Nothing was done. What is wrong with the program's file stays wrong; a lack of processes, memory or time does not.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return restart.ErrPermanent
	}
	return restart.ErrRefused
}

// seconds returns d in seconds, rounded down to the millisecond: a program may be told less time than there is, and
// never more.
func seconds(d time.Duration) string {
	ms := d.Milliseconds()
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}
