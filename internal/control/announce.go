package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// An Announcement says that something holds a group back, or does so no more.
type Announcement struct {
	Paused bool
	Pause  Pause // what holds the group back; if Paused is false, what was last told to do so
}

// AnnouncerConfig says what is told to whom.
type AnnouncerConfig struct {
	Watcher *Watcher
	KV      jetstream.KeyValue
	Tell    func(Announcement) // is called from Run, one at a time; all others wait for it
	Logger  zerolog.Logger
}

// An Announcer tells of each pause that is put into the bucket, and of each that is taken away. Of the announcers of a
// fleet, each beside the watcher of a worker, one tells of it. Windows are not told of: they come and go every day.
//
// What was told stands in the bucket, beside the pause: its time of beginning says whether another one holds the group
// by now. Who changes that by compare-and-set tells it. So nothing is told twice, and what happened while no announcer
// ran is told by the first that does. A pause that was over or gone before anybody told of it is not told at all, and
// the end of one that ends by itself is not told: whoever was told of it knows when it ends.
//
// What remains possible: what one has won to tell is lost if its process dies before it does, or if it does not hear
// that it has won.
type Announcer struct {
	cfg     AnnouncerConfig
	running atomic.Bool
}

// NewAnnouncer returns an announcer that has told nothing yet.
func NewAnnouncer(cfg AnnouncerConfig) (*Announcer, error) {
	switch {
	case cfg.Watcher == nil:
		return nil, errors.New("control: Watcher is missing")
	case cfg.KV == nil:
		return nil, errors.New("control: KV is missing")
	case cfg.Tell == nil:
		return nil, errors.New("control: Tell is missing")
	}
	return &Announcer{cfg: cfg}, nil
}

const (
	announceRetry   = time.Second     // how long it waits where it could not say that it tells something
	announceTimeout = 2 * time.Second // bounds the saying
)

// Run tells of what changes until ctx ends, and returns nil.
func (a *Announcer) Run(ctx context.Context) error {
	if !a.running.CompareAndSwap(false, true) {
		return errors.New("control: the announcer is running already")
	}
	defer a.running.Store(false)
	level := zerolog.WarnLevel
	for ctx.Err() == nil {
		changed := a.cfg.Watcher.Changed()
		err := a.announce(ctx)
		var again <-chan time.Time // never, where nothing is left
		if err != nil {
			again = time.After(announceRetry)
		}
		switch {
		case err == nil:
			level = zerolog.WarnLevel
		case !errors.Is(err, ErrChanged):
			a.cfg.Logger.WithLevel(level).Err(err).Msg("cannot tell of pauses, trying until it can be done")
			level = zerolog.DebugLevel // an outage is told once
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
	return nil
}

// announce tells all news. An error means that some may be left; where another announcer was faster, that is seen as
// soon as the watcher sees it.
func (a *Announcer) announce(ctx context.Context) (err error) {
	for _, n := range a.cfg.Watcher.all().news(time.Now()) {
		if ctx.Err() != nil {
			return nil
		}
		switch winErr := a.win(ctx, n); {
		case winErr == nil:
			a.cfg.Tell(n.Announcement)
		case !errors.Is(winErr, ErrChanged):
			return winErr
		default:
			err = winErr
		}
	}
	return err
}

// win makes this announcer the one that tells the news. A stop does not break that off: nobody would tell what is won
// by then.
func (a *Announcer) win(ctx context.Context, n news) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
	defer cancel()
	key := stream.ToldPrefix + strings.TrimPrefix(n.Pause.key(), stream.PausePrefix)
	var err error
	if n.Paused {
		var data []byte
		if data, err = json.Marshal(n.Pause); err == nil {
			// Not by Create, which does not mind what was told, and told to be over, meanwhile.
			_, err = a.cfg.KV.Update(ctx, key, data, n.marker)
		}
	} else {
		err = a.cfg.KV.Delete(ctx, key, jetstream.LastRevision(n.marker))
	}
	if isChanged(err) {
		err = ErrChanged
	}
	if err != nil {
		return fmt.Errorf("cannot write %s to bucket %q: %w", key, stream.Control, err)
	}
	return nil
}

// A marker is what was last told of a key.
type marker struct {
	paused   bool
	pause    Pause  // that was told, if paused
	revision uint64 // also of one that was deleted; zero: there is none
}

// parseMarker takes a marker that cannot be read for one that says nothing.
func parseMarker(entry jetstream.KeyValueEntry) marker {
	m := marker{revision: entry.Revision()}
	if entry.Operation() == jetstream.KeyValuePut {
		m.paused = json.Unmarshal(entry.Value(), &m.pause) == nil
	}
	group, cause, _ := strings.Cut(strings.TrimPrefix(entry.Key(), stream.ToldPrefix), ".")
	m.pause.Group, m.pause.Cause = restart.Group(group), Cause(cause)
	return m
}

// news is what is to be told, and the revision of the marker that does not say so yet.
type news struct {
	Announcement
	marker uint64
}

func (e *entries) news(now time.Time) (all []news) {
	for _, p := range e.sorted {
		m := e.told[p.key()]
		if p.Cause == ByWindow || !p.InForce(now) || m.paused && m.pause.Since.Equal(p.Since) {
			continue
		}
		all = append(all, news{Announcement{true, p}, m.revision})
	}
	for _, key := range slices.Sorted(maps.Keys(e.told)) {
		m := e.told[key]
		if _, stands := e.pauses[key]; m.paused && !stands {
			all = append(all, news{Announcement{false, m.pause}, m.revision})
		}
	}
	return all
}

func (w *Watcher) all() *entries {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.entries
}
