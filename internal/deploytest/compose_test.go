package deploytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest"
)

const (
	patience = 5 * time.Minute
	requests = 12000
	resumed  = 10 * time.Second // within which a fault must be got over
	watched  = 16 * time.Second // after each fault
	tries    = 3

	maxImage = 40_000_000
)

// A fleet is the compose file, up on an engine of the test's own.
type fleet struct {
	t       *testing.T
	environ []string
	compose []string
}

func newFleet(t *testing.T) *fleet {
	compose := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		compose = []string{"docker-compose"}
		if _, err := exec.LookPath("docker-compose"); err != nil {
			missing(t, "Compose is not installed")
		}
	}
	engine := dockertest.StartApart(t)
	f := &fleet{
		t: t,
		environ: append(os.Environ(), "DOCKER_HOST="+engine.Endpoint(), "POSTGRES_IMAGE=mandrill-postgres",
			"REQUESTS="+strconv.Itoa(requests), "COMPOSE_PROJECT_NAME=fleet"),
		compose: append(compose, "-f", filepath.Join(deploy, "compose.yaml"), "-f", "testdata/compose.yaml"),
	}
	f.must("make", "-C", "../..", "images", "VERSION=test")
	loadPostgres(t, engine, "mandrill-postgres")
	loadHosts(t, engine, "mandrill-hosts")
	return f
}

// run runs a command on this machine, and returns its standard output.
func (f *fleet) run(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = f.environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s", command, err, stderr.String())
	}
	return string(out), err
}

func (f *fleet) must(command ...string) string {
	f.t.Helper()
	out, err := f.run(command...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *fleet) up() {
	f.t.Helper()
	f.t.Cleanup(func() {
		if f.t.Failed() {
			out, _ := f.run(append(f.compose, "logs", "--tail", "400", "worker-1", "worker-2", "publisher", "postgres")...)
			for line := range strings.Lines(out) {
				if !strings.Contains(line, `"message":"settled"`) {
					f.t.Logf("%s", line)
				}
			}
		}
		if _, err := f.run(append(f.compose, "down", "--volumes", "--timeout", "5")...); err != nil {
			f.t.Error(err)
		}
	})
	f.must(append(f.compose, "up", "-d")...)
}

// container returns the container of a service.
func (f *fleet) container(service string) string {
	f.t.Helper()
	return strings.TrimSpace(f.must(append(f.compose, "ps", "-q", service)...))
}

func (f *fleet) serviceOf(container string) string {
	f.t.Helper()
	return strings.TrimSpace(f.must("docker", "inspect", "-f", `{{index .Config.Labels "com.docker.compose.service"}}`, container))
}

func (f *fleet) isOver(container string) bool {
	f.t.Helper()
	return strings.TrimSpace(f.must("docker", "inspect", "-f", "{{.State.Running}}", container)) == "false"
}

func (f *fleet) await(what string, done func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("after %s, %s", patience, what)
		}
	}
}

// get returns what a URL of the fleet's network answers.
func (f *fleet) get(url string) (string, error) {
	return f.run("docker", "exec", f.container("hosts"), "/hostd", "get", url)
}

// A boot is one that a host has told of.
type boot struct {
	at   time.Time
	host string
}

func (f *fleet) boots() (all []boot) {
	f.t.Helper()
	for line := range strings.Lines(f.must("docker", "logs", f.container("hosts"))) {
		at, host, _ := strings.Cut(strings.TrimSpace(line), " ")
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, boot{when, host})
	}
	return all
}

// workStream is what the node nats-1 knows of the work stream.
type workStream struct {
	Name    string
	Cluster struct{ Leader string }
	State   struct{ Messages int }
}

