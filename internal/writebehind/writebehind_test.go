package writebehind

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// full returns a connection that has no room, its peer, and what was written to it.
func full(t *testing.T) (c *conn, peer net.Conn, written []byte) {
	t.Helper()
	near, peer := net.Pipe()
	c = newConn(near)
	t.Cleanup(func() { peer.Close(); c.Close() })
	for i := range 2 {
		p := bytes.Repeat([]byte{byte('a' + i)}, maxPending)
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write = %d, %v, want %d", n, err, len(p))
		}
		written = append(written, p...)
		synctest.Wait() // the first is being sent
	}
	return c, peer, written
}

// background calls write, and returns where its result comes out.
func background(write func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- write() }()
	synctest.Wait()
	return result
}

func write(c *conn) func() error {
	return func() error { _, err := c.Write([]byte("z")); return err }
}

// Whoever publishes holds the lock of a connection meanwhile, for which all acknowledgements and extensions wait.
func TestConn_WriteWaitsForThePeerOnlyWhereThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, written := full(t)
		waiting := background(write(c))
		select {
		case err := <-waiting:
			t.Fatalf("more is taken than there is room for: %v", err)
		default:
		}
		got := make([]byte, len(written)+1)
		if _, err := io.ReadFull(peer, got); err != nil {
			t.Fatal(err)
		}
		if want := append(written, 'z'); !bytes.Equal(got, want) {
			t.Error("what arrives is not what was written, in order")
		}
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	})
}

func TestConn_WriteTakesAtOnceWhatIsMoreThanThereIsEverRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, peer := net.Pipe()
		c := newConn(near)
		defer c.Close()
		defer peer.Close()
		if n, err := c.Write(make([]byte, maxPending+1)); n != maxPending+1 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	})
}

func TestConn_WriteThatFindsNoRoomEndsAtItsDeadline(t *testing.T) {
	for name, set := range map[string]func(*conn, time.Time) error{
		"SetDeadline":      (*conn).SetDeadline,
		"SetWriteDeadline": (*conn).SetWriteDeadline,
	} {
		t.Run(name+", before", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := full(t)
				began := time.Now()
				if err := set(c, began.Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if err := write(c)(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
					t.Errorf("it ended after %s with %v, want %v after a minute", time.Since(began), err, os.ErrDeadlineExceeded)
				}
			})
		})
		t.Run(name+", meanwhile", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := full(t)
				waiting := background(write(c))
				if err := set(c, time.Now()); err != nil {
					t.Fatal(err)
				}
				if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("it ended with %v, want %v", err, os.ErrDeadlineExceeded)
				}
			})
		})
	}
}

// nats.go bounds so how long a server may take to greet.
func TestConn_SetDeadlineEndsReadsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := full(t)
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v, want %v", err, os.ErrDeadlineExceeded)
		}
	})
}

// A program's last acknowledgement is written just before it ends.
func TestConn_CloseSendsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, written := full(t)
		received := make(chan []byte, 1)
		go func() {
			got, _ := io.ReadAll(peer)
			received <- got
		}()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if got := <-received; !bytes.Equal(got, written) {
			t.Errorf("%d bytes arrive of %d", len(got), len(written))
		}
		if _, err := c.Write([]byte("z")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v, want %v", err, net.ErrClosed)
		}
	})
}

// nats.go closes a connection that has died under the lock of all who publish on the next one.
func TestConn_CloseGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := full(t)
		waiting, began := background(write(c)), time.Now()
		if err := c.Close(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != closeTimeout {
			t.Errorf("Close ended after %s with %v, want %v after %s", time.Since(began), err, os.ErrDeadlineExceeded, closeTimeout)
		}
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the Write that waited: %v, want %v", err, net.ErrClosed)
		}
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the peer reads %v, want %v: it was not closed", err, io.EOF)
		}
	})
}

// nats.go does not close a connection whose server does not answer while it reconnects. The runtime does, unless
// somebody still has it.
func TestConn_ThatIsForgottenIsHeldByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left behind
		near, peer := net.Pipe()
		c := newConn(near)
		for range 2 {
			if err := write(c)(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // nothing is sent any more
		}
	})
}

// deaf fails to send, and has something to say until it is closed.
type deaf struct {
	net.Conn
	said   string
	closed atomic.Bool
}

var errDeaf = errors.New("deaf")

func (d *deaf) Write([]byte) (int, error) { return 0, errDeaf }

func (d *deaf) Read(p []byte) (int, error) {
	if d.closed.Load() {
		return 0, net.ErrClosed
	}
	return copy(p, d.said), nil
}

func (d *deaf) Close() error {
	d.closed.Store(true)
	return d.Conn.Close()
}

// A server that ends a connection says why, and that may not have been read when the next write fails.
func TestConn_FailureIsToldToWhoWritesAndLeavesWhatIsToBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, peer := net.Pipe()
		defer peer.Close()
		c := newConn(&deaf{Conn: near, said: "-ERR 'Authentication Expired'"})
		if err := write(c)(); err != nil {
			t.Fatalf("the write that fails later: %v", err)
		}
		synctest.Wait()
		if err := write(c)(); !errors.Is(err, errDeaf) {
			t.Errorf("the next write: %v, want %v", err, errDeaf)
		}
		p := make([]byte, 64)
		if n, err := c.Read(p); string(p[:n]) != "-ERR 'Authentication Expired'" || err != nil {
			t.Errorf("Read = %q, %v", p[:n], err)
		}
		if err := c.Close(); !errors.Is(err, errDeaf) {
			t.Errorf("Close: %v, want %v", err, errDeaf)
		}
	})
}

func TestConn_WriteThatFindsNoRoomHearsOfTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := full(t)
		waiting := background(write(c))
		peer.Close()
		if err := <-waiting; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Write: %v, want %v", err, io.ErrClosedPipe)
		}
	})
}

func TestDialer_DialsAPeerThatHearsAllAndIsHeard(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	heard := make(chan []byte, 1)
	go func() {
		peer, err := listener.Accept()
		if err != nil {
			heard <- nil
			return
		}
		defer peer.Close()
		_, _ = peer.Write([]byte("hello"))
		got, _ := io.ReadAll(peer)
		heard <- got
	}()
	c, err := (&Dialer{}).Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if _, err := io.ReadFull(c, p); string(p) != "hello" || err != nil {
		t.Errorf("it says %q, %v", p, err)
	}
	var want []byte
	for _, line := range []string{"one", "two", "three"} {
		want = append(want, line...)
		if _, err := c.Write([]byte(line)); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := <-heard; !bytes.Equal(got, want) {
		t.Errorf("it hears %q, want %q", got, want)
	}
	if _, err := (&Dialer{}).Dial("tcp", "127.0.0.1:0"); err == nil {
		t.Error("nobody listens there")
	}
}
