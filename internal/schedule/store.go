package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

var (
	// ErrExists is returned by Add where a schedule has that name.
	ErrExists = errors.New("there is a schedule of that name")

	// ErrNotFound is returned where no schedule has that name. One that was planned for a single time is gone once it
	// has fired.
	ErrNotFound = errors.New("there is no schedule of that name")
)

const (
	maxResults = 100 // of a schedule

	// onceTTL is how long the firing and the result of a schedule that is over are kept.
	onceTTL = 30 * 24 * time.Hour
)

// A Store holds schedules and what has become of their firings. Its methods are called from many goroutines at once.
type Store struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// NewStore returns the store that the stream of schedules is.
func NewStore(js jetstream.JetStream, schedules jetstream.Stream) (*Store, error) {
	if js == nil || schedules == nil {
		return nil, errors.New("schedule: JetStream or the stream is missing")
	}
	return &Store{js: js, stream: schedules}, nil
}

// Add stores a new schedule, with now as the beginning of its times. The error wraps ErrExists or a *restart.FieldError
// if it cannot be.
func (s *Store) Add(ctx context.Context, d Definition, now time.Time) error {
	d.Since, d.At = now.UTC(), now.UTC()
	err := d.Validate()
	if err == nil && d.Spec.Next(now).IsZero() {
		err = fieldErr("at", "%s has passed", d.Spec.Expr)
	}
	if err == nil {
		err = s.put(ctx, d, 0, now)
	}
	if stream.IsWrongSequence(err) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("cannot add schedule %q: %w", d.Name, err)
	}
	return nil
}

// Get returns a schedule. The error wraps ErrNotFound if there is none.
func (s *Store) Get(ctx context.Context, name string) (Definition, error) {
	d, _, err := s.get(ctx, name)
	if err != nil {
		return Definition{}, fmt.Errorf("cannot read schedule %q: %w", name, err)
	}
	return d, nil
}

// List returns all schedules, by name, and what cannot be read as an error beside them.
func (s *Store) List(ctx context.Context) ([]Definition, error) {
	all, unreadable, err := s.list(ctx)
	return all, errors.Join(append(unreadable, err)...)
}

