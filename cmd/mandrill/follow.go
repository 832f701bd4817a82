package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// followInterval is how often the work stream is asked for requests of which nothing was heard: an outcome is told on
// plain NATS, once, and whoever was not listening has missed it.
const followInterval = 5 * time.Second

// errUnheard is what becomes of a request that left the work stream without its outcome having been heard.
var errUnheard = errors.New("it has ended, and its outcome was told while nobody listened: see the database")

// A follower listens for the outcomes of a group.
type follower struct {
	work jetstream.Stream
	sub  *nats.Subscription
	told chan *nats.Msg
}

// openWork returns the work stream, or publisher.ErrNoStream.
func openWork(ctx context.Context, conn *connection) (jetstream.Stream, error) {
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot use JetStream: %w", err)
	}
	work, err := js.Stream(ctx, stream.Work)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = publisher.ErrNoStream
	}
	return work, err
}

// newFollower listens from now on, so it is made before the first request is published.
func newFollower(ctx context.Context, conn *connection, group restart.Group) (*follower, error) {
	work, err := openWork(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("cannot follow requests: %w", err)
	}
	f := &follower{work: work, told: make(chan *nats.Msg, 65536)}
	if f.sub, err = conn.ChanSubscribe(stream.OutcomeSubject(group, ">"), f.told); err != nil {
		return nil, fmt.Errorf("cannot listen for outcomes: %w", err)
	}
	if err := conn.FlushTimeout(flushTimeout); err != nil {
		return nil, fmt.Errorf("cannot listen for outcomes: %w", err)
	}
	return f, nil
}

func (f *follower) close() { f.sub.Unsubscribe() } // fails only where there is nothing left to unsubscribe from

// await calls ended once for each request, with its outcome, or with an error if that was not heard before ctx ended.
func (f *follower) await(ctx context.Context, requests []restart.Request, ended func(uuid.UUID, restart.Outcome, error)) {
	pending := make(map[uuid.UUID]restart.Request, len(requests))
	for _, r := range requests {
		pending[r.ID] = r
	}
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	gone := map[uuid.UUID]bool{}
	for len(pending) > 0 {
		select {
		case msg := <-f.told:
			var o restart.Outcome
			if json.Unmarshal(msg.Data, &o) != nil {
				continue // a stranger's
			}
			if _, ours := pending[o.ID]; ours {
				delete(pending, o.ID)
				ended(o.ID, o, nil)
			}
		case <-ticker.C:
			for id, r := range pending {
				queued, err := f.queued(ctx, r)
				switch {
				case err != nil || queued:
				case gone[id]: // for a whole interval, in which its outcome would have come
					delete(pending, id)
					ended(id, restart.Outcome{}, errUnheard)
				default:
					gone[id] = true
				}
			}
		case <-ctx.Done():
			for id := range pending {
				ended(id, restart.Outcome{}, context.Cause(ctx))
			}
			return
		}
	}
}

// queued reports whether the request is still on the work stream.
func (f *follower) queued(ctx context.Context, r restart.Request) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, followInterval)
	defer cancel()
	msg, err := f.work.GetLastMsgForSubject(ctx, stream.WorkSubject(r.Group, r.Host))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return msg.Header.Get(jetstream.MsgIDHeader) == r.ID.String(), nil
}
