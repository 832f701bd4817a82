package docker_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"
)

// faults stand between the driver and an engine, whether that is a fake or not.
type faults struct {
	engine  http.Handler
	pending sync.WaitGroup // restarts that are yet to take effect

	mu       sync.Mutex
	restarts []http.HandlerFunc // for the next restarts, one each
	probes   []http.HandlerFunc // for the next looks at a container
}

// serve returns the faults with where the driver finds them.
func serve(t testing.TB, engine http.Handler) (f *faults, endpoint string) {
	t.Helper()
	f = &faults{engine: engine}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.Close()
		f.pending.Wait()
	})
	return f, "tcp://" + server.Listener.Addr().String()
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/restart"):
		f.take(&f.restarts)(w, r)
	case strings.Contains(r.URL.Path, "/containers/"):
		f.take(&f.probes)(w, r)
	default:
		f.engine.ServeHTTP(w, r)
	}
}

func (f *faults) take(queue *[]http.HandlerFunc) http.HandlerFunc {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(*queue) == 0 {
		return f.engine.ServeHTTP
	}
	first := (*queue)[0]
	*queue = (*queue)[1:]
	return first
}

func (f *faults) nextRestart(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restarts = append(f.restarts, h)
}

func (f *faults) nextProbes(n int, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.probes = append(f.probes, h)
	}
}

// answers is an engine that does nothing and answers so.
func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if status >= http.StatusBadRequest {
			refuse(w, status, "of the test")
			return
		}
		w.WriteHeader(status)
	}
}

// hangs is an engine that does nothing and does not answer.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// loses is an engine that does it, and its answer does not arrive.
func (f *faults) loses(_ http.ResponseWriter, r *http.Request) {
	f.engine.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// late is an engine that answers at once and does it later.
func (f *faults) late(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		later := r.Clone(context.WithoutCancel(r.Context()))
		f.pending.Go(func() {
			<-time.After(d)
			f.engine.ServeHTTP(httptest.NewRecorder(), later)
		})
		w.WriteHeader(http.StatusNoContent)
	}
}

// through is the engine that listens on a unix socket.
func through(t *testing.T, endpoint string) http.Handler {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(endpoint, "unix://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
	}
}
