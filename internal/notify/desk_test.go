package notify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token  = "T0KEN-in-the-path"
	secret = "correct horse battery staple"
)

var errRefused = errors.New("connection refused")

// A desk stands in for the network and the server behind it. It takes everything unless a test says otherwise.
type desk struct {
	answer func(attempt int, req *http.Request) (*http.Response, error) // nil: takes it; attempts count from one

	start    time.Time
	mu       sync.Mutex
	attempts []time.Duration // since start
	texts    []string        // of what was taken
}

func (d *desk) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.attempts = append(d.attempts, time.Since(d.start))
	attempt := len(d.attempts)
	d.mu.Unlock()
	resp := status(http.StatusOK)
	if d.answer != nil {
		if resp, err = d.answer(attempt, req); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode == http.StatusOK {
		var message struct{ Text string }
		if err := json.Unmarshal(body, &message); err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.texts = append(d.texts, message.Text)
		d.mu.Unlock()
	}
	return resp, nil
}

func (d *desk) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.texts...)
}

func (d *desk) tried() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Duration{}, d.attempts...)
}

// hang answers nothing until the attempt is given up.
func hang(_ int, req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func status(code int, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(token + secret))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// A journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) lines() int { return strings.Count(j.String(), "\n") }

// A stage is a notifier that runs in a bubble of fake time, at a desk. The bubble ends it.
type stage struct {
	*notify.Notifier
	*desk
	log  *journal
	stop func() // and wait until it has ended
}

// inBubble runs the test with fake time.
func inBubble(t *testing.T, cfg notify.Config, d *desk, test func(t *testing.T, s *stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{desk: d, log: &journal{}}
		d.start = time.Now()
		cfg.URL, cfg.Secret, cfg.Logger = "https://hooks.example.net/"+token, secret, zerolog.New(s.log)
		n, err := notify.NewOver(d, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.Notifier = n
		s.stop = run(t, n)
		test(t, s)
		s.stop()
		if log := s.log.String(); strings.Contains(log, token) || strings.Contains(log, secret) {
			t.Errorf("a secret is in the log: %s", log)
		}
	})
}
