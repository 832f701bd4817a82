package handler

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// labelsOf returns the labels of the goroutines that are in a function, as a profile shows them to an operator.
func labelsOf(t *testing.T, function string) (labels []string) {
	t.Helper()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(stack, function+"+") {
			continue
		}
		_, after, _ := strings.Cut(stack, "# labels: ")
		line, _, _ := strings.Cut(after, "\n")
		labels = append(labels, line)
	}
	return labels
}

// Fear: a thousand goroutines hang in a driver, and nobody can tell on which host.
func TestLabels_SayOfEveryGoroutineOfAMessageForWhomItWorksAndInWhichPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restarted, saved, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
		w := newWorld(t, func(w *world) {
			w.labels = true
			w.host.onRestart = func(context.Context, int) error { <-restarted; return nil }
			w.store.Before = func(_ context.Context, c storetest.Call) error {
				if c.Method == storetest.Save {
					<-saved
				} else {
					<-finished
				}
				return nil
			}
		})
		d := newDelivery(newRequest(t))
		go func() {
			handle(w.handler, t.Context(), d)
		}()
		wants := func(function string, want ...string) {
			t.Helper()
			for i, phase := range want {
				want[i] = fmt.Sprintf(`{"host":%q, "id":%q, "phase":%q}`, d.request.Host, d.request.ID, phase)
			}
			if diff := cmp.Diff(want, labelsOf(t, function)); diff != "" {
				t.Errorf("labels of those in %s (-want +got):\n%s", function, diff)
			}
		}

		synctest.Wait()
		wants("handler.(*entrance).work", "restart")
		wants("handler.(*fakeHost).Restart", "restart")
		wants("handler.(*record).save", "save")
		close(restarted)
		synctest.Wait()
		wants("handler.(*fakeHost).Restart")
		wants("handler.(*entrance).work", "save")
		close(saved)
		synctest.Wait()
		wants("handler.(*entrance).work", "finish")
		close(finished)
		synctest.Wait()
		w.expect(d, "ack", "restarted verified", 1)
	})
}
