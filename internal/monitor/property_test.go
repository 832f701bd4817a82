package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// A plan is how the checks of one monitor go: the i-th takes Takes[i], and then they begin again.
type plan struct {
	Every, Delay, Timeout time.Duration
	Takes                 []time.Duration
	Deaf                  bool // to its context
	Verdict               monitor.Verdict
}

func drawPlan(rt *rapid.T) plan {
	ms := func(low, high int, name string) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(rt, name)) * time.Millisecond
	}
	p := plan{Every: ms(20, 5000, "every"), Delay: ms(0, 6000, "delay")}
	if rapid.Bool().Draw(rt, "has timeout") {
		p.Timeout = max(1, p.Every*time.Duration(rapid.IntRange(1, 100).Draw(rt, "timeout"))/100)
	}
	for range rapid.IntRange(1, 5).Draw(rt, "lengths") {
		p.Takes = append(p.Takes, p.Every*time.Duration(rapid.IntRange(0, 300).Draw(rt, "takes"))/100)
	}
	p.Deaf = rapid.Bool().Draw(rt, "deaf")
	p.Verdict = monitor.Verdict(rapid.IntRange(0, 2).Draw(rt, "verdict"))
	return p
}

// N02, N10: whatever checks do, beats are exact, never bunched and never overlap, and none is left out without a reason.
func TestRun_BeatsAreExactWhateverChecksDo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plans := make([]plan, rapid.IntRange(1, 4).Draw(rt, "monitors"))
		for i := range plans {
			plans[i] = drawPlan(rt)
		}
		lasts := time.Duration(rapid.IntRange(1, 20_000).Draw(rt, "for")) * time.Millisecond
		var err error
		synctest.Test(t, func(t *testing.T) { err = play(t, plans, lasts) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func play(t *testing.T, plans []plan, lasts time.Duration) error {
	var running, overlaps atomic.Int64
	cfg := monitor.Config{For: lasts}
	for i, p := range plans {
		var mine, n atomic.Int64
		s := spec(fmt.Sprint(i), p.Every, checkFunc(func(ctx context.Context) monitor.Result {
			running.Add(1)
			defer running.Add(-1)
			if mine.Add(1) > 1 {
				overlaps.Add(1)
			}
			defer mine.Add(-1)
			took := time.After(p.Takes[int(n.Add(1)-1)%len(p.Takes)])
			if p.Deaf {
				<-took
				return monitor.Result{Verdict: p.Verdict}
			}
			select {
			case <-took:
				return monitor.Result{Verdict: p.Verdict}
			case <-ctx.Done():
				return monitor.Result{}
			}
		}))
		s.InitialDelay, s.Timeout = p.Delay, p.Timeout
		cfg.Monitors = append(cfg.Monitors, s)
	}
	var r *monitor.Runner
	rec := &recorder{}
	cfg.Observe = func(o monitor.Observation) { rec.observations = append(rec.observations, o) }
	r = newRunner(t, cfg)
	ending, err := r.Run(t.Context())
	if n := running.Load(); err == nil && (int(n) != len(ending.Strays) || int(n) != r.Strays()) {
		err = fmt.Errorf("%d checks run on, %d are counted as strays, and %v are named", n, r.Strays(), ending.Strays)
	}
	time.Sleep(time.Minute) // until all strays have returned
	if r.Strays() != 0 || running.Load() != 0 {
		err = errors.Join(err, errors.New("strays are left"))
	}
	if n := overlaps.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d checks ran beside themselves", n))
	}
	for i, p := range plans {
		if e := p.check(rec.of(fmt.Sprint(i)), lasts); e != nil {
			err = errors.Join(err, fmt.Errorf("monitor %d: %w", i, e))
		}
	}
	return err
}

func (p plan) check(all []monitor.Observation, lasts time.Duration) error {
	due := func(beat int64) time.Duration { return p.Delay + time.Duration(beat)*p.Every }
	last, free := int64(-1), time.Duration(0) // the last beat, and when its check was over
	for _, o := range all {
		switch {
		case o.Seq <= last:
			return fmt.Errorf("beat %d after beat %d", o.Seq, last)
		case o.Missed != o.Seq-last-1:
			return fmt.Errorf("beat %d after beat %d: %d missed", o.Seq, last, o.Missed)
		case o.Offset != due(o.Seq):
			return fmt.Errorf("beat %d at %s, due at %s", o.Seq, o.Offset, due(o.Seq))
		case o.Offset >= lasts:
			return fmt.Errorf("beat %d at %s, after the end", o.Seq, o.Offset)
		case o.Missed > 0 && due(o.Seq-1) > free:
			return fmt.Errorf("beat %d missed, although the check before was over at %s", o.Seq-1, free)
		}
		last, free = o.Seq, o.Offset+o.Result.Took
	}
	if next := due(last + 1); next < lasts && next > free && !p.mayRunOn(next, lasts) {
		return fmt.Errorf("no beat %d", last+1)
	}
	return nil
}

// mayRunOn reports whether the check of a beat may not have been over at the end.
func (p plan) mayRunOn(begun, end time.Duration) bool {
	for _, took := range p.Takes {
		if begun+took >= end {
			return true
		}
	}
	return false
}
