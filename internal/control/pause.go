package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// AllGroups stands for every group in the key of a pause. No group is called so.
const AllGroups restart.Group = "_all"

// A Cause is what may hold a group back. Each holds it by itself: what one of them does leaves the others alone.
type Cause string

const (
	ByHand    Cause = "manual"  // a person
	ByWindow  Cause = "window"  // the group's hours are over
	ByBreaker Cause = "breaker" // too many hosts in a row did not come back
)

// ByMonitor returns what holds a group back since the monitor of that name has failed.
func ByMonitor(name string) Cause { return Cause("monitor-" + name) }

// ErrChanged is wrapped where an entry is not what it was expected to be: somebody else was faster.
var ErrChanged = errors.New("its entry is another one by now")

// A Pause holds a group back: no trigger is given while it is in force. What was triggered goes on being verified.
type Pause struct {
	Group restart.Group `json:"-"` // or AllGroups
	Cause Cause         `json:"-"`
	Since time.Time     `json:"since"`
	Until time.Time     `json:"until,omitzero"` // zero: until it is resumed
	By    string        `json:"by"`
	Why   string        `json:"why,omitempty"`

	Revision uint64 `json:"-"` // of the entry that it was read from; zero: it was not
}

// InForce reports whether the pause holds its group back at the time.
func (p Pause) InForce(now time.Time) bool { return p.Until.IsZero() || now.Before(p.Until) }

func (p Pause) key() string { return stream.PausePrefix + string(p.Group) + "." + string(p.Cause) }

// Put puts the pause in the place of any other of its group and cause, and returns the bucket's revision once that is
// stored.
func Put(ctx context.Context, kv jetstream.KeyValue, p Pause) (revision uint64, err error) {
	return p.write(func(key string, data []byte) (uint64, error) { return kv.Put(ctx, key, data) })
}

// PutFirst is Put where there is no other of its group and cause. Where there is one, or one is just being written, the
// error wraps ErrChanged.
func PutFirst(ctx context.Context, kv jetstream.KeyValue, p Pause) (revision uint64, err error) {
	return p.write(func(key string, data []byte) (uint64, error) { return kv.Create(ctx, key, data) })
}

// Renew writes a pause that was read once more, as it was, and returns its new revision. Where it is another one by
// now, or gone, the error wraps ErrChanged.
func Renew(ctx context.Context, kv jetstream.KeyValue, p Pause) (revision uint64, err error) {
	return p.write(func(key string, data []byte) (uint64, error) { return kv.Update(ctx, key, data, p.Revision) })
}

func (p Pause) write(put func(key string, data []byte) (uint64, error)) (revision uint64, err error) {
	data, err := json.Marshal(p)
	if err == nil {
		revision, err = put(p.key(), data)
	}
	if isChanged(err) {
		err = ErrChanged
	}
	if err != nil {
		return 0, fmt.Errorf("cannot pause group %q: %w", p.Group, err)
	}
	return revision, nil
}

func isChanged(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || stream.IsWrongSequence(err)
}

// LiftRead takes away a pause that was read. Where it is another one by now, or gone, the error wraps ErrChanged.
func LiftRead(ctx context.Context, kv jetstream.KeyValue, p Pause) error {
	if p.Revision == 0 { // which the bucket takes for whatever stands there
		return fmt.Errorf("cannot resume group %q: %w", p.Group, ErrChanged)
	}
	err := kv.Delete(ctx, p.key(), jetstream.LastRevision(p.Revision))
	if isChanged(err) {
		err = ErrChanged
	}
	if err != nil {
		return fmt.Errorf("cannot resume group %q: %w", p.Group, err)
	}
	return nil
}

// Lift takes away what holds a group back by these causes.
func Lift(ctx context.Context, kv jetstream.KeyValue, group restart.Group, causes ...Cause) error {
	for _, cause := range causes {
		err := kv.Delete(ctx, Pause{Group: group, Cause: cause}.key())
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("cannot resume group %q: %w", group, err)
		}
	}
	return nil
}

// Resume takes away what a person, the breaker or a monitor put there, and returns that. A window is left alone: it opens
// when it is time.
func Resume(ctx context.Context, kv jetstream.KeyValue, group restart.Group) ([]Pause, error) {
	entries, _, err := load(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("cannot resume group %q: %w", group, err)
	}
	state := entries.of(group)
	var lifted []Pause
	for _, p := range state.Pauses {
		if p.Group != group || p.Cause == ByWindow {
			continue
		}
		if err := Lift(ctx, kv, group, p.Cause); err != nil {
			return lifted, err
		}
		lifted = append(lifted, p)
	}
	if len(state.Row) > 0 {
		if err := kv.Delete(ctx, stream.RowPrefix+string(group)); err != nil {
			return lifted, fmt.Errorf("cannot resume group %q: %w", group, err)
		}
	}
	return lifted, nil
}

// parsePause returns the pause that an entry of the bucket is. One that cannot be read holds its group until somebody
// looks at it.
func parsePause(key string, value []byte) (p Pause) {
	if err := json.Unmarshal(value, &p); err != nil {
		p = Pause{Why: fmt.Sprintf("entry %s of bucket %s cannot be read: %v", key, stream.Control, err)}
	}
	group, cause, _ := strings.Cut(strings.TrimPrefix(key, stream.PausePrefix), ".")
	p.Group, p.Cause = restart.Group(group), Cause(cause)
	return p
}
