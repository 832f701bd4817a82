package monitor_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A checkFunc is a check that is a function.
type checkFunc func(ctx context.Context) monitor.Result

func (f checkFunc) Check(ctx context.Context) monitor.Result { return f(ctx) }

func always(v monitor.Verdict) monitor.Check {
	return checkFunc(func(context.Context) monitor.Result { return monitor.Result{Verdict: v, Seen: "as always"} })
}

// takes is a check that takes a while, unless its context ends before. Where both happen at the same time, it has its
// answer.
func takes(d time.Duration, v monitor.Verdict) monitor.Check {
	return checkFunc(func(ctx context.Context) monitor.Result {
		began := time.Now()
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		if time.Since(began) < d {
			return monitor.Result{}
		}
		return monitor.Result{Verdict: v, Seen: "after " + d.String()}
	})
}

// answers is a check that gives one verdict after the other, and the last for ever.
func answers(verdicts ...monitor.Verdict) monitor.Check {
	n := -1
	return checkFunc(func(context.Context) monitor.Result {
		n++
		return monitor.Result{Verdict: verdicts[min(n, len(verdicts)-1)]}
	})
}

// deaf is a check that ignores its context, until it is let go.
func deaf(letGo <-chan struct{}) monitor.Check {
	return checkFunc(func(context.Context) monitor.Result {
		<-letGo
		return monitor.Result{Verdict: monitor.Good}
	})
}

func spec(name string, every time.Duration, check monitor.Check) monitor.Spec {
	return monitor.Spec{Name: name, Check: check, Every: every, Failures: 1, Successes: 1}
}

// A recorder keeps what a runner tells.
type recorder struct {
	observations []monitor.Observation
}

func (r *recorder) of(name string) (all []monitor.Observation) {
	for _, o := range r.observations {
		if o.Name == name {
			all = append(all, o)
		}
	}
	return all
}

// run runs monitors to their end, in a bubble, and returns what was told.
func run(t *testing.T, ctx context.Context, cfg monitor.Config) (monitor.Ending, *recorder) {
	t.Helper()
	rec := &recorder{}
	cfg.Observe = func(o monitor.Observation) { rec.observations = append(rec.observations, o) }
	ending, err := newRunner(t, cfg).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ending, rec
}

func newRunner(t testing.TB, cfg monitor.Config) *monitor.Runner {
	t.Helper()
	r, err := monitor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counting returns a logger, and how often it was given each message.
func counting() (zerolog.Logger, func(message string) int64) {
	counts := map[string]*atomic.Int64{}
	for _, message := range []string{
		"monitor started", "monitor stopped", "check panicked", "check ignores its context",
		"check returned long after its time", "checked", "nothing to do: no monitors are configured (monitors: is missing or empty)",
	} {
		counts[message] = new(atomic.Int64)
	}
	hook := zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, message string) {
		if n := counts[message]; n != nil {
			n.Add(1)
		}
	})
	return zerolog.New(discard{}).Hook(hook), func(message string) int64 { return counts[message].Load() }
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
