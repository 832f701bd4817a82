package command

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	defaultOutput = 4 << 10
	minOutput     = 512 // an epoch and the lines beside it
	maxOutput     = 1 << 20
)

// Config says which programs probe and restart the hosts of a group.
type Config struct {
	Group restart.Group

	// Probe and Restart are a program, as a path or to be found in PATH, and its arguments. {host} and {group} stand
	// for themselves as whole arguments; in Restart so do {epoch}, {id}, {attempt} and {within}, which is in seconds.
	Probe, Restart []string

	// Compare is where the restart program compares the epoch that it is given with the host's.
	Compare restart.Compare

	// MaxDelay is how long after the call a restart that was taken may still take effect. Zero means that the restart
	// program keeps to {within}, and is allowed only if the compare holds at effect.
	MaxDelay time.Duration

	// Env names variables of the worker that are passed on to the programs. What is not set is not passed on.
	Env []string

	// Output is how many bytes are kept of what a program prints on each stream. Zero means 4096.
	Output int
}

// A Driver restarts hosts by running programs.
type Driver struct {
	group          restart.Group
	probe, restart program
	traits         restart.Traits
	environment    []string // of every program
	output         int
}

var _ restart.Driver = (*Driver)(nil)

// New returns a driver, and runs nothing yet. An error names the field that is wrong. The variables that are passed on
// are those of now.
func New(cfg Config) (*Driver, error) {
	if _, err := restart.ParseGroup(string(cfg.Group)); err != nil {
		return nil, err
	}
	probe, err := newProgram(cfg.Probe, probeNames)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	again, err := newProgram(cfg.Restart, restartNames)
	if err != nil {
		return nil, fmt.Errorf("restart: %w", err)
	}
	if err := cfg.checkTraits(); err != nil {
		return nil, err
	}
	environment, err := passedOn(cfg.Env)
	if err != nil {
		return nil, fmt.Errorf("env: %w", err)
	}
	if cfg.Output == 0 {
		cfg.Output = defaultOutput
	}
	if cfg.Output < minOutput || cfg.Output > maxOutput {
		return nil, fmt.Errorf("output: %d is not between %d and %d", cfg.Output, minOutput, maxOutput)
	}
	return &Driver{
		group:       cfg.Group,
		probe:       probe,
		restart:     again,
		traits:      restart.Traits{Compare: cfg.Compare, MaxDelay: cfg.MaxDelay},
		environment: environment,
		output:      cfg.Output,
	}, nil
}

func (c Config) checkTraits() error {
	switch {
	case c.Compare != restart.CompareAtAcceptance && c.Compare != restart.CompareAtEffect:
		return fmt.Errorf("compare: %d is none", int(c.Compare))
	case c.MaxDelay < 0:
		return fmt.Errorf("max_delay: %s is negative", c.MaxDelay)
	case c.MaxDelay == 0 && c.Compare == restart.CompareAtAcceptance:
		return fmt.Errorf("max_delay: is missing; with compare %s it must say how late a restart may take effect", c.Compare)
	}
	return nil
}

// passedOn returns the environment that every program gets. The rest of the worker's own is kept from them, because it
// holds passwords.
func passedOn(names []string) ([]string, error) {
	var environment []string
	for _, name := range append([]string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}, names...) {
		switch before, _, assigned := strings.Cut(name, "="); {
		case assigned:
			// What stands after it may be a password.
			return nil, fmt.Errorf("%q is given a value; only the names of variables are wanted", before)
		case name == "" || strings.ContainsRune(name, 0):
			return nil, fmt.Errorf("%q is not the name of a variable", name)
		case strings.HasPrefix(name, variablePrefix):
			return nil, fmt.Errorf("%q cannot be passed on: %s* are the driver's own", name, variablePrefix)
		}
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	return environment, nil
}
