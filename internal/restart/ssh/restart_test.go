package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A host that goes down takes its connections with it, which must not look like a failure.
func TestRestart_ConnectionLostAfterTheScriptSaidThatItRestartsIsTaken(t *testing.T) {
	f := newFixture(t, nil)
	f.order(t, "fate", "cut_after")
	if err := mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
}

func TestRestart_ConnectionLostBeforeTheScriptSaidAnythingIsUnknown(t *testing.T) {
	f := newFixture(t, nil)
	f.order(t, "fate", "cut")
	wantError(t, mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)), nil, "no answer to the reboot command")
	f.wantBoots(t, 0)
}

// A host that loses its network before its connections are closed would otherwise hold a slot for as long as allowed.
func TestRestart_SilenceAfterTheScriptSaidThatItRestartsIsTaken(t *testing.T) {
	f := newFixture(t, nil)
	f.order(t, "fate", "hang_after")
	d := mustNew(t, f.cfg)
	d.SetMaxSilence(50 * time.Millisecond)
	tr := trigger(firstBoot)
	tr.Within = time.Hour
	if err := d.Restart(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	f.awaitBoot(t) // which may come after what was said of it
}

func TestRestart_SilenceFromTheBeginningIsUnknownWhenTheTimeIsOver(t *testing.T) {
	f := newFixture(t, nil)
	f.order(t, "fate", "hang")
	d := mustNew(t, f.cfg)
	d.SetMaxSilence(50 * time.Millisecond)
	tr := trigger(firstBoot)
	tr.Within = time.Second
	wantError(t, d.Restart(t.Context(), tr), nil, "no answer to the reboot command")
	f.wantBoots(t, 0)
}

func TestRestart_ExitCodeOfTheRebootCommandSaysWhatWasDone(t *testing.T) {
	f := newFixture(t, nil)
	for _, c := range []struct {
		reboot string
		class  error
		words  string
	}{
		{"exit 75", restart.ErrRefused, "exit code 75"},
		{"exit 76", restart.ErrChanged, ""},
		{"exit 78", restart.ErrPermanent, "exit code 78"},
		{"/no/such/reboot", restart.ErrPermanent, "/no/such/reboot"},
		{f.path("boots"), restart.ErrPermanent, "exit code 126"},
		{"echo no permission >&2; exit 1", nil, `exit code 1: "no permission"`},
		{"kill -9 $$", nil, ""},
	} {
		t.Run(c.reboot, func(t *testing.T) {
			cfg := f.cfg
			cfg.Reboot = c.reboot
			wantError(t, mustNew(t, cfg).Restart(t.Context(), trigger(firstBoot)), c.class, c.words)
		})
	}
	f.wantBoots(t, 0)
}

func TestRestart_WhatAHostPrintsIsBoundedInTheError(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Reboot = "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1"
	err := mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot))
	wantError(t, err, nil, "xxx")
	if n := len(err.Error()); n > 1000 {
		t.Errorf("length of the error: got %d, want at most 1000", n)
	}
}

func TestRestart_LoginShellThatPrintsLinesOfItsOwnIsUnderstood(t *testing.T) {
	f := newFixture(t, nil)
	f.order(t, "probe", "noise")
	f.order(t, "fate", "noise")
	if err := mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
}

// Reaching a host can take all the time there is; the script must then not be sent at all.
func TestRestart_TimeThatReachingTheHostTookIsNotLeft(t *testing.T) {
	const within = 100 * time.Millisecond
	f := newFixture(t, func(s *server) { s.onConn = func(net.Conn) { <-time.After(within) } })
	tr := trigger(firstBoot)
	tr.Within = within
	wantError(t, mustNew(t, f.cfg).Restart(t.Context(), tr), restart.ErrRefused, "longer than the time allowed")
	if ran := f.server.ran(); len(ran) != 1 {
		t.Errorf("commands: got %q, want the question alone", ran)
	}
	f.wantBoots(t, 0)
}

// The script may come late to a host that was stalled. Then its own uptime tells.
func TestRestart_ScriptThatStartsLateIsRefusedByTheHost(t *testing.T) {
	const within = time.Second
	var reboot string
	f := newFixture(t, func(s *server) {
		s.onExec = func(command string, _ net.Conn) {
			if strings.Contains(command, reboot) {
				<-time.After(within + 50*time.Millisecond)
			}
		}
	})
	reboot = f.cfg.Reboot
	tr := trigger(firstBoot)
	tr.Within = within
	wantError(t, mustNew(t, f.cfg).Restart(t.Context(), tr), restart.ErrRefused, "exit code 75")
	f.wantBoots(t, 0)
}

func TestRestart_HostInAnotherBootIsNotEvenSentTheScript(t *testing.T) {
	f := newFixture(t, nil)
	f.reboot(t)
	wantError(t, mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)), restart.ErrChanged, f.bootID(t))
	if ran := f.server.ran(); len(ran) != 1 {
		t.Errorf("commands: got %q, want the question alone", ran)
	}
	f.wantBoots(t, 1)
}

// Between the question and the script another hand may have rebooted the host.
func TestRestart_BootThatEndsBeforeTheScriptStartsIsChanged(t *testing.T) {
	var f *fixture
	f = newFixture(t, func(s *server) {
		s.onExec = func(command string, _ net.Conn) {
			if strings.Contains(command, f.cfg.Reboot) {
				f.reboot(t)
			}
		}
	})
	wantError(t, mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)), restart.ErrChanged)
	f.wantBoots(t, 1)
}