func (f *fleet) workStream() (found workStream, ok bool) {
	f.t.Helper()
	text, err := f.get("http://nats-1:8222/jsz?streams=true&accounts=true")
	if err != nil {
		return found, false
	}
	var answer struct {
		Accounts []struct {
			Streams []workStream `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		f.t.Fatal(err)
	}
	for _, account := range answer.Accounts {
		for _, s := range account.Streams {
			if s.Name == "MANDRILL" {
				return s, true
			}
		}
	}
	return found, false
}

// leader returns the node that leads the work stream.
func (f *fleet) leader() (node string) {
	f.t.Helper()
	f.await("nobody leads the work stream", func() bool {
		s, ok := f.workStream()
		node = s.Cluster.Leader
		return ok && node != ""
	})
	return node
}

// healthy waits until all nodes have caught up with each other.
func (f *fleet) healthy() {
	f.t.Helper()
	for _, node := range []string{"nats-1", "nats-2", "nats-3"} {
		f.await(node+" is not well", func() bool { _, err := f.get("http://" + node + ":8222/healthz"); return err == nil })
	}
}

// gap returns the longest time without a boot in what was watched after a fault.
func (f *fleet) gap(from time.Time) (longest time.Duration) {
	f.t.Helper()
	last, until := from, from.Add(watched)
	for _, b := range f.boots() {
		if b.at.After(from) && b.at.Before(until) {
			longest = max(longest, b.at.Sub(last))
			last = b.at
		}
	}
	return max(longest, until.Sub(last))
}

func (f *fleet) sql(query string) string {
	f.t.Helper()
	return strings.TrimSpace(f.must("docker", "exec", f.container("postgres"), "psql", "-h", "/tmp", "-U", "mandrill", "-tAc", query))
}

// One command, and all that can die on the way does, one after the other: what hosts, database and publisher have counted is
// the same, and nobody waits for long.
func TestProcess_TheComposeFilesFleetOutlivesTheLossOfEachOfItsParts(t *testing.T) {
	f := newFleet(t)
	f.up()
	f.await("nothing was restarted", func() bool {
		n := len(f.boots())
		if publisher := f.container("publisher"); n <= 100 && f.isOver(publisher) { // there were no streams yet
			f.must("docker", "start", publisher)
		}
		return n > 100
	})
	f.healthy()
	for _, fault := range []struct {
		name       string
		service    func() string // to whom it happens
		what, heal func(container string)
	}{
		{
			name: "a NATS node is stopped", service: f.leader,
			what: func(c string) { f.must("docker", "stop", c) }, heal: func(c string) { f.must("docker", "start", c) },
		},
		{
			name: "a NATS node is killed", service: f.leader,
			what: func(c string) { f.must("docker", "kill", c) }, heal: func(c string) { f.must("docker", "start", c) },
		},
		{
			name: "a NATS node is cut off", service: f.leader,
			what: func(c string) { f.must("docker", "network", "disconnect", "fleet_default", c) },
			heal: func(c string) { f.must("docker", "network", "connect", "--alias", f.serviceOf(c), "fleet_default", c) },
		},
		{
			name: "a worker is killed", service: func() string { return "worker-1" },
			what: func(c string) { f.must("docker", "kill", c) }, heal: func(c string) { f.must("docker", "start", c) },
		},
	} {
		for try := 1; ; try++ {
			service := fault.service()
			container := f.container(service)
			began := time.Now()
			fault.what(container)
			time.Sleep(time.Until(began.Add(watched))) // it is what happens in this time that is looked at
			gap := f.gap(began)
			t.Logf("%s (%s): at most %s without a restart; %d boots", fault.name, service, gap.Round(time.Millisecond), len(f.boots()))
			fault.heal(container)
			f.healthy()
			if gap <= resumed {
				break
			}
			// Servers take up to nine seconds to elect a leader, by chance: that leaves little to a busy machine.
			if try == tries {
				t.Errorf("%s: nothing was restarted for %s, and for more than %s in each of %d tries", fault.name, gap, resumed, tries)
				break
			}
		}
	}
	f.same()
}

// same waits for the end, and compares.
func (f *fleet) same() {
	f.t.Helper()
	publisher := f.container("publisher")
	f.await("the publisher has not ended", func() bool { return f.isOver(publisher) })
	var sent struct{ Published, Failed int }
	for runs := json.NewDecoder(strings.NewReader(f.must("docker", "logs", publisher))); ; {
		var one struct{ Published, Failed int }
		if err := runs.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			f.t.Fatal(err)
		}
		sent.Published, sent.Failed = sent.Published+one.Published, sent.Failed+one.Failed
	}
	f.await("messages are left", func() bool {
		s, ok := f.workStream()
		return ok && s.State.Messages == 0
	})
	asked := f.sql("select count(*) from requests")
	restarted := f.sql("select count(*) from outcomes where kind = 'restarted'")
	boots := f.boots()
	f.t.Logf("published %d (%d without an answer), requests %s, restarted %s, boots %d", sent.Published, sent.Failed, asked, restarted, len(boots))
	if n, _ := strconv.Atoi(asked); n < sent.Published || n > sent.Published+sent.Failed || asked != restarted || n != len(boots) {
		f.t.Errorf("got %s requests, %s restarted, %d boots, want as many of each as were published: %d, and at most %d more",
			asked, restarted, len(boots), sent.Published, sent.Failed)
	}
	perHost := map[string]int{}
	for _, b := range boots {
		perHost[b.host]++
	}
	for line := range strings.Lines(f.sql("select host || ' ' || count(*) from requests group by host")) {
		host, count, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, _ := strconv.Atoi(count); perHost[host] != n {
			f.t.Errorf("%s: got %d boots for %s requests", host, perHost[host], count)
		}
	}
}

func TestProcess_TheContainerStartsAtOnceWithAReadOnlyRootAndAsSomebodyElseThanRoot(t *testing.T) {
	engine := dockertest.StartApart(t)
	f := &fleet{t: t, environ: append(os.Environ(), "DOCKER_HOST="+engine.Endpoint())}
	f.must("make", "-C", "../..", "images", "VERSION=test")
	user := strings.TrimSpace(f.must("docker", "inspect", "-f", "{{.Config.User}}", "mandrill"))
	if id, _, _ := strings.Cut(user, ":"); id == "0" || strings.Trim(id, "0123456789") != "" || id == "" {
		t.Errorf("got user %q, want a number other than 0", user)
	}
	for _, image := range []string{"mandrill", "mandrill-nats"} {
		size, _ := strconv.Atoi(strings.TrimSpace(f.must("docker", "inspect", "-f", "{{.Size}}", image)))
		t.Logf("%s: %d bytes, %.1f MB", image, size, float64(size)/1e6)
		if size <= 0 || size >= maxImage {
			t.Errorf("%s: got %d bytes, want less than %d", image, size, maxImage)
		}
	}
	// The start of a container is the engine's work too, so the best of a few counts.
	var took []time.Duration
	for range 5 {
		began := time.Now()
		out := f.must("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "mandrill", "version")
		took = append(took, time.Since(began))
		if !strings.Contains(out, "mandrill test,") {
			t.Fatalf("got %q", out)
		}
	}
	if best := slices.Min(took); best >= time.Second {
		t.Errorf("got %s, want less than a second", best)
	}
	t.Logf("docker run took %s at best", slices.Min(took))
	worker := strings.TrimSpace(f.must("docker", "run", "-d", "--read-only", "--cap-drop", "ALL", "--network", "none", "mandrill"))
	f.await("the worker is not healthy", func() bool {
		return strings.TrimSpace(f.must("docker", "inspect", "-f", "{{.State.Health.Status}}", worker)) == "healthy"
	})
	f.must("docker", "rm", "-f", "-v", worker)
}
