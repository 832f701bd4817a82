package monitor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// overrun is how much longer than its context a check may take before it is given up.
const overrun = 2 * time.Second

var errTimeout = errors.New("the check's time is over")

// A call is one call of a check. What it came to belongs to its goroutine, until that has sent the call to the run.
type call struct {
	m     *monitor
	begun time.Duration // by the run; its goroutine begins later

	state atomic.Int32

	result       Result
	began, ended time.Duration
	aborted      bool // it knows nothing because the run has ended
}

const (
	callRuns int32 = iota
	callGivenUp
	callEnded
)

// giveUp reports whether the check still runs. If not, the call is sent to the run, or will be at once.
func (c *call) giveUp() bool { return c.state.CompareAndSwap(callRuns, callGivenUp) }

// launch calls the monitor's check in a goroutine of its own, because a caller cannot leave a call in its own. It ends
// in r.ended, which has room for every monitor's call, so that not even a stray that finds nobody here is stuck in it.
func (r *run) launch(m *monitor, now time.Duration) {
	c := &call{m: m, begun: now}
	m.call = c
	r.calls++
	go r.do(c)
}

func (r *run) do(c *call) {
	ctx, cancel := context.WithTimeoutCause(r.work, c.m.timeout(), errTimeout)
	defer cancel()
	c.began = r.now()
	returned := false
	defer func() {
		c.ended = r.now()
		if p := recover(); p != nil {
			c.result = Result{Verdict: Bad, Seen: fmt.Sprintf("the check panicked: %.200s", fmt.Sprint(p))}
			r.log.Error().Str("monitor", c.m.Name).Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).
				Msg("check panicked")
		} else if !returned {
			c.result = Result{Verdict: Bad, Seen: "the check ended its goroutine"}
		}
		c.judge(ctx)
		if c.state.Swap(callEnded) == callGivenUp {
			strays := r.strays.Add(-1)
			r.log.Warn().Str("monitor", c.m.Name).Dur("took", c.result.Took).Int64("strays", strays).
				Msg("check returned long after its time")
		}
		r.ended <- c
	}()
	c.result = c.m.Check.Check(ctx)
	returned = true
}

// judge completes the result with what the check cannot know: how long it took, and why its context has ended.
func (c *call) judge(ctx context.Context) {
	c.result.Took = c.ended - c.began
	switch context.Cause(ctx) {
	case nil:
	case errTimeout:
		c.result.Verdict = Bad
		seen := fmt.Sprintf("no answer within %s", c.m.timeout())
		if c.result.Seen != "" {
			seen += ": " + c.result.Seen
		}
		c.result.Seen = seen
	default:
		c.aborted = c.result.Verdict == Unknown
	}
}
