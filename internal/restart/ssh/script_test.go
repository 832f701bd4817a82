package ssh_test

import (
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"

	gossh "golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/ssh"
)

func TestRestartScript_RebootsOnlyTheBootNamedAndOnlyInTime(t *testing.T) {
	const other = "00000000-0000-4000-8000-00000000000f"
	for name, c := range map[string]struct {
		from, deadline, uptime string
		code                   int
	}{
		"InTime":             {firstBoot, "12345", "100.00 7.00", 0},
		"AtTheLastMoment":    {firstBoot, "12345", "123.45 7.00", 0},
		"AMomentTooLate":     {firstBoot, "12345", "123.46 7.00", 75},
		"JustBooted":         {firstBoot, "9", "0.08 0.00", 0}, // not octal
		"LongUp":             {firstBoot, "99999999999", "999999999.99 7.00", 0},
		"DeadlineOfThePast":  {firstBoot, "-1", "0.00 0.00", 75},
		"NoUptime":           {firstBoot, "12345", "", 75},
		"UptimeThatIsNone":   {firstBoot, "12345", "up since monday", 75},
		"OtherBoot":          {other, "12345", "100.00 7.00", 76},
		"OtherBootTooLate":   {other, "12345", "999.00 7.00", 76},
		"BeginningOfTheBoot": {firstBoot[:8], "12345", "100.00 7.00", 76},
	} {
		t.Run(name, func(t *testing.T) {
			bootID, uptime := newFile(t, "boot_id", firstBoot+"\n"), newFile(t, "uptime", c.uptime+"\n")
			line := ssh.RestartCommand(c.from, c.deadline, bootID, uptime, "echo rebooted")
			out, err := exec.Command("/bin/sh", "-c", line).Output()
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if rebooted := strings.Contains(string(out), "rebooted"); code != c.code || rebooted != (c.code == 0) {
				t.Errorf("exit code: got %d, want %d; rebooted: %t", code, c.code, rebooted)
			}
		})
	}
}

func TestCommand_EveryArgumentArrivesAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.StringMatching(`[^\x00]*`), 1, 3).Draw(t, "args")
		out, err := exec.Command("/bin/sh", "-c", ssh.Command(`printf "%s\0" "$@"`, args...)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(out), strings.Join(args, "\x00")+"\x00"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Whatever a message says the host is, it is either refused and nothing is reached, or reached under just that name. A
// jump host sees the name as the driver passes it on.
func FuzzHost_IsRefusedOrPassedOnAsItIs(f *testing.F) {
	for _, host := range []string{
		"localhost", "a.example.net", "", "-oProxyCommand=x", "a b", "a;reboot", "$(reboot)", "../a", "a..b", "A", "ä", "a\n",
		"a:22", "root@a", "[::1]", "a/b", "a\x00b", "10.0.0.1", "a.", strings.Repeat("a", 300),
	} {
		f.Add(host)
	}
	fix := newFixture(f, nil)
	var mu sync.Mutex // guards dialed
	var dialed []string
	key, _ := newKey(f)
	jump := (&server{hostKeys: []gossh.Signer{key}, user: fix.server.user, onDial: func(addr string) string {
		mu.Lock()
		defer mu.Unlock()
		dialed = append(dialed, addr)
		return ""
	}}).start(f)
	fix.setKnown(f, knownLine(jump.addr(), key.PublicKey()))
	fix.cfg.Jump, fix.cfg.Port = jump.addr(), 22
	d := mustNew(f, fix.cfg)
	f.Fuzz(func(t *testing.T, host string) {
		mu.Lock()
		dialed = nil
		mu.Unlock()
		tr := trigger(firstBoot)
		tr.Host = restart.Host(host)
		err := d.Restart(t.Context(), tr)
		_, probeErr := d.Probe(t.Context(), tr.Host)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, restart.ErrPermanent) && errors.Is(probeErr, restart.ErrPermanent) && len(dialed) == 0 {
			return
		}
		if len(dialed) != 2 || dialed[0] != host+":22" || dialed[1] != host+":22" {
			t.Errorf("host %q was passed on as %q; %v", host, dialed, err)
		}
	})
}

// Whatever is taken for an epoch, nothing but the id of a boot gets into a command.
func FuzzEpoch_NothingButABootIDReachesTheShell(f *testing.F) {
	for _, from := range []string{
		"", "1", firstBoot, firstBoot + "'", "'; touch hacked; '", "$(reboot)", strings.ToUpper(firstBoot),
	} {
		f.Add(from)
	}
	fix := newFixture(f, nil)
	d := mustNew(f, fix.cfg)
	f.Fuzz(func(t *testing.T, from string) {
		err := d.Restart(t.Context(), trigger(restart.Epoch(from)))
		if from == firstBoot {
			return
		}
		if !errors.Is(err, restart.ErrChanged) && from != "" || err == nil {
			t.Errorf("from %q: got %v, want it changed", from, err)
		}
		for _, command := range fix.server.ran() {
			if strings.Contains(command, fix.cfg.Reboot) && !strings.Contains(command, "'"+firstBoot+"'") {
				t.Errorf("from %q: the host was asked to run %q", from, command)
			}
		}
	})
}
