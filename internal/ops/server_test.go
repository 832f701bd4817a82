package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

var (
	away       = ops.Problem{Name: "nats", Detail: "no connection for 12s"}
	overloaded = ops.Problem{Name: "overloaded", Detail: "the process gets to run 300ms late", Advisory: true}
)

// serve runs a server until the test ends, and returns its URL.
func serve(t *testing.T, cfg ops.Config) (url string) {
	t.Helper()
	url, _ = run(t, cfg)
	return url
}

// run runs a server, and returns its URL and what stops it and returns what Run did.
func run(t *testing.T, cfg ops.Config) (url string, stop func() error) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = ":0"
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewPedanticRegistry()
	}
	s, err := ops.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if addr := s.Addr(); addr != "" {
		t.Errorf("Addr before Run: got %q, want none", addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	select {
	case <-s.Up():
	case <-time.After(patience):
		t.Fatal("the server does not listen")
	}
	return "http://" + s.Addr(), stop
}

// client keeps no connection, whose goroutine would outlive the test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func do(t *testing.T, method, url, accept string) (code int, contentType, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(data)
}

func TestNew_RefusesWhatCannotBeAndNamesTheField(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, test := range []struct {
		cfg  ops.Config
		want string
	}{
		{ops.Config{Registry: reg}, "listen: "},
		{ops.Config{Registry: reg, Listen: "9090"}, "listen: "},
		{ops.Config{Registry: reg, Listen: "127.0.0.1"}, "listen: "},
		{ops.Config{Registry: reg, Listen: "127.0.0.1:"}, "listen: "},
		{ops.Config{Registry: reg, Listen: "127.0.0.1:http"}, "listen: "},
		{ops.Config{Registry: reg, Listen: "127.0.0.1:65536"}, "listen: "},
		{ops.Config{Registry: reg, Listen: "::1:9090"}, "listen: "},
		{ops.Config{Listen: ":0"}, "registry: "},
	} {
		if s, err := ops.New(test.cfg); err == nil || s != nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("New(%+v): got %v, %v, want an error that begins with %q", test.cfg, s, err, test.want)
		}
	}
	if _, err := ops.New(ops.Config{Listen: ":0", Registry: reg}); err != nil {
		t.Fatal(err)
	}
	if _, err := ops.New(ops.Config{Listen: ":0", Registry: reg}); err == nil || !strings.HasPrefix(err.Error(), "registry: ") {
		t.Errorf("a second server on one registry: got %v, want an error about it", err)
	}
}

// Metrics, and a process's memory, must not be on every interface because somebody left a host out.
func TestServer_AnAddressWithoutHostIsOnLoopback(t *testing.T) {
	url := serve(t, ops.Config{Listen: ":0"})
	host, _, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("got %s, %v, want an address on loopback", url, err)
	}
}

func TestServer_SaysWhetherItLivesAndIsReadyAndWhyNot(t *testing.T) {
	for name, test := range map[string]struct {
		path   string
		accept string
		live   error
		ready  []ops.Problem
		code   int
		body   string
	}{
		"Live":                 {"/livez", "", nil, nil, 200, "live\n"},
		"LiveThoughNotReady":   {"/livez", "", nil, []ops.Problem{away}, 200, "live\n"},
		"NotLive":              {"/livez", "", errors.New("cannot\ngo on"), nil, 503, "not live\ncannot; go on\n"},
		"LiveJSON":             {"/livez", "application/json", nil, nil, 200, `{"live":true}` + "\n"},
		"NotLiveJSON":          {"/livez", "application/json", errors.New("x"), nil, 503, `{"live":false,"detail":"x"}` + "\n"},
		"Ready":                {"/readyz", "", nil, nil, 200, "ready\n"},
		"ReadyThoughNotLive":   {"/readyz", "", errors.New("x"), nil, 200, "ready\n"},
		"OverloadedIsReady":    {"/readyz", "", nil, []ops.Problem{overloaded}, 200, "ready\noverloaded: the process gets to run 300ms late (advisory)\n"},
		"NotReady":             {"/readyz", "", nil, []ops.Problem{overloaded, away}, 503, "not ready\noverloaded: the process gets to run 300ms late (advisory)\nnats: no connection for 12s\n"},
		"ReadyJSON":            {"/readyz", "application/json", nil, nil, 200, `{"ready":true}` + "\n"},
		"OverloadedJSON":       {"/readyz", "application/json", nil, []ops.Problem{overloaded}, 200, `{"ready":true,"problems":[{"name":"overloaded","detail":"the process gets to run 300ms late","advisory":true}]}` + "\n"},
		"NotReadyJSON":         {"/readyz", "application/json", nil, []ops.Problem{away}, 503, `{"ready":false,"problems":[{"name":"nats","detail":"no connection for 12s"}]}` + "\n"},
		"AnythingIsText":       {"/readyz", "*/*", nil, nil, 200, "ready\n"},
		"BrowsersGetText":      {"/readyz", "text/html,application/xhtml+xml,*/*;q=0.8", nil, nil, 200, "ready\n"},
		"JSONBeforeText":       {"/readyz", "text/plain;q=0.5, application/json", nil, nil, 200, `{"ready":true}` + "\n"},
		"TextBeforeJSON":       {"/readyz", "text/plain, application/json;q=0.5", nil, nil, 200, "ready\n"},
		"JSONIsNotAcceptable":  {"/readyz", "application/json;q=0", nil, nil, 200, "ready\n"},
		"UnreadableAcceptText": {"/readyz", ";;;,application/json;q=much", nil, nil, 200, "ready\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, ops.Config{
				Live: func() error { return test.live }, Ready: func() []ops.Problem { return test.ready },
			})
			code, contentType, body := do(t, http.MethodGet, url+test.path, test.accept)
			if code != test.code || body != test.body {
				t.Errorf("got %d %q, want %d %q", code, body, test.code, test.body)
			}
			if isJSON := json.Valid([]byte(body)); isJSON != (contentType == "application/json") {
				t.Errorf("got content type %q of %q", contentType, body)
			}
			if head, _, body := do(t, http.MethodHead, url+test.path, test.accept); head != test.code || body != "" {
				t.Errorf("HEAD: got %d %q, want %d and no body", head, body, test.code)
			}
		})
	}
}

