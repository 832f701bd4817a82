package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// A cableState is what a cable does with what it is given.
type cableState int

const (
	cableUp     cableState = iota
	cableSilent            // bytes stop in both directions, and go on when it is up again; no connection ends
	cableHungUp            // connections are closed, and so is every new one
)

// cuts are the ways in which a cable is lost.
var cuts = map[string]cableState{"Silent": cableSilent, "HungUp": cableHungUp}

// A cable is the way from one worker to the server, which the test can cut.
type cable struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex // held while bytes are passed on, so that none pass after a cut
	state   cableState
	changed chan struct{} // closed, and made anew, when state changes
	closed  bool
	conns   map[net.Conn]struct{}

	// What is to be cut when these bytes have passed on their way to the server, and how; nil: nothing.
	fuse []byte
	then cableState
}

// newCable returns a cable to the server that listens on target, which ends with the test.
func newCable(t *testing.T, target string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &cable{listener: listener, target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	l.running.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// over returns the server's URL by way of the cable.
func (l *cable) over(t *testing.T, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.listener.Addr().String()
	return u.String()
}

// set brings the cable into a state. When it returns, no byte passes that the state does not let pass.
func (l *cable) set(state cableState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enter(state)
}

// setAfter brings the cable into a state as soon as these bytes have passed on their way to the server, before any that
// follow them, or come back.
func (l *cable) setAfter(fuse string, state cableState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fuse, l.then = []byte(fuse), state
}

// enter is called with l.mu held.
func (l *cable) enter(state cableState) {
	l.state = state
	if state == cableHungUp {
		l.hangUp()
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// hangUp is called with l.mu held.
func (l *cable) hangUp() {
	for conn := range l.conns {
		_ = conn.Close() // whoever reads from it, or writes to it, finds out
	}
}

func (l *cable) close() {
	l.mu.Lock()
	l.closed = true
	l.enter(cableHungUp)
	l.mu.Unlock()
	_ = l.listener.Close() // which ends accept
	l.running.Wait()
}

func (l *cable) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.carry(client) })
	}
}

// carry carries one connection until either side, or the cable, ends it.
func (l *cable) carry(client net.Conn) {
	if !l.enlist(client) {
		return
	}
	defer l.dismiss(client)
	if !l.pass(nil, nil, false) {
		return
	}
	server, err := net.Dial("tcp", l.target)
	if err != nil || !l.enlist(server) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		l.copy(client, server, false)
		_ = client.Close() // so that the other direction ends too
	})
	l.copy(server, client, true)
	l.dismiss(server)
	back.Wait()
}

func (l *cable) enlist(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = struct{}{}
	return true
}

func (l *cable) dismiss(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	_ = conn.Close()
}

func (l *cable) copy(to, from net.Conn, toServer bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		// That a side has hung up does not pass a silent cable either.
		if !l.pass(to, buffer[:n], toServer) || err != nil {
			return
		}
	}
}

// pass passes bytes on, once the cable is up. It reports whether they went out, and not into a cable that was hung up.
func (l *cable) pass(to net.Conn, data []byte, toServer bool) bool {
	for {
		l.mu.Lock()
		switch l.state {
		case cableHungUp:
			l.mu.Unlock()
			return false
		case cableUp:
			defer l.mu.Unlock()
			if len(data) > 0 {
				if _, err := to.Write(data); err != nil {
					return false
				}
			}
			if toServer && l.fuse != nil && bytes.Contains(data, l.fuse) {
				l.fuse = nil
				l.enter(l.then)
			}
			return true
		}
		changed := l.changed
		l.mu.Unlock()
		<-changed
	}
}

// A mood is how a host answers probes that has booted.
type mood int

const (
	answering mood = iota
	mute           // no probe is answered
	unready        // it is up, and does not do its work
)

// moodyHosts stand in front of a scene's hosts, which do not come back from a restart before the test lets them.
type moodyHosts struct {
	fleet *simulated.Fleet
	next  string
	http  *http.Client

	mu   sync.Mutex
	mood mood
}

// setMood decides how hosts are that have booted.
func (h *moodyHosts) setMood(m mood) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mood = m
}

// makeMoody gives the scene's hosts a mood. It must be called before the workers are started.
func (s *scene) makeMoody(t *testing.T, m mood) *moodyHosts {
	t.Helper()
	h := &moodyHosts{fleet: s.fleet, next: s.hosts.URL, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}, mood: m}
	server := httptest.NewServer(h)
	s.hosts.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		h.http.CloseIdleConnections()
	})
	return h
}

// ServeHTTP passes a call on to the hosts, and back what they answer, as far as their mood allows.
func (h *moodyHosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the worker is gone
	}
	var call struct {
		Host restart.Host `json:"host"`
	}
	if err := json.Unmarshal(body, &call); err != nil || call.Host.Check() != nil {
		http.Error(w, "not a call", http.StatusBadRequest)
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, h.next+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	resp, err := h.http.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if r.URL.Path == "/probe" && h.fleet.BootsOf(call.Host) > 0 {
		h.mu.Lock()
		m := h.mood
		h.mu.Unlock()
		switch m {
		case mute:
			http.Error(w, "the host does not answer", http.StatusServiceUnavailable)
			return
		case unready:
			answer = bytes.Replace(answer, []byte(`"Ready":true`), []byte(`"Ready":false`), 1)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // a worker that is gone does not hear it
}