func (s *Store) list(ctx context.Context) (all []Definition, unreadable []error, err error) {
	for msg, err := range stream.Scan(ctx, s.stream, stream.AllScheduleDefs, true) {
		if err != nil {
			return all, unreadable, err
		}
		name := stream.ScheduleOf(msg.Subject())
		d, err := decode(name, msg.Headers().Get(stream.VersionHeader), msg.Data())
		if err != nil {
			unreadable = append(unreadable, fmt.Errorf("cannot read schedule %.80q: %w", name, err))
			continue
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all, unreadable, nil
}

// Remove removes a schedule, its firings that no worker has taken yet, and its results. What is running goes on. The error
// wraps ErrNotFound if there is no schedule; what it may have left is removed all the same.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	_, err := s.stream.GetLastMsgForSubject(ctx, stream.ScheduleDef(name))
	missing := errors.Is(err, jetstream.ErrMsgNotFound)
	if missing {
		err = nil
	}
	// The definition goes first: nothing fires after it.
	for _, subject := range []string{stream.ScheduleDef(name), stream.ScheduleFire(name), stream.ScheduleResult(name)} {
		if err == nil {
			err = s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
		}
	}
	if err == nil && missing {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cannot remove schedule %q: %w", name, err)
	}
	return nil
}

// Pause keeps a schedule from firing. A firing that no worker has taken yet is skipped.
func (s *Store) Pause(ctx context.Context, name string) (Definition, error) {
	return s.change(ctx, name, time.Now(), func(d *Definition) error {
		d.Paused = true
		return nil
	})
}

// Resume lets a paused schedule fire again. What was planned in between is not made up for.
func (s *Store) Resume(ctx context.Context, name string, now time.Time) (Definition, error) {
	return s.change(ctx, name, now, func(d *Definition) error {
		if d.Paused && d.Spec.Next(now).IsZero() {
			return fieldErr("at", "%s has passed", d.Spec.Expr)
		}
		if d.Paused {
			d.Paused, d.Since = false, now.UTC()
		}
		return nil
	})
}

func (s *Store) change(ctx context.Context, name string, now time.Time, do func(*Definition) error) (Definition, error) {
	d, err := stream.Retry(ctx, func(ctx context.Context) (Definition, error) {
		d, sequence, err := s.get(ctx, name)
		was := d.Paused
		if err == nil {
			err = do(&d)
		}
		if err == nil && d.Paused != was { // storing it again would make the server forget what is due at this moment
			err = s.put(ctx, d, sequence, now)
		}
		return d, err
	})
	if err != nil {
		return Definition{}, fmt.Errorf("cannot change schedule %q: %w", name, err)
	}
	return d, nil
}

// RunNow makes a firing by hand, also of a paused schedule, and returns its id.
func (s *Store) RunNow(ctx context.Context, name, by string) (uuid.UUID, error) {
	d, _, err := s.get(ctx, name)
	var id uuid.UUID
	if err == nil {
		id, err = uuid.NewV7()
	}
	if err == nil {
		err = s.fire(ctx, d, nats.Header{runNowHeader: {id.String()}, runByHeader: {by}}, jetstream.WithMsgID(id.String()))
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("cannot run schedule %q now: %w", name, err)
	}
	return id, nil
}

// Results returns what has become of a schedule's last firings, in the order of their planned times.
func (s *Store) Results(ctx context.Context, name string) ([]Result, error) {
	results, _, err := s.results(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the results of schedule %q: %w", name, err)
	}
	return results, nil
}

func (s *Store) get(ctx context.Context, name string) (d Definition, sequence uint64, err error) {
	if err := CheckName(name); err != nil {
		return Definition{}, 0, err
	}
	msg, err := s.stream.GetLastMsgForSubject(ctx, stream.ScheduleDef(name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Definition{}, 0, ErrNotFound
	}
	if err != nil {
		return Definition{}, 0, err
	}
	d, err = decode(name, msg.Header.Get(stream.VersionHeader), msg.Data)
	return d, msg.Sequence, err
}

// put stores the definition over the one of that sequence. One that is paused has no schedule's headers, which is how the
// server forgets its times.
func (s *Store) put(ctx context.Context, d Definition, over uint64, now time.Time) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(over)}
	if !d.Paused {
		opts = append(opts, jetstream.WithScheduleTarget(stream.ScheduleFire(d.Name)))
		opts = append(opts, d.Spec.publishOptions(now)...)
		if d.Spec.Kind == At {
			opts = append(opts, jetstream.WithScheduleTTL(onceTTL))
		}
	}
	return s.publish(ctx, stream.ScheduleDef(d.Name), nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}, data, opts...)
}

// fire stores a firing that the server did not make.
func (s *Store) fire(ctx context.Context, d Definition, header nats.Header, opts ...jetstream.PublishOpt) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	return s.publish(ctx, stream.ScheduleFire(d.Name), header, data, opts...)
}

func (s *Store) publish(ctx context.Context, subject string, header nats.Header, data []byte, opts ...jetstream.PublishOpt) error {
	header.Set(stream.VersionHeader, restart.WireVersion)
	_, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header, Data: data}, opts...)
	return err
}

func (s *Store) results(ctx context.Context, name string) (results []Result, sequence uint64, err error) {
	msg, err := s.stream.GetLastMsgForSubject(ctx, stream.ScheduleResult(name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return results, msg.Sequence, json.Unmarshal(msg.Data, &results)
}

// record adds results of firings to their schedule's, but for those of firings that have one: the first stands. It reports
// whether any was added. All results of a schedule are one message, so that comparing and setting it covers them all.
func (s *Store) record(ctx context.Context, d Definition, more ...Result) (added bool, err error) {
	return stream.Retry(ctx, func(ctx context.Context) (bool, error) {
		results, sequence, err := s.results(ctx, d.Name)
		if err != nil {
			return false, err
		}
		before := len(results)
		for _, r := range more {
			if !has(results, r.ID) {
				results = append(results, r)
			}
		}
		if len(results) == before {
			return false, nil
		}
		slices.SortStableFunc(results, func(a, b Result) int { return a.Planned.Compare(b.Planned) })
		data, err := json.Marshal(results[max(0, len(results)-maxResults):])
		if err != nil {
			return false, err
		}
		opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(sequence)}
		if d.Spec.Kind == At {
			opts = append(opts, jetstream.WithMsgTTL(onceTTL))
		}
		return true, s.publish(ctx, stream.ScheduleResult(d.Name), nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}, data, opts...)
	})
}

func has(results []Result, id uuid.UUID) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.ID == id })
}
