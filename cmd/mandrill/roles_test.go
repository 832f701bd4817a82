package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// exampleConfig is the configuration that we hand out, and natsServer, as the first argument, makes the test binary a NATS
// server with the configuration that is the second.
const (
	exampleConfig = "../../deploy/nats/nats.conf"
	natsServer    = "as-nats-server"
)

// runNATSServer prints its URL when clients can connect.
func runNATSServer(file string) int {
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	opts.NoSigs = true
	node, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	node.SetLoggerV2(complaints{}, false, false, false)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	node.Start()
	if !node.ReadyForConnections(patience) {
		return exitFailed
	}
	fmt.Println(node.ClientURL())
	<-stop
	node.Shutdown()
	node.WaitForShutdown()
	return exitDone
}

// complaints writes what goes wrong to standard error, violations of permissions among it.
type complaints struct{}

func (complaints) Noticef(string, ...any)       {}
func (complaints) Debugf(string, ...any)        {}
func (complaints) Tracef(string, ...any)        {}
func (complaints) Warnf(text string, v ...any)  { fmt.Fprintf(os.Stderr, text+"\n", v...) }
func (complaints) Fatalf(text string, v ...any) { fmt.Fprintf(os.Stderr, text+"\n", v...) }
func (complaints) Errorf(text string, v ...any) { fmt.Fprintf(os.Stderr, text+"\n", v...) }

// A role is who connects, by the variable of accounts.conf that has the public key.
type role string

const (
	roleWorker    role = "MANDRILL_WORKER_WEB"
	rolePublisher role = "MANDRILL_PUBLISHER_WEB"
	roleOperator  role = "MANDRILL_OPERATOR"
	roleViewer    role = "MANDRILL_VIEWER"
)

var roles = []role{roleWorker, rolePublisher, roleOperator, roleViewer}

// A secured scene is a server with our example of permissions, over TLS, and a context of the nats command for each role.
type secured struct {
	*scene
	config string // $XDG_CONFIG_HOME
	ca     string
}

// newSecured runs a server with a configuration file, which finds in its environment what is not in it.
func newSecured(t *testing.T, file string) *secured {
	t.Helper()
	s := &secured{scene: newHosts(t, simulated.Config{RestartMax: 50 * time.Millisecond}), config: t.TempDir()}
	cert, key := certificate(t, "nats")
	s.ca = cert
	environ := []string{
		"MANDRILL_NATS_NAME=nats-1", "MANDRILL_NATS_LISTEN=" + freeAddress(t), "MANDRILL_NATS_STORE=" + t.TempDir(),
		"MANDRILL_NATS_CERT=" + cert, "MANDRILL_NATS_KEY=" + key,
	}
	seeds := map[role]string{}
	for _, r := range roles {
		public, seed := newNKey(t, string(r))
		environ, seeds[r] = append(environ, string(r)+"="+public), seed
	}
	s.server = run(t, "nats", environ, "", natsServer, file)
	s.server.await(t, "URL", func() bool { return strings.HasSuffix(s.server.stdout.String(), "\n") })
	s.url = strings.TrimSpace(s.server.stdout.String())
	for r, seed := range seeds {
		s.writeContext(t, r, map[string]string{"nkey": seed})
	}
	return s
}

// writeContext writes a context of the nats command, named by the role.
func (s *secured) writeContext(t *testing.T, r role, more map[string]string) {
	t.Helper()
	entries := map[string]string{"url": s.url, "ca": s.ca}
	for key, value := range more {
		entries[key] = value
	}
	data, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.config, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, string(r)+".json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func newNKey(t *testing.T, name string) (public, seedFile string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	seedFile = filepath.Join(t.TempDir(), name+".nk")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return public, seedFile
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
}

// as returns a connection of a role, and what the server complains of.
func (s *secured) as(t *testing.T, r role) (*nats.Conn, <-chan error) {
	t.Helper()
	a := newApp()
	a.environ = []string{"XDG_CONFIG_HOME=" + s.config}
	e, err := a.contextEndpoint(contextConfig(r))
	if err != nil {
		t.Fatal(err)
	}
	complaints := make(chan error, 1000)
	closed := make(chan struct{})
	conn, err := nats.Connect(e.urls, append(e.options, nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complaints <- err }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); <-closed })
	return conn, complaints
}

// run runs a verb of the program as a role and returns how it ended, and what it said.
func (s *secured) run(t *testing.T, r role, args ...string) *process {
	t.Helper()
	p := run(t, string(r)+" "+args[0], []string{"XDG_CONFIG_HOME=" + s.config, "HOME=" + s.config, fleetVariable + "=" + s.hosts.URL}, "",
		insertContext(args, r)...)
	return p
}

// insertContext adds the flag, before what a schedule is to do.
func insertContext(args []string, r role) []string {
	at := slices.Index(args, "--")
	if at < 0 {
		at = len(args)
	}
	return slices.Insert(slices.Clone(args), at, "--nats-context", string(r))
}

// must runs a verb as a role to its end, wants it to succeed without a complaint of the server, and returns what it printed.
func (s *secured) must(t *testing.T, r role, args ...string) string {
	t.Helper()
	p := s.run(t, r, args...)
	p.wantExit(t, exitDone)
	if text := strings.ToLower(p.text() + p.stdout.String()); strings.Contains(text, "permi") || strings.Contains(text, "jetstream") || strings.Contains(text, "violation") {
		t.Errorf("%s: %s: got %s%s", r, strings.Join(args, " "), p.stdout.String(), p.text())
	}
	return p.stdout.String()
}

// startWebWorker starts a worker of group web in its role.
func (s *secured) startWebWorker(t *testing.T, args ...string) *process {
	t.Helper()
	p := s.run(t, roleWorker, append([]string{
		"worker", "--group", "web", "--log-level", "debug", "--data", s.workerData, "--database", s.database, "--ack-wait", "2s",
	}, args...)...)
	return p
}

func newJetStream(t *testing.T, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
