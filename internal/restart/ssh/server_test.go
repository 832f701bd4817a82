package ssh_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	skeema "github.com/skeema/knownhosts"
	gossh "golang.org/x/crypto/ssh"

	"github.com/mayhem-mandrill/mandrill/internal/restart/ssh"
)

// A server is an SSH server on loopback. What can be set must be set before start.
type server struct {
	hostKeys []gossh.Signer
	user     gossh.PublicKey                  // who may log in
	session  func(command string) *exec.Cmd   // answers a command
	onLogin  func(net.Conn)                   // called when a key is shown; may close
	onConn   func(net.Conn)                   // called before the handshake; may read, block and close
	onDial   func(addr string) (to string)    // where a connection through this server goes; "" refuses it
	onExec   func(command string, c net.Conn) // called before a command is run

	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex // guards what follows
	conns    []net.Conn
	commands []string
	closed   bool
}

// start starts the server, which is closed when the test ends.
func (s *server) start(t testing.TB) *server {
	t.Helper()
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return // closed
			}
			if s.keep(c) {
				s.wg.Go(func() { s.serve(c) })
			}
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *server) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *server) addr() string { return net.JoinHostPort("localhost", strconv.Itoa(s.port())) }

// keep notes a connection for close, which ends it at once if it comes too late.
func (s *server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	if s.closed {
		c.Close()
	}
	return !s.closed
}

func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// ran returns the commands that the server was asked to run.
func (s *server) ran() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *server) serve(raw net.Conn) {
	defer raw.Close()
	if s.onConn != nil {
		s.onConn(raw)
	}
	cfg := &gossh.ServerConfig{
		PublicKeyCallback: func(_ gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
			if s.onLogin != nil {
				s.onLogin(raw)
			}
			if s.user == nil || !bytes.Equal(key.Marshal(), s.user.Marshal()) {
				return nil, errors.New("not this key")
			}
			return nil, nil
		},
	}
	for _, key := range s.hostKeys {
		cfg.AddHostKey(key)
	}
	conn, channels, requests, err := gossh.NewServerConn(raw, cfg)
	if err != nil {
		return // the client did not want to, or must not
	}
	defer conn.Close()
	s.wg.Go(func() { gossh.DiscardRequests(requests) })
	for c := range channels {
		switch c.ChannelType() {
		case "session":
			s.wg.Go(func() { s.serveSession(raw, c) })
		case "direct-tcpip":
			s.wg.Go(func() { s.serveDial(c) })
		}
	}
}

func (s *server) serveSession(raw net.Conn, c gossh.NewChannel) {
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	for r := range requests {
		if r.Type != "exec" {
			r.Reply(false, nil)
			continue
		}
		var asked struct{ Command string }
		if gossh.Unmarshal(r.Payload, &asked) != nil {
			return
		}
		s.mu.Lock()
		s.commands = append(s.commands, asked.Command)
		s.mu.Unlock()
		if s.onExec != nil {
			s.onExec(asked.Command, raw)
		}
		r.Reply(true, nil)
		cmd := s.session(asked.Command)
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		_ = cmd.Run() // It exits as it is told to.
		const cutOff = 99
		if cmd.ProcessState.ExitCode() == cutOff {
			raw.Close()
			return
		}
		channel.SendRequest("exit-status", false, gossh.Marshal(struct{ Code uint32 }{uint32(cmd.ProcessState.ExitCode())}))
		return
	}
}

func (s *server) serveDial(c gossh.NewChannel) {
	var asked struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if s.onDial == nil || gossh.Unmarshal(c.ExtraData(), &asked) != nil {
		c.Reject(gossh.Prohibited, "no")
		return
	}
	to := s.onDial(net.JoinHostPort(asked.Host, strconv.Itoa(int(asked.Port))))
	inner, err := net.Dial("tcp", to)
	if err != nil {
		c.Reject(gossh.ConnectionFailed, "nobody there")
		return
	}
	defer inner.Close()
	if !s.keep(inner) {
		return
	}
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	s.wg.Go(func() { gossh.DiscardRequests(requests) })
	s.wg.Go(func() {
		_, _ = io.Copy(inner, channel) // It ends with either side.
		inner.Close()
	})
	_, _ = io.Copy(channel, inner)
}

func newKey(t testing.TB) (gossh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return mustSigner(t, private), private
}

func newECDSAKey(t testing.TB) gossh.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return mustSigner(t, private)
}

func mustSigner(t testing.TB, private any) gossh.Signer {
	t.Helper()
	key, err := gossh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newKeyFile returns a new key and the path of a file that has it.
func newKeyFile(t testing.TB) (gossh.Signer, string) {
	t.Helper()
	key, private := newKey(t)
	block, err := gossh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return key, newFile(t, "key", string(pem.EncodeToMemory(block)))
}

func newFile(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func knownLine(addr string, key gossh.PublicKey) string {
	return skeema.Line([]string{addr}, key) + "\n"
}

// A fixture is a stand-in for a host behind a server, and a configuration to reach it with.
type fixture struct {
	*standIn
	server *server
	cfg    ssh.Config
	known  string // the known_hosts file
}

// newFixture starts a server, changed before by change, unless that is nil.
func newFixture(t testing.TB, change func(*server)) *fixture {
	t.Helper()
	h := newStandIn(t)
	hostKey, _ := newKey(t)
	userKey, keyFile := newKeyFile(t)
	s := &server{hostKeys: []gossh.Signer{hostKey}, user: userKey.PublicKey(), session: h.session}
	if change != nil {
		change(s)
	}
	s.start(t)
	t.Cleanup(func() { h.shutDown(t) })
	f := &fixture{standIn: h, server: s, cfg: h.config()}
	f.known = newFile(t, "known_hosts", knownLine(s.addr(), hostKey.PublicKey()))
	f.cfg.User, f.cfg.Port, f.cfg.Key, f.cfg.KnownHosts = "mandrill", s.port(), keyFile, []string{f.known}
	return f
}

func (f *fixture) setKnown(t testing.TB, lines ...string) {
	t.Helper()
	if err := os.WriteFile(f.known, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustNew(t testing.TB, cfg ssh.Config) *ssh.Driver {
	t.Helper()
	d, err := ssh.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
