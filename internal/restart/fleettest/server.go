// Package fleettest serves a simulated fleet to other processes, for tests that kill workers: the hosts live on in the
// test's own process, and count their own boots.
//
// A call that has arrived whole is carried out, whatever becomes of the client; one that has not does nothing. The time
// that a restart allows counts from its arrival, so what a call takes on its way over the loopback comes on top.
package fleettest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// Config is what a server serves.
type Config struct {
	Fleet *simulated.Fleet

	// BeforeRestart, unless nil, is called when a restart has arrived and before it is carried out. It may block, and
	// then holds up that call alone.
	BeforeRestart func(restart.Host)
}

// A Server serves a fleet on loopback.
type Server struct {
	URL string

	cfg  Config
	http *httptest.Server
}

// Start starts a server, which is closed when the test ends, if not before.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Fleet == nil {
		t.Fatal("fleettest: Config.Fleet is nil")
	}
	s := &Server{cfg: cfg}
	s.http = httptest.NewServer(s.handler())
	s.URL = s.http.URL
	t.Cleanup(s.Close)
	return s
}

// Close cuts all connections, and returns when every call that had arrived was carried out.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// RefuseNext lets the next n restart calls of the host be refused.
func (s *Server) RefuseNext(host restart.Host, n int) {
	s.cfg.Fleet.Force(host, slices.Repeat([]simulated.Fate{{Answer: simulated.Refused}}, n)...)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /probe", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, func(c call) answer {
			state, err := s.cfg.Fleet.Probe(r.Context(), c.Host)
			return answer{State: state, Class: classOf(err), Error: text(err)}
		})
	})
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, func(c call) answer {
			if s.cfg.BeforeRestart != nil {
				s.cfg.BeforeRestart(c.Host)
			}
			// The request's context ends when the client dies, and so may end the wait for an answer, but nothing else.
			answered, err := s.cfg.Fleet.Deliver(c.Host, c.From, time.Duration(c.Within))
			if !answered {
				<-r.Context().Done()
			}
			return answer{Class: classOf(err), Error: text(err)}
		})
	})
	return mux
}

// serve carries a call out if it has arrived whole.
func serve(w http.ResponseWriter, r *http.Request, do func(call) answer) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	var c call
	if err := json.Unmarshal(body, &c); err != nil || c.Host.Check() != nil {
		http.Error(w, "not a call", http.StatusBadRequest)
		return
	}
	// A client that is gone does not hear the answer, which is nobody's error.
	_ = json.NewEncoder(w).Encode(do(c))
}

// A call is what goes to the server.
type call struct {
	Host   restart.Host     `json:"host"`
	From   restart.Epoch    `json:"from,omitempty"`
	Within restart.Duration `json:"within,omitzero"`
}

// An answer is what comes back.
type answer struct {
	State restart.State `json:"state,omitzero"`
	Class string        `json:"class,omitempty"` // of the error, if it has one
	Error string        `json:"error,omitempty"`
}

// classes are the names of the classes of errors on the wire.
var classes = map[string]error{
	"changed":   restart.ErrChanged,
	"refused":   restart.ErrRefused,
	"permanent": restart.ErrPermanent,
}

func classOf(err error) string {
	for name, class := range classes {
		if errors.Is(err, class) {
			return name
		}
	}
	return ""
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
