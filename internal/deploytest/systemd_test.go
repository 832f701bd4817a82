package deploytest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	deploy  = "../../deploy"
	program = "/usr/local/bin/mandrill"
	grace   = 25 * time.Second // of a worker that is not told otherwise
)

// missing skips a test for what this machine has not, or fails it where everything must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("MANDRILL_TEST_ALL") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// units returns the texts of the units, by file name.
func units(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(deploy, "systemd", "*.service"))
	if err != nil || len(names) != 2 {
		t.Fatalf("got %d units, %v, want those of worker and monitor", len(names), err)
	}
	texts := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(text)
	}
	return texts
}

// systemd only logs what it does not know, and runs the service without it.
func TestSystemd_FindsNothingWrongWithTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		missing(t, "systemd-analyze is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range units(t) {
		// The program is not installed where tests run.
		if !strings.Contains(text, "ExecStart="+program+" ") {
			t.Errorf("%s does not start %s", name, program)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, program, self)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: got %v\n%s", name, err, out)
		}
	}
}

// What a restart worker may do to the machine that it runs on is nothing.
func TestSystemd_UnitsAreWatchedAndConfined(t *testing.T) {
	for name, text := range units(t) {
		settings := map[string]string{}
		for line := range strings.Lines(text) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
				settings[key] = value
			}
		}
		want := map[string]string{
			"Type": "notify", "Restart": "on-failure", "RestartPreventExitStatus": "2", "KillMode": "mixed",
			"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": "",
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if got, there := settings[key]; !there || got != want[key] {
				t.Errorf("%s: got %s=%s, want %s", name, key, got, want[key])
			}
		}
		if d, err := time.ParseDuration(settings["WatchdogSec"]); err != nil || d <= 0 {
			t.Errorf("%s: got WatchdogSec=%s", name, settings["WatchdogSec"])
		}
		stop, err := time.ParseDuration(settings["TimeoutStopSec"])
		if err != nil || stop < grace+15*time.Second {
			t.Errorf("%s: got TimeoutStopSec=%s, which is not long after grace, %s", name, settings["TimeoutStopSec"], grace)
		}
	}
}
