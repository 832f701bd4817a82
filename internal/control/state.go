package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A State is what the bucket says of one group.
type State struct {
	Pauses []Pause // of the group and of all groups, sorted by key; also those whose time is over
	Budget Budget  // the zero Budget: nobody has set one
	Row    Row
	// Aborted are, by their id, the campaigns that were aborted, of this group or any other. Nobody may change it.
	Aborted map[string]policy.Hold
}

// InForce returns the pauses that hold the group back at the time.
func (s State) InForce(now time.Time) []Pause {
	return slices.DeleteFunc(slices.Clone(s.Pauses), func(p Pause) bool { return !p.InForce(now) })
}

// forever is when a pause without an end ends, for a server that wants an end.
var forever = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// heldUntil returns when the last of the pauses ends that are in force; the zero time if none is.
func (s State) heldUntil(now time.Time) (until time.Time) {
	for _, p := range s.InForce(now) {
		end := p.Until
		if end.IsZero() {
			end = forever
		}
		if end.After(until) {
			until = end
		}
	}
	return until
}

// Read returns what the bucket says of a group. It may be a little behind what was written last.
func Read(ctx context.Context, kv jetstream.KeyValue, group restart.Group) (State, error) {
	entries, _, err := load(ctx, kv)
	if err != nil {
		return State{}, err
	}
	return entries.of(group), nil
}

// Look returns what the bucket says of a group, key by key, so not all of it as of one moment. It is for whoever shows it to
// people and may only look: unlike Read, it creates no consumer.
func Look(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue, group restart.Group) (State, error) {
	keys, err := stream.KeysOf(ctx, js, kv.Bucket(), "")
	if err != nil {
		return State{}, err
	}
	e := newEntries()
	for _, key := range keys {
		if !concerns(key, group) {
			continue
		}
		entry, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound): // deleted, a while ago or just now
		case err != nil:
			return State{}, fmt.Errorf("cannot read key %q of bucket %q: %w", key, kv.Bucket(), err)
		default:
			e.add(key, entry.Value(), entry.Revision())
		}
	}
	e.sort()
	return e.of(group), nil
}

// concerns reports whether a key may say something of the group. All marks of aborted campaigns may.
func concerns(key string, group restart.Group) bool {
	if strings.HasPrefix(key, stream.PausePrefix) {
		return strings.HasPrefix(key, stream.PausePrefix+string(group)+".") ||
			strings.HasPrefix(key, stream.PausePrefix+string(AllGroups)+".")
	}
	return key == stream.BudgetPrefix+string(group) || key == stream.RowPrefix+string(group) ||
		strings.HasPrefix(key, stream.AbortPrefix)
}

// entries is the whole bucket.
type entries struct {
	pauses     map[string]Pause
	sorted     []Pause // by key, once all are read: every look at a group's state goes through them
	budgets    map[restart.Group]Budget
	rows       map[restart.Group]Row
	aborted    map[string]policy.Hold
	told       map[string]marker // by the key of the pause
	unreadable []error           // what harms nobody where it is left out
}

func newEntries() *entries {
	return &entries{
		pauses: map[string]Pause{}, budgets: map[restart.Group]Budget{}, rows: map[restart.Group]Row{}, told: map[string]marker{},
		aborted: map[string]policy.Hold{},
	}
}

// sort makes the pauses what of looks at, once all are there.
func (e *entries) sort() {
	for _, key := range slices.Sorted(maps.Keys(e.pauses)) {
		e.sorted = append(e.sorted, e.pauses[key])
	}
}

func (e *entries) of(group restart.Group) State {
	var s State
	for _, p := range e.sorted {
		if p.Group == group || p.Group == AllGroups {
			s.Pauses = append(s.Pauses, p)
		}
	}
	s.Budget, s.Row, s.Aborted = e.budgets[group], e.rows[group], e.aborted
	return s
}

// load reads the whole bucket, and returns up to which revision it has seen it. A follower may answer that is behind.
func load(ctx context.Context, kv jetstream.KeyValue) (_ *entries, revision uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot read bucket %q: %w", kv.Bucket(), err)
		}
	}()
	watcher, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = watcher.Stop() }() // which only a closed connection refuses
	e := newEntries()
	for {
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return nil, 0, errors.New("the server ended the reading")
			case entry == nil: // that is all
				e.sort()
				return e, revision, nil
			}
			revision = max(revision, entry.Revision())
			if key, ok := strings.CutPrefix(entry.Key(), stream.ToldPrefix); ok {
				e.told[stream.PausePrefix+key] = parseMarker(entry)
			} else if entry.Operation() == jetstream.KeyValuePut {
				e.add(entry.Key(), entry.Value(), entry.Revision())
			}
		}
	}
}

func (e *entries) add(key string, value []byte, revision uint64) {
	var err error
	if strings.HasPrefix(key, stream.PausePrefix) {
		p := parsePause(key, value)
		p.Revision = revision
		e.pauses[key] = p
	} else if group, ok := strings.CutPrefix(key, stream.BudgetPrefix); ok {
		e.budgets[restart.Group(group)], err = parse[Budget](key, value)
	} else if group, ok := strings.CutPrefix(key, stream.RowPrefix); ok {
		e.rows[restart.Group(group)], err = parse[Row](key, value)
	} else if campaign, ok := strings.CutPrefix(key, stream.AbortPrefix); ok {
		e.aborted[campaign] = parseAbort(key, value)
	}
	if err != nil {
		e.unreadable = append(e.unreadable, err)
	}
}

// parseAbort returns the hold that an abort mark is. One that cannot be read aborts its campaign too: it stands there.
func parseAbort(key string, value []byte) policy.Hold {
	mark, err := parse[struct{ By, Why string }](key, value)
	if err != nil {
		mark.By, mark.Why = "somebody", err.Error()
	}
	return policy.Hold{Reason: string(policy.GateAborted), Why: mark.Why, By: mark.By, Aborts: true}
}

func parse[T any](key string, value []byte) (v T, err error) {
	if err := json.Unmarshal(value, &v); err != nil {
		return v, fmt.Errorf("%s cannot be read: %w", key, err)
	}
	return v, nil
}
