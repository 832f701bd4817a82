package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/fleettest"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/postgres/postgrestest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

const (
	// patience is for any one thing to happen in another process. The slowest, a trigger that is repeated once an engine
	// can no longer act on the first, takes 50 s on two cores that have nothing else to do.
	patience = 3 * time.Minute
	lifetime = 2 * patience
	poll     = 5 * time.Millisecond
)

// A logLine is what tests look at in a line of a process's log.
type logLine struct {
	Time       time.Time `json:"time"`
	Level      string    `json:"level"`
	Message    string    `json:"message"`
	Error      string    `json:"error"`
	Cause      string    `json:"cause"`
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	Worker     string    `json:"worker"`
	Fate       string    `json:"fate"`
	Deliveries int       `json:"deliveries"`
	Extended   int       `json:"extended"`
	// The counts of the last line.
	Restarted  int `json:"restarted"`
	Dead       int `json:"dead"`
	HandedBack int `json:"handed_back"`
	Unverified int `json:"unverified"`
	LeasesLost int `json:"leases_lost"`
}

func says(message string) func(logLine) bool {
	return func(l logLine) bool { return l.Message == message }
}

// A process is the program, in a process of its own. It is killed when the test ends, if not before, and a test that
// fails shows what it has said.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}

	mu             sync.Mutex
	stdout, stderr bytes.Buffer
	lines          []logLine
	partial        []byte        // of the line that is being written
	heard          chan struct{} // closed, and made anew, when something was written
}

func run(t *testing.T, name string, environ []string, stdin string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return runProgram(t, self, name, environ, stdin, args...)
}

func runProgram(t *testing.T, program, name string, environ []string, stdin string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	p := &process{name: name, ended: make(chan struct{}), heard: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "MANDRILL_") || strings.HasPrefix(entry, "XDG_")
	}), append(environ, roleVariable+"=worker")...)
	p.cmd.Stdin = strings.NewReader(stdin)
	p.cmd.Stdout, p.cmd.Stderr = writer(p.hearStdout), writer(p.hearStderr)
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code tells it all
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		p.mu.Lock()
		defer p.mu.Unlock()
		if bytes.Contains(p.stderr.Bytes(), []byte("DATA RACE")) {
			t.Errorf("%s has a data race", p.name)
		}
		if t.Failed() {
			t.Logf("%s (%s) said:\n%s", p.name, p.cmd.ProcessState, shorten(p.stderr.String()))
		}
	})
	return p
}

