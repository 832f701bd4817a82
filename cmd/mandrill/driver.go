package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
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