func TestRestart_FromNothingOrFromWhatIsNoBootReachesNothing(t *testing.T) {
	f := newFixture(t, nil)
	d := mustNew(t, f.cfg)
	wantError(t, d.Restart(t.Context(), trigger("")), restart.ErrPermanent, "no epoch")
	for _, from := range []restart.Epoch{
		"1", "'; reboot; '", firstBoot + "'", "$(reboot)", firstBoot + "\n", "{" + firstBoot + "}",
		"ABCDEFAB-0000-4000-8000-000000000000", restart.Epoch(strings.ReplaceAll(firstBoot, "-", "")),
	} {
		wantError(t, d.Restart(t.Context(), trigger(from)), restart.ErrChanged)
	}
	if n := f.server.connections(); n != 0 {
		t.Errorf("connections: got %d, want none", n)
	}
}

func TestDriver_HostThatDoesNotSayWhatItShouldIsPermanent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fixture)
		words  string
	}{
		"NoBootID":        {func(f *fixture) { f.cfg.BootID = f.path("none") }, f404},
		"NoUptime":        {func(f *fixture) { f.cfg.Uptime = f.path("none") }, f404},
		"EmptyBootID":     {func(f *fixture) { f.cfg.BootID = f.path("boots") }, "boot_id: "},
		"OtherBootID":     {func(f *fixture) { f.cfg.BootID = f.path("ready") }, "instead of its boot_id"},
		"OtherUptime":     {func(f *fixture) { f.cfg.Uptime = f.path("ready") }, "uptime: "},
		"UptimeOfSeconds": {func(f *fixture) { f.cfg.Uptime = f.path("seconds") }, "uptime: "},
		"UptimeOfTenths":  {func(f *fixture) { f.cfg.Uptime = f.path("tenths") }, "uptime: "},
		"UptimeTooLong":   {func(f *fixture) { f.cfg.Uptime = f.path("ages") }, "uptime: "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.write(t, "seconds", "12345 1\n")
			f.write(t, "tenths", "12345.6 1\n")
			f.write(t, "ages", "99999999999999999999.00 1\n")
			c.change(f)
			f.wantClass(t, restart.ErrPermanent, c.words)
		})
	}
}

const f404 = "cannot read boot_id and uptime"

func TestProbe_SinceIsTheWorkersClockLessTheHostsUptime(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Uptime = f.path("uptime")
	f.write(t, "uptime", "86400.25 1.00\n")
	before := time.Now()
	state, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	up := 24*time.Hour + 250*time.Millisecond
	if state.Since.Before(before.Add(-up)) || state.Since.After(time.Now().Add(-up)) {
		t.Errorf("since: got %s, want %s before now", state.Since, up)
	}
}

func TestProbe_ReadyCommandThatCannotRunIsUnknownAndNotUnready(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Ready = "/no/such/check"
	_, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost")
	wantError(t, err, nil, "cannot run ready", "/no/such/check")
}

func TestProbe_WithoutReadyCommandAHostThatAnswersIsReady(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Ready = ""
	state, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost")
	if err != nil || !state.Ready {
		t.Errorf("got %+v, %v, want it ready", state, err)
	}
}

// Whatever happens before the script is sent, nothing was done, and the handler may say so.
func TestRestart_HostThatCannotBeReachedIsRefusedForNow(t *testing.T) {
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until the client hangs up
	for name, onConn := range map[string]func(net.Conn){
		"CutAtOnce":          func(c net.Conn) { c.Close() },
		"CutInTheHandshake":  func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n"); _, _ = c.Read(make([]byte, 1)); c.Close() },
		"NotSSH":             func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() },
		"SilentFromTheStart": silent,
		"SilentAfterVersion": func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n"); silent(c) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(s *server) { s.onConn = onConn })
			f.cfg.Timeout = 200 * time.Millisecond
			f.wantClass(t, restart.ErrRefused)
		})
	}
	t.Run("NobodyListens", func(t *testing.T) {
		f := newFixture(t, nil)
		f.server.close()
		f.wantClass(t, restart.ErrRefused)
	})
	// It must not pass for a host that refuses the key, which would be for good.
	t.Run("CutInTheLogin", func(t *testing.T) {
		f := newFixture(t, func(s *server) { s.onLogin = func(c net.Conn) { c.Close() } })
		f.wantClass(t, restart.ErrRefused, "cannot log in")
	})
	t.Run("SilentWhenAsked", func(t *testing.T) {
		f := newFixture(t, nil)
		f.cfg.Timeout = 500 * time.Millisecond
		f.order(t, "probe", "hang")
		f.wantClass(t, restart.ErrRefused, "no answer for 500ms")
	})
}

func TestDriver_CancelEndsAHandshakeThatHangs(t *testing.T) {
	connected := make(chan struct{}, 2)
	f := newFixture(t, func(s *server) {
		s.onConn = func(c net.Conn) {
			connected <- struct{}{}
			_, _ = io.Copy(io.Discard, c) // until the client hangs up
		}
	})
	d := mustNew(t, f.cfg)
	stop := errors.New("stopped by the test")
	for name, call := range map[string]func(context.Context) error{
		"Probe":   func(ctx context.Context) error { _, err := d.Probe(ctx, "localhost"); return err },
		"Restart": func(ctx context.Context) error { return d.Restart(ctx, trigger(firstBoot)) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- call(ctx) }()
		<-connected
		cancel(stop)
		select {
		case err := <-answer:
			if !errors.Is(err, stop) {
				t.Errorf("%s: got %v, want %v", name, err, stop)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no answer after its context ended", name)
		}
	}
}
