package monitor_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/commandcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/tcpcheck"
)

// D01, D02, D03, D09: whatever has a Check method is run, and what it has measured is logged.
func TestRun_RunsChecksOfAnyKindAndLogsWhatTheyMeasure(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	defer server.Close()
	checks := map[string]func() (monitor.Check, error){
		"http": func() (monitor.Check, error) { return httpcheck.New(httpcheck.Config{URL: server.URL}) },
		"tcp": func() (monitor.Check, error) {
			return tcpcheck.New(tcpcheck.Config{Address: strings.TrimPrefix(server.URL, "http://")})
		},
		"command": func() (monitor.Check, error) {
			return commandcheck.New(commandcheck.Config{Command: []string{os.Args[0], "-test.list", "^$"}})
		},
		"fake": func() (monitor.Check, error) { return always(monitor.Good), nil },
	}
	var log bytes.Buffer
	cfg := monitor.Config{Logger: zerolog.New(&log)}
	for name, build := range checks {
		c, err := build()
		if err != nil {
			t.Fatal(err)
		}
		s := spec(name, time.Minute, c)
		s.Timeout = 30 * time.Second
		cfg.Monitors = append(cfg.Monitors, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	awaited := len(checks)
	cfg.Observe = func(o monitor.Observation) {
		if awaited--; awaited == 0 {
			cancel()
		}
	}
	e, err := newRunner(t, cfg).Run(ctx)
	if err != nil || e.Reason != monitor.ReasonStopped || len(e.Failed) > 0 {
		t.Errorf("got %+v, %v", e, err)
	}

	got := map[string]map[string]any{}
	for lines := bufio.NewScanner(&log); lines.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line["message"] != "checked" {
			continue
		}
		for _, key := range []string{"took", "offset"} {
			if _, ok := line[key].(float64); !ok {
				t.Errorf("got %s %v in %v, want a number", key, line[key], line)
			}
			delete(line, key)
		}
		got[line["monitor"].(string)] = line
	}
	checked := func(name, seen string) map[string]any {
		return map[string]any{
			"level": "info", "component": "monitor", "monitor": name, "seq": 0.0, "verdict": "good", "seen": seen, "message": "checked",
		}
	}
	want := map[string]map[string]any{
		"http": checked("http", "200 OK"), "tcp": checked("tcp", "connected"),
		"command": checked("command", `exit status 0`), "fake": checked("fake", "as always"),
	}
	want["http"]["code"], want["http"]["bytes"] = 200.0, 4.0
	want["command"]["exit"] = 0.0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
