package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain HOST",
		Short: "Say what is queued or running for a host, and why it is not restarted",
		Long: `Say what is queued or running for a host, what is in the way and until when, what its last events were, and which boot
is running now. A name without a dot is an instance, to which the domain is appended. Without --group it looks in the
group in which the host is queued.

It changes nothing. The gates are asked by this configuration: a worker that has another one may decide otherwise, so
give it the worker's file. What cannot be found out is named, and is no failure.`,
		Example: `  mandrill explain cattle-a1b2
  mandrill explain cattle-a1b2 --group web --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("explain: takes one host, and got %d", len(args))
			}
			return nil
		},
	}
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.explain(cmd, args[0], *out) }
	return cmd
}

func (a *app) explain(cmd *cobra.Command, name string, out output) (err error) {
	ctx := cmd.Context()
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	host, err := restart.HostOf(name, cfg.Domain)
	if err != nil {
		return usagef("explain: %w", err)
	}
	f := &factFinder{app: a, cfg: cfg, host: host}
	conn, err := a.connectToExplain(ctx, cfg)
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, conn.close()) }()
		if f.js, err = jetstream.New(conn.Conn); err != nil {
			return fmt.Errorf("cannot use JetStream: %w", err)
		}
	case ctx.Err() != nil || isUsage(err):
		return err
	default:
		f.away = err
	}
	if f.group, err = f.chooseGroup(ctx, cmd.Flags().Changed("group")); err != nil {
		return err
	}
	facts, err := f.find(ctx)
	if err != nil {
		return err
	}
	e := newExplanation(facts, explain.Explain(facts))
	if out == outputJSON {
		return a.printJSON(e)
	}
	return e.print(a.stdout)
}

func isUsage(err error) bool {
	_, ok := errors.AsType[*config.UsageError](err)
	return ok
}

func (a *app) connectToExplain(ctx context.Context, cfg config.Config) (*connection, error) {
	e, err := a.endpoint(cfg)
	if err != nil {
		return nil, err
	}
	return e.connect(ctx, "mandrill explain", a.newLogger(cfg.Log))
}

// chooseGroup returns the group that was asked for, or else the one in which the host is queued, or else the one that is
// configured.
func (f *factFinder) chooseGroup(ctx context.Context, asked bool) (restart.Group, error) {
	var queued []restart.Group
	if !asked {
		var err error
		if queued, err = f.groupsQueuedIn(ctx); err != nil && ctx.Err() != nil {
			return "", err
		}
	}
	switch {
	case len(queued) == 1:
		return queued[0], nil
	case len(queued) > 1:
		return "", usagef("explain: %s is queued in %s: choose with --group", f.host, groupNames(queued))
	case len(f.cfg.Groups) != 1:
		return "", usagef("explain: choose one of %s with --group", groupNames(f.cfg.Groups))
	}
	return f.cfg.Groups[0], nil
}

func groupNames(groups []restart.Group) string {
	names := make([]string, len(groups))
	for i, group := range groups {
		names[i] = string(group)
	}
	return strings.Join(names, ", ")
}

// groupsQueuedIn returns the groups in which the host is queued. An error is told when the queue itself is read.
func (f *factFinder) groupsQueuedIn(ctx context.Context) ([]restart.Group, error) {
	if f.js == nil {
		return nil, f.away
	}
	ctx, cancel := context.WithTimeout(ctx, factTimeout)
	defer cancel()
	work, err := f.js.Stream(ctx, stream.Work)
	if err != nil {
		return nil, err
	}
	info, err := work.Info(ctx, jetstream.WithSubjectFilter(stream.WorkSubject("*", f.host)))
	if err != nil {
		return nil, err
	}
	var groups []restart.Group
	for subject := range info.State.Subjects {
		group, _, err := stream.ParseWorkSubject(subject)
		if err == nil {
			groups = append(groups, group)
		}
	}
	return groups, nil
}
