// Package natsd runs a NATS server with JetStream inside this process, so that nobody has to install one first.
//
// What it has confirmed is on the disk: unless it is told otherwise, every write is synced before it is answered.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

const (
	loopback = "127.0.0.1"

	// maxMemory bounds streams that live in memory. None of ours does; a stranger's must not be promised three
	// quarters of the machine, which is the server's default.
	maxMemory = 256 << 20
)

// Config says what the server is.
type Config struct {
	// Dir holds the streams. It is created, with mode 0700, if it is not there. Only one server may use it at a time.
	Dir string
	// Listen is the host and port for clients. Empty means a free port on loopback, as does port 0 on its host.
	Listen string
	// Token is what clients must present. Empty means that everybody may connect.
	Token string
	// SyncInterval is how often writes are synced to the disk: what was written since is lost if the machine, not
	// just the process, dies. Zero means that every write is synced before it is answered.
	SyncInterval time.Duration
	// Name is told to clients and stands in logs. Empty means a random one.
	Name string
	// Logger takes the server's own log: its errors and warnings at those levels, everything else at debug.
	Logger zerolog.Logger
}

// A Server is a running server.
type Server struct {
	nats  *server.Server
	url   string
	close func()
}

// Start runs a server, and returns when clients can connect and all streams of its folder have been read back. The
// caller must Close it. It takes as long as it takes to read them; if the context is cancelled meanwhile, it closes the
// server and returns the cause.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	host, port, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if err := tryListen(ctx, host, port); err != nil {
		return nil, err
	}
	unlock, err := claim(cfg.Dir)
	if err != nil {
		return nil, err
	}
	log := &logger{log: cfg.Logger.With().Str("component", "nats-server").Logger()}
	nats, err := start(ctx, options(cfg, host, port), log)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("cannot start the embedded NATS server on %s with folder %q: %w", net.JoinHostPort(host, strconv.Itoa(port)), cfg.Dir, err)
	}
	return &Server{nats: nats, url: clientURL(nats), close: sync.OnceFunc(func() {
		stop(nats)
		unlock()
	})}, nil
}

// URL returns where clients connect, without the token.
func (s *Server) URL() string { return s.url }

// Close shuts the server down and waits until it has ended. It may be called more than once.
func (s *Server) Close() { s.close() }

// Err returns why the server cannot serve all of its streams, or nil if it can.
//
// A server that cannot write does not end by itself, and tells nobody: on a full disk it stops answering publishes to
// the stream that met it, and where it was refused permission it turns JetStream off. Only a new start heals either.
// The server has no event for this, so whoever wants to know asks from time to time. A stream that is being created or
// deleted at this moment can make it complain, for seconds where the disk is busy, so believe only what lasts.
func (s *Server) Err() error {
	if health := s.nats.Healthz(nil); health.Error != "" {
		return fmt.Errorf("embedded NATS server is unwell, check the disk and start again: %s", health.Error)
	}
	return nil
}

func options(cfg Config, host string, port int) *server.Options {
	opts := &server.Options{
		ServerName:    cfg.Name,
		Host:          host,
		Port:          port,
		Authorization: cfg.Token,
		NoSigs:        true, // signals belong to the process that embeds it
		JetStream:     true,
		StoreDir:      cfg.Dir,
		SyncInterval:  cfg.SyncInterval,
		SyncAlways:    cfg.SyncInterval == 0,

		DisableJetStreamBanner: true,

		JetStreamMaxMemory: maxMemory,
		// The limit on disk is left to the server on purpose: three quarters of what is its own or free when it
		// starts. A write beyond it is refused with an answer, and the server lives on; a write to a full disk gets
		// no answer, and the stream stays broken until the next start.
	}
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts
}

func start(ctx context.Context, opts *server.Options, log *logger) (*server.Server, error) {
	nats, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	nats.SetLoggerV2(log, false, false, false)

	// A server that is starting can be shut down only with data races, so a cancellation waits for it.
	nats.Start()

	// Start returns nothing: the only trace of what went wrong is the last line of its log.
	err = log.fatal()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && !nats.ReadyForConnections(time.Second):
		err = errors.New("it does not accept connections")
	}
	if err != nil {
		stop(nats)
		return nil, err
	}
	return nats, nil
}

func stop(nats *server.Server) {
	nats.Shutdown()
	nats.WaitForShutdown()
}

func parseListen(listen string) (host string, port int, err error) {
	if listen == "" {
		return loopback, 0, nil
	}
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("cannot listen on %q, want host:port: %w", listen, err)
	}
	number, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("cannot listen on %q: port %q is not a number from 0 to 65535", listen, p)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, int(number), nil
}

// tryListen finds out whether the address can be had, before the streams are read back, and while the system's own
// error is still to be had too.
func tryListen(ctx context.Context, host string, port int) error {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("cannot listen on %s, stop what is using it or choose another address: %w", address, err)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s, choose an address of this machine and a port that you may use: %w", address, err)
	}
	return l.Close()
}

// claim creates the folder, finds out whether it can be written to, and takes it for this process until unlock is
// called: two servers on one folder would ruin it, and nats-server itself does not look.
func claim(dir string) (unlock func(), err error) {
	if dir == "" {
		return nil, errors.New("no folder for the embedded NATS server")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create folder %q for the embedded NATS server: %w", dir, err)
	}
	unlock, err = lock(dir)
	if err != nil {
		return nil, err
	}
	if err := tryWrite(dir); err != nil {
		unlock()
		return nil, fmt.Errorf("cannot write to folder %q of the embedded NATS server, make room there or choose another: %w", dir, err)
	}
	return unlock, nil
}

// tryWrite writes a whole block, since a full disk still takes an empty file.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func clientURL(nats *server.Server) string {
	address := nats.Addr().(*net.TCPAddr)
	host := address.IP.String()
	if address.IP.IsUnspecified() {
		host = loopback
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
}
