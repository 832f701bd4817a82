package fleettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

const host restart.Host = "cattle-a1b2.example.net"

// workerURL makes the test binary a worker that restarts the host behind that URL once.
const workerURL = "FLEETTEST_WORKER_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		fmt.Println(NewClient(url).Restart(context.Background(), restart.Trigger{Host: host, From: "1", Within: time.Minute}))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestClient_KeepsTheContract(t *testing.T) {
	restarttest.Run(t, func(t *testing.T) restarttest.Subject {
		f := newFleet(t)
		s := Start(t, Config{Fleet: f})
		force := func(fate simulated.Fate) func() { return func() { f.Force(host, fate) } }
		return restarttest.Subject{
			Driver:     newClient(t, s.URL),
			Host:       host,
			Late:       500 * time.Millisecond,
			Boots:      func() int { return f.BootsOf(host) },
			Reboot:     func() { f.Reboot(host) },
			RefuseNext: func() { s.RefuseNext(host, 1) },
			ForbidNext: force(simulated.Fate{Answer: simulated.Permanent}),
			LoseNext:   force(simulated.Fate{Answer: simulated.Lost}),
			HangNext:   force(simulated.Fate{Answer: simulated.Hangs, Ignored: true}),
			DelayNext:  func(d time.Duration) { f.Force(host, simulated.Fate{Late: d}) },
			IgnoreNext: force(simulated.Fate{Ignored: true}),

			FailProbes:  func(n int) { f.ForceProbes(host, slices.Repeat([]simulated.ProbeFault{simulated.ProbeFails}, n)...) },
			HangProbe:   func() { f.ForceProbes(host, simulated.ProbeHangs) },
			UnreadyNext: func(d time.Duration) { f.ForceBoots(host, simulated.Lapse{For: d}) },
			FlapNext:    func(d time.Duration) { f.ForceBoots(host, simulated.Lapse{After: d, For: d}) },
		}
	})
}

// Fear: a worker that is killed just after it asked leaves a host of which nobody knows, and the test counts it wrong.
func TestServer_CarriesOutWhatArrivedFromAWorkerKilledSince(t *testing.T) {
	f := newFleet(t)
	arrived, dead := make(chan struct{}), make(chan struct{})
	s := Start(t, Config{Fleet: f, BeforeRestart: func(restart.Host) {
		close(arrived)
		<-dead
	}})
	var out strings.Builder
	worker := exec.CommandContext(t.Context(), os.Args[0])
	worker.Env = append(os.Environ(), workerURL+"="+s.URL)
	worker.Stdout = &out
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	case <-time.After(time.Minute):
		t.Error("the worker asked nothing")
	}
	if err := worker.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = worker.Wait() // the error says that it was killed
	close(dead)
	s.Close()
	if out.Len() != 0 {
		t.Errorf("the worker lived to hear %q", &out)
	}
	wantBoots(t, f, 1)
}

// The same without a race between the server's noticing and its carrying out.
func TestServer_CarriesOutWhatArrivedFromAClientKnownToBeGone(t *testing.T) {
	f := newFleet(t)
	s := Start(t, Config{Fleet: f})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	body := strings.NewReader(fmt.Sprintf(`{"host":%q,"from":"1","within":"1m"}`, host))
	req := httptest.NewRequestWithContext(gone, http.MethodPost, "/restart", body)
	s.handler().ServeHTTP(httptest.NewRecorder(), req)
	wantBoots(t, f, 1)
}

// Fear: half a call is carried out, and a worker that died before it asked is counted as one that died after.
func TestServer_DoesNothingForACallThatDidNotArriveWhole(t *testing.T) {
	f := newFleet(t)
	s := Start(t, Config{Fleet: f, BeforeRestart: func(restart.Host) { t.Error("the call was taken for whole") }})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"host":%q,"from":"1","within":"1m"}`, host)
	fmt.Fprintf(conn, "POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body)+1)
	// Once the server asks for the body, it is in the middle of the call.
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue"))); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, body)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	wantBoots(t, f, 0)
}

func TestServer_RefusesWhatIsNoCall(t *testing.T) {
	f := newFleet(t)
	s := Start(t, Config{Fleet: f})
	for _, body := range []string{"", "{", "[]", `{"from":"1","within":"1m"}`, `{"host":"H","from":"1","within":"1m"}`, `{"host":"h","from":"1","within":60}`} {
		rec := httptest.NewRecorder()
		s.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/restart", strings.NewReader(body)))
		if rec.Code != http.StatusBadRequest {
			t.Errorf("%q: got status %d, want %d", body, rec.Code, http.StatusBadRequest)
		}
	}
	if got := f.Boots(); got != 0 {
		t.Errorf("boots: got %d, want none", got)
	}
}

func TestServer_RefusesTheNextCallsAndThenNoMore(t *testing.T) {
	f := newFleet(t)
	s := Start(t, Config{Fleet: f})
	c := newClient(t, s.URL)
	s.RefuseNext(host, 2)
	for range 2 {
		if err := c.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: time.Minute}); !errors.Is(err, restart.ErrRefused) {
			t.Errorf("Restart: got %v, want it refused", err)
		}
	}
	wantBoots(t, f, 0)
	if err := c.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: time.Minute}); err != nil {
		t.Errorf("Restart: got %v, want it taken", err)
	}
	wantBoots(t, f, 1)
	if got, want := f.CountsOf(host), (simulated.Counts{Calls: 3, Refused: 2}); got != want {
		t.Errorf("CountsOf: got %+v, want %+v", got, want)
	}
}

func TestClient_ServerThatIsGoneIsUnknown(t *testing.T) {
	s := Start(t, Config{Fleet: newFleet(t)})
	s.Close()
	c := newClient(t, s.URL)
	if state, err := c.Probe(t.Context(), host); err == nil {
		t.Errorf("Probe: got %+v, want an error", state)
	}
	err := c.Restart(t.Context(), restart.Trigger{Host: host, From: "1", Within: time.Minute})
	for _, class := range []error{nil, restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if errors.Is(err, class) {
			t.Errorf("Restart: got %v, want an error of no class", err)
		}
	}
}

func newFleet(t *testing.T) *simulated.Fleet {
	t.Helper()
	f, err := simulated.New(simulated.Config{RestartMax: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newClient(t *testing.T, url string) *Client {
	t.Helper()
	c := NewClient(url)
	t.Cleanup(func() { _ = c.Close() }) // which cannot fail
	return c
}

func wantBoots(t *testing.T, f *simulated.Fleet, want int) {
	t.Helper()
	if got := f.BootsOf(host); got != want {
		t.Errorf("boots of the host: got %d, want %d", got, want)
	}
}
