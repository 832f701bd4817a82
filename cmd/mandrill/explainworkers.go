package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	// A worker that is there asks for work again as soon as its last request has ended, which is twice a second. So it is
	// looked for a second long before it is said not to be there.
	workerLooks     = 10
	workerLookEvery = 100 * time.Millisecond
)

// lookForWorkers returns how the group's consumer stands; nil if no worker has ever served the group. It looks until it
// has seen enough, which is the first look as a rule where a worker has asked for work.
func lookForWorkers(
	ctx context.Context, js jetstream.JetStream, group restart.Group, enough func(*jetstream.ConsumerInfo) bool,
) (*explain.Consumer, error) {
	consumer, err := js.Consumer(ctx, stream.Work, stream.ConsumerName(group))
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	for range workerLooks {
		if enough(info) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(workerLookEvery):
		}
		if info, err = consumer.Info(ctx); err != nil {
			return nil, err
		}
	}
	c := &explain.Consumer{
		Budget: info.Config.MaxAckPending, InFlight: info.NumAckPending, Waiting: info.NumWaiting,
		Pending: info.NumPending, Delivered: info.Delivered.Stream,
	}
	if info.Paused {
		c.PausedUntil = *info.Config.PauseUntil
	}
	return c, nil
}

func asksForWork(info *jetstream.ConsumerInfo) bool { return info.NumWaiting > 0 }

func asksOrHolds(info *jetstream.ConsumerInfo) bool {
	return info.NumWaiting > 0 || info.NumAckPending > 0
}

// warningTimeout bounds the look behind a warning.
const warningTimeout = 1500 * time.Millisecond

// unservedWarning says why requests that are published to a group wait, or nothing where a worker takes them, or nobody
// can tell. In the common case it is one question to the server.
func unservedWarning(ctx context.Context, conn *connection, group restart.Group) string {
	ctx, cancel := context.WithTimeout(ctx, warningTimeout)
	defer cancel()
	// A publisher need not have the permission to look. Then it is not told so, and does not wait for an answer.
	heard := conn.ErrorHandler()
	conn.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			cancel()
			return
		}
		heard(nc, sub, err)
	})
	defer conn.SetErrorHandler(heard)
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return ""
	}
	c, err := lookForWorkers(ctx, js, group, asksOrHolds)
	var why []string
	switch {
	case err != nil:
		return ""
	case c == nil:
		return fmt.Sprintf("no worker has ever served group %s, so requests wait: start one", group)
	case c.Waiting == 0 && c.InFlight == 0:
		why = append(why, fmt.Sprintf("no worker of group %s has asked for work in the last second, so requests wait: start one", group))
	}
	if !c.PausedUntil.IsZero() {
		why = append(why, fmt.Sprintf("group %s is paused, so requests wait", group)+pauseText(ctx, js, group))
	}
	return strings.Join(why, "; ")
}

// pauseText says what the control bucket knows of a group's pause. The consumer says only that it is paused.
func pauseText(ctx context.Context, js jetstream.JetStream, group restart.Group) (text string) {
	kv, err := js.KeyValue(ctx, stream.Control)
	if err != nil {
		return ""
	}
	state, err := control.Look(ctx, js, kv, group)
	if err != nil {
		return ""
	}
	for _, hold := range control.HoldsOf(state, "", time.Now()) {
		text += "; " + plain(hold.String())
	}
	return text
}
