package ssh_test

import (
	"encoding/pem"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/ssh"
)

func TestNew_ErrorBeginsWithTheFieldThatIsWrong(t *testing.T) {
	_, private := newKey(t)
	block, err := gossh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	encrypted := newFile(t, "key", string(pem.EncodeToMemory(block)))
	garbage := newFile(t, "garbage", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
	brokenKnown := newFile(t, "known_hosts", "localhost ssh-ed25519 nonsense\n")

	for _, c := range []struct {
		change func(*ssh.Config)
		want   string
	}{
		{func(c *ssh.Config) { c.User = "" }, "user: is missing"},
		{func(c *ssh.Config) { c.User = "a\nb" }, "user: "},
		{func(c *ssh.Config) { c.Port = -1 }, "port: -1 is not between"},
		{func(c *ssh.Config) { c.Port = 65536 }, "port: 65536 is not between"},
		{func(c *ssh.Config) { c.Key = "" }, "key: is missing, and so is agent"},
		{func(c *ssh.Config) { c.Key = "/no/such/key" }, "key: "},
		{func(c *ssh.Config) { c.Key = encrypted }, `key: "` + encrypted + `" is encrypted; add it to an agent`},
		{func(c *ssh.Config) { c.Key = garbage }, `key: "` + garbage + `" is not a private key`},
		{func(c *ssh.Config) { c.KnownHosts = nil }, "known_hosts: is missing"},
		{func(c *ssh.Config) { c.KnownHosts = []string{"/no/such/file"} }, "known_hosts: "},
		{func(c *ssh.Config) { c.KnownHosts = []string{brokenKnown} }, "known_hosts: "},
		{func(c *ssh.Config) { c.Jump = "jump.example.net:0" }, "jump: "},
		{func(c *ssh.Config) { c.Jump = "jump.example.net:ssh" }, "jump: "},
		{func(c *ssh.Config) { c.Jump = "@jump.example.net" }, "jump: "},
		{func(c *ssh.Config) { c.Jump = "a@b@c" }, "jump: "},
		{func(c *ssh.Config) { c.Jump = "-oProxyCommand=reboot" }, "jump: "},
		{func(c *ssh.Config) { c.BootID = "boot_id" }, "boot_id: "},
		{func(c *ssh.Config) { c.Uptime = "uptime" }, "uptime: "},
		{func(c *ssh.Config) { c.Reboot = "true\nreboot" }, "reboot: "},
		{func(c *ssh.Config) { c.Ready = "true\x00" }, "ready: "},
		{func(c *ssh.Config) { c.Timeout = -time.Second }, "timeout: "},
	} {
		cfg := validConfig(t)
		c.change(&cfg)
		_, err := ssh.New(cfg)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want it to begin with %q", err, c.want)
		}
	}
}

func TestNew_DialsNothing(t *testing.T) {
	cfg := validConfig(t)
	cfg.Key, cfg.Agent = "", "/no/such/agent"
	cfg.Jump = "somebody@jump.example.net:2222"
	if _, err := ssh.New(cfg); err != nil {
		t.Error(err)
	}
}

func validConfig(t *testing.T) ssh.Config {
	_, key := newKeyFile(t)
	return ssh.Config{User: "root", Key: key, KnownHosts: []string{newFile(t, "known_hosts", "")}}
}

func TestLogin_KeyThatTheHostDoesNotKnowIsPermanent(t *testing.T) {
	f := newFixture(t, nil)
	_, f.cfg.Key = newKeyFile(t)
	f.wantClass(t, restart.ErrPermanent, `refuses user "mandrill"`, f.cfg.Key, "authorized_keys")
}

// serveAgent serves an agent's keys, or whatever serve does, on a socket.
func serveAgent(t *testing.T, serve func(net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			serve(c) // One after the other will do.
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return path
}

func TestLogin_AgentsKeyIsUsedWhereThereIsNoOther(t *testing.T) {
	f := newFixture(t, nil)
	keys := agent.NewKeyring()
	f.cfg.Key, f.cfg.Agent = "", serveAgent(t, func(c net.Conn) { _ = agent.ServeAgent(keys, c) })
	f.wantClass(t, restart.ErrPermanent, "agent: ", "ssh-add")

	_, other := newKey(t)
	if err := keys.Add(agent.AddedKey{PrivateKey: other}); err != nil {
		t.Fatal(err)
	}
	f.wantClass(t, restart.ErrPermanent, "all keys of the agent", "authorized_keys")

	key, private := newKey(t)
	f.server.user = key.PublicKey()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	if err := mustNew(t, f.cfg).Restart(t.Context(), trigger(firstBoot)); err != nil {
		t.Fatal(err)
	}
	f.wantBoots(t, 1)
}

func TestLogin_AgentThatIsAwayOrHangsIsRefusedForNow(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Key, f.cfg.Agent, f.cfg.Timeout = "", "/no/such/agent", 200*time.Millisecond
	f.wantClass(t, restart.ErrRefused, "agent: ")
	f.cfg.Agent = serveAgent(t, func(c net.Conn) {
		for buf := make([]byte, 64); ; {
			if _, err := c.Read(buf); err != nil {
				return // It hung up.
			}
		}
	})
	f.wantClass(t, restart.ErrRefused, "no answer for 200ms")
}
