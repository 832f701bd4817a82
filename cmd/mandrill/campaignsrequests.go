package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
	"github.com/mayhem-mandrill/mandrill/publisher"
)

// lookAtOnce is how many requests of a campaign are looked at, or cancelled, at the same time.
const lookAtOnce = 16

// campaignRequests are the requests of campaigns where they are: on the work stream, in the journal and in the database.
type campaignRequests struct {
	publisher *publisher.Publisher
	work      jetstream.Stream
	journal   *journal.Journal
	store     store.Store
	worker    string
}

var _ campaign.Requests = (*campaignRequests)(nil)

var errUnreported = errors.New("nobody knows yet whether it was published")

// Publish implements campaign.Requests. It does not wait longer than ctx; what is on its way then still is.
func (c *campaignRequests) Publish(ctx context.Context, requests []restart.Request) []campaign.Sent {
	results := make(chan publishedOne, len(requests))
	left := 0
	sent := make([]campaign.Sent, len(requests))
	for i, r := range requests {
		sent[i].Err = errUnreported
		err := c.publisher.Publish(ctx, r, func(result publisher.Result) { results <- publishedOne{i, result} })
		if err != nil {
			sent[i].Err = err
			continue
		}
		left++
	}
	for ; left > 0; left-- {
		select {
		case one := <-results:
			sent[one.index] = sentOf(one.result)
		case <-ctx.Done():
			return sent
		}
	}
	return sent
}

// publishedOne is what came of one of many requests.
type publishedOne struct {
	index  int
	result publisher.Result
}

func sentOf(r publisher.Result) campaign.Sent {
	if r.Status == publisher.AlreadyQueued {
		return campaign.Sent{Other: r.QueuedID}
	}
	return campaign.Sent{Err: r.Err}
}

// Look implements campaign.Requests.
func (c *campaignRequests) Look(ctx context.Context, targets []campaign.Target) ([]campaign.Sight, error) {
	return atOnce(ctx, targets, c.look)
}

func (c *campaignRequests) look(ctx context.Context, t campaign.Target) (campaign.Sight, error) {
	_, queued, err := c.queued(ctx, t)
	if err != nil || queued {
		return campaign.Sight{Queued: queued}, err
	}
	o, err := c.store.Outcome(ctx, t.ID)
	if errors.Is(err, store.ErrNotFound) {
		return campaign.Sight{}, nil
	}
	if err != nil {
		return campaign.Sight{}, fmt.Errorf("cannot look for the outcome of %s: %w", t.Host, err)
	}
	return campaign.Sight{Kind: o.Kind, Reason: o.Reason}, nil
}

// queued reports whether a request is on the work stream, and since when.
func (c *campaignRequests) queued(ctx context.Context, t campaign.Target) (since time.Time, ok bool, err error) {
	msg, err := c.work.GetLastMsgForSubject(ctx, stream.WorkSubject(t.Group, t.Host))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("cannot look at what is queued for %s: %w", t.Host, err)
	}
	return msg.Time, stream.RequestID(msg, c.work.CachedInfo().Created, t.Group, t.Host) == t.ID, nil
}

// Cancel implements campaign.Requests.
func (c *campaignRequests) Cancel(ctx context.Context, targets []campaign.Target, why campaign.Mark) ([]bool, error) {
	return atOnce(ctx, targets, func(ctx context.Context, t campaign.Target) (bool, error) {
		stored, queued, err := c.queued(ctx, t)
		if err != nil {
			return false, err
		}
		if !queued {
			stored = time.Now() // what may still come
		}
		stands, err := cancelRequest(ctx, c.journal, journal.Key{Group: t.Group, ID: t.ID, Host: t.Host}, stored, journal.Event{
			Worker: c.worker, Reason: restart.ReasonAborted, Detail: why.Why,
		})
		if errors.Is(err, errBeyondJournal) {
			return false, nil // a worker ends it
		}
		return stands.Kind == journal.Cancelled, err
	})
}

// atOnce calls do for many targets, a few at the same time, and returns what it returned, and the first error.
func atOnce[T any](ctx context.Context, targets []campaign.Target, do func(context.Context, campaign.Target) (T, error)) ([]T, error) {
	results := make([]T, len(targets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookAtOnce)
	for i, t := range targets {
		group.Go(func() (err error) {
			results[i], err = do(ctx, t)
			return err
		})
	}
	return results, group.Wait()
}
