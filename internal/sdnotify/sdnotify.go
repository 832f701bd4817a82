// Package sdnotify tells systemd, or who else has started this process and speaks as it does, how the process goes: that
// it is ready, that it stops, that it lives. Each is one datagram to the socket that NOTIFY_SOCKET names.
//
// A message that cannot be delivered is an error, and never waited for longer than a second: a process must not stand
// still because the one that watches it does.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What can be told.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// sendTimeout bounds one message: where the receiver does not read, its socket fills up.
const sendTimeout = time.Second

// Status says in a sentence how the process goes. It is one line.
func Status(s string) string { return "STATUS=" + strings.ReplaceAll(s, "\n", " ") }

// A Notifier tells whoever listens at a socket. A nil one tells nobody. Its methods may be called from many goroutines at
// once.
type Notifier struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// Open returns a notifier for the environment of this process, or nil where it names no socket. An error names the variable
// that is wrong. The caller must Close it.
func Open(getenv func(string) string) (*Notifier, error) {
	socket := getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %q is neither a path nor an abstract socket", socket)
	}
	watchdog, err := watchdogOf(getenv)
	if err != nil {
		return nil, err
	}
	// A name that begins with @ is an abstract socket's, for net too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return &Notifier{conn: conn, watchdog: watchdog}, nil
}

// watchdogOf returns how often Alive is expected at least; 0 means never. A child inherits the variables, and is not the
// one that is watched.
func watchdogOf(getenv func(string) string) (time.Duration, error) {
	text := getenv("WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil || micros <= 0 || micros > int64(1<<63-1)/int64(time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC: %q is no number of microseconds", text)
	}
	return time.Duration(micros) * time.Microsecond, nil
}

// Watchdog returns how often Alive must be told at least, lest the process be killed; 0 if it need not.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Tell sends one message that says all of these.
func (n *Notifier) Tell(states ...string) error {
	if n == nil {
		return nil
	}
	if err := n.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("cannot tell how this process goes: %w", err)
	}
	if _, err := n.conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("cannot tell how this process goes: %w", err)
	}
	return nil
}

// Close lets the socket go.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	return n.conn.Close()
}
