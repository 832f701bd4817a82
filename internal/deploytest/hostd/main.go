// Command hostd is hosts for tests, behind the URLs of the webhook driver: each is up from when it is first asked for, and is
// another boot a moment after it was told to restart. Every boot is one line of output, with its time. It also fetches a
// URL, for a test that cannot reach the network that it is in.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// bootTakes is how long a host is between two boots, in which nobody can tell how it is.
const bootTakes = 200 * time.Millisecond

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == "get" {
		err = get(os.Args[2])
	} else {
		err = serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

type host struct {
	boot   int
	taken  string // the id of the request that restarts it
	booted time.Time
}

type hosts struct {
	mu    sync.Mutex
	named map[string]*host
}

func serve() error {
	all := hosts{named: map[string]*host{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hosts/{host}", all.probe)
	mux.HandleFunc("POST /hosts/{host}/restart", all.restart)
	return http.ListenAndServe(":8080", mux)
}

// get is called with mu held.
func (h *hosts) get(name string) *host {
	if h.named[name] == nil {
		h.named[name] = &host{boot: 1, booted: time.Now()}
	}
	return h.named[name]
}

func (h *host) epoch() string { return fmt.Sprintf("boot-%d", h.boot) }

func (h *hosts) probe(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.get(r.PathValue("host"))
	if one.taken != "" {
		http.Error(w, "it is down", http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, `{"epoch": %q, "since": %q}`, one.epoch(), one.booted.UTC().Format(time.RFC3339Nano))
}

func (h *hosts) restart(w http.ResponseWriter, r *http.Request) {
	var asked struct{ ID, Epoch string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := r.PathValue("host")
	one := h.get(name)
	switch {
	case asked.Epoch != one.epoch():
		w.WriteHeader(http.StatusPreconditionFailed)
	case one.taken == asked.ID:
		w.WriteHeader(http.StatusAccepted)
	case one.taken != "":
		w.WriteHeader(http.StatusConflict)
	default:
		one.taken = asked.ID
		time.AfterFunc(bootTakes, func() { h.boot(name) })
		w.WriteHeader(http.StatusAccepted)
	}
}

func (h *hosts) boot(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.get(name)
	one.boot, one.taken, one.booted = one.boot+1, "", time.Now()
	fmt.Println(one.booted.UTC().Format(time.RFC3339Nano), name)
}
