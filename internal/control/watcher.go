package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// WatcherConfig says what is watched.
type WatcherConfig struct {
	Conn *nats.Conn
	KV   jetstream.KeyValue // the control bucket
	// Every is the time between two looks at the bucket. A change is seen at once all the same, unless its announcement is
	// lost. It must be positive.
	Every  time.Duration
	Logger zerolog.Logger
}

// A Watcher knows what the bucket says, and since when nothing else can have been true.
//
// It asks the leader for the bucket's last revision, again and again, and reads the bucket when that is another one. A
// watch of the client library would tell changes as fast, but not that there was none, which is what a trigger rests on.
type Watcher struct {
	cfg     WatcherConfig
	js      jetstream.JetStream
	looking sync.Mutex // held while one looks

	mu        sync.Mutex
	entries   *entries
	known     uint64        // the revision up to which entries are known
	confirmed time.Time     // the bucket said this at that time, or later
	changed   chan struct{} // closed when entries become others

	// What follows belongs to whoever is looking.
	created  time.Time // the bucket
	revision uint64    // as known
	behind   int       // readings in a row that did not reach the last revision
}

// NewWatcher returns a watcher that knows nothing yet.
func NewWatcher(cfg WatcherConfig) (*Watcher, error) {
	switch {
	case cfg.Conn == nil:
		return nil, errors.New("control: Conn is missing")
	case cfg.KV == nil:
		return nil, errors.New("control: KV is missing")
	case cfg.Every <= 0:
		return nil, errors.New("control: Every is not positive")
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return &Watcher{cfg: cfg, js: js, entries: &entries{}, changed: make(chan struct{})}, nil
}

// State returns what the bucket says of a group, and when that was last known to be all: the zero time if never.
func (w *Watcher) State(group restart.Group) (state State, confirmed time.Time) {
	state, confirmed, _ = w.revisionOf(group)
	return state, confirmed
}

// revisionOf is State with the bucket's revision up to which the state is known.
func (w *Watcher) revisionOf(group restart.Group) (state State, confirmed time.Time, revision uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.entries.of(group), w.confirmed, w.known
}

// Changed returns a channel that is closed when the bucket says something else than now.
func (w *Watcher) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Run keeps what the watcher knows fresh until ctx ends. While the server is away, what it knows grows old.
func (w *Watcher) Run(ctx context.Context) {
	announced := make(chan *nats.Msg, 64) // one that finds no room is told by those that are there
	if sub, err := w.cfg.Conn.ChanSubscribe(stream.ControlChanges, announced); err != nil {
		w.cfg.Logger.Warn().Err(err).Msg("cannot hear of changes, only look for them")
	} else {
		defer func() { _ = sub.Unsubscribe() }() // which only a closed connection refuses
	}
	ticker := time.NewTicker(w.cfg.Every)
	defer ticker.Stop()
	level := zerolog.WarnLevel
	for {
		if err := w.Refresh(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Logger.WithLevel(level).Err(err).Msg("cannot tell what holds the groups back, nothing is triggered until that is known")
			level = zerolog.DebugLevel // an outage is told once
		} else {
			level = zerolog.WarnLevel
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-announced:
		}
	}
}

// refreshTimeout bounds one look.
const refreshTimeout = 5 * time.Second

// Refresh looks at the bucket. When it returns nil, what the watcher knows is not older than the call.
func (w *Watcher) Refresh(ctx context.Context) error {
	w.looking.Lock()
	defer w.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	for {
		asked := time.Now()
		bucket, err := w.js.Stream(ctx, stream.ControlStream)
		if err != nil {
			return fmt.Errorf("cannot look at bucket %q: %w", stream.Control, err)
		}
		info := bucket.CachedInfo()
		if w.revision == info.State.LastSeq && w.created.Equal(info.Created) && !w.created.IsZero() {
			w.confirm(asked)
			return nil
		}
		entries, revision, err := load(ctx, w.cfg.KV)
		if err != nil {
			return err
		}
		if revision < info.State.LastSeq {
			if err := w.catchUp(ctx); err != nil {
				return err
			}
			continue
		}
		w.behind = 0
		w.created, w.revision = info.Created, revision
		w.replace(entries, revision, asked)
		return nil
	}
}

// catchUp waits for the follower that answered to reach the last revision. Where that cannot be read, because somebody
// has purged the bucket, a new one is made.
func (w *Watcher) catchUp(ctx context.Context) error {
	const patience = 5
	if w.behind++; w.behind < patience {
		select {
		case <-time.After(time.Duration(w.behind) * 20 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("bucket %q is behind its last revision: %w", stream.Control, context.Cause(ctx))
		}
	}
	w.behind = 0
	if _, err := w.cfg.KV.Put(ctx, "purged", nil); err != nil {
		return fmt.Errorf("cannot write to bucket %q: %w", stream.Control, err)
	}
	return nil
}

func (w *Watcher) confirm(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.confirmed = at
}

func (w *Watcher) replace(e *entries, revision uint64, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries, w.known, w.confirmed = e, revision, at
	close(w.changed)
	w.changed = make(chan struct{})
	for _, err := range e.unreadable {
		w.cfg.Logger.Warn().Err(err).Msg("left out")
	}
}
