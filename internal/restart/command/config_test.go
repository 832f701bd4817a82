package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// An operator must hear of a mistake when the worker starts, by the setting's name, and not when a host must restart.
// What else an argument holds may be a password.
func TestNew_NamesTheSettingThatIsWrongAndTellsNoSecret(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"no group", "group: is empty", func(c *Config) { c.Group = "" }},
		{"a group of two tokens", "group: ", func(c *Config) { c.Group = "a.b" }},
		{"no probe", "probe: is missing", func(c *Config) { c.Probe = nil }},
		{"no restart", "restart: is missing", func(c *Config) { c.Restart = []string{} }},
		{"a program without a name", "restart: is missing", func(c *Config) { c.Restart = []string{"", "x"} }},
		{"a program that is not there", "probe: cannot find the program: ", func(c *Config) { c.Probe = []string{"no-such-program"} }},
		{"a path that is not there", "restart: cannot find the program: ", func(c *Config) { c.Restart = []string{"/no/such"} }},
		{"a program that may not be run", "restart: cannot find the program: ", func(c *Config) { c.Restart = []string{notExecutable} }},
		{"a folder", "restart: cannot find the program: ", func(c *Config) { c.Restart = []string{"/"} }},
		{"a command line instead of a list", "restart: cannot find the program: ", func(c *Config) { c.Restart = []string{"true --secret"} }},
		{"a NUL byte", "probe: argument 1 has a NUL byte", func(c *Config) { c.Probe = []string{"true", "a\x00secret"} }},
		{"the program is a placeholder", "probe: argument 0 is the program, ", func(c *Config) { c.Probe = []string{"{host}"} }},
		{"the program holds a placeholder", "restart: argument 0 is the program, ", func(c *Config) { c.Restart = []string{"/bin/{host}"} }},
		{"a placeholder is a part", "probe: argument 2 has {host} as a part", func(c *Config) { c.Probe = []string{"true", "x", "secret@{host}"} }},
		{"a placeholder in a script", "restart: argument 2 has {epoch} as a part", func(c *Config) { c.Restart = []string{"sh", "-c", "secret {epoch}"} }},
		{"a placeholder twice", "probe: argument 1 has {host} as a part", func(c *Config) { c.Probe = []string{"true", "{host}{host}"} }},
		{"a restart's placeholder as part of a probe's", "probe: argument 1 has {epoch} as a part", func(c *Config) { c.Probe = []string{"true", "-e={epoch}"} }},
		{"a restart's placeholder for a probe", "probe: argument 1 is {epoch}, which is not known here; known are {host}, {group}", func(c *Config) { c.Probe = []string{"true", "{epoch}"} }},
		{"an unknown placeholder", "restart: argument 1 is {name}, which is not known here", func(c *Config) { c.Restart = []string{"true", "{name}"} }},
		{"a placeholder in upper case", "restart: argument 1 is {HOST}, which is not known here", func(c *Config) { c.Restart = []string{"true", "{HOST}"} }},
		{"an unknown compare", "compare: 2 is none", func(c *Config) { c.Compare = 2 }},
		{"a negative max_delay", "max_delay: -1ns is negative", func(c *Config) { c.MaxDelay = -1 }},
		{"no max_delay at acceptance", "max_delay: is missing", func(c *Config) { c.Compare = restart.CompareAtAcceptance }},
		{"a variable without a name", `env: "" is not the name`, func(c *Config) { c.Env = []string{""} }},
		{"a variable with a value", `env: "TOKEN" is given a value`, func(c *Config) { c.Env = []string{"TOKEN=secret"} }},
		{"a variable with a NUL byte", `env: "T\x00" is not the name`, func(c *Config) { c.Env = []string{"T\x00"} }},
		{"a variable of the driver's", `env: "RESTART_HOST" cannot be passed on`, func(c *Config) { c.Env = []string{"RESTART_HOST"} }},
		{"an output that holds no epoch", "output: 511 is not between 512 and 1048576", func(c *Config) { c.Output = 511 }},
		{"a negative output", "output: -1 is not", func(c *Config) { c.Output = -1 }},
		{"an output without end", "output: 1048577 is not", func(c *Config) { c.Output = 1<<20 + 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Group: group, Probe: []string{"true"}, Restart: []string{"true"}, Compare: restart.CompareAtEffect}
			tt.change(&cfg)
			d, err := New(cfg)
			if err == nil {
				t.Fatalf("got %+v, want an error", d)
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %q, want it to begin with %q", err, tt.want)
			}
			// A program's own name must be told, or nobody can mend it.
			if strings.Contains(err.Error(), "secret") && !strings.Contains(tt.want, "cannot find") {
				t.Errorf("got %q, which tells a secret", err)
			}
		})
	}
}

func TestNew_TakesWhatOnlyLooksLikeAPlaceholder(t *testing.T) {
	for _, arg := range []string{"", "{}", "{ host }", `{"a":1}`, "{host", "host}", "%h", "$host", "{a b}", "x{other}"} {
		cfg := Config{Group: group, Probe: []string{"true", arg}, Restart: []string{"true", arg}, Compare: restart.CompareAtEffect}
		if _, err := New(cfg); err != nil {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestDriver_TraitsAreAsConfigured(t *testing.T) {
	for _, want := range []restart.Traits{
		{Compare: restart.CompareAtEffect},
		{Compare: restart.CompareAtEffect, MaxDelay: time.Second},
		{Compare: restart.CompareAtAcceptance, MaxDelay: time.Minute},
	} {
		cfg := Config{Group: group, Probe: []string{"true"}, Restart: []string{"true"}, Compare: want.Compare, MaxDelay: want.MaxDelay}
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.Traits()); diff != "" {
			t.Errorf("Traits (-want +got):\n%s", diff)
		}
	}
}
