package dockertest

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEngine_CountsBoots(t *testing.T) {
	e := Start(t)
	one, two := NewName("one"), NewName("two")
	e.Run(t, one, Options{})
	e.Run(t, two, Options{})
	e.Restart(t, one)
	e.AwaitBoots(t, one, 2)
	if a, b, none := e.Boots(one), e.Boots(two), e.Boots("none"); a != 2 || b != 1 || none != 0 {
		t.Errorf("boots: got %d, %d and %d, want 2, 1 and 0", a, b, none)
	}
}

// An engine that outlives its test would be there until the machine is started again.
func TestEngine_OfItsOwnRunsBesideAnyOtherAndLeavesNothing(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	if _, err := findDaemon(); err != nil {
		Start(t) // says why not
	}
	var e *Engine
	t.Run("Runs", func(t *testing.T) {
		e = Start(t)
		if e.daemon == nil {
			t.Fatal("it is somebody else's")
		}
		name := NewName("host")
		e.Run(t, name, Options{HealthCheck: true})
		e.Restart(t, name)
		e.AwaitBoots(t, name, 2)
	})
	if e == nil || e.daemon == nil {
		return
	}
	select {
	case <-e.daemon.ended:
	default:
		t.Error("the process is there")
	}
	if _, err := os.Stat(e.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: got %v, want it gone", err)
	}
}
