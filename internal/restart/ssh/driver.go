package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	gossh "golang.org/x/crypto/ssh"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxSilence is how long a host that has said that it restarts may say nothing more until that counts as taken. A host
// that is going down often does not even close its connections.
const maxSilence = 10 * time.Second

// A Driver restarts hosts over SSH.
type Driver struct {
	cfg        Config
	jump       *target      // or nil
	key        gossh.Signer // or nil: the agent's keys
	known      *knownHosts
	maxSilence time.Duration
}

var _ restart.Driver = (*Driver)(nil)

// New returns a driver that has reached no host yet. An error names the field that is wrong.
func New(cfg Config) (*Driver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	jump, err := parseJump(cfg.Jump, cfg.User)
	if err != nil {
		return nil, err
	}
	key, err := readKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	known := &knownHosts{files: slices.Clone(cfg.KnownHosts)}
	if _, err := known.load(); err != nil {
		return nil, fmt.Errorf("known_hosts: %w", err)
	}
	return &Driver{cfg: cfg, jump: jump, key: key, known: known, maxSilence: maxSilence}, nil
}

// Traits promises a compare at the moment of effect. MaxDelay is left open because the script keeps to the time that it
// is given.
func (d *Driver) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtEffect}
}

// Probe implements [restart.Driver].
func (d *Driver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	state, err := d.probe(ctx, host)
	if err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w", host, err)
	}
	return state, nil
}

func (d *Driver) probe(ctx context.Context, host restart.Host) (restart.State, error) {
	if err := host.Check(); err != nil {
		return restart.State{}, err
	}
	c, err := d.connect(ctx, host)
	if err != nil {
		return restart.State{}, err
	}
	defer c.close()
	boot, err := d.readBoot(ctx, c)
	if err != nil {
		return restart.State{}, err
	}
	ready, err := d.isReady(ctx, c)
	if err != nil {
		return restart.State{}, err
	}
	return restart.State{Epoch: boot.epoch, Since: boot.readAt.Add(-boot.uptime), Ready: ready}, nil
}

// Restart implements [restart.Driver].
func (d *Driver) Restart(ctx context.Context, t restart.Trigger) error {
	if err := d.restart(ctx, t, time.Now()); err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

func (d *Driver) restart(ctx context.Context, t restart.Trigger, called time.Time) error {
	if err := t.Host.Check(); err != nil {
		return err
	}
	switch {
	case t.From == "":
		return fmt.Errorf("%w: there is no epoch to restart it from", restart.ErrPermanent)
	case t.Within <= 0:
		return fmt.Errorf("%w: there is no time left", restart.ErrRefused)
	case !isBootID(string(t.From)):
		// No boot can have it, and only what is safe between quotes may reach the remote shell.
		return fmt.Errorf("%w: %.80q is not the id of a boot", restart.ErrChanged, t.From)
	}
	c, err := d.connect(ctx, t.Host)
	if err != nil {
		return nothingDone(err)
	}
	defer c.close()
	boot, err := d.readBoot(ctx, c)
	if err != nil {
		return nothingDone(err)
	}
	if boot.epoch != t.From {
		return fmt.Errorf("%w: %s", restart.ErrChanged, boot.epoch)
	}
	left := t.Within - elapsed(called, boot.readAt)
	if left <= 0 {
		return fmt.Errorf("%w: reaching it took longer than the time allowed, %s", restart.ErrRefused, t.Within)
	}
	// The uptime was read before readAt, so that the deadline is never too late.
	return d.runRestart(ctx, c, t.From, boot.uptime+left, left)
}

// elapsed returns the time between two readings of the clock. A machine that was suspended sees it in its wall clock
// alone, and one whose wall clock was set back in the monotonic one alone; the longer time is the safe one.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// isBootID reports whether s is a UUID the way the kernel writes it.
func isBootID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// nothingDone returns an error of before anything was asked for as the class that it is.
func nothingDone(err error) error {
	if errors.Is(err, restart.ErrPermanent) {
		return err
	}
	return fmt.Errorf("%w: %w", restart.ErrRefused, err)
}
