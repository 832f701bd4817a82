package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A benchLive is the line that says what is being measured. Without a terminal it shows nothing. It is looked at from
// time to time, so that it costs what is measured nothing.
type benchLive struct {
	done atomic.Int64

	mu    sync.Mutex
	what  string
	total int
	since time.Time

	stop func() // takes the line away; may be called more than once
}

func (a *app) newBenchLive() *benchLive {
	l := &benchLive{since: time.Now(), stop: func() {}}
	if !isTerminal(a.stderr) {
		return l
	}
	bars := mpb.New(mpb.WithOutput(a.stderr), mpb.WithAutoRefresh())
	bar := bars.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return l.line() })))
	l.stop = sync.OnceFunc(func() {
		bar.Abort(true)
		bars.Wait()
	})
	return l
}

// show begins another line.
func (l *benchLive) show(what string, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what, l.total, l.since = what, total, time.Now()
	l.done.Store(0)
}

func (l *benchLive) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.what == "" {
		return "starting"
	}
	return fmt.Sprintf("%s: %d of %d, %s", l.what, l.done.Load(), l.total, time.Since(l.since).Round(time.Second))
}

// benchEnvironment returns what a process of a benchmark is given of the environment: no setting, since it is told all
// of them.
func benchEnvironment(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, "MANDRILL_") && !strings.HasPrefix(entry, "MANDRILL_TEST_")
	})
}