func TestServer_ExportsTheRegistryAndWhetherItIsReady(t *testing.T) {
	var mu sync.Mutex
	var problems []ops.Problem
	reg := prometheus.NewPedanticRegistry()
	ops.NewMetrics(reg).Group("web").Queued(7)
	url := serve(t, ops.Config{Registry: reg, Ready: func() []ops.Problem {
		mu.Lock()
		defer mu.Unlock()
		return problems
	}})
	for want, now := range map[string][]ops.Problem{"mandrill_ready 1": {overloaded}, "mandrill_ready 0": {away}} {
		mu.Lock()
		problems = now
		mu.Unlock()
		code, _, body := do(t, http.MethodGet, url+"/metrics", "")
		lines := strings.Split(body, "\n")
		if code != http.StatusOK || !slices.Contains(lines, want) || !slices.Contains(lines, `mandrill_queued{group="web"} 7`) {
			t.Errorf("got %d, want the line %s, in\n%s", code, want, body)
		}
	}
}

// A profile holds tokens and passwords, and arguments may.
func TestServer_ProfilesOnlyWhereItWasToldTo(t *testing.T) {
	for name, test := range map[string]struct {
		pprof bool
		path  string
		code  int
	}{
		"Off":           {false, "/debug/pprof/", 404},
		"HeapOff":       {false, "/debug/pprof/heap", 404},
		"On":            {true, "/debug/pprof/", 200},
		"Goroutines":    {true, "/debug/pprof/goroutine?debug=1", 200},
		"Profile":       {true, "/debug/pprof/profile?seconds=1", 200},
		"NoCommandLine": {true, "/debug/pprof/cmdline", 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, ops.Config{Pprof: test.pprof})
			if code, _, body := do(t, http.MethodGet, url+test.path, ""); code != test.code {
				t.Errorf("got %d %q, want %d", code, body, test.code)
			}
		})
	}
}

func TestServer_ServesNothingElse(t *testing.T) {
	url := serve(t, ops.Config{Pprof: true})
	for request, want := range map[string]int{
		"GET /": 404, "GET /livez/": 404, "GET /debug/vars": 404, "POST /readyz": 405, "DELETE /metrics": 405, "PUT /debug/pprof/heap": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		if code, _, _ := do(t, method, url+path, ""); code != want {
			t.Errorf("%s: got %d, want %d", request, code, want)
		}
	}
}

func TestServer_RefusesHeadersWithoutEnd(t *testing.T) {
	url := serve(t, ops.Config{})
	code, _, _ := do(t, http.MethodGet, url+"/livez", strings.Repeat("a", 64<<10))
	if code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want %d", code, http.StatusRequestHeaderFieldsTooLarge)
	}
}

func TestServer_SurvivesAPanicOfWhatItAsks(t *testing.T) {
	url := serve(t, ops.Config{Live: func() error { panic("a bug") }})
	if r, err := ops.Ask(t.Context(), url); err == nil {
		t.Errorf("Ask: got %+v, want an error", r)
	}
	if code, _, _ := do(t, http.MethodGet, url+"/readyz", ""); code != http.StatusOK {
		t.Errorf("afterwards: got %d, want 200", code)
	}
}

