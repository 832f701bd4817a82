package guard

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/control"
)

const (
	tryTimeout = 2 * time.Second // bounds each call of the server
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second // short, because others may resume the group before they hear of a failure
)

// Run stores what the monitors say until ctx ends. Then it tries for a bounded time to store the pauses that are not
// stored yet, takes nothing away any more, and returns nil. ctx is to end after the monitors have: what they say later
// is not stored.
func (g *Guard) Run(ctx context.Context) error {
	if !g.running.CompareAndSwap(false, true) {
		return errors.New("guard: is running already")
	}
	defer g.running.Store(false)
	for g.settleAll(ctx, false) {
		select {
		case <-ctx.Done():
		case <-g.wake:
		}
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.Grace)
	defer cancel()
	if !g.stored() {
		g.settleAll(grace, true)
	}
	if !g.stored() {
		g.cfg.Logger.Error().Msg("stopped before every pause by a monitor was stored: other workers do not know of it")
	}
	return nil
}

func (g *Guard) stored() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.posts {
		if p.wanted() {
			return false
		}
	}
	return true
}

// settleAll returns true when nothing is left to be done now, and false when ctx has ended. The last time, only pauses
// are put.
func (g *Guard) settleAll(ctx context.Context, last bool) bool {
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		err := g.settle(ctx, last)
		if err != nil && !errors.Is(err, control.ErrChanged) {
			g.forget()
		}
		if err == nil {
			g.silent = false
			return true
		}
		if !g.silent && ctx.Err() == nil && !errors.Is(err, control.ErrChanged) {
			g.cfg.Logger.Error().Err(err).Msg("cannot store what the monitors say, trying until it is: until then only this worker waits")
			g.silent = true // an outage is told once
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
	return false
}

// settle does once what there is to be done. The error says that something is left; it is ErrChanged if that is only
// because somebody else was faster.
func (g *Guard) settle(ctx context.Context, last bool) error {
	var failed, changed error
	note := func(err error) {
		if errors.Is(err, control.ErrChanged) {
			changed = control.ErrChanged
		} else {
			failed = errors.Join(failed, err)
		}
	}
	for _, p := range g.posts {
		note(g.put(ctx, p))
	}
	note(g.derive(ctx)) // before anything else: others do not hold the group yet
	if due := g.due(last); len(due) > 0 {
		if err := try(ctx, g.cfg.Watcher.Refresh); err != nil {
			note(err)
		} else {
			for _, p := range due {
				note(g.follow(ctx, p))
			}
			note(g.derive(ctx))
		}
	}
	if failed != nil {
		return failed
	}
	return changed
}

func try(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return do(ctx)
}

// put puts an entry if one is to be put. Where there is one, that is seen later.
func (g *Guard) put(ctx context.Context, p *post) error {
	m := p.monitor
	g.mu.Lock()
	needed, failures, result := p.wanted() && p.created == 0, m.failures, m.results
	pause := control.Pause{Group: p.group, Cause: control.ByMonitor(m.Name), Since: m.since, By: g.cfg.Worker, Why: m.seen}
	g.mu.Unlock()
	if !needed {
		return nil
	}
	var revision uint64
	err := try(ctx, func(ctx context.Context) (err error) {
		revision, err = control.PutFirst(ctx, g.cfg.KV, pause)
		return err
	})
	if errors.Is(err, control.ErrChanged) {
		return nil
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	p.created = failures
	p.see(revision)
	p.tell(failures, result, revision)
	g.mu.Unlock()
	g.behind[p.group] = true
	g.cfg.Logger.Error().Str("monitor", m.Name).Str("group", string(p.group)).Str("why", pause.Why).Msg("group paused: a monitor has failed")
	return nil
}

// due returns the posts whose entries are to be looked at.
func (g *Guard) due(last bool) (due []*post) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.posts {
		if p.wanted() || !last && p.due(g.entry(p)) {
			due = append(due, p)
		}
	}
	return due
}

// entry returns the post's entry as the watcher knows it; its revision is zero if there is none.
func (g *Guard) entry(p *post) control.Pause {
	state, _ := g.cfg.Watcher.State(p.group)
	for _, entry := range state.Pauses {
		if entry.Group == p.group && entry.Cause == control.ByMonitor(p.monitor.Name) {
			return entry
		}
	}
	return control.Pause{}
}

// follow does what is to be done about an entry that was just looked at.
func (g *Guard) follow(ctx context.Context, p *post) error {
	m := p.monitor
	g.mu.Lock()
	entry := g.entry(p)
	others := p.wanted() && p.created == 0 && entry.Revision != 0
	step := p.next(entry)
	failures, result := m.failures, m.results
	g.judge()
	g.mu.Unlock()

	log := g.cfg.Logger.With().Str("monitor", m.Name).Str("group", string(p.group)).Logger()
	switch step {
	case again:
		return control.ErrChanged
	case renew:
		var revision uint64
		err := try(ctx, func(ctx context.Context) (err error) {
			revision, err = control.Renew(ctx, g.cfg.KV, entry)
			return err
		})
		if errors.Is(err, control.ErrChanged) { // by another who sees it fail, if it is still there
			g.mu.Lock()
			p.told, p.of = entry.Revision, failures
			g.mu.Unlock()
		}
		if err != nil {
			return err
		}
		g.mu.Lock()
		p.stored = max(p.stored, failures)
		p.see(revision)
		p.tell(failures, result, revision)
		g.judge()
		g.mu.Unlock()
	case lift:
		if err := try(ctx, func(ctx context.Context) error { return control.LiftRead(ctx, g.cfg.KV, entry) }); err != nil {
			return err
		}
		g.mu.Lock()
		p.see(0)
		g.mu.Unlock()
		g.behind[p.group] = true
		log.Info().Msg("group resumed: its monitor is good again")
	}
	if others {
		log.Warn().Str("by", entry.By).Str("why", entry.Why).Msg("group is paused already: a monitor has failed here too")
	}
	return nil
}

// derive brings the consumers of the groups into line whose entries came or went.
func (g *Guard) derive(ctx context.Context) (failed error) {
	for group := range g.behind {
		err := try(ctx, func(ctx context.Context) error { return g.cfg.Derive(ctx, group) })
		if err == nil {
			delete(g.behind, group)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// forget makes every row of good results begin again, because the bucket could not be reached: what others wanted to
// say meanwhile, they could not say either.
func (g *Guard) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.posts {
		p.see(0)
		p.told = 0
	}
}
