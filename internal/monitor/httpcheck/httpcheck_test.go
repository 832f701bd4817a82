package httpcheck_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// answer is a handler that always answers the same.
func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func check(t *testing.T, cfg httpcheck.Config) monitor.Result {
	t.Helper()
	return newCheck(t, cfg).Check(t.Context())
}

func newCheck(t *testing.T, cfg httpcheck.Config) monitor.Check {
	t.Helper()
	c, err := httpcheck.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func facts(r monitor.Result) map[string]int64 {
	all := map[string]int64{}
	for _, f := range r.Facts {
		all[f.Name] = f.Value
	}
	return all
}

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	noCertificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCertificate, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want   string
		change func(*httpcheck.Config)
	}{
		{"url: is missing", func(c *httpcheck.Config) { c.URL = "" }},
		{"url: is not a full URL", func(c *httpcheck.Config) { c.URL = "example.net/health" }},
		{"url: is not a full URL", func(c *httpcheck.Config) { c.URL = "ftp://example.net" }},
		{"url: is not a full URL", func(c *httpcheck.Config) { c.URL = "http://hunter2 /" }},
		{"url: is not a full URL", func(c *httpcheck.Config) { c.URL = "http:///hunter2" }},
		{"url: holds credentials", func(c *httpcheck.Config) { c.URL = "http://me:hunter2@example.net" }},
		{`method: "G T" is none`, func(c *httpcheck.Config) { c.Method = "G T" }},
		{`headers: "X Y" is not the name`, func(c *httpcheck.Config) { c.Headers = map[string]string{"X Y": "hunter2"} }},
		{`headers: "" is not the name`, func(c *httpcheck.Config) { c.Headers = map[string]string{"": "hunter2"} }},
		{`headers: the value of "X" has a control`, func(c *httpcheck.Config) { c.Headers = map[string]string{"X": "hunter2\r\nY: z"} }},
		{"statuses: 99 is not between", func(c *httpcheck.Config) { c.Statuses = []int{200, 99} }},
		{"matches: error parsing regexp", func(c *httpcheck.Config) { c.Matches = "(" }},
		{"min_tls_left: -1s is negative", func(c *httpcheck.Config) { c.MinTLSLeft = -time.Second }},
		{"min_tls_left: needs a url of https", func(c *httpcheck.Config) { c.MinTLSLeft = time.Hour }},
		{"redirects: 11 is not between", func(c *httpcheck.Config) { c.Redirects = 11 }},
		{"max_body: -1 is not between", func(c *httpcheck.Config) { c.MaxBody = -1 }},
		{"ca: cannot be read: ", func(c *httpcheck.Config) { c.CA = noCertificate + ".none" }},
		{"ca: ", func(c *httpcheck.Config) { c.CA = noCertificate }},
	} {
		cfg := httpcheck.Config{URL: "http://example.net"}
		tt.change(&cfg)
		c, err := httpcheck.New(cfg)
		if err == nil || c != nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("New: got %v, want an error that begins with %q", err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New: the error tells a secret: %v", err)
		}
	}
}

