package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ErrJournalMissing is returned by Ensure where there is work but no journal. Nobody can know what that work has
// triggered, so an empty journal would be a lie.
var ErrJournalMissing = errors.New("the journal is missing: restore it from a backup, or look at the hosts, purge the work and publish it again")

// Error codes of the server that the client library does not name.
const (
	codeNoPeers       jetstream.ErrorCode = 10005
	codeReplicasOnOne jetstream.ErrorCode = 10074
)

const (
	replicasOnCluster = 3

	attemptTimeout = 2 * time.Second
	retryTimeout   = 15 * time.Second // after which there is no other attempt
	retryDelay     = 50 * time.Millisecond
	maxRetryDelay  = time.Second
)

// Streams are the streams that every part of Mandrill works with.
type Streams struct {
	Work, Journal, Dead jetstream.Stream

	WorkCreated    time.Time     // distinguishes this work stream from one of the same name before it
	JournalCreated time.Time     // the journal knows nothing of what was before
	JournalMaxAge  time.Duration // and nothing of what is older than this; zero means that it forgets nothing
}

// Ensure creates the streams that are absent and checks those that are present. It changes nothing if one of them has
// a setting that would break the promise; the error then wraps a *SettingError for each. If the work stream holds
// messages and there is no journal, it returns ErrJournalMissing. Several workers may call it at the same time, and a
// crash in between leaves nothing that the next call does not complete.
func Ensure(ctx context.Context, js jetstream.JetStream, s Settings) (Streams, error) {
	return Retry(ctx, func(ctx context.Context) (Streams, error) { return ensure(ctx, js, s) })
}

func ensure(ctx context.Context, js jetstream.JetStream, s Settings) (Streams, error) {
	// The work is looked at before the journal, and created after it. So whoever sees work but no journal has not
	// just met somebody who is creating both, and no request can be stored before there is a journal.
	work, workErr := find(ctx, js, workConfig(), forever)
	journal, journalErr := find(ctx, js, journalConfig(), journalMaxAge)
	dead, deadErr := find(ctx, js, deadConfig(), anyAge) // how long letters are kept is the operator's choice
	err := errors.Join(workErr, journalErr, deadErr)
	if err != nil {
		return Streams{}, err
	}
	if journal == nil && work != nil {
		if n := work.CachedInfo().State.Msgs; n > 0 {
			return Streams{}, fmt.Errorf("stream %q holds %d messages, and there is no stream %q: %w", Work, n, Journal, ErrJournalMissing)
		}
	}
	if journal == nil {
		if journal, err = create(ctx, js, journalConfig(), s.Replicas); err != nil {
			return Streams{}, err
		}
	}
	if dead == nil {
		if dead, err = create(ctx, js, deadConfig(), s.Replicas); err != nil {
			return Streams{}, err
		}
	}
	if work == nil {
		if work, err = create(ctx, js, workConfig(), s.Replicas); err != nil {
			return Streams{}, err
		}
	}
	return Streams{
		Work: work, Journal: journal, Dead: dead,
		WorkCreated:    work.CachedInfo().Created,
		JournalCreated: journal.CachedInfo().Created,
		JournalMaxAge:  journal.CachedInfo().Config.MaxAge,
	}, nil
}

// EnsureConsumer creates a group's consumer if it is absent and checks it if it is present; it never changes one, since
// lease and budget belong to the fleet and not to the worker that happens to start last. A setting that would break the
// promise is a *SettingError.
func EnsureConsumer(ctx context.Context, js jetstream.JetStream, group restart.Group, s Settings) (jetstream.Consumer, error) {
	if s.AckWait <= 0 || s.Budget <= 0 {
		return nil, fmt.Errorf("cannot create a consumer for group %q: ack wait %s and budget %d must both be above zero", group, s.AckWait, s.Budget)
	}
	return ensureConsumer(ctx, js, Work, consumerConfig(group, s))
}

// ensureConsumer creates a consumer of a stream if it is absent and checks it if it is present.
func ensureConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return Retry(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		c, err := js.Consumer(ctx, stream, want.Durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			c, err = js.CreateConsumer(ctx, stream, want)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use consumer %q of stream %q: %w", want.Durable, stream, err)
		}
		if err := checkConsumer(stream, c.CachedInfo().Config, want); err != nil {
			return nil, err
		}
		return c, nil
	})
}

// find returns the stream, checked, or nil if it is absent.
func find(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, minAge time.Duration) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot look at stream %q: %w", want.Name, err)
	}
	return s, checkStream(s.CachedInfo().Config, want, minAge)
}

// create finds out what kind of server it talks to by asking for what only a cluster can give. It never settles for
// fewer replicas because nodes are missing at the moment: that would stay so after they are back.
func create(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, replicas int) (jetstream.Stream, error) {
	cfg.Replicas = replicas
	if replicas == 0 {
		cfg.Replicas = replicasOnCluster
	}
	s, err := js.CreateStream(ctx, cfg)
	if replicas == 0 && errorCode(err) == codeReplicasOnOne {
		cfg.Replicas = 1
		s, err = js.CreateStream(ctx, cfg)
	}
	switch {
	case errorCode(err) == codeNoPeers:
		return nil, fmt.Errorf("cannot place %d replicas of stream %q: start the missing nodes, or configure as many replicas as the cluster has nodes: %w",
			cfg.Replicas, cfg.Name, err)
	case err != nil:
		return nil, fmt.Errorf("cannot create stream %q with %d replicas: %w", cfg.Name, cfg.Replicas, err)
	}
	return s, nil
}

// Retry calls do again, for a bounded time, while it ends in what can end well in a moment: somebody else was faster, or
// a cluster has no leader yet. It bounds each call.
func Retry[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = retryDelay, maxRetryDelay
	return backoff.Retry(ctx, func() (T, error) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		v, err := do(attempt)
		// A cluster does not answer at all about what is just being made and has no leader yet.
		unanswered := attempt.Err() != nil && ctx.Err() == nil
		if err != nil && !unanswered && !temporary(err) {
			err = backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(retryTimeout))
}

// temporary reports whether the server may answer otherwise in a moment: somebody else was faster, a cluster
// has no leader yet, or, a stream having just been deleted, its folder is not gone yet.
func temporary(err error) bool {
	var api jetstream.JetStreamError
	if !errors.As(err, &api) || api.APIError() == nil {
		return false
	}
	switch api.APIError().ErrorCode {
	case jetstream.JSErrCodeStreamNameInUse, jetstream.JSErrCodeConsumerExists:
		return true
	case codeReplicasOnOne:
		return false
	default:
		return api.APIError().Code >= 500 || IsWrongSequence(err)
	}
}

func errorCode(err error) jetstream.ErrorCode {
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil {
		return api.APIError().ErrorCode
	}
	return 0
}
