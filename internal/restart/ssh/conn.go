package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxOutput bounds what is kept of what a command prints, and maxQuoted what an error tells of it.
const (
	maxOutput = 64 << 10
	maxQuoted = 400
)

// A conn is a connection to a host, and to the jump host on the way.
type conn struct {
	raw     net.Conn        // that all others run in, so that closing it ends all of them
	clients []*gossh.Client // the last is the host's
}

// connect reaches the host. Its errors wrap ErrPermanent or no class.
func (d *Driver) connect(ctx context.Context, host restart.Host) (*conn, error) {
	ctx, cancel := withTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	c, err := d.dial(ctx, target{user: d.cfg.User, addr: address(host, d.cfg.Port)})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c, err
}

func (d *Driver) dial(ctx context.Context, to target) (*conn, error) {
	first := to
	if d.jump != nil {
		first = *d.jump
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", first.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw}
	defer context.AfterFunc(ctx, c.cut)()
	err = d.login(ctx, c, raw, first)
	if err == nil && d.jump != nil {
		err = d.loginThrough(ctx, c, to)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (d *Driver) loginThrough(ctx context.Context, c *conn, to target) error {
	inner, err := c.clients[0].DialContext(ctx, "tcp", to.addr)
	if err != nil {
		return fmt.Errorf("jump: cannot reach %s from %s: %w", to.addr, d.jump.addr, err)
	}
	return d.login(ctx, c, inner, to)
}

// login makes a connection that has been dialed one of SSH.
func (d *Driver) login(ctx context.Context, c *conn, raw net.Conn, to target) error {
	known, err := d.known.load()
	if err != nil {
		return fmt.Errorf("known_hosts: %w", err)
	}
	keys, release, err := d.keys(ctx)
	if err != nil {
		return err
	}
	defer release()
	authenticating := false
	cc, channels, requests, err := gossh.NewClientConn(raw, to.addr, &gossh.ClientConfig{
		User:              to.user,
		Auth:              []gossh.AuthMethod{gossh.PublicKeys(keys...)},
		HostKeyCallback:   known.check,
		HostKeyAlgorithms: known.algorithms(to.addr),
		AuthCallback: func(*gossh.ClientAuthContext) (gossh.AuthMethod, error) {
			authenticating = true
			return nil, nil
		},
	})
	if err == nil {
		c.clients = append(c.clients, gossh.NewClient(cc, channels, requests))
		return nil
	}
	if nego, ok := errors.AsType[*gossh.AlgorithmNegotiationError](err); ok {
		return known.explain(to.addr, nego)
	}
	if authenticating && !isCut(err) {
		return fmt.Errorf("%w: %s refuses user %q with %s: %v; add the public key to that user's authorized_keys there",
			restart.ErrPermanent, to.addr, to.user, d.whichKey(), err)
	}
	return fmt.Errorf("cannot log in to %s: %w", to.addr, err)
}

// isCut reports whether err is of the connection, and not what the other side said.
func isCut(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// keys returns the keys to log in with, which can be used until release is called.
func (d *Driver) keys(ctx context.Context) (keys []gossh.Signer, release func(), err error) {
	if d.key != nil {
		return []gossh.Signer{d.key}, func() {}, nil
	}
	socket, err := new(net.Dialer).DialContext(ctx, "unix", d.cfg.Agent)
	if err != nil {
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() }) // Nobody waits for what it would say.
	release = func() {
		stop()
		_ = socket.Close() // It was only read.
	}
	keys, err = agent.NewClient(socket).Signers()
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("%w: it has no key; add one with ssh-add", restart.ErrPermanent)
	}
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("agent: %w", err)
	}
	return keys, release, nil
}

func (d *Driver) whichKey() string {
	if d.key != nil {
		return fmt.Sprintf("the key in %q", d.cfg.Key)
	}
	return fmt.Sprintf("all keys of the agent at %q", d.cfg.Agent)
}

// cut ends the connection at once, from whatever goroutine.
func (c *conn) cut() { _ = c.raw.Close() } // Closing it is all that can be done with it.

// close ends the connection, and returns when it has ended.
func (c *conn) close() {
	c.cut()
	for _, client := range c.clients {
		_ = client.Wait() // It ends with the error that it was closed, or cut.
	}
}

// An answer is what a command has printed and how it has exited.
type answer struct {
	code   int
	at     time.Time // when it was here
	stdout *output
	stderr *output
}

func (a answer) err() error {
	if said := a.stderr.text(); said != "" {
		return fmt.Errorf("exit code %d: %q", a.code, said)
	}
	return fmt.Errorf("exit code %d", a.code)
}

// ask is run for a question, which has nothing to wait for but its answer.
func (c *conn) ask(ctx context.Context, timeout time.Duration, line string) (answer, error) {
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	a, err := c.run(ctx, line, "", nil)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return a, err
}

// run runs one command line at the host. It calls onMark, unless nil, as soon as the command has printed the mark. An
// error means that the command has no exit code; it may or may not have run.
func (c *conn) run(ctx context.Context, line, mark string, onMark func()) (answer, error) {
	defer context.AfterFunc(ctx, c.cut)()
	session, err := c.clients[len(c.clients)-1].NewSession()
	if err != nil {
		return answer{}, fmt.Errorf("cannot open a session: %w", err)
	}
	defer session.Close() // What it could say was said by Wait.
	a := answer{stdout: &output{mark: mark, onMark: onMark}, stderr: &output{}}
	session.Stdout, session.Stderr = a.stdout, a.stderr
	if session.Start(line) != nil {
		return answer{}, errors.New("the command was not confirmed to have been started") // The cause would quote it all.
	}
	err = session.Wait()
	a.at = time.Now()
	if exit, ok := errors.AsType[*gossh.ExitError](err); ok && exit.Signal() == "" {
		a.code, err = exit.ExitStatus(), nil
	}
	return a, err
}

// output keeps the beginning of what a command prints. The session's goroutine writes it; it may be read when that has
// ended.
type output struct {
	kept   bytes.Buffer
	mark   string // the end of a line to look out for
	onMark func() // called once, when it is there
}

func (o *output) Write(p []byte) (int, error) {
	o.kept.Write(p[:min(len(p), maxOutput-o.kept.Len())])
	if o.onMark != nil && strings.Contains(o.kept.String(), o.mark+"\n") {
		o.onMark()
		o.onMark = nil
	}
	return len(p), nil
}

// line returns what follows the last prefix in its line, because a login shell may have words of its own before;
// everything if there is no prefix.
func (o *output) line(prefix string) string {
	all := o.kept.String()
	at := strings.LastIndex(all, prefix)
	if at < 0 {
		return all
	}
	line, _, _ := strings.Cut(all[at+len(prefix):], "\n")
	return line
}

// text returns what an error can tell of it.
func (o *output) text() string {
	said := strings.TrimSpace(o.kept.String())
	return strings.ToValidUTF8(said[:min(len(said), maxQuoted)], "")
}

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer for %s", timeout))
}
