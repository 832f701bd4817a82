package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen returns a socket as systemd has one.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := conn.Read(message)
	if err != nil {
		t.Fatalf("nothing was told: %v", err)
	}
	return string(message[:n])
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func open(t *testing.T, pairs ...string) *Notifier {
	t.Helper()
	n, err := Open(environment(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestTell_IsHeardAtASocketWithAPathAndAtAnAbstractOne(t *testing.T) {
	names := map[string]string{"Path": filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" { // the only one that has them
		names["Abstract"] = "@mandrill-test-" + strconv.Itoa(os.Getpid())
	}
	for kind, name := range names {
		t.Run(kind, func(t *testing.T) {
			systemd := listen(t, name)
			n := open(t, "NOTIFY_SOCKET", name)
			for _, states := range [][]string{{Ready, Status("two\nlines")}, {Alive}, {Stopping}} {
				if err := n.Tell(states...); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []string{"READY=1\nSTATUS=two lines", "WATCHDOG=1", "STOPPING=1"} {
				if got := hear(t, systemd); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if n.Watchdog() != 0 {
				t.Errorf("got a watchdog of %s, want none", n.Watchdog())
			}
		})
	}
}

// Most processes are started by nobody who listens.
func TestOpen_WithoutASocketNobodyIsTold(t *testing.T) {
	n := open(t)
	if n != nil || n.Tell(Ready) != nil || n.Watchdog() != 0 || n.Close() != nil {
		t.Errorf("got %v, want a nil notifier that does nothing", n)
	}
}

func TestWatchdog_IsThatOfThisProcessAlone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	own, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid())
	for name, test := range map[string]struct {
		usec, pid string
		want      time.Duration
	}{
		"Ours":        {"30000000", own, 30 * time.Second},
		"Anybodys":    {"1500000", "", 1500 * time.Millisecond},
		"OurParents":  {"30000000", other, 0},
		"NotSwitched": {"", own, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := open(t, "NOTIFY_SOCKET", socket, "WATCHDOG_USEC", test.usec, "WATCHDOG_PID", test.pid)
			if n.Watchdog() != test.want {
				t.Errorf("got %s, want %s", n.Watchdog(), test.want)
			}
		})
	}
}

func TestOpen_NamesTheVariableThatIsWrong(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	for name, test := range map[string]struct{ variable, socket, usec string }{
		"Relative":  {"NOTIFY_SOCKET", "run/notify", ""},
		"NotThere":  {"NOTIFY_SOCKET", socket + "-gone", ""},
		"NoNumber":  {"WATCHDOG_USEC", socket, "30s"},
		"Negative":  {"WATCHDOG_USEC", socket, "-1"},
		"Unbounded": {"WATCHDOG_USEC", socket, "9223372036854775807"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := Open(environment("NOTIFY_SOCKET", test.socket, "WATCHDOG_USEC", test.usec))
			if n != nil || err == nil || !strings.HasPrefix(err.Error(), test.variable+": ") {
				t.Errorf("got %v, %v, want an error that begins with %s", n, err, test.variable)
			}
		})
	}
}

// A process that waits for the one that watches it would stand still with it.
func TestTell_DoesNotWaitForWhoDoesNotRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	n := open(t, "NOTIFY_SOCKET", socket)
	began := time.Now()
	for range 100_000 {
		if err := n.Tell(Alive); err != nil {
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			return
		}
	}
	t.Error("the socket never filled up, so this test shows nothing")
}
