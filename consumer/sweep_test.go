package consumer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// forgetRemovals makes the server remember that messages were settled, and not that they were removed, as one does
// that was killed between the two: what change did to the stream's messages is undone, and what it did to the consumer
// is not.
func (b *bench) forgetRemovals(t *testing.T, srv *natsdtest.Server, change func()) {
	t.Helper()
	connected := func() bool { return b.js.Conn().FlushTimeout(time.Second) == nil } // only an answer proves it
	folders, err := filepath.Glob(filepath.Join(srv.Dir(), "jetstream", "*", "streams", stream.Work, "msgs"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("got folders %q, %v, want the work stream's", folders, err)
	}
	srv.Restart(t) // so that all is in the files
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(folders[0])); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected to the restarted server", connected)
	change()
	srv.Stop(t)
	if err := os.RemoveAll(folders[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(folders[0], os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	srv.StartAgain(t)
	eventually(t, "connected to the server that forgot", connected)
}

// A host whose settled request stays on the stream is "already queued" for ever, and nothing delivers it again.
func TestSweep_RemovesWhatWasSettledAndTheServerHasKept(t *testing.T) {
	b, srv := newBench(t)
	b.publish(t, 3)
	b.forgetRemovals(t, srv, func() {
		r := b.run(t, Config{Begin: inItsGoroutine(func(_ context.Context, d *Delivery) {
			if err := confirmAck(d); err != nil {
				t.Errorf("cannot ack: %v", err)
			}
		})})
		eventually(t, "all are acked", func() bool { return b.left(t) == 0 })
		r.mustStop(t)
	})
	if n := b.left(t); n != 3 {
		t.Fatalf("got %d messages that the server has kept, want 3", n)
	}

	var mu sync.Mutex
	var asked []uint64
	c := b.open(t, Config{
		Begin: inItsGoroutine(func(_ context.Context, d *Delivery) { t.Errorf("%s was delivered", d.Subject()) }),
		Recorded: func(_ context.Context, d *Delivery) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, d.Sequence())
			envelope, err := d.Envelope()
			return envelope.Host != "host-3" && !envelope.Stored.IsZero() && string(d.Data()) == "{}", err
		},
	})
	c.believed = time.Millisecond
	r := start(t, c)
	eventually(t, "what has an outcome is removed", func() bool { return b.left(t) == 1 })
	eventually(t, "the one without is asked for again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) > 4
	})
	r.mustStop(t)
	if n := b.left(t); n != 1 {
		t.Errorf("got %d messages, want the one without an outcome left alone", n)
	}
	if !slices.Equal(asked[:3], []uint64{1, 2, 3}) {
		t.Errorf("got %v asked for, want each, in order", asked)
	}
}

// Whoever works on a message, or is still to get it, must not lose it to a sweep, whatever is on record.
func TestSweep_LeavesAloneWhatIsNotSettled(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 3)
	h := newHold(t)
	c := b.open(t, Config{
		Begin: inItsGoroutine(h.handle),
		Recorded: func(_ context.Context, d *Delivery) (bool, error) {
			t.Errorf("%s was asked for", d.Subject())
			return true, nil
		},
	})
	c.believed = time.Millisecond
	r := start(t, c)
	h.wait(3)
	h.release <- struct{}{} // one is settled
	eventually(t, "it is removed", func() bool { return b.left(t) == 2 })
	for range 3 {
		before := b.pulls(t, c)
		eventually(t, "another sweep", func() bool { return b.pulls(t, c) > before })
	}
	if n := b.left(t); n != 2 {
		t.Errorf("got %d messages, want the 2 that are held", n)
	}
	r.mustStop(t)
}

// pulls counts what was asked of the server: each pull comes after a sweep.
func (b *bench) pulls(t *testing.T, c *Consumer) uint64 {
	t.Helper()
	return c.cfg.Conn.Stats().OutMsgs
}

func TestSweep_MessageOnItsWayOutIsNotTouched(t *testing.T) {
	b, _ := newBench(t)
	b.publish(t, 1)
	work, err := b.js.Stream(t.Context(), stream.Work)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	c := b.open(t, Config{
		Begin: inItsGoroutine(func(context.Context, *Delivery) {}),
		Recorded: func(context.Context, *Delivery) (bool, error) {
			asked++
			return true, nil
		},
	})
	if err := c.sweep(t.Context(), work, 1); err != nil || asked != 0 || b.left(t) != 1 {
		t.Errorf("first sweep: got %v, %d asked for and %d left, want it only noticed", err, asked, b.left(t))
	}
	if err := c.sweep(t.Context(), work, 1); err != nil || asked != 1 || b.left(t) != 0 {
		t.Errorf("second sweep: got %v, %d asked for and %d left, want it removed", err, asked, b.left(t))
	}
	if err := c.sweep(t.Context(), work, 1); err != nil || asked != 1 {
		t.Errorf("third sweep: got %v and %d asked for, want nothing left to do", err, asked)
	}
}
