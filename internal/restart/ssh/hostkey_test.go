package ssh_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// wantError fails unless err is of the class, and of no other one, and has all the words.
func wantError(t testing.TB, err, class error, words ...string) {
	t.Helper()
	for _, c := range []error{restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if errors.Is(err, c) != (c == class) {
			t.Fatalf("got %v, want an error that wraps %v and no other class", err, class)
		}
	}
	if err == nil {
		t.Fatal("got nil, want an error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %q, want it to say %q", err, word)
		}
	}
}

func TestHostKey_UnknownHostIsPermanentAndTheErrorSaysHowToAddIt(t *testing.T) {
	f := newFixture(t, nil)
	f.setKnown(t)
	f.wantClass(t, restart.ErrPermanent, f.server.addr(), gossh.FingerprintSHA256(f.server.hostKeys[0].PublicKey()),
		"not in known_hosts", "ssh-keyscan", f.known)
	if ran := f.server.ran(); len(ran) > 0 {
		t.Errorf("a host that is not known was asked to run %q", ran)
	}
}

// A host that is known on another port is another host.
func TestHostKey_OtherPortIsUnknown(t *testing.T) {
	f := newFixture(t, nil)
	key := f.server.hostKeys[0].PublicKey()
	f.setKnown(t, knownLine("localhost:22", key), knownLine("localhost:"+strconv.Itoa(f.cfg.Port+1), key))
	f.wantClass(t, restart.ErrPermanent, "not in known_hosts")
}

func TestHostKey_ChangedKeyIsPermanentAndTheErrorSaysWhereTheKnownOneStands(t *testing.T) {
	f := newFixture(t, nil)
	other, _ := newKey(t)
	f.setKnown(t, "# comment\n", knownLine(f.server.addr(), other.PublicKey()))
	f.wantClass(t, restart.ErrPermanent, "has changed", gossh.FingerprintSHA256(f.server.hostKeys[0].PublicKey()),
		gossh.FingerprintSHA256(other.PublicKey()), f.known+":2", "if the host was reinstalled")
	if ran := f.server.ran(); len(ran) > 0 {
		t.Errorf("a host with another key was asked to run %q", ran)
	}
}

