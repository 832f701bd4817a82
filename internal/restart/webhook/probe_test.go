package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestDriver_ProbeReadsTheServersAnswer(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	longest := strings.Repeat("e", 256)
	for _, tt := range []struct {
		answer string
		want   restart.State
	}{
		{`{"epoch":"7"}`, restart.State{Epoch: "7", Ready: true}},
		{`{"epoch":"7","ready":true}`, restart.State{Epoch: "7", Ready: true}},
		{`{"epoch":"7","ready":false}`, restart.State{Epoch: "7"}},
		{`{"epoch":"7","since":null,"ready":null}`, restart.State{Epoch: "7", Ready: true}},
		{`{"epoch":"7","since":"2026-01-02T04:04:05+01:00"}`, restart.State{Epoch: "7", Since: since, Ready: true}},
		{`{"epoch":"7","rack":[1,2]}`, restart.State{Epoch: "7", Ready: true}},
		{`{"epoch":"!#$%&'()*+,-./:;<=>?@[]^_{|}~"}`, restart.State{Epoch: "!#$%&'()*+,-./:;<=>?@[]^_{|}~", Ready: true}},
		{`{"epoch":"` + longest + `"}`, restart.State{Epoch: restart.Epoch(longest), Ready: true}},
	} {
		d := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if want := "/Web-1/hosts/cattle-a1b2.example.net?verbose=no"; r.Method != http.MethodGet || r.RequestURI != want {
				t.Errorf("got %s %s, want GET %s", r.Method, r.RequestURI, want)
			}
			if !isSigned(r, nil) {
				t.Error("the probe is not signed")
			}
			// What a cache answers is a former boot, and so a restart that failed.
			if got := r.Header.Get("Cache-Control"); got != "no-cache" {
				t.Errorf("Cache-Control: got %q, want no-cache", got)
			}
			_, _ = io.WriteString(w, tt.answer)
		})
		got, err := d.Probe(t.Context(), host)
		wantClass(t, err, nil)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.answer, diff)
		}
	}
}

// Whatever is not exactly an answer must be errUnknown: an epoch that was guessed is another one, and so a restart that
// never was.
func TestDriver_ProbeWithoutAClearAnswerIsUnknown(t *testing.T) {
	for _, answer := range []string{
		``, `null`, `{}`, `[]`, `"7"`, `7`, `<html>`, `{"epoch":"7"`, `{"epoch":"7"} and more`, `{"epoch":7}`, `{"epoch":""}`,
		`{"epoch":null}`, `{"epoch":"a b"}`, `{"epoch":"a\"b"}`, `{"epoch":"a\\b"}`, `{"epoch":"a\r\nb"}`, `{"epoch":"é"}`,
		`{"epoch":"` + strings.Repeat("e", 257) + `"}`, `{"epoch":"7","since":"yesterday"}`, `{"epoch":"7","since":1767225600}`,
		`{"epoch":"7","ready":"yes"}`, `{"epoch":"7"}` + strings.Repeat(" ", 64<<10),
	} {
		d := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		state, err := d.Probe(t.Context(), host)
		wantClass(t, err, errUnknown)
		if state != (restart.State{}) {
			t.Errorf("%.40s: got %+v, want nothing beside the error", answer, state)
		}
	}
}

func TestDriver_ProbeThatBreaksOffIsUnknown(t *testing.T) {
	d := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"epoch":"7"}`)
	})
	_, err := d.Probe(t.Context(), host)
	wantClass(t, err, errUnknown)
}

func TestDriver_ProbeThatDripsEndsWithItsContext(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusInternalServerError} {
		d := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			drip(w, r)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := d.Probe(ctx, host)
		wantClass(t, err, errUnknown)
		if status == http.StatusOK && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Probe: got %v, want the context's", err)
		}
	}
}

// A host is one segment of a path and one value of a query, or it is nothing.
func FuzzHost(f *testing.F) {
	for _, name := range []string{
		string(host), "a", "A", "", ".", "..", "a/b", "a%2fb", "%2e%2e", "a?b", "a#b", "a&host=b", "a;b", "{host}", "{group}",
		"a b", "a+b", "a\r\nb", "\x00", "ä", "user@a", "a:1", "-a", "a..b", strings.Repeat("a", 300),
	} {
		f.Add(name)
	}
	var arrived atomic.Pointer[http.Request]
	d := serve(f, func(w http.ResponseWriter, r *http.Request) {
		arrived.Store(r)
		_, _ = io.WriteString(w, `{"epoch":"boot-1"}`)
	})
	f.Fuzz(func(t *testing.T, name string) {
		check := func(what string, err error, uri string) {
			t.Helper()
			switch r := arrived.Swap(nil); {
			case err != nil && (r != nil || !errors.Is(err, restart.ErrPermanent)):
				t.Errorf("%s of %q: got %v and the request %v, want it refused for good, and no request", what, name, err, r)
			case err == nil && (r == nil || r.RequestURI != uri):
				t.Errorf("%s of %q: got %v, want a request for %q", what, name, r, uri)
			}
		}
		_, err := d.Probe(t.Context(), restart.Host(name))
		check("Probe", err, fmt.Sprintf("/Web-1/hosts/%s?verbose=no", name))
		asked := trigger()
		asked.Host = restart.Host(name)
		err = d.Restart(t.Context(), asked)
		check("Restart", err, fmt.Sprintf("/Web-1/hosts/%s/restart?by=mandrill&host=%s", name, name))
		if err == nil && strings.ContainsAny(name, "/?#&%=;+ {}") {
			t.Errorf("%q was taken for one segment", name)
		}
	})
}
