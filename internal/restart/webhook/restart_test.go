package webhook_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/webhook"
)

// errUnknown stands for the class of an error that wraps none.
var errUnknown = errors.New("unknown")

func wantClass(t *testing.T, got, want error) {
	t.Helper()
	for _, class := range []error{restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if errors.Is(got, class) != (class == want) {
			t.Errorf("got %v, want the class %v", got, want)
		}
	}
	if (got == nil) != (want == nil) {
		t.Errorf("got %v, want %v", got, want)
	}
	// A URL may hold a token, and is told no more than the secret is.
	if got != nil && (strings.Contains(got.Error(), secret) || strings.Contains(got.Error(), "by=mandrill")) {
		t.Errorf("the error tells the secret or the URL: %v", got)
	}
}

func TestDriver_RestartSendsWhatTheServerMustKnow(t *testing.T) {
	type sent struct {
		Method, URI, IfMatch, Key, ContentType string
		Length                                 bool // known beforehand
		Body                                   map[string]any
	}
	got := make(chan sent, 1)
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := sent{
			r.Method, r.RequestURI, r.Header.Get("If-Match"), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"),
			r.ContentLength == int64(len(body)), nil,
		}
		if err := json.Unmarshal(body, &s.Body); err != nil {
			t.Errorf("body %q: %v", body, err)
		}
		if !isSigned(r, body) {
			t.Error("the request is not signed")
		}
		got <- s
	})
	id := uuid.MustParse("0198c0de-0000-7000-8000-000000000001")
	err := d.Restart(t.Context(), restart.Trigger{
		Host: host, From: "boot-<7>", Within: 9*time.Second + 999*time.Microsecond, ID: id, Attempt: 3,
	})
	wantClass(t, err, nil)
	want := sent{
		"POST", "/Web-1/hosts/cattle-a1b2.example.net/restart?by=mandrill&host=cattle-a1b2.example.net",
		`"boot-<7>"`, id.String(), "application/json", true,
		map[string]any{
			"host": string(host), "group": string(group), "id": id.String(), "epoch": "boot-<7>", "attempt": 3., "within_ms": 9000.,
		},
	}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// Without a secret there must be nothing that looks like a signature.
func TestDriver_SignsNothingWithoutASecret(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Mandrill-Signature", "X-Mandrill-Timestamp"} {
			if got := r.Header.Get(name); got != "" {
				t.Errorf("%s: got %q, want none", name, got)
			}
		}
	}))
	t.Cleanup(server.Close)
	d := newDriver(t, server.URL, func(c *webhook.Config) { c.Secret = "" })
	wantClass(t, d.Restart(t.Context(), trigger()), nil)
}

// The manual's worked example, whose signature was computed by openssl.
func TestSignature_IsAsTheManualSays(t *testing.T) {
	const want = "700d9e20113e6d30fae39c4b7068145a5c1034a5135c35b686c1f3f98c110288"
	got := signature("example secret", "1767225600", "POST", "/hosts/web-1.example.net/restart", `{"host":"web-1.example.net"}`)
	if got != want {
		t.Errorf("signature: got %s, want %s", got, want)
	}
}

func TestDriver_EachStatusHasItsClass(t *testing.T) {
	for class, statuses := range map[error][]int{
		nil:                  {200, 201, 202, 204, 299},
		restart.ErrRefused:   {429, 503},
		restart.ErrChanged:   {409, 412},
		restart.ErrPermanent: {301, 302, 307, 308, 400, 401, 403, 404, 408, 410, 413, 422, 451, 499},
		// Of 303 nobody knows what was done before it.
		errUnknown: {101, 300, 303, 304, 500, 501, 502, 504, 599, 600, 999},
	} {
		for _, status := range statuses {
			d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			t.Run(strconv.Itoa(status), func(t *testing.T) {
				wantClass(t, d.Restart(t.Context(), trigger()), class)
				if status != http.StatusOK {
					_, err := d.Probe(t.Context(), host)
					wantClass(t, err, errUnknown)
				}
			})
		}
	}
}

// Whoever follows a redirect asks somebody else, and perhaps as a GET, which takes whatever comes for a restart.
func TestDriver_FollowsNoRedirect(t *testing.T) {
	var hits atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = io.WriteString(w, `{"epoch":"1"}`)
	}))
	t.Cleanup(target.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		d := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, status) })
		if err := d.Restart(t.Context(), trigger()); err == nil {
			t.Errorf("Restart answered %d: got nil, want an error", status)
		}
		if _, err := d.Probe(t.Context(), host); err == nil {
			t.Errorf("Probe answered %d: got nil, want an error", status)
		}
	}
	if got := hits.Load(); got != 0 {
		t.Errorf("requests at the target: got %d, want 0", got)
	}
}

