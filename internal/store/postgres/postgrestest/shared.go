package postgrestest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// A Shared is one server for all tests of a package, because to make one takes seconds. The zero value has none yet.
// The package's TestMain calls Main, and its tests Server.
type Shared struct {
	mu     sync.Mutex
	server *Server
}

// Server returns the server, which the first call starts. Who stops it starts it again.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = mustCreate(tb)
	}
	return s.server
}

// Main returns what runs the tests of m and then removes the server, as goleak.VerifyTestMain likes it.
func (s *Shared) Main(m *testing.M) interface{ Run() int } { return runner{s, m} }

type runner struct {
	shared *Shared
	m      *testing.M
}

func (r runner) Run() int {
	code := r.m.Run()
	if r.shared.server == nil {
		return code
	}
	if err := r.shared.server.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot remove PostgreSQL: %v\n", err)
		return 1
	}
	return code
}
