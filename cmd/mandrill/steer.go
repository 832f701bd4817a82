package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// steerSettings are the settings of a verb that steers the workers of a fleet.
var steerSettings = []string{
	"nats", "nats_context", "creds", "token", "tls.ca", "tls.cert", "tls.key", "data", "log.level", "log.format",
}

// A steering wheel is what a verb needs to steer the workers of a fleet.
type wheel struct {
	app  *app
	conn *connection
	js   jetstream.JetStream
	kv   jetstream.KeyValue // the control bucket
}

// withWheel calls do with the control bucket, which the first worker creates.
func (a *app) withWheel(ctx context.Context, cfg config.Config, verb string, do func(context.Context, *wheel) error) error {
	return a.withJetStream(ctx, cfg, verb, func(conn *connection, js jetstream.JetStream) error {
		kv, err := js.KeyValue(ctx, stream.Control)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return fmt.Errorf("there is no bucket %s, which the first worker creates: start a worker", stream.Control)
		}
		if err != nil {
			return fmt.Errorf("cannot use bucket %q: %w", stream.Control, err)
		}
		return do(ctx, &wheel{app: a, conn: conn, js: js, kv: kv})
	})
}

// derive makes the consumer what the bucket says, so that nobody has to wait for a worker to do it.
func (w *wheel) derive(ctx context.Context, group restart.Group) error {
	if err := control.Derive(ctx, w.js, w.kv, group); err != nil {
		return fmt.Errorf("it is stored, and counts as soon as a worker brings the consumer into line: %w", err)
	}
	return nil
}

// deriveAll is derive for one group or, for control.AllGroups, for each that workers have served.
func (w *wheel) deriveAll(ctx context.Context, group restart.Group) error {
	consumers, err := w.consumers(ctx, group)
	if err != nil {
		return err
	}
	for _, g := range slices.Sorted(maps.Keys(consumers)) {
		if err := w.derive(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// consumers returns how the consumer of the group stands, or those of all groups for control.AllGroups. A group that no
// worker has served has none.
func (w *wheel) consumers(ctx context.Context, group restart.Group) (map[restart.Group]*jetstream.ConsumerInfo, error) {
	work, err := w.js.Stream(ctx, stream.Work)
	if err != nil {
		return nil, fmt.Errorf("cannot look at the groups: %w", err)
	}
	found := map[restart.Group]*jetstream.ConsumerInfo{}
	consumers := work.ListConsumers(ctx)
	for info := range consumers.Info() {
		if g, ok := stream.GroupOf(info.Name); ok && (group == control.AllGroups || group == g) {
			found[g] = info
		}
	}
	if err := consumers.Err(); err != nil {
		return nil, fmt.Errorf("cannot look at the groups: %w", err)
	}
	return found, nil
}

// steerSome calls do for the group that a verb was given as an argument, or for all groups if it was given none.
func (a *app) steerSome(cmd *cobra.Command, args []string, do func(context.Context, *wheel, restart.Group) error) error {
	if len(args) == 1 {
		return a.steer(cmd, args[0], do)
	}
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	return a.withWheel(cmd.Context(), loaded.Config, cmd.Name(), func(ctx context.Context, w *wheel) error {
		return do(ctx, w, control.AllGroups)
	})
}

// steer calls do for the group that a verb was given as an argument.
func (a *app) steer(cmd *cobra.Command, arg string, do func(context.Context, *wheel, restart.Group) error) error {
	group, err := restart.ParseGroup(arg)
	if err != nil {
		return usagef("%s: %w", cmd.Name(), err)
	}
	loaded, err := a.loadConfig(cmd, nil)
	if err != nil {
		return err
	}
	return a.withWheel(cmd.Context(), loaded.Config, cmd.Name(), func(ctx context.Context, w *wheel) error {
		return do(ctx, w, group)
	})
}