func TestDriver_RefusalSaysWhenToAskAgain(t *testing.T) {
	const date = "Thu, 01 Jan 2026 00:00:00 GMT" // by the server's clock
	for _, tt := range []struct {
		after string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"90", 90 * time.Second},
		{"3600", time.Hour},
		{"86400", time.Hour},
		{"99999999999999999999999", time.Hour},
		{"-5", 0},
		{"soon", 0},
		{"Thu, 01 Jan 2026 00:02:00 GMT", 2 * time.Minute},
		{"Thu, 01 Jan 2026 09:00:00 GMT", time.Hour},
		{"Wed, 31 Dec 2025 23:00:00 GMT", 0},
	} {
		for _, status := range []int{429, 503} {
			d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", date)
				w.Header().Set("Retry-After", tt.after)
				w.WriteHeader(status)
			})
			err := d.Restart(t.Context(), trigger())
			wantClass(t, err, restart.ErrRefused)
			var refused *restart.RefusedError
			if !errors.As(err, &refused) || refused.After != tt.want {
				t.Errorf("%d, Retry-After %q: got %+v, want after %s", status, tt.after, refused, tt.want)
			}
		}
	}
}

func TestDriver_TellsTheServersReasonButNotAllOfIt(t *testing.T) {
	d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the rack is locked\x1b[2J"+strings.Repeat("!", 10_000), http.StatusForbidden)
	})
	err := d.Restart(t.Context(), trigger())
	wantClass(t, err, restart.ErrPermanent)
	if text := err.Error(); !strings.Contains(text, `403 Forbidden: "the rack is locked\x1b[2J!`) || len(text) > 600 {
		t.Errorf("got %d bytes: %s", len(text), text)
	}
}

func TestDriver_TriggerThatCannotBeMeantReachesNoServer(t *testing.T) {
	var hits atomic.Int32
	d := serve(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	for name, tt := range map[string]struct {
		change func(*restart.Trigger)
		want   error
	}{
		"NoEpoch":               {func(t *restart.Trigger) { t.From = "" }, restart.ErrPermanent},
		"EpochThatEndsItsTag":   {func(t *restart.Trigger) { t.From = `1", "2` }, restart.ErrPermanent},
		"EpochOfSeveralLines":   {func(t *restart.Trigger) { t.From = "1\r\nX: y" }, restart.ErrPermanent},
		"EpochOfManyBytes":      {func(t *restart.Trigger) { t.From = restart.Epoch(strings.Repeat("1", 257)) }, restart.ErrPermanent},
		"NoID":                  {func(t *restart.Trigger) { t.ID = uuid.Nil }, restart.ErrPermanent},
		"NoTime":                {func(t *restart.Trigger) { t.Within = 0 }, restart.ErrRefused},
		"LessTimeThanCanBeTold": {func(t *restart.Trigger) { t.Within = time.Millisecond - 1 }, restart.ErrRefused},
		"NoHost":                {func(t *restart.Trigger) { t.Host = "" }, restart.ErrPermanent},
		"HostOfSeveralSegments": {func(t *restart.Trigger) { t.Host = "a/../b" }, restart.ErrPermanent},
	} {
		t.Run(name, func(t *testing.T) {
			bad := trigger()
			tt.change(&bad)
			wantClass(t, d.Restart(t.Context(), bad), tt.want)
		})
	}
	if got := hits.Load(); got != 0 {
		t.Errorf("requests at the server: got %d, want 0", got)
	}
}

// Unknown costs minutes of waiting, and a trigger that was never sent needs none of it.
func TestDriver_RestartThatWasNeverSentIsRefused(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	// Of a listener that accepts nobody the system answers for it, so that a connection stands and TLS never comes
	// about.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, url := range map[string]string{
		"NobodyListens":   "http://" + closed.Addr().String(),
		"NoSuchServer":    "http://server.invalid",
		"NoTLSInAllTime":  "https://" + silent.Addr().String(),
		"PortOutOfBounds": "http://127.0.0.1:99999",
	} {
		t.Run(name, func(t *testing.T) {
			short := trigger()
			short.Within = 200 * time.Millisecond
			wantClass(t, newDriver(t, url, nil).Restart(t.Context(), short), restart.ErrRefused)
		})
	}
}

