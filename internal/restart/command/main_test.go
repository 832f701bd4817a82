package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	host  restart.Host  = "cattle-a1b2.example.net"
	group restart.Group = "cattle"

	// patience bounds what a test waits for.
	patience = 20 * time.Second
)

// First arguments that make the test binary something else.
const (
	asProgram = "as-program" // and a URL: does what the test there says
	asWorker  = "as-worker"  // and a URL: restarts the host by a program that is sent there
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case asProgram:
			// Not os.Exit, which waits for a second under the race detector.
			syscall.Exit(obey(os.Args[2], os.Args[3:]))
		case asWorker:
			d, err := New(Config{Group: group, Probe: []string{"true"}, Restart: askTest(os.Args[2]), Compare: restart.CompareAtEffect})
			if err == nil {
				err = d.Restart(context.Background(), trigger("1"))
			}
			fmt.Println("the worker lived to hear", err)
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// A call is what a program was run with, an answer what it shall do.
type call struct {
	Args    []string
	Environ []string
}

type answer struct {
	Stdout, Stderr string
	Exit           int
}

// obey is the program: it tells how it was run, and does as it is told.
func obey(url string, args []string) (exit int) {
	const confused = 99
	body, err := json.Marshal(call{args, os.Environ()})
	if err != nil {
		return confused
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return confused
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return confused
	}
	fmt.Fprint(os.Stdout, a.Stdout)
	fmt.Fprint(os.Stderr, a.Stderr)
	return a.Exit
}

// askTest returns the test binary as a program with the arguments, which is told by the URL what to do.
func askTest(url string, args ...string) []string {
	return append([]string{os.Args[0], asProgram, url}, args...)
}

// serve returns the URL by which answer decides what programs do. The context ends with the program.
func serve(t *testing.T, answer func(context.Context, call) answer) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c call
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Errorf("a program's call cannot be read: %v", err)
		}
		_ = json.NewEncoder(w).Encode(answer(r.Context(), c)) // a program that was killed does not hear it
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

func trigger(from restart.Epoch) restart.Trigger {
	return restart.Trigger{Host: host, From: from, Within: patience, ID: uuid.Nil, Attempt: 1}
}

func newDriver(t testing.TB, cfg Config) *Driver {
	t.Helper()
	cfg.Group = group
	if cfg.Probe == nil {
		cfg.Probe = []string{"true"}
	}
	if cfg.Restart == nil {
		cfg.Restart = []string{"true"}
	}
	if cfg.Compare == 0 && cfg.MaxDelay == 0 {
		cfg.Compare = restart.CompareAtEffect
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sh returns a shell script as a program; args are its $1 and so on.
func sh(script string, args ...string) []string {
	return append([]string{"sh", "-c", script, "sh"}, args...)
}
