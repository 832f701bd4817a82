package webhook_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listen starts a server of connections, each in a goroutine of its own, and returns its URL.
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
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads one request to its end.
func readRequest(t *testing.T, conn net.Conn) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	if err != nil {
		t.Errorf("the server cannot read the request: %v", err)
	}
}

// drip writes a byte now and then for as long as the client listens.
func drip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func newTestLog(t *testing.T) *log.Logger { return log.New(t.Output(), "", 0) }

// An HTTP client may repeat a request whose connection died, because it has an Idempotency-Key: then one call sends
// two, the second perhaps when its time is over.
func TestDriver_RestartIsSentOnceEvenIfTheServerDropsKeptConnections(t *testing.T) {
	var posts atomic.Int32
	url := listen(t, func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for n := 1; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if req.Method == http.MethodPost {
				posts.Add(1)
			}
			if n > 1 {
				return // dies at the moment of the second request
			}
			// The answer has no body, so that nothing keeps the client from keeping the connection too.
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
		}
	})
	d := newDriver(t, url, nil)
	const calls = 10
	for range calls {
		_, _ = d.Probe(t.Context(), host) // leaves a connection that a restart must not use
		wantClass(t, d.Restart(t.Context(), trigger()), nil)
	}
	if got := posts.Load(); got != calls {
		t.Errorf("restarts at the server: got %d, want %d", got, calls)
	}
}

// What the system still holds of a request when its call returns would be sent when the link is mended, minutes later.
func TestDriver_NothingOfARestartIsSentAfterItsCall(t *testing.T) {
	got := make(chan error, 1)
	url := listen(t, func(c net.Conn) {
		defer c.Close()
		readRequest(t, c)
		_, err := c.Read(make([]byte, 1))
		got <- err
	})
	short := trigger()
	short.Within = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	wantClass(t, newDriver(t, url, nil).Restart(ctx, short), errUnknown)
	// A connection that is reset has nothing left to send; one that is closed in order sends everything first.
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server saw %v, want the connection reset", err)
	}
}

// Thousands of probes must not use the machine's ports up.
func TestDriver_ProbesShareAConnectionWhateverTheyAreAnswered(t *testing.T) {
	var conns, probes atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := probes.Add(1); n % 3 {
		case 0:
			http.Error(w, "who is that?", http.StatusNotFound)
		case 1:
			_, _ = io.WriteString(w, "not JSON")
		default:
			fmt.Fprintf(w, `{"epoch":"%d"}`, n)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	d := newDriver(t, server.URL, nil)
	for range 30 {
		_, _ = d.Probe(t.Context(), host)
	}
	if got := conns.Load(); got != 1 {
		t.Errorf("connections: got %d, want 1", got)
	}
}

// What a worker is asked to restart, and the answer, is nobody else's matter.
func TestDriver_UsesNoProxyOfTheEnvironment(t *testing.T) {
	url := serveURL(t, func(http.ResponseWriter, *http.Request) {})
	// By its loopback address the server would be asked without a proxy in any case.
	url = strings.Replace(url, "127.0.0.1", "0.0.0.0", 1)
	wantClass(t, newDriver(t, url, nil).Restart(t.Context(), trigger()), nil)
}
