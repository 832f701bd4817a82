package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A worker reboots a host over a real sshd; the host's boot id and its reboot are stand-ins.
func TestProcess_HostIsRebootedOnceOverSSH(t *testing.T) {
	t.Parallel()
	// An address of the loopback that is not among the machine's own, which a worker would not restart.
	const host = "127.0.0.2"
	h := startSSHD(t, host)

	s := newScene(t, simulated.Config{})
	w := s.startWorkerWith(t, "worker", []string{realVariable + "=1"}, "--driver-kind", "ssh",
		"--ssh-user", h.user, "--ssh-port", h.port, "--ssh-key", h.path("user"), "--ssh-known-hosts", h.path("known_hosts"),
		"--ssh-boot-id", h.path("boot_id"), "--ssh-reboot", "/bin/sh "+h.path("reboot"), "--stable-for", "100ms")
	s.publish(t, []string{host})
	s.awaitEmpty(t)
	w.stop(t)
	outcomes := s.outcomes(t)
	for _, o := range outcomes {
		if o.Reason != "verified" || o.Receipt.From != "00000000-0000-4000-8000-000000000001" {
			t.Errorf("got outcome %s %s (%s) from %s, want it verified", o.Kind, o.Reason, o.Detail, o.Receipt.From)
		}
	}
	if boots := strings.Count(h.read(t, "boots"), "\n"); len(outcomes) != 1 || boots != 1 {
		t.Errorf("got %d outcomes and %d boots, want 1 and 1", len(outcomes), boots)
	}
}

// A sshdHost is a real sshd, in a folder with what stands in for the host behind it.
type sshdHost struct{ dir, user, port string }

func (h *sshdHost) path(name string) string { return filepath.Join(h.dir, name) }

func (h *sshdHost) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *sshdHost) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(h.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func startSSHD(t *testing.T, address string) *sshdHost {
	t.Helper()
	const program = "/usr/sbin/sshd"
	for _, needed := range []string{program, "ssh-keygen"} {
		if _, err := exec.LookPath(needed); err != nil {
			if os.Getenv("MANDRILL_TEST_ALL") != "" {
				t.Fatalf("%s is needed: %v", needed, err)
			}
			t.Skipf("%s is needed: %v", needed, err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it goes before anybody has logged in
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Skipf("cannot listen at %s: %v", address, err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	h := &sshdHost{t.TempDir(), me.Username, port}
	for _, name := range []string{"server", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.path(name)).CombinedOutput(); err != nil {
			t.Fatalf("cannot make a key: %v\n%s", err, out)
		}
	}
	h.write(t, "known_hosts", fmt.Sprintf("[%s]:%s %s", address, port, h.read(t, "server.pub")))
	h.write(t, "boot_id", "00000000-0000-4000-8000-000000000001\n")
	h.write(t, "reboot", fmt.Sprintf("echo booted >>%[1]s/boots; echo 00000000-0000-4000-8000-000000000002 >%[1]s/boot_id\n", h.dir))
	h.write(t, "config", strings.Join([]string{
		"ListenAddress " + net.JoinHostPort(address, port), "HostKey " + h.path("server"), "AuthorizedKeysFile " + h.path("user.pub"),
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin prohibit-password", "PidFile none",
	}, "\n")+"\n")
	sshd := exec.Command(program, "-D", "-e", "-f", h.path("config"))
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sshd.Process.Kill() // unless it has ended
		_ = sshd.Wait()
	})
	eventually(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(address, port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return h
}
