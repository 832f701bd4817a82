package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	gossh "golang.org/x/crypto/ssh"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	defaultPort    = 22
	defaultBootID  = "/proc/sys/kernel/random/boot_id"
	defaultUptime  = "/proc/uptime"
	defaultTimeout = 15 * time.Second

	// defaultReboot is there with every init system, and is found whatever the PATH of a session without a terminal is.
	// Where there is systemd, it is systemctl by another name.
	defaultReboot = "/sbin/reboot"
)

// Config says how hosts are reached and restarted.
type Config struct {
	User string // at the host
	Port int    // of the hosts; zero means 22

	Key   string // path of a private key that is not encrypted
	Agent string // path of an agent's socket, used where Key is empty

	// KnownHosts are the paths of known_hosts files, at least one. They are read again when they have changed.
	KnownHosts []string

	// Jump is the host by whose way all others are reached, as [user@]host[:port]; empty means directly. Its user is
	// User and its port 22 unless it says otherwise.
	Jump string

	BootID string // path of the boot's id at the host; empty means the kernel's
	Uptime string // path of the time since the boot at the host; empty means the kernel's

	// Reboot is the command that reboots, for the host's /bin/sh; empty means /sbin/reboot. If it exits with 75, 76, 78,
	// 126 or 127 it has done nothing: refused for now, another boot is running, or never possible.
	Reboot string

	// Ready is a command, for the host's /bin/sh, that exits with 0 when the host does its work. Empty means that a host
	// that can be reached is ready.
	Ready string

	// Timeout bounds reaching a host, and each question to it. Zero means 15 s.
	Timeout time.Duration
}

// withDefaults returns the configuration with its zero values replaced, or an error that names a field.
func (c Config) withDefaults() (Config, error) {
	if c.Port == 0 {
		c.Port = defaultPort
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	for _, d := range []struct {
		value *string
		empty string
	}{
		{&c.BootID, defaultBootID},
		{&c.Uptime, defaultUptime},
		{&c.Reboot, defaultReboot},
	} {
		if *d.value == "" {
			*d.value = d.empty
		}
	}
	return c, c.validate()
}

func (c Config) validate() error {
	switch {
	case c.User == "":
		return errors.New("user: is missing")
	case c.Port < 1 || c.Port > 65535:
		return fmt.Errorf("port: %d is not between 1 and 65535", c.Port)
	case c.Key == "" && c.Agent == "":
		return errors.New("key: is missing, and so is agent; one of them is needed")
	case len(c.KnownHosts) == 0:
		return errors.New("known_hosts: is missing")
	case c.Timeout < 0:
		return fmt.Errorf("timeout: %s is negative", c.Timeout)
	case !path.IsAbs(c.BootID):
		return fmt.Errorf("boot_id: %q is not an absolute path", c.BootID)
	case !path.IsAbs(c.Uptime):
		return fmt.Errorf("uptime: %q is not an absolute path", c.Uptime)
	}
	for _, f := range []struct{ field, value string }{
		{"user", c.User},
		{"boot_id", c.BootID},
		{"uptime", c.Uptime},
		{"reboot", c.Reboot},
		{"ready", c.Ready},
	} {
		// A line break would be the one thing that not every login shell takes between quotes.
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			return fmt.Errorf("%s: %q has a control character", f.field, f.value)
		}
	}
	return nil
}

// A target is where a connection goes, and as whom.
type target struct {
	user, addr string
}

// parseJump returns what [user@]host[:port] means; empty means nil.
func parseJump(s, user string) (*target, error) {
	if s == "" {
		return nil, nil
	}
	name, port := s, defaultPort
	if before, after, ok := strings.Cut(s, "@"); ok {
		if before == "" || strings.ContainsFunc(before, unicode.IsControl) {
			return nil, fmt.Errorf("jump: %q has no user that can be one before '@'", s)
		}
		user, name = before, after
	}
	if before, after, ok := strings.Cut(name, ":"); ok {
		n, err := strconv.Atoi(after)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("jump: %q is not a port between 1 and 65535", after)
		}
		name, port = before, n
	}
	host, err := restart.ParseHost(name)
	if err != nil {
		return nil, fmt.Errorf("jump: %w", err)
	}
	return &target{user: user, addr: address(host, port)}, nil
}

func address(host restart.Host, port int) string {
	return net.JoinHostPort(string(host), strconv.Itoa(port))
}

// readKey returns the key in a file, or nil where there is no file to read. What a parser says of a file that is not as
// it should be is left out of the error, because the file is a secret.
func readKey(file string) (gossh.Signer, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	key, err := gossh.ParsePrivateKey(text)
	if _, ok := errors.AsType[*gossh.PassphraseMissingError](err); ok {
		return nil, fmt.Errorf("key: %q is encrypted; add it to an agent (ssh-add), and set agent instead", file)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %q is not a private key", file)
	}
	return key, nil
}
