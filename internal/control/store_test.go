package control_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	group    = restart.DefaultGroup
)

func bucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := stream.EnsureControl(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func claimOf(worker string) control.StoreClaim {
	return control.StoreClaim{Identity: uuid.New(), Shown: "postgres://db-of-" + worker, Worker: worker, At: time.Now()}
}

func TestClaimStore_SecondDatabaseIsRefusedWithWhatToDoUntilItIsAdopted(t *testing.T) {
	kv := bucket(t, natsdtest.Start(t).JetStream(t))
	first, second := claimOf("worker-1"), claimOf("worker-2")
	for range 2 { // it may start again
		if err := control.ClaimStore(t.Context(), kv, group, first, false); err != nil {
			t.Fatal(err)
		}
	}
	err := control.ClaimStore(t.Context(), kv, group, second, false)
	if !errors.Is(err, control.ErrOtherStore) {
		t.Fatalf("got %v, want %v", err, control.ErrOtherStore)
	}
	for _, want := range []string{"db-of-worker-1", "worker-1", "--adopt-store"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	if err := control.ClaimStore(t.Context(), kv, "web", second, false); err != nil {
		t.Errorf("another group: %v", err)
	}
	if err := control.ClaimStore(t.Context(), kv, group, second, true); err != nil {
		t.Errorf("adopting: %v", err)
	}
	if err := control.ClaimStore(t.Context(), kv, group, first, false); !errors.Is(err, control.ErrOtherStore) {
		t.Errorf("the old database after that: got %v, want %v", err, control.ErrOtherStore)
	}
}

// Workers of a fleet are started together, the first time too.
func TestClaimStore_OfManyAtOnceOneWins(t *testing.T) {
	server := natsdtest.Start(t)
	var mu sync.Mutex
	var won, refused int
	var all sync.WaitGroup
	for range 16 {
		js := server.JetStream(t)
		all.Go(func() {
			kv, err := stream.EnsureControl(t.Context(), js, stream.Settings{})
			if err != nil {
				t.Error(err)
				return
			}
			err = control.ClaimStore(t.Context(), kv, group, claimOf("worker"), false)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, control.ErrOtherStore):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won != 1 || refused != 15 {
		t.Errorf("%d won and %d were refused, want 1 and 15", won, refused)
	}
}

func TestClaimStore_EntryThatCannotBeReadIsRefused(t *testing.T) {
	kv := bucket(t, natsdtest.Start(t).JetStream(t))
	if _, err := kv.Put(t.Context(), stream.StoreKey(group), []byte("postgres")); err != nil {
		t.Fatal(err)
	}
	if err := control.ClaimStore(t.Context(), kv, group, claimOf("worker-1"), false); err == nil || !strings.Contains(err.Error(), "store.default") {
		t.Errorf("got %v, want an error that names the entry", err)
	}
	if err := control.ClaimStore(t.Context(), kv, group, claimOf("worker-1"), true); err != nil {
		t.Errorf("adopting: %v", err)
	}
}

// A worker that is still running with the database that was given up must not go on accepting outcomes into it.
func TestWatchStore_EndsWhenAnotherIsAdopted(t *testing.T) {
	server := natsdtest.Start(t)
	kv := bucket(t, server.JetStream(t))
	first := claimOf("worker-1")
	if err := control.ClaimStore(t.Context(), kv, group, first, false); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- control.WatchStore(t.Context(), kv, group, first.Identity) }()
	server.Restart(t)
	other := bucket(t, server.JetStream(t))
	if err := control.ClaimStore(t.Context(), other, group, first, true); err != nil { // the same again
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended early: %v", err)
	default:
	}
	if err := control.ClaimStore(t.Context(), other, group, claimOf("worker-2"), true); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, control.ErrOtherStore) {
			t.Errorf("got %v, want %v", err, control.ErrOtherStore)
		}
	case <-time.After(patience):
		t.Error("the watch has not noticed")
	}
}

func TestWatchStore_EndsQuietlyWithItsContext(t *testing.T) {
	kv := bucket(t, natsdtest.Start(t).JetStream(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- control.WatchStore(ctx, kv, group, uuid.New()) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("got %v, want nil", err)
		}
	case <-time.After(patience):
		t.Error("the watch goes on")
	}
}
