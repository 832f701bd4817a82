package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"
)

// A Scratch is a name of eight letters and digits, in lower case, that stands for Mandrill's own on somebody else's server:
// in the names of streams, buckets and consumers, and in subjects. So what is measured is the very code that uses the
// real ones, and cannot reach them.
type Scratch string

const (
	realName = "mandrill"

	scratchPrefix = "bnch" // by which people know what a benchmark that was killed has left
	dialTimeout   = 5 * time.Second
)

// NewScratch returns a name that nobody else has.
func NewScratch() Scratch {
	return Scratch(scratchPrefix + strings.ToLower(rand.Text()[:len(realName)-len(scratchPrefix)]))
}

// CheckURLs returns an error for a URL whose connection could not be renamed: what is encrypted, or masked, cannot be.
func (s Scratch) CheckURLs(urls string) error {
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			continue // it is as if it had the scheme nats
		}
		if u, err := url.Parse(text); err != nil || u.Scheme != "nats" {
			return errors.New("a benchmark can only use a server at nats://, without TLS")
		}
	}
	return nil
}

// Dial implements nats.CustomDialer: on the connection, one name stands for the other. Both have the same length, so
// nothing else changes.
func (s Scratch) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	upper := strings.ToUpper
	return &renamed{
		Conn: conn,
		out:  renamer{pairs: [][2]string{{realName, string(s)}, {upper(realName), upper(string(s))}}},
		in:   renamer{pairs: [][2]string{{string(s), realName}, {upper(string(s)), upper(realName)}}},
	}, nil
}

// renamed is a connection on which names stand for others.
type renamed struct {
	net.Conn
	out, in   renamer
	greeted   bool   // the server's first line was seen
	connected bool   // ours was sent
	ready     []byte // renamed, and not read yet
	buffer    [32 << 10]byte
}

var errTLS = errors.New("the server requires TLS, with which a benchmark cannot keep away from real streams")

// Read renames what came. Whatever the server says ends with a line's end, so no part of a name is kept back for long.
func (r *renamed) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		n, err := r.Conn.Read(r.buffer[:])
		if n > 0 && !r.greeted {
			// The greeting is in one piece, in practice; where it is not, the connection is not used either.
			if line, _, whole := bytes.Cut(r.buffer[:n], []byte("\r\n")); !whole || bytes.Contains(line, []byte(`"tls_required":true`)) {
				return 0, errTLS
			}
			r.greeted = true
		}
		r.ready = r.in.rename(r.buffer[:n])
		if err != nil && len(r.ready) == 0 {
			return 0, err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// Write renames what is sent, but for the first line, in which user and password stand.
func (r *renamed) Write(p []byte) (int, error) {
	rest := p
	if !r.connected {
		line, after, _ := bytes.Cut(p, []byte("\r\n"))
		if !bytes.HasPrefix(line, []byte("CONNECT ")) || len(line) == len(p) {
			return 0, errors.New("cannot rename: the first line is not the one expected")
		}
		if _, err := r.Conn.Write(p[:len(p)-len(after)]); err != nil {
			return 0, err
		}
		r.connected, rest = true, after
	}
	if _, err := r.Conn.Write(r.out.rename(rest)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A renamer replaces names in a stream of bytes. What may be the beginning of a name at the end of what it is given, it
// keeps until it sees the rest.
type renamer struct {
	pairs [][2]string // of the same length
	kept  []byte
	out   []byte
}

// rename returns what can be passed on, which is valid until the next call.
func (r *renamer) rename(data []byte) []byte {
	r.out = append(append(r.out[:0], r.kept...), data...)
	end := len(r.out)
	for _, pair := range r.pairs {
		for at := 0; ; at += len(pair[1]) {
			i := bytes.Index(r.out[at:], []byte(pair[0]))
			if i < 0 {
				break
			}
			at += i
			copy(r.out[at:], pair[1])
		}
		for n := min(len(pair[0])-1, len(r.out)); n > 0; n-- {
			if strings.HasPrefix(pair[0], string(r.out[len(r.out)-n:])) {
				end = min(end, len(r.out)-n)
				break
			}
		}
	}
	r.kept = append(r.kept[:0], r.out[end:]...)
	return r.out[:end]
}
