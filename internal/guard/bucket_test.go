package guard_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

var errAway = errors.New("the server is away")

// A bucket is a control bucket in memory, which a test can take away.
type bucket struct {
	jetstream.KeyValue // what nothing here calls

	mu       sync.Mutex
	revision uint64
	entries  map[string]entry
	away     error
	hangs    bool
	deaf     bool // nobody can look, but everybody can write
	written  int
	derived  []restart.Group
	lifting  func(key string) // is told of what a guard takes away
	renewing func()           // is called before an entry is renewed
}

type entry struct {
	control.Pause
	revision uint64
	gone     bool
}

func newBucket() *bucket {
	return &bucket{entries: map[string]entry{}, lifting: func(string) {}, renewing: func() {}}
}

func (b *bucket) reach(ctx context.Context) error {
	b.mu.Lock()
	away, hangs := b.away, b.hangs
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if away == nil {
		return ctx.Err()
	}
	return away
}

func (b *bucket) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// write writes a pause, or its absence, where the entry has the expected revision.
func (b *bucket) write(ctx context.Context, key string, data []byte, expect func(entry) bool) (uint64, error) {
	if err := b.reach(ctx); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !expect(b.entries[key]) {
		return 0, &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}
	}
	b.revision++
	b.written++
	e := entry{revision: b.revision, gone: data == nil}
	if data != nil {
		if err := json.Unmarshal(data, &e.Pause); err != nil {
			return 0, err
		}
	}
	b.entries[key] = e
	return e.revision, nil
}

func (b *bucket) Create(ctx context.Context, key string, data []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return b.write(ctx, key, data, func(e entry) bool { return e.gone || e.revision == 0 })
}

func (b *bucket) Update(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	b.renewing()
	return b.write(ctx, key, data, func(e entry) bool { return e.revision == revision })
}

func (b *bucket) Delete(ctx context.Context, key string, options ...jetstream.KVDeleteOpt) error {
	revision := expected(options[0])
	b.mu.Lock()
	if b.entries[key].revision == revision {
		b.lifting(key)
	}
	b.mu.Unlock()
	_, err := b.write(ctx, key, nil, func(e entry) bool { return e.revision == revision })
	return err
}

// expected returns the revision that jetstream.LastRevision was given, which only its package can ask it for.
func expected(option jetstream.KVDeleteOpt) uint64 {
	set := reflect.ValueOf(option)
	options := reflect.New(set.Type().In(0).Elem())
	set.Call([]reflect.Value{options})
	return options.Elem().FieldByName("revision").Uint()
}

// resume is what a person does.
func (b *bucket) resume(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		if e, ok := b.entries[key]; ok && !e.gone {
			b.revision++
			b.entries[key] = entry{revision: b.revision, gone: true}
		}
	}
}

// standing returns the entries that are there.
func (b *bucket) standing() map[string]entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := maps.Clone(b.entries)
	maps.DeleteFunc(found, func(_ string, e entry) bool { return e.gone })
	return found
}

func (b *bucket) has(key string) bool { return b.standing()[key].revision != 0 }

// A view is what one worker knows of the bucket. It hears of everything, unless the server is away.
type view struct {
	*bucket
	mu    sync.Mutex
	known map[string]entry
}

func (v *view) Refresh(ctx context.Context) error {
	if err := v.reach(ctx); err != nil {
		return err
	}
	if !v.hear() {
		return errAway
	}
	return nil
}

func (v *view) hear() bool {
	v.bucket.mu.Lock()
	deaf := v.deaf || v.hangs || v.away != nil
	v.bucket.mu.Unlock()
	if deaf {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known = v.standing()
	return true
}

func (v *view) State(group restart.Group) (s control.State, _ time.Time) {
	v.hear()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(v.known)) {
		of, cause, _ := strings.Cut(strings.TrimPrefix(key, stream.PausePrefix), ".")
		if of == string(group) {
			p := v.known[key].Pause
			p.Group, p.Cause, p.Revision = group, control.Cause(cause), v.known[key].revision
			s.Pauses = append(s.Pauses, p)
		}
	}
	return s, time.Time{}
}
