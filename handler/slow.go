package handler

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

const (
	// slowLines is how many messages are named between two looks, of those that are slow and of those that were: when
	// the store is away, all are. The others are counted.
	slowLines = 10

	// minLook is the least time between two looks, each of which stops intake for some 100 ns a message.
	minLook = 100 * time.Millisecond
)

// WatchSlow tells the log of each message that is in a phase for longer than SlowPhase, once, while it lasts: what
// hangs would leave no trace otherwise. It looks at intervals of half of SlowPhase, and names a few messages a look and
// counts the others. It returns when ctx ends, which should not be before the last message was settled, or at once if
// there is no SlowPhase.
//
// When a message leaves such a phase, the log says how long it was in it. That needs WatchSlow, too: without it, only
// the first few are ever named.
func (h *Handler) WatchSlow(ctx context.Context) {
	if h.cfg.SlowPhase == 0 {
		return
	}
	ticker := time.NewTicker(max(h.cfg.SlowPhase/2, minLook))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.tellSlow()
		}
	}
}

// slow reports whether a message is, or was, too long in a phase.
func (h *Handler) slow(phase Phase, took time.Duration) bool {
	switch phase {
	case "", PhaseSlot, PhaseVerify:
		return false
	default:
		return h.cfg.SlowPhase > 0 && took > h.cfg.SlowPhase
	}
}

// logSlow tells of a slow phase that is over.
func (j *Job) logSlow(phase Phase, took time.Duration) {
	if j.handler.leftSlow.Add(1) <= slowLines {
		j.Log(zerolog.InfoLevel).Str("phase", string(phase)).Dur("took", took).Msg("phase was slow")
	}
}

// tellSlow is one look.
func (h *Handler) tellSlow() {
	named, n := h.newlySlow(time.Now())
	for _, m := range named {
		m.job.Log(zerolog.WarnLevel).Str("phase", string(m.phase)).Dur("took", m.took).Msg("phase is slow")
	}
	if more := n - len(named); more > 0 {
		h.cfg.Logger.Warn().Int("more", more).Msg("phases of more messages are slow")
	}
	if more := h.leftSlow.Swap(0) - slowLines; more > 0 {
		h.cfg.Logger.Info().Int64("more", more).Msg("phases of more messages were slow")
	}
}

// A slowJob is a message that is slow, and how.
type slowJob struct {
	job   *Job
	phase Phase
	took  time.Duration
}

// newlySlow returns how many messages are slow that nobody was told of, and as many of them as are to be named.
func (h *Handler) newlySlow(now time.Time) (named []slowJob, n int) {
	h.inFlight.mu.Lock()
	defer h.inFlight.mu.Unlock()
	for j := range h.inFlight.all {
		p := &j.progress
		p.mu.Lock()
		phase, took := p.phase, now.Sub(p.since)
		is := !p.told && h.slow(phase, took)
		p.told = p.told || is
		p.mu.Unlock()
		if !is {
			continue
		}
		if n++; n <= slowLines {
			named = append(named, slowJob{j, phase, took})
		}
	}
	return named, n
}
