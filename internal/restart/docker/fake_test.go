package docker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

// fakeVersion is the API version of the oldest engine that is in use.
const fakeVersion = "1.41"

// A fakeEngine answers what the driver asks of an engine, and remembers what it was asked.
type fakeEngine struct {
	mu         sync.Mutex
	containers []*fakeContainer
	requests   []string
}

// A fakeContainer is running unless its status says otherwise.
type fakeContainer struct {
	id, name string
	labels   map[string]string
	status   container.ContainerState
	health   container.HealthStatus // empty: it has no health check, or it is as planned
	started  string
	boots    int
	changes  []time.Time                 // of readiness in the running boot: it is ready after an even number of them
	next     func(time.Time) []time.Time // the changes of the next boot
}

func newFake(containers ...*fakeContainer) *fakeEngine {
	f := &fakeEngine{containers: containers}
	for _, c := range containers {
		if c.started == "" {
			c.boot()
		}
	}
	return f
}

func (c *fakeContainer) boot() {
	now := time.Now().UTC()
	c.started, c.status, c.changes = now.Format(time.RFC3339Nano), container.StateRunning, nil
	c.boots++
	if c.next != nil {
		c.changes, c.next = c.next(now), nil
	}
}

func (c *fakeContainer) inspect() container.InspectResponse {
	state := &container.State{Status: c.status, Running: c.status == container.StateRunning, StartedAt: c.started}
	if c.health != "" {
		state.Health = &container.Health{Status: c.health}
	} else if c.changes != nil {
		state.Health = &container.Health{Status: container.Healthy}
		past := 0
		for _, change := range c.changes {
			if !time.Now().Before(change) {
				past++
			}
		}
		if past%2 != 0 {
			state.Health.Status = container.Unhealthy
		}
	}
	return container.InspectResponse{ID: c.id, Name: "/" + c.name, State: state}
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Api-Version", fakeVersion)
	if r.URL.Path == "/_ping" {
		return
	}
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	rest, ok := strings.CutPrefix(r.URL.Path, "/v"+fakeVersion+"/containers/")
	if !ok {
		refuse(w, http.StatusBadRequest, "client version is too new. Maximum supported API version is "+fakeVersion)
		return
	}
	if rest == "json" {
		f.list(w, r)
		return
	}
	name, what, _ := strings.Cut(rest, "/")
	found := f.find(name)
	switch {
	case found == nil:
		refuse(w, http.StatusNotFound, "No such container: "+name)
	case r.Method == http.MethodGet && what == "json":
		answer(w, found.inspect())
	case r.Method == http.MethodPost && what == "restart":
		f.requests = append(f.requests, "t="+r.URL.Query().Get("t"))
		found.boot()
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func (f *fakeEngine) list(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	list := []container.Summary{}
	for _, c := range f.containers {
		all := r.URL.Query().Get("all") == "1" || c.status == container.StateRunning
		for key, value := range c.labels {
			if all && filters["label"][key+"="+value] {
				list = append(list, container.Summary{ID: c.id})
			}
		}
	}
	answer(w, list)
}

// find looks for an id, a name and the beginning of an id, in this order, as an engine does.
func (f *fakeEngine) find(ref string) *fakeContainer {
	for _, matches := range []func(*fakeContainer) bool{
		func(c *fakeContainer) bool { return c.id == ref },
		func(c *fakeContainer) bool { return c.name == ref },
		func(c *fakeContainer) bool { return strings.HasPrefix(c.id, ref) },
	} {
		if i := slices.IndexFunc(f.containers, matches); i >= 0 {
			return f.containers[i]
		}
	}
	return nil
}

// do changes the fake behind the driver's back.
func (f *fakeEngine) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// asked returns the requests so far, pings aside, and forgets them.
func (f *fakeEngine) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.requests
	f.requests = nil
	return asked
}

func (f *fakeEngine) boots(c *fakeContainer) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.boots
}

// wantRestarts fails unless the container has been started so often by a restart.
func (f *fakeEngine) wantRestarts(t *testing.T, c *fakeContainer, want int) {
	t.Helper()
	if got := f.boots(c) - 1; got != want {
		t.Errorf("restarts of the container: got %d, want %d", got, want)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler) // the driver is gone
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q}`, message)
}
