package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// factTimeout bounds each look but that at the host. Where a permission is missing there is no answer.
const factTimeout = 5 * time.Second

// A factFinder finds out what is known of a host. It only reads.
type factFinder struct {
	app   *app
	cfg   config.Config
	host  restart.Host
	group restart.Group
	js    jetstream.JetStream // nil: NATS is away
	away  error               // why

	facts explain.Facts
}

// find looks everywhere at once. What cannot be found out becomes a gap; it is an error only if all of it cannot.
func (f *factFinder) find(ctx context.Context) (explain.Facts, error) {
	cfg := f.cfg.For(f.group)
	rules, err := newRules(cfg)
	if err != nil {
		return explain.Facts{}, err
	}
	f.facts = explain.Facts{
		Host: f.host, Group: f.group, Rules: rules, Elsewhere: cfg.NATS != "" || cfg.NATSContext != "",
		Limits: explain.Limits{
			MaxAttempts: cfg.Retry.MaxAttempts, RetryCap: cfg.Retry.Cap, AckWait: cfg.AckWait, VerifyTimeout: cfg.VerifyTimeout,
		},
	}
	parts := []struct {
		part  explain.Part
		bound time.Duration
		find  func(context.Context) error
	}{
		{explain.PartQueue, factTimeout, f.queue}, // first, because the journal is asked for what is queued
		{explain.PartWorkers, factTimeout, f.workers},
		{explain.PartJournal, factTimeout, f.journal},
		{explain.PartControl, factTimeout, f.control},
		{explain.PartEpoch, cfg.ProbeTimeout, f.epoch},
		{explain.PartDead, factTimeout, f.letter},
		{explain.PartDatabase, factTimeout, f.outcome},
	}
	missing := make([]error, len(parts)) // each belongs to the goroutine of its part
	look := func(i int) {
		ctx, cancel := context.WithTimeout(ctx, parts[i].bound)
		defer cancel()
		if missing[i] = parts[i].find(ctx); errors.Is(missing[i], context.DeadlineExceeded) {
			missing[i] = fmt.Errorf("no answer within %s", parts[i].bound)
		}
	}
	look(0)
	var looking sync.WaitGroup
	for i := 1; i < len(parts); i++ {
		looking.Go(func() { look(i) })
	}
	looking.Wait()
	if ctx.Err() != nil {
		return explain.Facts{}, context.Cause(ctx)
	}
	f.facts.Now = time.Now()
	for i, p := range parts {
		if missing[i] != nil {
			f.facts.Gaps = append(f.facts.Gaps, explain.Gap{Part: p.part, Why: missing[i].Error()})
		}
	}
	if len(f.facts.Gaps) == len(parts) {
		return explain.Facts{}, fmt.Errorf("nothing is known of %s: %w", f.host, missing[0])
	}
	return f.facts, nil
}

func (f *factFinder) queue(ctx context.Context) error {
	if f.js == nil {
		return f.away
	}
	work, err := f.js.Stream(ctx, stream.Work)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	msg, err := work.GetLastMsgForSubject(ctx, stream.WorkSubject(f.group, f.host))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	envelope := restart.Envelope{
		Version: msg.Header.Get(stream.VersionHeader), Group: f.group, Host: f.host, Stored: msg.Time,
		FallbackID: stream.FallbackID(work.CachedInfo().Created.UnixNano(), msg.Sequence),
	}
	m := explain.Message{Sequence: msg.Sequence, Stored: msg.Time}
	if m.Request, m.Err = restart.Decode(envelope, msg.Data); m.Err != nil {
		m.Request.ID = envelope.FallbackID
	}
	f.facts.Queued = &m
	return nil
}

func (f *factFinder) workers(ctx context.Context) (err error) {
	if f.js == nil {
		return f.away
	}
	f.facts.Consumer, err = lookForWorkers(ctx, f.js, f.group, asksForWork)
	return err
}

// journal reads the events of what is queued, or else of the host's newest request. It needs no consumer for that.
func (f *factFinder) journal(ctx context.Context) error {
	if f.js == nil {
		return f.away
	}
	events, err := f.js.Stream(ctx, stream.Journal)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var id uuid.UUID
	if f.facts.Queued != nil {
		id = f.facts.Queued.Request.ID
	} else {
		newest, err := events.GetLastMsgForSubject(ctx, stream.JournalByHost(f.group, f.host))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, id, _, err = stream.ParseJournalSubject(newest.Subject); err != nil {
			return err
		}
	}
	f.facts.EventsOf = id
	for next := uint64(1); ; {
		msg, err := events.GetMsg(ctx, next, jetstream.WithGetMsgSubject(stream.JournalSubject(f.group, id, f.host)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var e journal.Event
		if err := json.Unmarshal(msg.Data, &e); err != nil {
			return fmt.Errorf("cannot read journal of %s, sequence %d: %w", id, msg.Sequence, err)
		}
		e.Sequence = msg.Sequence
		f.facts.Events = append(f.facts.Events, e)
		next = msg.Sequence + 1
	}
}

func (f *factFinder) control(ctx context.Context) error {
	if f.js == nil {
		return f.away
	}
	kv, err := f.js.KeyValue(ctx, stream.Control)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.facts.Control, err = control.Look(ctx, f.js, kv, f.group)
	return err
}

func (f *factFinder) epoch(ctx context.Context) (err error) {
	if f.cfg.For(f.group).Driver.Kind == config.DriverSimulated {
		return errors.New("simulated hosts live in their worker, and cannot be probed from here")
	}
	drivers := f.app.newDrivers(f.cfg)
	defer func() { err = errors.Join(err, drivers.close()) }()
	state, err := drivers.probe(ctx, f.group, f.host)
	switch {
	case err == nil:
		f.facts.State = &state
	case !isUsage(err): // otherwise it is this configuration that lacks something
		f.facts.ProbeErr = err
	}
	return err
}

func (f *factFinder) letter(ctx context.Context) error {
	if f.js == nil {
		return f.away
	}
	box, err := deadletter.Open(ctx, f.js)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for e, err := range box.LettersOf(ctx, f.group, f.host) {
		if _, ok := errors.AsType[*deadletter.UnreadableError](err); ok {
			continue // 'mandrill dead list' tells of it
		}
		if err != nil {
			return err
		}
		if f.facts.Letter == nil || !e.Outcome.At.Before(f.facts.Letter.Outcome.At) {
			f.facts.Letter = &explain.Letter{Outcome: e.Outcome, RequeuedAs: e.RequeuedAs}
		}
	}
	return nil
}

// outcome finds the newest outcome. The newest request may have none yet, and there is at most one such at a time.
func (f *factFinder) outcome(ctx context.Context) error {
	return f.app.withHistory(ctx, f.cfg, func(ctx context.Context, db store.Store) error {
		for e, err := range db.History(ctx, store.Filter{Group: f.group, Host: f.host, Limit: 2}) {
			if err != nil {
				return err
			}
			if f.facts.Outcome == nil && e.Outcome.Kind != "" {
				f.facts.Outcome = &e.Outcome
			}
		}
		return nil
	})
}
