package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/moby/moby/api/types/container"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker"
)

const (
	host restart.Host = "web-1.example.net"

	patience = time.Minute
)

var errLease = errors.New("the lease was lost")

// start returns a driver of a fake engine with one container, which has the host's name.
func start(t testing.TB, cfg docker.Config) (*docker.Driver, *faults, *fakeEngine, *fakeContainer) {
	t.Helper()
	c := &fakeContainer{id: "0a1b2c", name: string(host)}
	fake := newFake(c)
	f, endpoint := serve(t, fake)
	cfg.Endpoint = endpoint
	return newDriver(t, cfg), f, fake, c
}

func trigger(from restart.Epoch) restart.Trigger {
	return restart.Trigger{Host: host, From: from, Within: patience, ID: uuid.New(), Attempt: 1}
}

func epochOf(t testing.TB, d restart.Driver, host restart.Host) restart.Epoch {
	t.Helper()
	state, err := d.Probe(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return state.Epoch
}

// wantClass fails unless the error wraps the class and no other one; a class of nil means that it is unknown.
func wantClass(t testing.TB, err, class error) {
	t.Helper()
	if err == nil {
		t.Errorf("got nil, want an error of class %v", class)
	}
	for _, other := range []error{restart.ErrChanged, restart.ErrRefused, restart.ErrPermanent} {
		if got, want := errors.Is(err, other), other == class; got != want {
			t.Errorf("got %v, which wraps %q: %t, want %t", err, other, got, want)
		}
	}
}

func TestTraits_CoverTheStopTimeout(t *testing.T) {
	for _, c := range []struct{ stopTimeout, least time.Duration }{{0, 20 * time.Second}, {time.Minute, 70 * time.Second}} {
		d, _, _, _ := start(t, docker.Config{StopTimeout: c.stopTimeout})
		got := d.Traits()
		if got.Compare != restart.CompareAtAcceptance || got.MaxDelay < c.least {
			t.Errorf("stop timeout %s: got %+v, want a compare at acceptance, and a delay of at least %s", c.stopTimeout, got, c.least)
		}
	}
}

func TestProbe_SaysWhatTheEngineKnows(t *testing.T) {
	const started = "2026-03-01T12:00:00.000000001Z"
	since := time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC)
	for _, c := range []struct {
		status container.ContainerState
		health container.HealthStatus
		ready  bool
	}{
		{container.StateRunning, "", true},
		{container.StateRunning, container.NoHealthcheck, true},
		{container.StateRunning, container.Healthy, true},
		{container.StateRunning, container.Starting, false},
		{container.StateRunning, container.Unhealthy, false},
		{container.StatePaused, container.Healthy, false},
		{container.StateRestarting, "", false},
		{container.StateExited, container.Healthy, false},
		{container.StateRemoving, "", false},
		{container.StateDead, "", false},
	} {
		t.Run(fmt.Sprintf("%s,%s", c.status, c.health), func(t *testing.T) {
			d, _, fake, found := start(t, docker.Config{})
			fake.do(func() { found.status, found.health, found.started = c.status, c.health, started })
			got, err := d.Probe(t.Context(), host)
			want := restart.State{Epoch: "0a1b2c@" + started, Since: since, Ready: c.ready}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("got %v, and (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestProbe_ContainerThatNeverRanIsNotReadySinceNobodyKnowsWhen(t *testing.T) {
	d, _, fake, c := start(t, docker.Config{})
	fake.do(func() { c.status, c.started = container.StateCreated, "0001-01-01T00:00:00Z" })
	got, err := d.Probe(t.Context(), host)
	if err != nil || got.Epoch == "" || !got.Since.IsZero() || got.Ready {
		t.Errorf("got %+v, %v, want an epoch, no time, and not ready", got, err)
	}
}

// Half an answer must not become an epoch that another half answer repeats.
func TestProbe_AnswerWithoutABootIsUnknown(t *testing.T) {
	d, f, _, _ := start(t, docker.Config{})
	for _, body := range []string{
		`{}`, `null`, `<html>`, ``,
		`{"Id":"0a1b2c","Name":"/web-1.example.net"}`,
		`{"Id":"0a1b2c","Name":"/web-1.example.net","State":{}}`,
		`{"Name":"/web-1.example.net","State":{"StartedAt":"x"}}`,
	} {
		f.nextProbes(1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		_, err := d.Probe(t.Context(), host)
		wantClass(t, err, nil)
	}
}

func TestProbe_AnswersByClass(t *testing.T) {
	d, f, _, _ := start(t, docker.Config{})
	for status, class := range map[int]error{
		http.StatusBadRequest:          nil,
		http.StatusUnauthorized:        restart.ErrPermanent,
		http.StatusForbidden:           restart.ErrPermanent,
		http.StatusNotFound:            restart.ErrPermanent,
		http.StatusConflict:            nil,
		http.StatusInternalServerError: nil,
		http.StatusBadGateway:          nil,
		http.StatusServiceUnavailable:  nil,
	} {
		f.nextProbes(1, answers(status))
		_, err := d.Probe(t.Context(), host)
		wantClass(t, err, class)
	}
}

// An engine calls everything that happens once it has begun an internal error, so only what it says before may be taken
// for "nothing was done".
func TestRestart_AnswersByClass(t *testing.T) {
	d, f, fake, c := start(t, docker.Config{})
	epoch := epochOf(t, d, host)
	for status, class := range map[int]error{
		http.StatusBadRequest:          restart.ErrRefused,
		http.StatusUnauthorized:        restart.ErrPermanent,
		http.StatusForbidden:           restart.ErrPermanent,
		http.StatusNotFound:            restart.ErrPermanent,
		http.StatusRequestTimeout:      nil,
		http.StatusConflict:            nil,
		http.StatusInternalServerError: nil,
		http.StatusBadGateway:          nil,
		http.StatusServiceUnavailable:  nil,
		http.StatusGatewayTimeout:      nil,
	} {
		f.nextRestart(answers(status))
		wantClass(t, d.Restart(t.Context(), trigger(epoch)), class)
	}
	fake.wantRestarts(t, c, 0)
}

// The name may have gone to another container since; the id cannot.
func TestRestart_AsksOnceForTheContainerThatItComparedWithTheStopTimeout(t *testing.T) {
	d, _, fake, _ := start(t, docker.Config{StopTimeout: 7 * time.Second})
	epoch := epochOf(t, d, host)
	fake.asked()
	if err := d.Restart(t.Context(), trigger(epoch)); err != nil {
		t.Fatal(err)
	}
	want := []string{"GET /v1.41/containers/web-1.example.net/json", "POST /v1.41/containers/0a1b2c/restart", "t=7"}
	if diff := cmp.Diff(want, fake.asked()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestRestart_ContainerMadeAnewUnderTheOldNameIsChanged(t *testing.T) {
	d, _, fake, c := start(t, docker.Config{})
	epoch := epochOf(t, d, host)
	fake.do(func() { c.id = "ffffff" })
	wantClass(t, d.Restart(t.Context(), trigger(epoch)), restart.ErrChanged)
	fake.wantRestarts(t, c, 0)
}

func TestRestart_FailedLookIsRefusedAndRestartsNothing(t *testing.T) {
	d, f, fake, c := start(t, docker.Config{})
	epoch := epochOf(t, d, host)
	f.nextProbes(1, answers(http.StatusInternalServerError))
	wantClass(t, d.Restart(t.Context(), trigger(epoch)), restart.ErrRefused)
	fake.wantRestarts(t, c, 0)
}

func TestRestart_LookThatOutlastsTheTimeLeftIsRefusedAndRestartsNothing(t *testing.T) {
	d, f, fake, c := start(t, docker.Config{})
	late := trigger(epochOf(t, d, host))
	late.Within = 50 * time.Millisecond
	f.nextProbes(1, hangs)
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errLease)
	defer cancel()
	err := d.Restart(ctx, late)
	wantClass(t, err, restart.ErrRefused)
	if errors.Is(err, errLease) {
		t.Errorf("got %v, want it refused when the time was up", err)
	}
	fake.wantRestarts(t, c, 0)
}

// A container that takes a minute to end would otherwise never be answered for.
func TestRestart_AnswerMayTakeLongerThanTheTimeLeft(t *testing.T) {
	d, f, fake, c := start(t, docker.Config{})
	short := trigger(epochOf(t, d, host))
	short.Within = 200 * time.Millisecond
	f.nextRestart(func(w http.ResponseWriter, r *http.Request) {
		fake.ServeHTTP(w, r)
		<-time.After(2 * short.Within)
	})
	if err := d.Restart(t.Context(), short); err != nil {
		t.Errorf("got %v, want the answer", err)
	}
	fake.wantRestarts(t, c, 1)
}

// Whoever is stopped wants to be told why, and not that the engine cannot be reached.
func TestDriver_SaysWhyItWasCancelled(t *testing.T) {
	d, f, _, _ := start(t, docker.Config{})
	from := trigger(epochOf(t, d, host))
	for name, call := range map[string]func(context.Context) error{
		"Probe": func(ctx context.Context) error {
			f.nextProbes(1, hangs)
			_, err := d.Probe(ctx, host)
			return err
		},
		"Restart": func(ctx context.Context) error {
			f.nextRestart(hangs)
			return d.Restart(ctx, from)
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(50*time.Millisecond, func() { cancel(errLease) })
		if err := call(ctx); !errors.Is(err, errLease) || strings.Contains(err.Error(), "connect") {
			t.Errorf("%s: got %v, want %v, and nothing of a connection", name, err, errLease)
		}
		timer.Stop()
	}
}

func TestDriver_EngineThatIsNotThereIsUnknownAndNothingIsSent(t *testing.T) {
	d := newDriver(t, docker.Config{Endpoint: "unix://" + filepath.Join(t.TempDir(), "docker.sock")})
	_, err := d.Probe(t.Context(), host)
	wantClass(t, err, nil)
	wantClass(t, d.Restart(t.Context(), trigger("0a1b2c@x")), restart.ErrRefused)
}

func TestRestart_EngineThatGoesAwayAfterTheLookIsRefused(t *testing.T) {
	fake := newFake(&fakeContainer{id: "0a1b2c", name: string(host)})
	var server *httptest.Server
	gone := false
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone {
			w.Header().Set("Connection", "close")
			server.Listener.Close()
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	d := newDriver(t, docker.Config{Endpoint: "tcp://" + server.Listener.Addr().String()})
	epoch := epochOf(t, d, host)
	gone = true
	wantClass(t, d.Restart(t.Context(), trigger(epoch)), restart.ErrRefused)
	if last := fake.asked(); strings.HasPrefix(last[len(last)-1], "t=") {
		t.Errorf("requests: got %q, want no restart", last)
	}
}

// The client library takes an engine that did not answer its first question for the newest one, for that once.
func TestDriver_FirstPingThatFailsIsNotForEver(t *testing.T) {
	c := &fakeContainer{id: "0a1b2c", name: string(host)}
	fake := newFake(c)
	pings := 0
	_, endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pings++; pings <= 2 { // HEAD and GET
			answers(http.StatusInternalServerError)(w, r)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	d := newDriver(t, docker.Config{Endpoint: endpoint})
	_, err := d.Probe(t.Context(), host)
	wantClass(t, err, nil)
	if err := d.Restart(t.Context(), trigger(epochOf(t, d, host))); err != nil {
		t.Error(err)
	}
	fake.wantRestarts(t, c, 1)
}

// An engine takes the beginning of an id wherever a name is asked for: a host called "cafe" must not be whatever
// container happens to have an id like that.
func TestDriver_BeginningOfAnIDIsNoName(t *testing.T) {
	other := &fakeContainer{id: "cafe0123", name: "web-2.example.net"}
	fake := newFake(other)
	_, endpoint := serve(t, fake)
	d := newDriver(t, docker.Config{Endpoint: endpoint})
	epoch := epochOf(t, d, "web-2.example.net")
	for _, name := range []restart.Host{"cafe", "cafe0123"} {
		_, err := d.Probe(t.Context(), name)
		wantClass(t, err, restart.ErrPermanent)
		by := trigger(epoch)
		by.Host = name
		wantClass(t, d.Restart(t.Context(), by), restart.ErrPermanent)
	}
	fake.wantRestarts(t, other, 0)
}

func TestDriver_FindsTheOneContainerWithTheLabel(t *testing.T) {
	const label = "com.example.host"
	labelled := func(id string, labels map[string]string) *fakeContainer {
		return &fakeContainer{id: id, name: "some-" + id, labels: labels}
	}
	mine, stopped := labelled("aaaa", map[string]string{label: string(host)}), labelled("bbbb", map[string]string{label: string(host)})
	others := []*fakeContainer{
		labelled("cccc", map[string]string{label: "web-2.example.net"}),
		labelled("dddd", map[string]string{"other": string(host)}),
		{id: "eeee", name: string(host)}, // by its name, which says nothing here
	}
	run := func(t *testing.T, containers ...*fakeContainer) (*docker.Driver, *fakeEngine) {
		fake := newFake(append(slices.Clone(others), containers...)...)
		_, endpoint := serve(t, fake)
		return newDriver(t, docker.Config{Endpoint: endpoint, Label: label}), fake
	}

	t.Run("One", func(t *testing.T) {
		d, fake := run(t, mine)
		epoch := epochOf(t, d, host)
		if err := d.Restart(t.Context(), trigger(epoch)); err != nil || !strings.HasPrefix(string(epoch), mine.id) {
			t.Errorf("got %v, from epoch %q, want it taken by container %q", err, epoch, mine.id)
		}
		fake.wantRestarts(t, mine, 1)
		for _, other := range others {
			fake.wantRestarts(t, other, 0)
		}
	})
	for name, containers := range map[string][]*fakeContainer{"None": nil, "TwoOneOfWhichIsStopped": {mine, stopped}} {
		t.Run(name, func(t *testing.T) {
			d, fake := run(t, containers...)
			fake.do(func() { stopped.status = container.StateExited })
			_, err := d.Probe(t.Context(), host)
			wantClass(t, err, restart.ErrPermanent)
			wantClass(t, d.Restart(t.Context(), trigger("aaaa@x")), restart.ErrPermanent)
			if asked := fake.asked(); slices.ContainsFunc(asked, func(r string) bool { return strings.HasPrefix(r, "POST") }) {
				t.Errorf("requests: got %q, want no restart", asked)
			}
		})
	}
}

// Whatever is given as a host either is refused, and the engine hears nothing, or is one whole element of one path.
func FuzzDriver_HostIsOneElementOfAPathOrRefused(f *testing.F) {
	for _, name := range []string{
		"web-1.example.net", "json", "0a1b2c", "", "..", "a/b", "a%2fb", "a?all=1", "a#b", "a b", "a\n", "ä", "A", "-a",
		strings.Repeat("a", 300),
	} {
		f.Add(name)
	}
	fake := newFake()
	_, endpoint := serve(f, fake)
	d := newDriver(f, docker.Config{Endpoint: endpoint})
	f.Fuzz(func(t *testing.T, name string) {
		by := trigger("0a1b2c@x")
		by.Host = restart.Host(name)
		_, err := d.Probe(t.Context(), by.Host)
		wantClass(t, err, restart.ErrPermanent) // there is no such container, or no such host
		wantClass(t, d.Restart(t.Context(), by), restart.ErrPermanent)
		var want []string
		if by.Host.Check() == nil {
			look := "GET /v1.41/containers/" + name + "/json"
			want = []string{look, look}
		}
		if diff := cmp.Diff(want, fake.asked()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}
