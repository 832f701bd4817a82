package ssh_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/ssh"
)

// A standIn is a folder that is a host to those who log in: it has a boot_id, an uptime and a reboot command, and counts
// its boots. The driver's own scripts run in it, with a real /bin/sh.
type standIn struct {
	dir string
	n   int // of fates so far
}

// hostSession runs what an SSH server was asked to run, which is in SSH_ORIGINAL_COMMAND. It takes the files that are
// named fate-* and probe-* as orders to go wrong, one for each call. Exit code 99 asks the server to cut the
// connection.
const hostSession = `#!/bin/sh
dir=${0%/*}
BOOT=$(cat "$dir/boot_id")
now=$(cut -d' ' -f1 /proc/uptime | tr -d .)
UP=$((now - $(cat "$dir/booted-$BOOT")))
export BOOT UP

run() {
	/bin/sh -c "$SSH_ORIGINAL_COMMAND" 3<<END
$(printf '%d.%02d 0.00' $((UP / 100)) $((UP % 100)))
END
}
hang() { while [ -e "$dir/up" ]; do sleep 0.05; done; }
cut_off() {
	case $(cat "/proc/$PPID/comm") in
	sshd*) kill -9 "$PPID" ;;
	*) exit 99 ;;
	esac
}

case $SSH_ORIGINAL_COMMAND in
*"$dir/reboot"*) orders="$dir/fate-" ;;
*mandrill-boot*) orders="$dir/probe-" ;;
*) orders=none ;;
esac
kind=
[ "$ORDERED" ] || for order in "$orders"*; do
	mv "$order" "$dir/taken-$$" 2>/dev/null && read -r kind arg <"$dir/taken-$$"
	break
done
case $kind in
exit) exit "$arg" ;;
lose) run >/dev/null 2>&1; cut_off ;;
cut) cut_off ;;
cut_after) run; sleep 0.2; cut_off ;; # after what was printed is on its way
hang) hang ;;
hang_after) run; hang ;;
noise) echo "welcome to $BOOT"; printf 'no line break: '; run ;;
delay) (sleep "$arg"; ORDERED=1 exec /bin/sh "$0") </dev/null >/dev/null 2>&1 & ;;
*) run ;;
esac
`

// hostReboot ends the boot of its caller, unless that has ended: a process does not outlive its boot.
const hostReboot = `#!/bin/sh
dir=${0%/*}
mkdir "$dir/over-$BOOT" 2>/dev/null || exit 0
id=$(printf '00000000-0000-4000-8000-%012x' $(($(wc -l <"$dir/boots") + 1)))
cut -d' ' -f1 /proc/uptime | tr -d . >"$dir/booted-$id"
mv "$dir/next_boot" "$dir/this_boot" 2>/dev/null || rm -f "$dir/this_boot"
echo "$BOOT" >>"$dir/boots"
echo "$id" >"$dir/new_id"
mv "$dir/new_id" "$dir/boot_id"
`

const hostReady = `#!/bin/sh
read -r kind d 2>/dev/null <"${0%/*}/this_boot" || exit 0
case $kind in
unready) [ "$UP" -ge "$d" ] ;;
flap) [ "$UP" -lt "$d" ] || [ "$UP" -ge $((2 * d)) ] ;;
esac
`

const firstBoot = "00000000-0000-4000-8000-000000000000"

func newStandIn(t testing.TB) *standIn {
	t.Helper()
	if runtime.GOOS != "linux" {
		needless(t, "the stand-in for a host needs Linux")
	}
	h := &standIn{dir: t.TempDir()}
	for name, text := range map[string]string{"session": hostSession, "reboot": hostReboot, "ready": hostReady} {
		h.write(t, name, text)
		if err := os.Chmod(h.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write(t, "boots", "")
	h.write(t, "up", "")
	h.write(t, "booted-"+firstBoot, "-360000\n") // an hour before the machine's own boot
	h.write(t, "boot_id", firstBoot+"\n")
	return h
}

// needless skips a test that lacks something, where that is allowed.
func needless(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("MANDRILL_TEST_ALL") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func (h *standIn) path(name string) string { return filepath.Join(h.dir, name) }

// write puts a file in place as a whole, because sessions may be reading it.
func (h *standIn) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path("new"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.path("new"), h.path(name)); err != nil {
		t.Fatal(err)
	}
}

// order lets one of the next calls go wrong; kind is "fate" for restarts and "probe" for questions.
func (h *standIn) order(t testing.TB, kind, what string) {
	t.Helper()
	h.n++
	h.write(t, fmt.Sprintf("%s-%04d", kind, h.n), what+"\n")
}

// shutDown ends whatever hangs in the host.
func (h *standIn) shutDown(t testing.TB) {
	if err := os.Remove(h.path("up")); err != nil {
		t.Error(err)
	}
}

// session is the host's answer to one command line.
func (h *standIn) session(command string) *exec.Cmd {
	cmd := exec.Command(h.path("session"))
	cmd.Env = append(os.Environ(), "SSH_ORIGINAL_COMMAND="+command)
	return cmd
}

func (h *standIn) boots(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(h.path("boots"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

func (h *standIn) bootID(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(h.path("boot_id"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (h *standIn) reboot(t testing.TB) {
	t.Helper()
	cmd := exec.Command(h.path("reboot"))
	cmd.Env = append(os.Environ(), "BOOT="+h.bootID(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("reboot by another hand: %v: %s", err, out)
	}
}

// config is that of a driver for the host, without how to log in.
func (h *standIn) config() ssh.Config {
	return ssh.Config{BootID: h.path("boot_id"), Uptime: "/dev/fd/3", Reboot: h.path("reboot"), Ready: h.path("ready")}
}

func (h *standIn) subject(t *testing.T, d restart.Driver) restarttest.Subject {
	hundredths := func(d time.Duration) int64 { return int64(d / (10 * time.Millisecond)) }
	fate := func(what string) func() { return func() { h.order(t, "fate", what) } }
	return restarttest.Subject{
		Driver:     d,
		Host:       "localhost",
		Boots:      func() int { return h.boots(t) },
		Reboot:     func() { h.reboot(t) },
		RefuseNext: fate("exit 75"),
		ForbidNext: fate("exit 78"),
		LoseNext:   fate("lose"),
		HangNext:   fate("hang"),
		DelayNext:  func(d time.Duration) { h.order(t, "fate", fmt.Sprintf("delay %.2f", d.Seconds())) },
		IgnoreNext: fate("exit 0"),
		FailProbes: func(n int) {
			for range n {
				h.order(t, "probe", "exit 1")
			}
		},
		HangProbe:   func() { h.order(t, "probe", "hang") },
		UnreadyNext: func(d time.Duration) { h.write(t, "next_boot", fmt.Sprintf("unready %d\n", hundredths(d))) },
		FlapNext:    func(d time.Duration) { h.write(t, "next_boot", fmt.Sprintf("flap %d\n", hundredths(d))) },
	}
}