func TestDriver_RestartThatLostItsConnectionIsUnknown(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"BeforeItWasRead": func(net.Conn) {},
		"AfterItWasRead":  func(c net.Conn) { readRequest(t, c) },
		"InTheStatusLine": func(c net.Conn) {
			readRequest(t, c)
			_, _ = io.WriteString(c, "HTTP/1.1 20")
		},
		"ByNonsense": func(c net.Conn) {
			readRequest(t, c)
			_, _ = io.WriteString(c, "220 mail.example.net ESMTP\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := listen(t, func(c net.Conn) {
				defer c.Close()
				serve(c)
			})
			wantClass(t, newDriver(t, url, nil).Restart(t.Context(), trigger()), errUnknown)
		})
	}
}

func TestDriver_RestartEndsWithTheTimeWithinWhichItMayTakeEffect(t *testing.T) {
	d := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does a server see that its client has gone
		<-r.Context().Done()
	})
	short := trigger()
	short.Within = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	err := d.Restart(ctx, short)
	wantClass(t, err, errUnknown)
	if took := time.Since(began); took < short.Within || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Restart: got %v after %s, want the deadline's after %s", err, took, short.Within)
	}
}

// The class is known from the status. A server that never ends its reason must not hold a worker's slot for it.
func TestDriver_ReasonThatNeverEndsHoldsNothingUp(t *testing.T) {
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusPreconditionFailed)
		_, _ = io.WriteString(w, "because")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	long := trigger()
	long.Within = time.Hour
	done := make(chan error, 1)
	go func() { done <- d.Restart(t.Context(), long) }()
	select {
	case err := <-done:
		wantClass(t, err, restart.ErrChanged)
		if !strings.Contains(err.Error(), "because") {
			t.Errorf("Restart: got %v, want what had come of the reason", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Restart: no answer, although the server's status had come")
	}
}

func TestDriver_AnswerWithoutBoundsIsCut(t *testing.T) {
	var written atomic.Int64
	flood := func(w io.Writer) {
		block := []byte(strings.Repeat("x", 64<<10))
		for written.Load() < 1<<30 {
			n, err := w.Write(block)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	body := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusConflict)
		}
		flood(w)
	})
	header := newDriver(t, listen(t, func(c net.Conn) {
		defer c.Close()
		readRequest(t, c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Flood: ")
		flood(c)
	}), nil)
	for name, call := range map[string]func() (got, want error){
		"ProbesBody": func() (error, error) {
			_, err := body.Probe(t.Context(), host)
			return err, errUnknown
		},
		"ProbesHeader": func() (error, error) {
			_, err := header.Probe(t.Context(), host)
			return err, errUnknown
		},
		"RestartsBody":   func() (error, error) { return body.Restart(t.Context(), trigger()), restart.ErrChanged },
		"RestartsHeader": func() (error, error) { return header.Restart(t.Context(), trigger()), errUnknown },
	} {
		t.Run(name, func(t *testing.T) {
			written.Store(0)
			got, want := call()
			wantClass(t, got, want)
			// What the system buffers of a connection comes on top of what is read.
			if n := written.Load(); n > 256<<20 {
				t.Errorf("the server could write %d bytes", n)
			}
		})
	}
}

// A server that its operator's authorities do not vouch for may be anybody's, and must not learn what is restarted.
func TestDriver_ServerThatIsNotTrustedIsToldNothing(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		_, _ = io.WriteString(w, `{"epoch":"1"}`)
	}))
	server.Config.ErrorLog = newTestLog(t)
	server.StartTLS()
	t.Cleanup(server.Close)

	d := newDriver(t, server.URL, nil)
	err := d.Restart(t.Context(), trigger())
	wantClass(t, err, restart.ErrPermanent)
	_, probeErr := d.Probe(t.Context(), host)
	wantClass(t, probeErr, errUnknown)
	for _, err := range []error{err, probeErr} {
		if !strings.Contains(err.Error(), "webhook.ca") {
			t.Errorf("got %v, want it to name webhook.ca", err)
		}
	}
	if got := hits.Load(); got != 0 {
		t.Errorf("requests at the server: got %d, want 0", got)
	}

	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	d = newDriver(t, server.URL, func(c *webhook.Config) { c.CA = path })
	wantClass(t, d.Restart(t.Context(), trigger()), nil)
	_, err = d.Probe(t.Context(), host)
	wantClass(t, err, nil)
}
