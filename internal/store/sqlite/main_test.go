package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/sqlite"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

// childEnv tells the test binary to be another process that uses the database at its first argument.
const childEnv = "MANDRILL_TEST_SQLITE_CHILD"

var children = map[string]func(path string) error{
	"save":   childSaves,
	"open":   childOpens,
	"nobody": childOpensAsNobody,
	"reader": childReadsAsNobody,
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childEnv)]; child != nil {
		if err := child(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// childCommand returns the test binary as one of children. Its standard output is the child's answer.
func childCommand(t *testing.T, child, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+child)
	cmd.Stderr = os.Stderr
	return cmd
}

func childOpens(path string) error {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	return s.Close()
}

func childOpensAsNobody(path string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	return childOpens(path)
}

// becomeNobody exists because root may write to what is read-only.
func becomeNobody() error {
	if os.Getuid() != 0 {
		return nil
	}
	return syscall.Setuid(65534)
}

// childReadsAsNobody prints the ids in a database that it only reads.
func childReadsAsNobody(path string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path, Access: store.Reader})
	if err != nil {
		return err
	}
	for e, err := range s.History(ctx, store.Filter{}) {
		if err != nil {
			return err
		}
		fmt.Println(e.Request.ID)
	}
	return s.Close()
}

// childSaves saves and finishes with many goroutines until it is killed, and prints what it was told is durable.
func childSaves(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for {
				r := storetest.NewRequest(restart.Host(fmt.Sprintf("host-%d.example.net", i)))
				if s.Save(ctx, r) != nil {
					return
				}
				fmt.Printf("saved %s\n", r.ID)
				if _, err := s.Finish(ctx, storetest.NewOutcome(r.ID, r.Host)); err != nil {
					return
				}
				fmt.Printf("finished %s\n", r.ID)
			}
		})
	}
	all.Wait()
	return fmt.Errorf("all savers gave up")
}
