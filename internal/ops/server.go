package ops

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

const (
	loopback = "127.0.0.1"

	// Whoever asks here asks little, and is answered at once; the time that a profile takes is added by pprof itself.
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 8 << 10
	gatherTimeout = 10 * time.Second
	maxGathers    = 8

	// stopTimeout is how long answers may go on after the stop.
	stopTimeout = 2 * time.Second
)

// ErrRunning is returned by a second Run.
var ErrRunning = errors.New("ops server was run already")

// Config says what is served, and where.
type Config struct {
	// Listen is the host and port to listen on. No host means loopback, port 0 a free one.
	Listen string
	// Registry is what /metrics exports. New adds the gauge mandrill_ready to it.
	Registry *prometheus.Registry
	// Live returns why the process cannot go on without a restart; nil: it can. A nil Live means that it can if it
	// answers. Live and Ready must not block, and are called from many goroutines at once.
	Live func() error
	// Ready returns what keeps the process from its work, and what else should be known. A nil Ready means that there is
	// nothing.
	Ready func() []Problem
	// Pprof adds /debug/pprof/, which shows the process's memory to everybody who can connect.
	Pprof  bool
	Logger zerolog.Logger
}

// A Server answers for this process over HTTP. It runs once.
type Server struct {
	cfg  Config
	up   chan struct{} // closed once it listens
	addr string        // where; written by Run, and read by others only after up is closed
	ran  atomic.Bool
}

// New returns a server. An error names the field that is wrong.
func New(cfg Config) (*Server, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %q is not an address with a port", cfg.Listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("listen: %q has no port from 0 to 65535", cfg.Listen)
	}
	if host == "" {
		host = loopback
	}
	cfg.Listen = net.JoinHostPort(host, port)
	if cfg.Registry == nil {
		return nil, errors.New("registry: is missing")
	}
	if cfg.Live == nil {
		cfg.Live = func() error { return nil }
	}
	if cfg.Ready == nil {
		cfg.Ready = func() []Problem { return nil }
	}
	cfg.Logger = cfg.Logger.With().Str("component", "ops").Logger()
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "ready", Help: "Whether this process can do its work, as /readyz says.",
	}, func() float64 { return oneIf(readiness(cfg.Ready()).Ready) })
	if err := cfg.Registry.Register(ready); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return &Server{cfg: cfg, up: make(chan struct{})}, nil
}

// Up returns a channel that is closed once the server listens.
func (s *Server) Up() <-chan struct{} { return s.up }

// Addr returns where the server listens, host and port; empty before Up.
func (s *Server) Addr() string {
	select {
	case <-s.up:
		return s.addr
	default:
		return ""
	}
}

// Run serves until ctx ends, and returns nil when answers have ended, or two seconds later. It returns why it could not
// listen or go on. A Live or Ready that hangs is not waited for.
func (s *Server) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return ErrRunning
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot serve health and metrics: %w", err)
	}
	errorLog := stdlog.New(logWriter{s.cfg.Logger}, "", 0)
	server := &http.Server{
		Handler: s.handler(errorLog), ErrorLog: errorLog, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		// A profile of minutes ends with ctx; everything else is soon over.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.addr = listener.Addr().String()
	close(s.up)
	s.cfg.Logger.Info().Str("address", s.addr).Bool("pprof", s.cfg.Pprof).Msg("serving health and metrics")

	var serving sync.WaitGroup
	broken := make(chan error, 1)
	serving.Go(func() { broken <- server.Serve(listener) })
	defer serving.Wait()
	select {
	case <-ctx.Done():
	case err = <-broken:
		err = fmt.Errorf("cannot go on serving health and metrics: %w", err)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		_ = server.Close() // whoever still asks is left without an answer, and nothing can be done about it
	}
	return err
}

// handler has a mux of its own: what others have put on http.DefaultServeMux, pprof above all, is not served.
func (s *Server) handler(errorLog *stdlog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, liveness(s.cfg.Live()))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, readiness(s.cfg.Ready()))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, Registry: s.cfg.Registry,
		MaxRequestsInFlight: maxGathers, Timeout: gatherTimeout,
	}))
	if s.cfg.Pprof {
		// Without cmdline, because a flag may hold a secret.
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// logWriter takes what net/http and promhttp have to say, of clients mostly.
type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Warn().Str("detail", strings.TrimSpace(string(line))).Msg("trouble with a request for health or metrics")
	return len(line), nil
}
