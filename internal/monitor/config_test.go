package monitor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		want   string
		change func(*monitor.Config)
	}{
		{"monitors[1].name: is missing", func(c *monitor.Config) { c.Monitors[1].Name = "" }},
		{`monitors[1].name: "a" is another monitor's already`, func(c *monitor.Config) { c.Monitors[1].Name = "a" }},
		{"monitors[0].check: is missing", func(c *monitor.Config) { c.Monitors[0].Check = nil }},
		{"monitors[0].every: is missing", func(c *monitor.Config) { c.Monitors[0].Every = 0 }},
		{"monitors[0].every: -1s is negative", func(c *monitor.Config) { c.Monitors[0].Every = -time.Second }},
		{"monitors[0].initial_delay: -1ns is negative", func(c *monitor.Config) { c.Monitors[0].InitialDelay = -1 }},
		{"monitors[0].timeout: -1ns is negative", func(c *monitor.Config) { c.Monitors[0].Timeout = -1 }},
		{"monitors[0].timeout: 2s is longer than every, 1s", func(c *monitor.Config) { c.Monitors[0].Timeout = 2 * time.Second }},
		{"monitors[0].failures: 0 is not positive", func(c *monitor.Config) { c.Monitors[0].Failures = 0 }},
		{"monitors[0].successes: -1 is not positive", func(c *monitor.Config) { c.Monitors[0].Successes = -1 }},
		{`stop_on: "sometimes" is none of first_failure, all_failed and never`, func(c *monitor.Config) { c.StopOn = "sometimes" }},
		{"for: -1m0s is negative", func(c *monitor.Config) { c.For = -time.Minute }},
	} {
		cfg := monitor.Config{Monitors: []monitor.Spec{
			spec("a", time.Second, always(monitor.Good)), spec("b", time.Second, always(monitor.Good)),
		}}
		tt.change(&cfg)
		if r, err := monitor.New(cfg); err == nil || r != nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("New: got %v, want %q", err, tt.want)
		}
	}
}
