package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/restart/webhook"
)

func TestMain(m *testing.M) {
	// A proxy where nobody listens, set here because a process looks at its environment once.
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		if err := os.Setenv(name, "http://127.0.0.1:1"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	host   restart.Host  = "cattle-a1b2.example.net"
	group  restart.Group = "Web-1"
	secret               = "correct horse battery staple"

	maxDelay = 200 * time.Millisecond
)

// trigger returns one of a request of its own.
func trigger() restart.Trigger {
	return restart.Trigger{Host: host, From: "boot-1", Within: 10 * time.Second, ID: uuid.New(), Attempt: 1}
}

// newDriver returns a driver for a server at url, changed as a test wants it.
func newDriver(t testing.TB, url string, change func(*webhook.Config)) *webhook.Driver {
	t.Helper()
	cfg := webhook.Config{
		Group:      group,
		ProbeURL:   url + "/{group}/hosts/{host}?verbose=no",
		RestartURL: url + "/{group}/hosts/{host}/restart?by=mandrill&host={host}",
		Secret:     secret,
		MaxDelay:   maxDelay,
	}
	if change != nil {
		change(&cfg)
	}
	d, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // which cannot fail
	return d
}

// serve starts a server of one handler, and returns a driver for it.
func serve(t testing.TB, handler http.HandlerFunc) *webhook.Driver {
	t.Helper()
	return newDriver(t, serveURL(t, handler), nil)
}

func serveURL(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// A site is a simulated fleet behind a server that does what the manual asks of one.
type site struct {
	fleet    *simulated.Fleet
	remember time.Duration // for how long a key is known again: as long as what was taken may take effect

	mu         sync.Mutex // guards what follows, and keeps a compare and its restart together
	taken      map[string]time.Time
	failProbes int
	hangProbe  bool
	unready    unready
}

// unready is when a host, in its n-th boot, is not ready.
type unready struct {
	boot     int
	from, to time.Duration // since the boot began
}

func newSite(t testing.TB) *site {
	t.Helper()
	fleet, err := simulated.New(simulated.Config{RestartMax: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return &site{fleet: fleet, remember: maxDelay, taken: make(map[string]time.Time)}
}

func (s *site) handler() http.HandlerFunc {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{group}/hosts/{host}", s.probe)
	mux.HandleFunc("POST /{group}/hosts/{host}/restart", s.restart)
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		if !isSigned(r, body) {
			http.Error(w, "not signed", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		mux.ServeHTTP(w, r)
	}
}

func (s *site) probe(w http.ResponseWriter, r *http.Request) {
	name := restart.Host(r.PathValue("host"))
	s.mu.Lock()
	hangs, fails, unready := s.hangProbe, s.failProbes > 0, s.unready
	s.hangProbe = false
	if fails {
		s.failProbes--
	}
	s.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	state, err := s.fleet.Probe(r.Context(), name)
	if fails || err != nil {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if age := time.Since(state.Since); s.fleet.BootsOf(name) == unready.boot && unready.from <= age && age < unready.to {
		state.Ready = false
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"epoch": state.Epoch, "since": state.Since, "ready": state.Ready})
}

func (s *site) restart(w http.ResponseWriter, r *http.Request) {
	var trigger struct {
		Host   restart.Host
		Epoch  restart.Epoch
		ID     string
		Within int64 `json:"within_ms"`
	}
	if err := json.NewDecoder(r.Body).Decode(&trigger); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if string(trigger.Host) != r.PathValue("host") || r.Header.Get("If-Match") != strconv.Quote(string(trigger.Epoch)) ||
		r.Header.Get("Idempotency-Key") != trigger.ID {
		http.Error(w, "the headers contradict the body", http.StatusUnprocessableEntity)
		return
	}
	switch status := s.deliver(trigger.Host, trigger.Epoch, trigger.ID, time.Duration(trigger.Within)*time.Millisecond); status {
	case answerHangs:
		<-r.Context().Done()
	case answerLost:
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(status)
	}
}

// What deliver returns instead of a status where there is to be none.
const (
	answerHangs = -1
	answerLost  = -2
)

func (s *site) deliver(name restart.Host, epoch restart.Epoch, id string, within time.Duration) (status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if running := strconv.Itoa(s.fleet.BootsOf(name) + 1); string(epoch) != running {
		return http.StatusPreconditionFailed
	}
	key := fmt.Sprint(id, " ", epoch)
	if at, ok := s.taken[key]; ok && time.Since(at) < s.remember {
		return http.StatusAccepted
	}
	answered, err := s.fleet.Deliver(name, epoch, within)
	switch {
	case errors.Is(err, restart.ErrChanged):
		return http.StatusPreconditionFailed
	case errors.Is(err, restart.ErrRefused):
		return http.StatusServiceUnavailable
	case errors.Is(err, restart.ErrPermanent):
		return http.StatusForbidden
	case !answered:
		return answerHangs
	}
	s.taken[key] = time.Now()
	if err != nil {
		return answerLost
	}
	return http.StatusAccepted
}

// isSigned checks a signature as the manual describes it.
func isSigned(r *http.Request, body []byte) bool {
	timestamp := r.Header.Get("X-Mandrill-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		return false
	}
	want := "v1=" + signature(secret, timestamp, r.Method, r.RequestURI, string(body))
	return hmac.Equal([]byte(want), []byte(r.Header.Get("X-Mandrill-Signature")))
}

func signature(secret, timestamp, method, uri, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s", timestamp, method, uri, body)
	return hex.EncodeToString(mac.Sum(nil))
}