// D01: code, bytes and, by the runner, the time taken.
func TestCheck_JudgesTheResponse(t *testing.T) {
	const page = "<h1>All is well</h1>"
	for _, tt := range []struct {
		name string
		code int
		cfg  httpcheck.Config
		want monitor.Verdict
		seen string
	}{
		{"Good", 200, httpcheck.Config{}, monitor.Good, "200 OK"},
		{"NoContent", 201, httpcheck.Config{}, monitor.Good, "201 Created"},
		{"ServerError", 500, httpcheck.Config{}, monitor.Bad, "500 Internal Server Error: want 200 to 299"},
		{"NotFound", 404, httpcheck.Config{}, monitor.Bad, "404 Not Found: want 200 to 299"},
		{"NotFoundIsWanted", 404, httpcheck.Config{Statuses: []int{401, 404}}, monitor.Good, "404 Not Found"},
		{"GoodIsNotWanted", 200, httpcheck.Config{Statuses: []int{401, 404}}, monitor.Bad, "200 OK: want 401 404"},
		{"StatusWithoutName", 599, httpcheck.Config{}, monitor.Bad, "599: want 200 to 299"},
		{"RedirectIsTheResponse", 302, httpcheck.Config{}, monitor.Bad, "302 Found: want 200 to 299"},
		{"Contains", 200, httpcheck.Config{Contains: "is well"}, monitor.Good, "200 OK"},
		{"ContainsNot", 200, httpcheck.Config{Contains: "is ill"}, monitor.Bad, "200 OK: the body does not contain what is wanted"},
		{"Matches", 200, httpcheck.Config{Matches: `(?i)all IS \w+`}, monitor.Good, "200 OK"},
		{"MatchesNot", 200, httpcheck.Config{Matches: `^All`}, monitor.Bad, "200 OK: the body does not match what is wanted"},
		{"MatchOfAnErrorPage", 500, httpcheck.Config{Contains: "is well"}, monitor.Bad, "500 Internal Server Error: want 200 to 299"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.URL = serve(t, answer(tt.code, page))
			got := check(t, tt.cfg)
			if got.Verdict != tt.want || got.Seen != tt.seen {
				t.Errorf("got %s, %q, want %s, %q", got.Verdict, got.Seen, tt.want, tt.seen)
			}
			want := map[string]int64{httpcheck.FactCode: int64(tt.code), httpcheck.FactBytes: int64(len(page))}
			if diff := cmp.Diff(want, facts(got)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_SendsWhatIsConfigured(t *testing.T) {
	var got *http.Request
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
	check(t, httpcheck.Config{
		URL: url + "/health?deep=1", Method: "HEAD",
		Headers: map[string]string{"Authorization": "Bearer x", "host": "www.example.net", "X-Empty": ""},
	})
	if got.Method != "HEAD" || got.RequestURI != "/health?deep=1" || got.Host != "www.example.net" {
		t.Errorf("got %s %s of %s", got.Method, got.RequestURI, got.Host)
	}
	if got.Header.Get("Authorization") != "Bearer x" || got.Header.Values("X-Empty") == nil {
		t.Errorf("got headers %v", got.Header)
	}
}

// The fear: a response without end fills the memory, or is read for ever.
func TestCheck_ReadsNoMoreThanItsBound(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	got := check(t, httpcheck.Config{URL: url, MaxBody: 10_000})
	if got.Verdict != monitor.Good || facts(got)[httpcheck.FactBytes] != 10_000 {
		t.Errorf("got %+v", got)
	}
	got = check(t, httpcheck.Config{URL: url, MaxBody: 10_000, Contains: "y"})
	if got.Verdict != monitor.Bad || !strings.Contains(got.Seen, "in its first 10000 bytes (max_body)") {
		t.Errorf("got %+v", got)
	}
}

func TestCheck_FollowsRedirectsAsFarAsItMay(t *testing.T) {
	other := serve(t, answer(200, "somebody else"))
	other = strings.Replace(other, "127.0.0.1", "localhost", 1)
	mux := http.NewServeMux()
	for from, to := range map[string]string{"/1": "/2", "/2": "/3", "/loop": "/loop", "/away": other} {
		mux.Handle(from, http.RedirectHandler(to, http.StatusFound))
	}
	mux.HandleFunc("/3", answer(200, "here"))
	url := serve(t, mux.ServeHTTP)
	for _, tt := range []struct {
		path      string
		redirects int
		want      monitor.Verdict
		seen      string
	}{
		{"/1", 2, monitor.Good, "200 OK"},
		{"/1", 1, monitor.Bad, "more than 1 redirects"},
		{"/1", 0, monitor.Bad, "302 Found: want 200 to 299"},
		{"/loop", 10, monitor.Bad, "more than 10 redirects"},
		{"/away", 10, monitor.Bad, "redirected to another host, which is not followed"},
	} {
		got := check(t, httpcheck.Config{URL: url + tt.path, Redirects: tt.redirects, Headers: map[string]string{"X-Api-Key": "x"}})
		if got.Verdict != tt.want || got.Seen != tt.seen {
			t.Errorf("%s: got %s, %q, want %s, %q", tt.path, got.Verdict, got.Seen, tt.want, tt.seen)
		}
	}
}

func TestCheck_NoResponseIsBad(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	urls := map[string]string{
		"Refused":     "http://" + l.Addr().String(),
		"NoSuchHost":  "http://no-such-host.invalid",
		"HangsUp":     serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"PlainForTLS": strings.Replace(serve(t, answer(200, "")), "http:", "https:", 1),
		"BreaksOff": serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}),
	}
	for name, url := range urls {
		got := check(t, httpcheck.Config{URL: url + "/?token=hunter2"})
		if got.Verdict != monitor.Bad || got.Seen == "" || strings.Contains(got.Seen, "hunter2") {
			t.Errorf("%s: got %+v", name, got)
		}
		if name == "BreaksOff" {
			if diff := cmp.Diff(map[string]int64{"code": 200, "bytes": 4}, facts(got)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		}
	}
}

// The fear: the end of a run is taken for a failure of everything that was just being checked.
func TestCheck_KnowsNothingWhenItsContextEnds(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"BeforeTheHeader": func(http.ResponseWriter) {},
		"InTheBody": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{})
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				close(asked)
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-asked
				cancel()
			}()
			if got := newCheck(t, httpcheck.Config{URL: url}).Check(ctx); got.Verdict != monitor.Unknown {
				t.Errorf("got %+v, want unknown", got)
			}
		})
	}
}

// The fear: the certificate of a connection that was made weeks ago is judged, not the one that new clients see.
func TestCheck_MakesAConnectionForEachCheck(t *testing.T) {
	peers := map[string]bool{}
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { peers[r.RemoteAddr] = true })
	c := newCheck(t, httpcheck.Config{URL: url})
	for range 3 {
		c.Check(t.Context())
	}
	if len(peers) != 3 {
		t.Errorf("got connections from %v, want 3", peers)
	}
}