// shorten leaves out what thousands of messages say, and the middle of what is still too long.
func shorten(log string) string {
	const most = 32 << 10
	var kept strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"level":"debug"`) && !strings.Contains(line, `"message":"settled"`) {
			kept.WriteString(line)
		}
	}
	text := kept.String()
	if len(text) > most {
		text = text[:most/2] + "\n…\n" + text[len(text)-most/2:]
	}
	return text
}

type writer func([]byte)

func (w writer) Write(data []byte) (int, error) {
	w(data)
	return len(data), nil
}

func (p *process) hearStdout(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stdout.Write(data)
	p.tellHeard()
}

func (p *process) hearStderr(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stderr.Write(data)
	p.partial = append(p.partial, data...)
	for {
		line, rest, whole := bytes.Cut(p.partial, []byte("\n"))
		if !whole {
			break
		}
		var l logLine
		if json.Unmarshal(line, &l) == nil {
			p.lines = append(p.lines, l)
		}
		p.partial = rest
	}
	p.tellHeard()
}

func (p *process) tellHeard() {
	close(p.heard)
	p.heard = make(chan struct{})
}

// await returns once the process has fulfilled done, which is called with p.mu held. It fails if it cannot any more.
func (p *process) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		ok, heard := done(), p.heard
		p.mu.Unlock()
		switch {
		case ok:
			return
		case ended:
			t.Fatalf("%s has ended, and there was no %s", p.name, what)
		}
		select {
		case <-heard:
		case <-p.ended:
			ended = true
		case <-deadline:
			t.Fatalf("%s: no %s within %s", p.name, what, patience)
		}
	}
}

// awaitLine returns the first line that matches, of all that were ever written.
func (p *process) awaitLine(t *testing.T, what string, match func(logLine) bool) logLine {
	t.Helper()
	var found logLine
	p.await(t, "line: "+what, func() bool {
		i := slices.IndexFunc(p.lines, match)
		if i >= 0 {
			found = p.lines[i]
		}
		return i >= 0
	})
	return found
}

// awaitCount returns once n lines match.
func (p *process) awaitCount(t *testing.T, n int, message string) {
	t.Helper()
	p.await(t, fmt.Sprintf("%d times: %s", n, message), func() bool { return len(p.matching(says(message))) >= n })
}

func (p *process) said(match func(logLine) bool) []logLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.matching(match)
}

func (p *process) matching(match func(logLine) bool) (found []logLine) {
	for _, l := range p.lines {
		if match(l) {
			found = append(found, l)
		}
	}
	return found
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("cannot send %s to %s: %v", s, p.name, err)
	}
}

func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s has not ended within %s", p.name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) wantExit(t *testing.T, want int) {
	t.Helper()
	if got := p.exitCode(t); got != want {
		t.Errorf("%s: got exit code %d, want %d", p.name, got, want)
	}
}

// stop ends the process as an operator would, and wants it to have finished everything.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.wantExit(t, exitDone)
}

// kill ends the process as a power cut would, and returns when it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	p.exitCode(t)
}

// lastLine returns the last line of the log, and wants it to be the one with the counts.
func (p *process) lastLine(t *testing.T) logLine {
	t.Helper()
	p.exitCode(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		t.Fatalf("%s has said nothing", p.name)
	}
	last := p.lines[len(p.lines)-1]
	if last.Message != "stopped" {
		t.Errorf("%s: got last line %q, want %q", p.name, last.Message, "stopped")
	}
	return last
}

// A scene is a server in a process of its own, and hosts in the test's, where they outlive all others and count their
// own boots.
type scene struct {
	fleet *simulated.Fleet
	hosts *fleettest.Server

	data   string // the server's folder
	listen string
	url    string // with the token
	server *process
	js     jetstream.JetStream

	workerData string // the folder of workers, and of their SQLite database
	database   string // the one of all workers, as --database says it
}

func newHosts(t *testing.T, hosts simulated.Config) *scene {
	t.Helper()
	fleet, err := simulated.New(hosts)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{fleet: fleet, hosts: fleettest.Start(t, fleettest.Config{Fleet: fleet}), workerData: t.TempDir()}
	s.database = filepath.Join(s.workerData, databaseFile)
	return s
}

func newScene(t *testing.T, hosts simulated.Config) *scene {
	t.Helper()
	s := newHosts(t, hosts)
	s.data = t.TempDir()
	s.startServer(t)
	s.connect(t)
	return s
}

// connectEmbedded lets the test look at the server that a worker runs in its data folder.
func (s *scene) connectEmbedded(t *testing.T, data string) {
	t.Helper()
	e, err := embeddedEndpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	s.url = e.urls
	s.connect(t, e.options...)
}

// connect lets the test look at the server for itself.
func (s *scene) connect(t *testing.T, options ...nats.Option) {
	t.Helper()
	closed := make(chan struct{})
	conn, err := nats.Connect(s.url, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectBufSize(-1), nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		<-closed
	})
	if s.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1<<16)); err != nil {
		t.Fatal(err)
	}
}

// startServer starts the server, again on the same folder and port if there was one.
func (s *scene) startServer(t *testing.T) {
	t.Helper()
	if s.listen == "" {
		s.listen = freeAddress(t)
	}
	s.server = run(t, "server", nil, "", "server", "--data", s.data, "--listen", s.listen)
	var ready struct {
		URL string `json:"url"`
	}
	s.server.await(t, "URL", func() bool { return json.Unmarshal(s.server.stdout.Bytes(), &ready) == nil })
	s.url = ready.URL
}

// usePostgres gives the scene a database that several workers can share.
func (s *scene) usePostgres(t *testing.T) {
	t.Helper()
	s.database = postgrestest.Start(t).NewDatabase(t)
}

// startWorker starts a worker on the scene's database, and returns when it pulls.
func (s *scene) startWorker(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return s.startWorkerWith(t, name, nil, args...)
}

func (s *scene) startWorkerWith(t *testing.T, name string, environ []string, args ...string) *process {
	t.Helper()
	args = append([]string{
		"--data", s.workerData, "--database", s.database, "--nats", s.url,
		"--retry-cap", "10s", // well within patience, however often a starved machine has made it try
	}, args...)
	return s.startBare(t, name, environ, args...)
}

// startBare starts a worker that finds server and folder in its arguments.
func (s *scene) startBare(t *testing.T, name string, environ []string, args ...string) *process {
	t.Helper()
	p := run(t, name, append(environ, fleetVariable+"="+s.hosts.URL), "",
		append([]string{"worker", "--log-level", "debug"}, args...)...)
	p.awaitLine(t, "worker is ready", says("worker is ready"))
	return p
}

// publish publishes a request for each instance, from another process, and wants every one confirmed.
func (s *scene) publish(t *testing.T, instances []string) {
	t.Helper()
	wantPublished(t, s.startPublish(t, instances, "--nats", s.url), len(instances))
}

// startPublish starts to publish, patiently unless the arguments say otherwise: a starved machine may answer nobody for ten
// seconds, which is all that a publish has by default.
func (s *scene) startPublish(t *testing.T, instances []string, args ...string) *process {
	t.Helper()
	args = append([]string{"publish", "--output", "json", "--publish-timeout", "1m"}, args...)
	return run(t, "publisher", nil, strings.Join(instances, "\n"), args...)
}

func wantPublished(t *testing.T, p *process, want int) {
	t.Helper()
	p.wantExit(t, exitDone)
	var report struct {
		Published int `json:"published"`
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &report); err != nil {
		t.Fatalf("%s: cannot read what it printed: %v: %s", p.name, err, p.stdout.Bytes())
	}
	if report.Published != want {
		t.Fatalf("%s: got %d confirmed, want %d: %s", p.name, report.Published, want, p.stdout.Bytes())
	}
}

// instances returns n names, which no other call with another prefix returns.
func instances(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}

func hostOf(instance string) restart.Host { return restart.Host(instance + ".example.net") }

// eventually polls, because neither hosts nor server tell by themselves.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// patiently does what a server refuses while it has no leader, or no processor for seconds.
func patiently(t *testing.T, what string, do func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(poll) {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("cannot %s within %s: %v", what, patience, err)
		}
	}
}

func (s *scene) awaitBoots(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d boots", n), func() bool { return s.fleet.Boots() >= n })
}

// awaitEmpty waits until no request is queued or in work. A server that was killed, or whose disk was full, may keep
// messages that were settled; the worker's sweep removes them.
func (s *scene) awaitEmpty(t *testing.T) {
	t.Helper()
	left := -1
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(poll) {
		if n, err := s.queued(t); err == nil {
			if left = n; n == 0 {
				return
			}
		}
	}
	c, err := s.consumerInfo(t)
	if err != nil {
		t.Fatalf("work stream is not empty after %s, and the consumer cannot be looked at: %v", patience, err)
	}
	t.Fatalf("work stream is not empty after %s: %d messages left, of which the consumer has %d to deliver and %d delivered; its acks have come to %d",
		patience, left, c.NumPending, c.NumAckPending, c.AckFloor.Stream)
}

// bootsOf counts the boots of some hosts.
func (s *scene) bootsOf(instances []string) (sum int) {
	for _, instance := range instances {
		sum += s.fleet.BootsOf(hostOf(instance))
	}
	return sum
}

func (s *scene) queued(t *testing.T) (int, error) {
	t.Helper()
	info, err := s.streamInfo(t, stream.Work)
	if err != nil {
		return 0, err
	}
	return int(info.State.Msgs), nil
}

func (s *scene) streamInfo(t *testing.T, name string) (*jetstream.StreamInfo, error) {
	t.Helper()
	return answerOf(t, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		found, err := s.js.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		return found.CachedInfo(), nil
	})
}

func (s *scene) consumerInfo(t *testing.T) (*jetstream.ConsumerInfo, error) {
	t.Helper()
	return answerOf(t, func(ctx context.Context) (*jetstream.ConsumerInfo, error) {
		c, err := s.js.Consumer(ctx, stream.Work, stream.ConsumerName(restart.DefaultGroup))
		if err != nil {
			return nil, err
		}
		return c.CachedInfo(), nil
	})
}

// answerOf asks a server until it answers. One that is being started again, or has no processor for seconds, does so later.
func answerOf[T any](t *testing.T, ask func(ctx context.Context) (T, error)) (T, error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(poll) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		answer, err := ask(ctx)
		cancel()
		var said jetstream.JetStreamError
		isAnswer := err == nil || errors.As(err, &said) && said.APIError() != nil && said.APIError().Code != http.StatusServiceUnavailable
		if isAnswer || time.Now().After(deadline) {
			return answer, err
		}
	}
}

// open opens the scene's database beside whoever has it open.
func (s *scene) open(t *testing.T) store.Store {
	t.Helper()
	db, err := openDatabase(t.Context(), config.Config{
		Database: config.Database(s.database), SaveTimeout: patience,
	}, store.Reader, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// outcomes returns what is on record, by request. It wants every outcome's request to be there too.
func (s *scene) outcomes(t *testing.T) map[uuid.UUID]restart.Outcome {
	t.Helper()
	found := map[uuid.UUID]restart.Outcome{}
	for e, err := range s.open(t).History(t.Context(), store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Outcome.Kind != "" {
			found[e.Request.ID] = e.Outcome
		}
	}
	return found
}

// outcomesOf counts the outcomes that one worker has recorded.
func (s *scene) outcomesOf(t *testing.T, p *process) (n int) {
	t.Helper()
	name := p.awaitLine(t, "its name", says("worker is ready")).Worker
	for _, o := range s.outcomes(t) {
		if o.Receipt.Worker == name {
			n++
		}
	}
	return n
}

// wantEachRestartedOnce wants one boot of each host, as the hosts counted them, and one outcome of each request.
func (s *scene) wantEachRestartedOnce(t *testing.T, instances []string) {
	t.Helper()
	for _, instance := range instances {
		if n := s.fleet.BootsOf(hostOf(instance)); n != 1 {
			t.Errorf("%s: got %d boots, want 1", instance, n)
		}
	}
	if n := s.fleet.Boots(); n != len(instances) {
		t.Errorf("got %d boots, want %d", n, len(instances))
	}
	ended := map[restart.Host]int{}
	outcomes := s.outcomes(t)
	maps.DeleteFunc(outcomes, func(_ uuid.UUID, o restart.Outcome) bool { return o.Reason == restart.ReasonMalformed })
	for _, o := range outcomes {
		if o.Kind != restart.Restarted {
			t.Errorf("%s: got outcome %s (%s: %s), want restarted", o.Host, o.Kind, o.Reason, o.Detail)
		}
		ended[o.Host]++
	}
	for _, instance := range instances {
		if n := ended[hostOf(instance)]; n != 1 {
			t.Errorf("%s: got %d requests with an outcome, want 1", instance, n)
		}
	}
	if len(outcomes) != len(instances) {
		t.Errorf("got %d requests with an outcome, want %d", len(outcomes), len(instances))
	}
}
