package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// scanned is a stream with n messages on each of five subjects.
func scanned(t *testing.T, server *natsdtest.Server, n int) jetstream.Stream {
	t.Helper()
	js := server.JetStream(t)
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SCAN", Subjects: []string{"a.*"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 * n {
		if _, err := js.PublishAsync(fmt.Sprintf("a.%d", i%5), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		t.Fatal("not all was published")
	}
	return s
}

func collect(t *testing.T, s jetstream.Stream, filter string, last bool) (found []string) {
	t.Helper()
	for msg, err := range stream.Scan(t.Context(), s, filter, last) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(msg.Data()))
	}
	return found
}

func TestScan_ReturnsAllThatMatchesAndNothingElse(t *testing.T) {
	const n = 70 // more than a batch
	server := natsdtest.Start(t)
	s := scanned(t, server, n)
	var all []string
	for i := range 5 * n {
		all = append(all, fmt.Sprint(i))
	}
	if diff := cmp.Diff(all, collect(t, s, "a.*", false)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if got := len(collect(t, s, "a.3", false)); got != n {
		t.Errorf("of one subject: got %d, want %d", got, n)
	}
	if diff := cmp.Diff(all[5*n-5:], collect(t, s, "a.>", true)); diff != "" {
		t.Errorf("last of each (-want +got):\n%s", diff)
	}
	if got := collect(t, s, "a.nothing", true); len(got) != 0 {
		t.Errorf("of an empty subject: got %v", got)
	}
	for range stream.Scan(t.Context(), s, "a.*", false) {
		break
	}
	if names := consumerNames(t, s); len(names) != 0 {
		t.Errorf("consumers are left behind: %v", names)
	}
}

func consumerNames(t *testing.T, s jetstream.Stream) []string {
	t.Helper()
	lister := s.ConsumerNames(t.Context())
	names := slices.Collect(func(yield func(string) bool) {
		for name := range lister.Name() {
			if !yield(name) {
				return
			}
		}
	})
	if err := lister.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// Whoever repairs or requeues by what a scan says must not take half of it for the whole.
func TestScan_ServerThatGoesAwayIsAnErrorAndNoEnd(t *testing.T) {
	server := natsdtest.Start(t)
	s := scanned(t, server, 20)
	n, failed := 0, error(nil)
	for _, err := range stream.Scan(t.Context(), s, "a.*", false) {
		if err != nil {
			failed = err
			continue
		}
		if n++; n == 10 {
			server.Restart(t)
		}
	}
	if failed == nil {
		t.Errorf("got %d messages and no error", n)
	}
	if errors.Is(failed, jetstream.ErrNoMessages) {
		t.Errorf("got %v, which says that there are none", failed)
	}
}
