// Package tcpcheck is the check that connects to a TCP port and, if wanted, waits for a banner.
package tcpcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// maxBanner is how many bytes are read in search of the banner.
const maxBanner = 4 << 10

// Config says where to connect, and what is said there.
type Config struct {
	Address string // host:port; an IPv6 address stands in brackets

	// Banner, unless it is empty, must be found in the first 4096 bytes that the server sends of itself.
	Banner string
}

type check struct {
	cfg    Config
	dialer net.Dialer
}

// New returns a check that has connected nowhere yet. An error begins with the name of the field that is wrong.
func New(cfg Config) (monitor.Check, error) {
	if cfg.Address == "" {
		return nil, errors.New("address: is missing")
	}
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil || host == "" {
		return nil, fmt.Errorf("address: %q is not host:port", cfg.Address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("address: %q is not a port between 1 and 65535", port)
	}
	if len(cfg.Banner) > maxBanner {
		return nil, fmt.Errorf("banner: has %d bytes, more than %d", len(cfg.Banner), maxBanner)
	}
	return &check{cfg: cfg}, nil
}

// Check implements [monitor.Check].
func (c *check) Check(ctx context.Context) monitor.Result {
	conn, err := c.dialer.DialContext(ctx, "tcp", c.cfg.Address)
	if err != nil {
		return failed(ctx, err.Error())
	}
	defer conn.Close()
	if c.cfg.Banner == "" {
		return monitor.Result{Verdict: monitor.Good, Seen: "connected"}
	}
	// A deadline that has passed ends a read that waits.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	return c.read(ctx, conn)
}

// read reads until there is the banner, or no more of it can come.
func (c *check) read(ctx context.Context, conn net.Conn) monitor.Result {
	banner, buf := []byte(c.cfg.Banner), make([]byte, 0, maxBanner)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case bytes.Contains(buf, banner):
			return monitor.Result{Verdict: monitor.Good, Seen: said(buf)}
		case err != nil && !errors.Is(err, io.EOF):
			return failed(ctx, fmt.Sprintf("no banner %q, then %v; %s", c.cfg.Banner, err, said(buf)))
		case err != nil || len(buf) == cap(buf):
			return failed(ctx, fmt.Sprintf("no banner %q; %s", c.cfg.Banner, said(buf)))
		}
	}
}

// said quotes, so that what a server sends can neither forge lines of a log nor reach a terminal as it is.
func said(b []byte) string {
	if len(b) == 0 {
		return "it said nothing"
	}
	return fmt.Sprintf("it said %.100q", b)
}

func failed(ctx context.Context, seen string) monitor.Result {
	if ctx.Err() != nil {
		return monitor.Result{Verdict: monitor.Unknown, Seen: seen}
	}
	return monitor.Result{Verdict: monitor.Bad, Seen: seen}
}
