package tcpcheck_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/tcpcheck"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves connections until the test ends, and returns its address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// say sends texts, one packet each, and hangs up.
func say(texts ...string) func(net.Conn) {
	return func(conn net.Conn) {
		for _, text := range texts {
			_, _ = io.WriteString(conn, text)
			time.Sleep(time.Millisecond) // so that it mostly arrives on its own; either way is right
		}
	}
}

// hold says nothing until the other side hangs up.
func hold(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func newCheck(t *testing.T, cfg tcpcheck.Config) monitor.Check {
	t.Helper()
	c, err := tcpcheck.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		want string
		cfg  tcpcheck.Config
	}{
		{"address: is missing", tcpcheck.Config{}},
		{`address: "example.net" is not host:port`, tcpcheck.Config{Address: "example.net"}},
		{`address: ":22" is not host:port`, tcpcheck.Config{Address: ":22"}},
		{`address: "::1:22" is not host:port`, tcpcheck.Config{Address: "::1:22"}},
		{`address: "ssh" is not a port`, tcpcheck.Config{Address: "example.net:ssh"}},
		{`address: "0" is not a port`, tcpcheck.Config{Address: "example.net:0"}},
		{`address: "65536" is not a port`, tcpcheck.Config{Address: "[::1]:65536"}},
		{"banner: has 4097 bytes", tcpcheck.Config{Address: "example.net:22", Banner: strings.Repeat("x", 4097)}},
	} {
		if c, err := tcpcheck.New(tt.cfg); err == nil || c != nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("New: got %v, want an error that begins with %q", err, tt.want)
		}
	}
}

func TestCheck_ConnectsAndReadsTheBanner(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		name    string
		address string
		banner  string
		want    monitor.Verdict
		seen    string
	}{
		{"Connects", listen(t, hold), "", monitor.Good, "connected"},
		{"Refused", closed.Addr().String(), "", monitor.Bad, "dial tcp "},
		{"NoSuchHost", "no-such-host.invalid:22", "", monitor.Bad, "dial tcp"},
		{"Banner", listen(t, say("SSH-2.0-x\r\n")), "SSH-2.0", monitor.Good, `it said "SSH-2.0-x\r\n"`},
		{"BannerInPieces", listen(t, say("220 ", "mail", " ready")), "mail ready", monitor.Good, `it said "220 mail ready"`},
		{"OtherBanner", listen(t, say("220 mail")), "SSH-2.0", monitor.Bad, `no banner "SSH-2.0"; it said "220 mail"`},
		{"HangsUp", listen(t, say()), "SSH-2.0", monitor.Bad, `no banner "SSH-2.0"; it said nothing`},
		{"BannerWithoutEnd", listen(t, say(strings.Repeat("x", 10_000))), "y", monitor.Bad, `no banner "y"; it said "xxx`},
		{"BannerForATerminal", listen(t, say("\x1b[2J")), "y", monitor.Bad, `no banner "y"; it said "\x1b[2J"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newCheck(t, tcpcheck.Config{Address: tt.address, Banner: tt.banner}).Check(t.Context())
			if got.Verdict != tt.want || !strings.HasPrefix(got.Seen, tt.seen) {
				t.Errorf("got %s, %q, want %s, %q", got.Verdict, got.Seen, tt.want, tt.seen)
			}
		})
	}
}

func TestCheck_KnowsNothingWhenItsContextEnds(t *testing.T) {
	connected := make(chan struct{})
	address := listen(t, func(conn net.Conn) {
		close(connected)
		hold(conn)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-connected
		cancel()
	}()
	if got := newCheck(t, tcpcheck.Config{Address: address, Banner: "x"}).Check(ctx); got.Verdict != monitor.Unknown {
		t.Errorf("got %+v, want unknown", got)
	}
}
