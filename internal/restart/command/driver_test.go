package command

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var classes = []error{restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent}

// wantClass fails unless err wraps that class and no other; nil means an error without any.
func wantClass(t *testing.T, err, want error) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, class := range classes {
		if got := errors.Is(err, class); got != (class == want) {
			t.Errorf("got %q; whether it wraps %q: %t, want %t", err, class, got, class == want)
		}
	}
}

// A status that is taken for another one restarts a host twice, or never.
func TestRestart_KnowsByTheExitStatusWhatWasDone(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   error // nil: unknown
	}{
		{"exit 1", nil},
		{"exit 2", nil},
		{"exit 64", nil},
		{"exit 74", nil},
		{"exit 75", restart.ErrRefused},
		{"exit 76", restart.ErrChanged},
		{"exit 77", nil},
		{"exit 78", restart.ErrPermanent},
		{"exit 79", nil},
		{"exit 125", nil},
		{"exit 126", restart.ErrPermanent},
		{"exit 127", restart.ErrPermanent},
		{"exit 128", nil},
		{"exit 255", nil},
		{"kill -TERM $$", nil},
		{"kill -KILL $$", nil},
		{"no-such-program-for-sure", restart.ErrPermanent},
	} {
		t.Run(tt.script, func(t *testing.T) {
			d := newDriver(t, Config{Restart: sh(tt.script)})
			wantClass(t, d.Restart(t.Context(), trigger("1")), tt.want)
		})
	}
	t.Run("exit 0", func(t *testing.T) {
		d := newDriver(t, Config{Restart: sh("echo anything; echo an error >&2; exit 0")})
		if err := d.Restart(t.Context(), trigger("1")); err != nil {
			t.Errorf("got %v, want it taken", err)
		}
	})
}

// A program that cannot even be run has done nothing. Whether it ever will be able to is another question.
func TestRestart_ProgramThatDoesNotStartHasDoneNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
	}{
		{"it is gone", func(t *testing.T, path string) { must(t, os.Remove(path)) }, restart.ErrPermanent},
		{"it may not be run any more", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o600)) }, restart.ErrPermanent},
		{"its interpreter is not there", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("#!/no/such/interpreter\n"), 0o700))
		}, restart.ErrPermanent},
		{"it is no program", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("text"), 0o700)) }, restart.ErrPermanent},
		{"it is being written", func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			t.Cleanup(func() { f.Close() })
		}, restart.ErrRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "script")
			must(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700))
			d := newDriver(t, Config{Probe: []string{path}, Restart: []string{path, "secret"}})
			tt.spoil(t, path)
			err := d.Restart(t.Context(), trigger("1"))
			wantClass(t, err, tt.want)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("got %q, which tells an argument", err)
			}
			_, err = d.Probe(t.Context(), host)
			wantClass(t, err, nil)
		})
	}
}

func TestRestart_RunsNothingWhereNothingMayBeDone(t *testing.T) {
	ended, cancel := context.WithCancelCause(t.Context())
	lost := errors.New("the lease is lost")
	cancel(lost)
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		change func(*restart.Trigger)
		want   error
	}{
		{"no epoch", t.Context(), func(t *restart.Trigger) { t.From = "" }, restart.ErrPermanent},
		{"an epoch that looks like an option", t.Context(), func(t *restart.Trigger) { t.From = "--force" }, restart.ErrPermanent},
		{"an epoch with a NUL byte", t.Context(), func(t *restart.Trigger) { t.From = "1\x00" }, restart.ErrPermanent},
		{"an epoch of two lines", t.Context(), func(t *restart.Trigger) { t.From = "1\n2" }, restart.ErrPermanent},
		{"an epoch without end", t.Context(), func(t *restart.Trigger) { t.From = restart.Epoch(strings.Repeat("1", 257)) }, restart.ErrPermanent},
		{"no time", t.Context(), func(t *restart.Trigger) { t.Within = 0 }, restart.ErrRefused},
		{"negative time", t.Context(), func(t *restart.Trigger) { t.Within = -time.Hour }, restart.ErrRefused},
		{"time that rounds to none", t.Context(), func(t *restart.Trigger) { t.Within = time.Millisecond - 1 }, restart.ErrRefused},
		{"no host", t.Context(), func(t *restart.Trigger) { t.Host = "" }, restart.ErrPermanent},
		{"a lost lease", ended, func(*restart.Trigger) {}, restart.ErrRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := filepath.Join(t.TempDir(), "ran")
			d := newDriver(t, Config{Restart: []string{"touch", ran}})
			tr := trigger("1")
			tt.change(&tr)
			err := d.Restart(tt.ctx, tr)
			wantClass(t, err, tt.want)
			if tt.ctx == ended && !errors.Is(err, lost) {
				t.Errorf("got %v, want it to wrap the cause", err)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the program was run")
			}
		})
	}
}

