package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/notify"
)

const patience = 30 * time.Second

func newOver(t *testing.T, transport http.RoundTripper, log io.Writer, cfg notify.Config) *notify.Notifier {
	t.Helper()
	cfg.URL, cfg.Secret, cfg.Logger = "https://hooks.example.net/"+token, secret, zerolog.New(log)
	n, err := notify.NewOver(transport, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A message is what a server has received.
type message struct {
	method, uri, body string
	header            http.Header
}

func serve(t *testing.T, answer http.HandlerFunc) (url string, messages <-chan message) {
	t.Helper()
	received := make(chan message, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		received <- message{r.Method, r.RequestURI, string(body), r.Header}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, received
}

// sendOne lets a notifier send one notice, and returns its log.
func sendOne(t *testing.T, cfg notify.Config, n notify.Notice) (notify.Stats, string) {
	t.Helper()
	log := &journal{}
	cfg.Logger = zerolog.New(log)
	notifier, err := notify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	notifier.Notify(n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what waits is sent all the same
	if err := notifier.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return notifier.Stats(), log.String()
}

func TestNotifier_RealServerGetsASignedMessage(t *testing.T) {
	url, messages := serve(t, nil)
	before := time.Now().Unix()
	stats, logged := sendOne(t, notify.Config{URL: url + "/services/" + token + "?thread=a%20b", Secret: secret}, paused("web"))
	check(t, "stats", stats, notify.Stats{Sent: 1})
	check(t, "log", logged, "")

	m := <-messages
	check(t, "method", m.method, http.MethodPost)
	check(t, "URI", m.uri, "/services/"+token+"?thread=a%20b")
	check(t, "content type", m.header.Get("Content-Type"), "application/json")
	check(t, "body", m.body, `{"text":"Group web is paused (manual), by alice"}`)

	timestamp := m.header.Get("X-Mandrill-Timestamp")
	if at, err := strconv.ParseInt(timestamp, 10, 64); err != nil || at < before || at > time.Now().Unix() {
		t.Errorf("got timestamp %q, want now in Unix seconds", timestamp)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s\nPOST\n/services/%s?thread=a%%20b\n%s", timestamp, token, m.body)
	check(t, "signature", m.header.Get("X-Mandrill-Signature"), fmt.Sprintf("v1=%x", mac.Sum(nil)))
}

// The manual has this signature, made by another program.
func TestSign_IsThatOfTheManual(t *testing.T) {
	got := notify.Sign([]byte("example secret"), "1767225600", "POST", "/hosts/web-1.example.net/restart", []byte(`{"host":"web-1.example.net"}`))
	check(t, "signature", got, "700d9e20113e6d30fae39c4b7068145a5c1034a5135c35b686c1f3f98c110288")
}

func TestNotifier_WithoutSecretNothingIsSigned(t *testing.T) {
	url, messages := serve(t, nil)
	sendOne(t, notify.Config{URL: url}, paused("web"))
	header := (<-messages).header
	check(t, "signature", header.Get("X-Mandrill-Signature")+header.Get("X-Mandrill-Timestamp"), "")
}

// The path is the password of most webhooks: whoever reads it in a log can write to the channel.
func TestNotifier_NoFailureTellsTheURLOrTheSecret(t *testing.T) {
	elsewhere, strayed := serve(t, nil)
	echo, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no such hook: "+r.URL.String(), http.StatusNotFound)
	})
	away, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+"/"+token, http.StatusTemporaryRedirect)
	})
	broken, _ := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for name, url := range map[string]string{
		"refused": "http://127.0.0.1:1", "not found": echo, "redirect": away, "broken off": broken,
		"untrusted": untrusted.URL, "not TLS": strings.Replace(echo, "http:", "https:", 1), "no such name": "http://hooks.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := notify.Config{
				URL: url + "/" + token + "?key=" + token, Secret: secret, Timeout: 5 * time.Second,
				Retry: notify.Retry{Base: time.Millisecond, Cap: time.Millisecond, Total: time.Millisecond},
			}
			stats, logged := sendOne(t, cfg, paused("web"))
			check(t, "stats", stats, notify.Stats{GivenUp: 1})
			if !strings.Contains(logged, "a notification is given up") {
				t.Errorf("got log %q, want that it is given up", logged)
			}
			if strings.Contains(logged, token) || strings.Contains(logged, secret) {
				t.Errorf("a secret is in the log: %s", logged)
			}
		})
	}
	check(t, "requests that followed a redirect", len(strayed), 0)
}

func TestNotifier_ServerThatHangsHoldsNobodyUp(t *testing.T) {
	release := make(chan struct{})
	url, messages := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	notifier, err := notify.New(notify.Config{URL: url, Grace: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, notifier)
	notifier.Notify(paused("web"))
	select {
	case <-messages:
	case <-time.After(patience):
		t.Fatal("nothing was sent")
	}
	for range 10_000 {
		notifier.Notify(paused("web"))
	}
	stop()
}

func TestNotifier_TemplateMakesTheBody(t *testing.T) {
	url, messages := serve(t, nil)
	sendOne(t, notify.Config{URL: url, Template: "{\n\t\"title\": {{kind}}, \"body\": {{ slack_text }}\n}"}, paused("web"))
	check(t, "body", (<-messages).body, "{\n\t\"title\": \"paused\", \"body\": \"Group web is paused (manual), by alice\"\n}")
}

func TestNew_ErrBadConfig(t *testing.T) {
	const url = "https://hooks.example.net/" + token
	for _, tc := range []struct {
		cfg  notify.Config
		want string
	}{
		{notify.Config{}, "url: is missing"},
		{notify.Config{URL: "ftp://hooks.example.net/" + token}, "url: is not a full URL of http or https"},
		{notify.Config{URL: "hooks.example.net/" + token}, "url: is not a full URL of http or https"},
		{notify.Config{URL: "https:///" + token}, "url: is not a full URL of http or https"},
		{notify.Config{URL: "https://hooks.example.net/%zz" + token}, "url: is not a full URL of http or https"},
		{notify.Config{URL: "https://bot:" + token + "@hooks.example.net"}, "url: holds a user or a password"},
		{notify.Config{URL: url + "#" + token}, "url: has a fragment"},
		{notify.Config{URL: url, On: []notify.Kind{"explosion"}}, `on: "explosion" is none of`},
		{notify.Config{URL: url, Queue: -1}, "queue: -1 is negative"},
		{notify.Config{URL: url, Every: -time.Second}, "every: -1s is negative"},
		{notify.Config{URL: url, Timeout: -time.Second}, "timeout: -1s is negative"},
		{notify.Config{URL: url, Grace: -time.Second}, "grace: -1s is negative"},
		{notify.Config{URL: url, Retry: notify.Retry{Base: -time.Second}}, "retry.base: -1s is negative"},
		{notify.Config{URL: url, Retry: notify.Retry{Base: time.Hour}}, "retry.base: 1h0m0s is more than retry.cap, 1m0s"},
		{notify.Config{URL: url, Retry: notify.Retry{Total: -time.Second}}, "retry.total: -1s is negative"},
		{notify.Config{URL: url, Template: `{{colour}}`}, "template: line 1: {{colour}} is none of the names kind, group, "},
	} {
		_, err := notify.New(tc.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the URL is in the error: %v", err)
		}
	}
}
