package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/bounded"
	"github.com/mayhem-mandrill/mandrill/internal/restart/command"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/restart/ssh"
	"github.com/mayhem-mandrill/mandrill/internal/restart/webhook"
)

// newDriver makes the driver of a group, whose configuration it is given. It dials nothing.
func newDriver(cfg config.Config, group restart.Group) (restart.Driver, error) {
	driver, err := newDriverOf(cfg, group)
	if err != nil {
		return nil, &config.UsageError{Err: fmt.Errorf("group %s: %s.%w", group, cfg.Driver.Kind, err)}
	}
	return driver, nil
}

func newDriverOf(cfg config.Config, group restart.Group) (restart.Driver, error) {
	switch cfg.Driver.Kind {
	case config.DriverSimulated:
		s := cfg.Simulated
		return simulated.New(simulated.Config{
			Seed: s.Seed, RestartMin: s.RestartMin, RestartMax: s.RestartMax,
			FailureRate: s.FailureRate, HangRate: s.HangRate, LateRate: s.LateRate, SlowRate: s.SlowRate,
		})
	case config.DriverCommand:
		c := cfg.Command
		return command.New(command.Config{
			Group: group, Probe: c.Probe, Restart: c.Restart, Compare: c.Compare, MaxDelay: c.MaxDelay, Env: c.Env, Output: c.Output,
		})
	case config.DriverSSH:
		c := cfg.SSH
		return ssh.New(ssh.Config{
			User: c.User, Port: c.Port, Key: c.Key, Agent: c.Agent, KnownHosts: c.KnownHosts, Jump: c.Jump,
			BootID: c.BootID, Uptime: c.Uptime, Reboot: c.Reboot, Ready: c.Ready, Timeout: c.Timeout,
		})
	case config.DriverDocker:
		c := cfg.Docker
		return docker.New(docker.Config{
			Endpoint: c.Endpoint, TLSCA: c.TLSCA, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Label: c.Label, StopTimeout: c.StopTimeout,
		})
	case config.DriverWebhook:
		c := cfg.Webhook
		return webhook.New(webhook.Config{
			Group: group, ProbeURL: c.ProbeURL, RestartURL: c.RestartURL, Secret: string(c.Secret), MaxDelay: c.MaxDelay, CA: c.CA,
		})
	}
	return nil, fmt.Errorf("driver.kind %q is not known", cfg.Driver.Kind) // unreachable: it was checked
}

// closeDriver lets go of what a driver holds, if it holds anything.
func closeDriver(driver restart.Driver) error {
	if c, ok := driver.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// drivers makes the driver of a group when it is first asked for, for a verb that only probes.
type drivers struct {
	app  *app
	cfg  config.Config
	made map[restart.Group]restart.Driver
}

func (a *app) newDrivers(cfg config.Config) *drivers {
	return &drivers{a, cfg, map[restart.Group]restart.Driver{}}
}

func (d *drivers) probe(ctx context.Context, group restart.Group, host restart.Host) (restart.State, error) {
	driver, ok := d.made[group]
	if !ok {
		var err error
		if driver, err = d.app.newDriver(d.cfg.For(group), group); err != nil {
			return restart.State{}, err
		}
		d.made[group] = driver
	}
	return driver.Probe(ctx, host)
}

func (d *drivers) close() error {
	var errs []error
	for _, driver := range d.made {
		errs = append(errs, closeDriver(driver))
	}
	return errors.Join(errs...)
}

// newServed makes what a group has of its own, from the configuration that is in effect for it.
func (a *app) newServed(cfg config.Config, name restart.Group, log zerolog.Logger) (*served, error) {
	g := &served{name: name}
	var err error
	if g.rules, err = newRules(cfg); err != nil {
		return nil, err
	}
	if g.driver, err = a.newDriver(cfg, name); err != nil {
		return nil, err
	}
	g.bounded, err = bounded.New(bounded.Config{
		Driver: a.between.driver(g.driver), Slots: cfg.Driver.Slots,
		ProbeTimeout: cfg.ProbeTimeout, RestartTimeout: cfg.RestartTimeout, Logger: log.With().Str("group", string(name)).Logger(),
	})
	return g, err
}

// newRules makes the gates of a group.
func newRules(cfg config.Config) (rules policy.Rules, err error) {
	rules = policy.Rules{Takes: cfg.Window.RestartTakes, DryRun: cfg.DryRun, Self: thisMachine(cfg)}
	for _, part := range []struct {
		key string
		set func() error
	}{
		{"window", func() (err error) {
			rules.Windows, err = policy.ParseWindows(cfg.Window.Open, cfg.Window.Except, cfg.Window.Zone)
			return err
		}},
		{"deny", func() (err error) { rules.Deny, err = policy.ParsePatterns(cfg.Deny); return err }},
		{"only", func() (err error) { rules.Only, err = policy.ParsePatterns(cfg.Only); return err }},
	} {
		if err := part.set(); err != nil {
			return rules, &config.UsageError{Err: fmt.Errorf("%s: %w", part.key, err)}
		}
	}
	if longest := rules.Windows.Longest(); rules.Takes > longest {
		return rules, usagef("window.restart_takes: %s is longer than every window, the longest of which is %s", rules.Takes, longest)
	}
	return rules, nil
}

// thisMachine returns how the machine is known that this process runs on. What cannot be found out about it is left out:
// it is the operator's to say where names differ.
func thisMachine(cfg config.Config) policy.Self {
	var self policy.Self
	names := append([]string{"localhost"}, cfg.Self...)
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			names = append(names, prefix.Addr().String())
		}
	}
	for _, name := range names {
		self.Names = append(self.Names, restart.Host(strings.ToLower(name)))
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		self.Boot = restart.Epoch(strings.TrimSpace(string(id)))
	}
	return self
}