// A host has keys of several kinds, and shows the one that it is asked for. One that is known by another kind than the
// one it would choose must not look changed.
func TestHostKey_HostThatIsKnownByOneOfItsKeysIsAskedForThatOne(t *testing.T) {
	for i, kind := range []string{"ed25519", "ecdsa"} {
		t.Run(kind, func(t *testing.T) {
			f := newFixture(t, func(s *server) { s.hostKeys = append(s.hostKeys, newECDSAKey(t)) })
			f.setKnown(t, knownLine(f.server.addr(), f.server.hostKeys[i].PublicKey()))
			if _, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostKey_HostWithoutAKeyOfTheKnownKindHasChanged(t *testing.T) {
	f := newFixture(t, nil)
	f.setKnown(t, knownLine(f.server.addr(), newECDSAKey(t).PublicKey()))
	f.wantClass(t, restart.ErrPermanent, "has changed", "ssh-keygen -F", "if the host was reinstalled")
}

func TestHostKey_HashedNameIsKnown(t *testing.T) {
	f := newFixture(t, nil)
	f.setKnown(t, knownhosts.HashHostname(knownhosts.Normalize(f.server.addr())), " ",
		string(gossh.MarshalAuthorizedKey(f.server.hostKeys[0].PublicKey())))
	if _, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost"); err != nil {
		t.Error(err)
	}
}

func TestHostKey_RevokedKeyIsPermanentAlsoWhereItIsKnown(t *testing.T) {
	f := newFixture(t, nil)
	line := knownLine(f.server.addr(), f.server.hostKeys[0].PublicKey())
	f.setKnown(t, line, "@revoked * ", strings.SplitN(line, " ", 2)[1])
	f.wantClass(t, restart.ErrPermanent, "revoked", f.known+":2", "another key")
}

func TestHostKey_AuthorityVouchesForTheHostsThatItNames(t *testing.T) {
	authority, _ := newKey(t)
	certified := func(name string) func(*server) {
		return func(s *server) {
			cert := &gossh.Certificate{
				Key: s.hostKeys[0].PublicKey(), CertType: gossh.HostCert, ValidPrincipals: []string{name},
				ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
			}
			if err := cert.SignCert(zeroes{}, authority); err != nil {
				t.Fatal(err)
			}
			key, err := gossh.NewCertSigner(cert, s.hostKeys[0])
			if err != nil {
				t.Fatal(err)
			}
			s.hostKeys[0] = key
		}
	}
	t.Run("ItsOwnName", func(t *testing.T) {
		f := newFixture(t, certified("localhost"))
		f.setKnown(t, "@cert-authority ", knownLine(f.server.addr(), authority.PublicKey()))
		if _, err := mustNew(t, f.cfg).Probe(t.Context(), "localhost"); err != nil {
			t.Error(err)
		}
	})
	t.Run("AnotherName", func(t *testing.T) {
		f := newFixture(t, certified("elsewhere.example.net"))
		f.setKnown(t, "@cert-authority ", knownLine(f.server.addr(), authority.PublicKey()))
		f.wantClass(t, restart.ErrPermanent, "host key of")
	})
}

// zeroes is randomness enough for a nonce that nobody guards.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An operator who has followed an error's advice must not have to restart the worker too.
func TestHostKey_KnownHostsAreReadAgainWhenTheyHaveChanged(t *testing.T) {
	f := newFixture(t, nil)
	line := knownLine(f.server.addr(), f.server.hostKeys[0].PublicKey())
	f.setKnown(t)
	d := mustNew(t, f.cfg)
	_, err := d.Probe(t.Context(), "localhost")
	wantError(t, err, restart.ErrPermanent, "not in known_hosts")

	f.setKnown(t, line)
	if _, err := d.Probe(t.Context(), "localhost"); err != nil {
		t.Fatalf("after the line was added: %v", err)
	}
	if err := os.Remove(f.known); err != nil {
		t.Fatal(err)
	}
	wantError(t, d.Restart(t.Context(), trigger(firstBoot)), restart.ErrRefused, "known_hosts: ")
	f.wantBoots(t, 0)
}

// newJump starts a jump host before the fixture's, and returns it with the line that makes it known.
func newJump(t *testing.T, f *fixture) (jump *server, line string, dialed *[]string) {
	t.Helper()
	key, _ := newKey(t)
	dialed = new([]string)
	jump = (&server{
		hostKeys: []gossh.Signer{key}, user: f.server.user,
		onDial: func(addr string) string {
			*dialed = append(*dialed, addr)
			return f.server.listener.Addr().String()
		},
	}).start(t)
	f.cfg.Jump = "jumper@" + jump.addr()
	return jump, knownLine(jump.addr(), key.PublicKey()), dialed
}

func TestJump_HostIsReachedThroughItByItsOwnName(t *testing.T) {
	f := newFixture(t, nil)
	_, line, dialed := newJump(t, f)
	// The name needs to mean something to the jump host alone.
	host := restart.Host("only-the-jump-host-knows.example.net")
	addr := net.JoinHostPort(string(host), strconv.Itoa(f.cfg.Port))
	f.setKnown(t, line, knownLine(addr, f.server.hostKeys[0].PublicKey()))
	tr := trigger(firstBoot)
	tr.Host = host
	if err := mustNew(t, f.cfg).Restart(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
	if got, want := fmt.Sprint(*dialed), fmt.Sprint([]string{addr}); got != want {
		t.Errorf("dialed by the jump host: got %s, want %s", got, want)
	}
}

func TestJump_ItsOwnKeyIsEnforced(t *testing.T) {
	f := newFixture(t, nil)
	jump, _, dialed := newJump(t, f)
	f.wantClass(t, restart.ErrPermanent, jump.addr(), "not in known_hosts")
	if len(*dialed) > 0 {
		t.Errorf("a jump host that is not known was asked for %q", *dialed)
	}
}

func TestJump_KeyOfTheHostBehindIsEnforced(t *testing.T) {
	f := newFixture(t, nil)
	_, line, _ := newJump(t, f)
	f.setKnown(t, line)
	f.wantClass(t, restart.ErrPermanent, f.server.addr(), "not in known_hosts")
}

func TestJump_HostThatItCannotReachIsRefusedForNow(t *testing.T) {
	f := newFixture(t, nil)
	jump, line, _ := newJump(t, f)
	f.setKnown(t, line, knownLine(f.server.addr(), f.server.hostKeys[0].PublicKey()))
	f.server.close()
	f.wantClass(t, restart.ErrRefused, f.server.addr(), jump.addr())
}