// Whoever reads the outcome must see what the program said, and no more of it than helps.
func TestDriver_ErrorEndsWithTheLastLineThatWasPrinted(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"nothing", "exit 3", "exit status 3"},
		{"a line", "echo no route >&2; exit 3", `exit status 3: "no route"`},
		{"the last of many", "seq 1 100000 >&2; exit 3", `exit status 3: "100000"`},
		{"empty lines after it", `printf 'no route\n \n\r\n' >&2; exit 3`, `exit status 3: "no route"`},
		{"no final newline", "printf 'a\nb' >&2; exit 3", `exit status 3: "b"`},
		{"progress", `printf '1%%\r2%%\r3%%' >&2; exit 3`, `exit status 3: "3%"`},
		{"terminal codes", `printf '\033[2Jx' >&2; exit 3`, `exit status 3: "\x1b[2Jx"`},
		{"a very long line", `printf '%0100000d' 7 >&2; exit 3`, `exit status 3: "` + strings.Repeat("0", 200) + `" and more`},
		{"a signal", "echo oh >&2; kill -SEGV $$", `"oh"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, Config{Probe: sh(tt.script), Restart: sh(tt.script)})
			_, err := d.Probe(t.Context(), host)
			wantClass(t, err, nil)
			if !strings.HasPrefix(err.Error(), `cannot probe host "`+string(host)+`": `) || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Probe: got %s, want it to end with %s", err, tt.want)
			}
			err = d.Restart(t.Context(), trigger("1"))
			wantClass(t, err, nil)
			if !strings.HasPrefix(err.Error(), `cannot restart host "`+string(host)+`": `) || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Restart: got %s, want it to end with %s", err, tt.want)
			}
		})
	}
	t.Run("of both streams of a restart", func(t *testing.T) {
		d := newDriver(t, Config{Restart: sh("echo first >&2; echo second; exit 3")})
		if err := d.Restart(t.Context(), trigger("1")); err == nil || !strings.HasSuffix(err.Error(), `"second"`) {
			t.Errorf("got %v, want it to end with what was printed last", err)
		}
	})
}

// The worker's environment holds the passwords of its database and its broker.
func TestDriver_ProgramSeesWhatItNeedsAndNothingElse(t *testing.T) {
	t.Setenv("MANDRILL_DATABASE", "postgres://mandrill:secret@db/mandrill")
	t.Setenv("RESTART_HOST", "of another")
	t.Setenv("PATH", os.Getenv("PATH"))
	for _, name := range []string{"HOME", "LANG", "TZ", "TMPDIR", "PASSED_ON", "EMPTY"} {
		t.Setenv(name, map[bool]string{false: "the " + name}[name == "EMPTY"])
	}
	worker := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=the HOME", "LANG=the LANG", "TZ=the TZ", "TMPDIR=the TMPDIR",
		"PASSED_ON=the PASSED_ON", "EMPTY=",
	}
	calls := make(chan call, 1)
	url := serve(t, func(_ context.Context, c call) answer {
		calls <- c
		return answer{Stdout: "1\n"}
	})
	d := newDriver(t, Config{
		Probe:   askTest(url, "{group}", "-", "{host}", "", "{host}", "a b", "$HOME", "*"),
		Restart: askTest(url, "{host}", "{group}", "{epoch}", "{id}", "{attempt}", "{within}", "`x`"),
		Env:     []string{"PASSED_ON", "EMPTY", "NOT_SET_ANYWHERE"},
	})

	if _, err := d.Probe(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	wantCall(t, <-calls, call{
		Args:    []string{"cattle", "-", string(host), "", string(host), "a b", "$HOME", "*"},
		Environ: append([]string{"RESTART_HOST=" + string(host), "RESTART_GROUP=cattle"}, worker...),
	})

	id := uuid.MustParse("0198a7b0-1c2d-7000-8000-000000000001")
	err := d.Restart(t.Context(), restart.Trigger{
		Host: host, From: "2026-05-04 {host} ü", ID: id, Attempt: 12, Within: 83*time.Second + 4*time.Millisecond + 999*time.Microsecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCall(t, <-calls, call{
		Args: []string{string(host), "cattle", "2026-05-04 {host} ü", id.String(), "12", "83.004", "`x`"},
		Environ: append([]string{
			"RESTART_HOST=" + string(host), "RESTART_GROUP=cattle", "RESTART_EPOCH=2026-05-04 {host} ü",
			"RESTART_ID=" + id.String(), "RESTART_ATTEMPT=12", "RESTART_WITHIN=83.004",
		}, worker...),
	})
}

func wantCall(t *testing.T, got, want call) {
	t.Helper()
	slices.Sort(got.Environ)
	slices.Sort(want.Environ)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the program saw (-want +got):\n%s", diff)
	}
}

// A password prompt, or a read of anything else, would hold a program up until it is killed.
func TestDriver_ProgramHasNoInput(t *testing.T) {
	d := newDriver(t, Config{Probe: sh("cat; echo 1")})
	state, err := d.Probe(t.Context(), host)
	if err != nil || state.Epoch != "1" {
		t.Errorf("got %+v, %v, want epoch 1", state, err)
	}
}

// Whatever the host is called: either nothing is run, or the program gets that name, whole, as one argument.
func FuzzDriver_HostIsRefusedOrPassedOnExactly(f *testing.F) {
	for _, seed := range []string{
		string(host), "", " ", "a b", "a\nb", "-rf", "--", "$(reboot)", "`reboot`", "a;b", "a|b", "'a'", `"a"`, "a\x00b", "..", "../a",
		"{host}", "{epoch}", "*", "~", "A.B", "ä", "\xff", "a..b", "a.", "a-b_c.d", strings.Repeat("a", 253), strings.Repeat("a", 300), "%s", "=",
	} {
		f.Add(seed)
	}
	const script = `printf '%s %s %s\n' "$#" "$1" "$RESTART_HOST" | tee -a "$0"`
	seen := filepath.Join(f.TempDir(), "seen")
	program := []string{"sh", "-c", script, seen, "{host}"}
	d := newDriver(f, Config{Probe: program, Restart: program})
	f.Fuzz(func(t *testing.T, name string) {
		must(t, os.WriteFile(seen, nil, 0o600))
		tr := trigger("1")
		tr.Host = restart.Host(name)
		state, probeErr := d.Probe(t.Context(), tr.Host)
		restartErr := d.Restart(t.Context(), tr)
		ran, err := os.ReadFile(seen)
		must(t, err)

		if tr.Host.Check() != nil {
			wantClass(t, probeErr, restart.ErrPermanent)
			wantClass(t, restartErr, restart.ErrPermanent)
			if len(ran) != 0 {
				t.Fatalf("host %q: a program was run and saw %q", name, ran)
			}
			return
		}
		line := "1 " + name + " " + name
		if restartErr != nil || string(ran) != line+"\n"+line+"\n" {
			t.Fatalf("host %q: got %v, and the programs saw %q", name, restartErr, ran)
		}
		if len(line) <= maxEpoch && (probeErr != nil || string(state.Epoch) != line) {
			t.Fatalf("host %q: got %+v, %v, want epoch %q", name, state, probeErr, line)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