func TestServer_TwoInstancesInOneProcess(t *testing.T) {
	one := serve(t, ops.Config{Ready: func() []ops.Problem { return []ops.Problem{away} }})
	two := serve(t, ops.Config{})
	for url, want := range map[string]bool{one: false, two: true} {
		if r, err := ops.Ask(t.Context(), url); err != nil || r.Ready != want {
			t.Errorf("got %+v, %v, want ready %t", r, err, want)
		}
	}
}

func TestRun_SaysWhereItCannotListen(t *testing.T) {
	url := serve(t, ops.Config{})
	taken := strings.TrimPrefix(url, "http://")
	s, err := ops.New(ops.Config{Listen: taken, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("got %v, want an error that names %s", err, taken)
	}
	if s.Addr() != "" {
		t.Errorf("Addr: got %q, want none", s.Addr())
	}
}

func TestRun_RunsOnce(t *testing.T) {
	s, err := ops.New(ops.Config{Listen: ":0", Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("stopped already: got %v, want nil", err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, ops.ErrRunning) {
		t.Errorf("second: got %v, want %v", err, ops.ErrRunning)
	}
}

// A probe that is cut off by an orderly stop would be reported as a crash.
func TestRun_AnswersWhatWasAskedBeforeTheStop(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	url, stop := run(t, ops.Config{Ready: func() []ops.Problem {
		close(asked)
		<-goOn
		return nil
	}})
	answered := make(chan error, 1)
	go func() {
		_, err := ops.Ask(t.Context(), url)
		answered <- err
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until nothing new is accepted any more
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	close(goOn)
	if err := <-answered; err != nil {
		t.Errorf("got %v, want an answer", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

// Whatever hangs in the process must not hang its stop, too.
func TestRun_EndsThoughAnAnswerHangs(t *testing.T) {
	t.Parallel()
	asked, goOn := make(chan struct{}), make(chan struct{})
	url, stop := run(t, ops.Config{Ready: func() []ops.Problem {
		close(asked)
		<-goOn
		return nil
	}})
	defer close(goOn)
	answered := make(chan error, 1)
	go func() {
		_, err := ops.Ask(t.Context(), url)
		answered <- err
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	case <-time.After(patience):
		t.Error("Run does not end")
	}
	if err := <-answered; err == nil {
		t.Error("Ask: got no error from a server that is gone")
	}
}

func TestAsk_TellsWhatTheProcessSaysOfItself(t *testing.T) {
	for name, test := range map[string]struct {
		live  error
		ready []ops.Problem
		want  ops.Report
	}{
		"Well":       {nil, nil, ops.Report{Liveness: ops.Liveness{Live: true}, Readiness: ops.Readiness{Ready: true}}},
		"Overloaded": {nil, []ops.Problem{overloaded}, ops.Report{Liveness: ops.Liveness{Live: true}, Readiness: ops.Readiness{Ready: true, Problems: []ops.Problem{overloaded}}}},
		"NotReady":   {nil, []ops.Problem{away}, ops.Report{Liveness: ops.Liveness{Live: true}, Readiness: ops.Readiness{Problems: []ops.Problem{away}}}},
		"NotLive":    {errors.New("cannot go on"), nil, ops.Report{Liveness: ops.Liveness{Detail: "cannot go on"}, Readiness: ops.Readiness{Ready: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, ops.Config{Live: func() error { return test.live }, Ready: func() []ops.Problem { return test.ready }})
			for _, address := range []string{url, url + "/", strings.TrimPrefix(url, "http://")} {
				got, err := ops.Ask(t.Context(), address)
				if err != nil {
					t.Fatalf("Ask(%q): %v", address, err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("Ask(%q) (-want +got):\n%s", address, diff)
				}
			}
		})
	}
}

// That something answers must not be taken for health: another program may listen there by now.
func TestAsk_TakesNothingElseForAnAnswer(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"Text":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready\n") },
		"OtherJSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"ok"}`) },
		"WrongType": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"live":"yes","ready":"yes"}`) },
		"NotFound":  http.NotFound,
		"Redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"Endless": func(w http.ResponseWriter, _ *http.Request) {
			for range 64 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handle)
			defer server.Close()
			if r, err := ops.Ask(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "cannot ask "+server.URL) {
				t.Errorf("got %+v, %v, want an error that names %s", r, err, server.URL)
			}
		})
	}
}

func TestAsk_SaysThatNobodyIsThereAndKeepsThePasswordToItself(t *testing.T) {
	url, stop := run(t, ops.Config{})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{
		url, strings.Replace(url, "://", "://ops:hunter2@", 1), "http://ops:hunter2@", "ftp://ops:hunter2@127.0.0.1:1", "http://ops:hunter2@127.0.0.1:x", "",
	} {
		r, err := ops.Ask(t.Context(), address)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Ask(%q): got %+v, %v, want an error without the password", address, r, err)
		}
	}
}

func TestAsk_EndsWithItsContext(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ops.Ask(ctx, silent.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}
