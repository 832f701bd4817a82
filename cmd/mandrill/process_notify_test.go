package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// An inbox is a webhook that keeps what it is told.
type inbox struct {
	*httptest.Server
	mu    sync.Mutex
	texts []string
}

func startInbox(t *testing.T) *inbox {
	t.Helper()
	in := &inbox{}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var told struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			t.Errorf("a notification cannot be read: %v", err)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.texts = append(in.texts, told.Text)
	}))
	t.Cleanup(in.Close)
	return in
}

// about returns how many messages have all the words.
func (in *inbox) about(words ...string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, text := range in.texts {
		all := true
		for _, word := range words {
			all = all && strings.Contains(text, word)
		}
		if all {
			n++
		}
	}
	return n
}

// The fear: nobody hears that a group is paused, or everybody does three times, once from each worker.
func TestProcess_PeopleAreToldOnceByTheWholeFleet(t *testing.T) {
	t.Parallel()
	in := startInbox(t)
	s := newScene(t, simulated.Config{RestartMax: 1})
	s.usePostgres(t)
	file := configFile(t, fmt.Sprintf("notify: {url: %q, every: 1ms}\n", in.URL))
	var all []*process
	for i := range 3 {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--config", file))
	}
	s.do(t, "pause", "default", "--reason", "the first release")
	eventually(t, "notification of the pause", func() bool { return in.about("paused", "the first release") > 0 })
	s.do(t, "resume", "default")
	eventually(t, "notification of the end", func() bool { return in.about("resumed") > 0 })
	if _, err := s.js.Publish(t.Context(), stream.WorkSubject(restart.DefaultGroup, "cattle-1.example.net"), []byte("{")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "notification of the dead letter", func() bool { return in.about("cattle-1.example.net", "malformed") > 0 })
	// A second pause comes after everything that could still be told of the first.
	s.do(t, "pause", "default", "--reason", "the second release")
	eventually(t, "notification of the second pause", func() bool { return in.about("paused", "the second release") > 0 })
	for _, w := range all {
		w.stop(t)
	}
	for _, words := range [][]string{
		{"paused", "the first release"},
		{"resumed"},
		{"cattle-1.example.net", "malformed"},
		{"paused", "the second release"},
	} {
		if n := in.about(words...); n != 1 {
			t.Errorf("people were told %d times of %q, want once: %q", n, words, in.texts)
		}
	}
}
