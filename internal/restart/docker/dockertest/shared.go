package dockertest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// A Shared is one engine for all tests of a package, because to have one takes seconds. The zero value has none yet.
// The package's TestMain calls Main, and its tests Engine.
type Shared struct {
	mu     sync.Mutex
	engine *Engine
}

// Engine returns the engine, which the first call connects to or starts.
func (s *Shared) Engine(tb testing.TB) *Engine {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		s.engine = mustCreate(tb)
	}
	return s.engine
}

// Main returns what runs the tests of m and then removes the engine, as goleak.VerifyTestMain likes it.
func (s *Shared) Main(m interface{ Run() int }) interface{ Run() int } { return runner{s, m} }

type runner struct {
	shared *Shared
	m      interface{ Run() int }
}

func (r runner) Run() int {
	code := r.m.Run()
	if r.shared.engine == nil {
		return code
	}
	if err := r.shared.engine.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot remove the Docker engine: %v\n", err)
		return 1
	}
	return code
}
