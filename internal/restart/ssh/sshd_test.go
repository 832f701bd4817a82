package ssh_test

import (
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/mayhem-mandrill/mandrill/internal/porttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
)

func TestSSHD_KeepsTheContract(t *testing.T) {
	restarttest.Run(t, func(t *testing.T) restarttest.Subject {
		f := newSSHD(t)
		subject := f.subject(t, mustNew(t, f.cfg))
		subject.Late = 2 * time.Second // Logging in takes a busy machine a while.
		return subject
	})
}

// The host itself is the jump host, so that its port is reached from itself.
func TestSSHD_RestartsThroughAJumpHost(t *testing.T) {
	f := newSSHD(t)
	f.cfg.Jump = net.JoinHostPort("localhost", strconv.Itoa(f.cfg.Port))
	d := mustNew(t, f.cfg)
	if err := d.Restart(t.Context(), trigger(firstBoot)); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
}

func TestSSHD_ConnectionThatIsCutByTheRebootIsTaken(t *testing.T) {
	f := newSSHD(t)
	f.order(t, "fate", "cut_after")
	if err := mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
}

func TestSSHD_UnknownUserKeyIsPermanent(t *testing.T) {
	f := newSSHD(t)
	_, f.cfg.Key = newKeyFile(t)
	f.wantClass(t, restart.ErrPermanent, "authorized_keys")
}

// newSSHD starts the real server, with keys and a configuration of its own, before a stand-in for a host.
func newSSHD(t testing.TB) *fixture {
	t.Helper()
	program := "/usr/sbin/sshd" // It wants to be started by its full path, and is not in everybody's PATH.
	if _, err := os.Stat(program); err != nil {
		needless(t, "there is no sshd")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			needless(t, fmt.Sprintf("sshd cannot run as root: %v", err))
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	h := newStandIn(t)
	t.Cleanup(func() { h.shutDown(t) })
	hostKey, private := newKey(t)
	block, err := gossh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	hostKeyFile := newFile(t, "host_key", string(pem.EncodeToMemory(block)))
	userKey, keyFile := newKeyFile(t)
	allowed := newFile(t, "authorized_keys", string(gossh.MarshalAuthorizedKey(userKey.PublicKey())))
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	startSSHD(t, program, port, newFile(t, "sshd_config", strings.Join([]string{
		fmt.Sprintf("ListenAddress 127.0.0.1:%d", port),
		"HostKey " + hostKeyFile,
		"AuthorizedKeysFile " + allowed,
		"ForceCommand exec " + h.path("session"),
		"SetEnv SHLVL=2", // keeps a bash from reading the .bashrc of whoever runs the test
		"StrictModes no",
		"UsePAM no",
		"PasswordAuthentication no",
		"PermitRootLogin prohibit-password",
		"PidFile none",
	}, "\n")+"\n"))
	f := &fixture{standIn: h, cfg: h.config()}
	f.known = newFile(t, "known_hosts", knownLine(fmt.Sprintf("localhost:%d", port), hostKey.PublicKey()))
	f.cfg.User, f.cfg.Port, f.cfg.Key, f.cfg.KnownHosts = me.Username, port, keyFile, []string{f.known}
	return f
}

func startSSHD(t testing.TB, program string, port int, config string) {
	t.Helper()
	args := []string{"-D", "-e", "-f", config}
	// Later versions punish an address whose session was killed, which is what these tests do.
	noPenalties := []string{"-o", "PerSourcePenalties=no"}
	if exec.Command(program, append([]string{"-t", "-f", config}, noPenalties...)...).Run() == nil {
		args = append(args, noPenalties...)
	}
	said, err := os.Create(filepath.Join(t.TempDir(), "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It ends as it was killed.
		said.Close()
		if text, err := os.ReadFile(said.Name()); err == nil && t.Failed() {
			t.Logf("sshd said:\n%s", text)
		}
	})
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("sshd does not listen: %v", err)
		}
	}
}

func trigger(from restart.Epoch) restart.Trigger {
	return restart.Trigger{Host: "localhost", From: from, Within: 10 * time.Second, Attempt: 1}
}

func (f *fixture) wantBoots(t testing.TB, want int) {
	t.Helper()
	if got := f.boots(t); got != want {
		t.Errorf("boots: got %d, want %d", got, want)
	}
}

// awaitBoot waits for the first boot, and wants no other.
func (f *fixture) awaitBoot(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); f.boots(t) == 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	f.wantBoots(t, 1)
}

// wantClass fails unless a restart and a probe by a new driver do nothing, with errors that have all the words; the
// restart's must be of the class, and the probe's of it if that is ErrPermanent.
func (f *fixture) wantClass(t testing.TB, class error, words ...string) {
	t.Helper()
	d := mustNew(t, f.cfg)
	before := f.boots(t)
	err := d.Restart(t.Context(), trigger(restart.Epoch(f.bootID(t))))
	wantError(t, err, class, words...)
	if class == restart.ErrPermanent {
		_, err = d.Probe(t.Context(), "localhost")
		wantError(t, err, class, words...)
	}
	f.wantBoots(t, before)
}
