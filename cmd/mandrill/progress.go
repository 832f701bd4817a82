package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progressDelay is how long something takes before its progress is shown.
const progressDelay = time.Second

// A progress is a bar on the terminal, which comes only when there is time to see it. Without a terminal, or a total,
// it does nothing.
type progress struct {
	mu    sync.Mutex
	total int
	done  int
	timer *time.Timer
	bars  *mpb.Progress
	bar   *mpb.Bar
	over  bool
}

func (a *app) newProgress(what string, total int) *progress {
	p := &progress{total: total}
	if total == 0 || !isTerminal(a.stderr) {
		return p
	}
	p.timer = time.AfterFunc(progressDelay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.over {
			return
		}
		p.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithAutoRefresh())
		p.bar = p.bars.AddBar(int64(total), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(what+" "), decor.CountersNoUnit("%d of %d")),
			mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
		p.bar.IncrBy(p.done)
	})
	return p
}

func (p *progress) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if p.bar != nil {
		p.bar.Increment()
	}
}

// stop takes the bar away. It may be called more than once.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}

// randomSeed draws a seed that a person can type again.
func randomSeed() uint64 { return rand.Uint64N(1_000_000) + 1 }
