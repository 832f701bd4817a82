package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/writebehind"
)

const (
	connectTimeout = 5 * time.Second
	reconnectWait  = 250 * time.Millisecond
	pingInterval   = 2 * time.Second // a link that died without a word is noticed after two or three of these, long before a lease ends
	flushTimeout   = 5 * time.Second
)

// An endpoint is where a NATS server is, and how it is talked to.
type endpoint struct {
	urls    string
	shown   string // the URLs without secrets
	advice  string // what to do where nobody answers
	options []nats.Option
}

// endpoint returns the server that the configuration names, or else the one that runs in the data folder.
func (a *app) endpoint(cfg config.Config) (endpoint, error) {
	switch {
	case cfg.NATSContext != "":
		return a.contextEndpoint(cfg)
	case cfg.NATS != "":
		e := endpoint{urls: string(cfg.NATS), shown: cfg.NATS.String(), advice: "check --nats, and that the server runs"}
		if cfg.Creds != "" {
			e.options = append(e.options, nats.UserCredentials(cfg.Creds))
		}
		if cfg.Token != "" {
			e.options = append(e.options, nats.Token(string(cfg.Token)))
		}
		e.options = append(e.options, tlsOptions(cfg.TLS)...)
		return e, nil
	default:
		return embeddedEndpoint(cfg.Data)
	}
}

func tlsOptions(t config.TLS) (options []nats.Option) {
	if t.CA != "" {
		options = append(options, nats.RootCAs(t.CA))
	}
	if t.Cert != "" {
		options = append(options, nats.ClientCert(t.Cert, t.Key))
	}
	return options
}

// natsContext is a context of the nats command, as it keeps it in a file. What is not named here is of no use to us or
// cannot be served, which contextEndpoint says.
type natsContext struct {
	URL       string `json:"url"`
	Token     string `json:"token"`
	User      string `json:"user"`
	Password  string `json:"password"`
	Creds     string `json:"creds"`
	NKey      string `json:"nkey"`
	Cert      string `json:"cert"`
	Key       string `json:"key"`
	CA        string `json:"ca"`
	NSC       string `json:"nsc"`
	JSDomain  string `json:"jetstream_domain"`
	JSPrefix  string `json:"jetstream_api_prefix"`
	InboxPfx  string `json:"inbox_prefix"`
	SocksAddr string `json:"socks_proxy"`
}

func (a *app) contextEndpoint(cfg config.Config) (endpoint, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(a.getenv("HOME"), ".config")
	}
	path := filepath.Join(dir, "nats", "context", cfg.NATSContext+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		return endpoint{}, usagef("nats_context: cannot read context %q: %w", cfg.NATSContext, err)
	}
	var c natsContext
	if err := json.Unmarshal(data, &c); err != nil {
		return endpoint{}, usagef("nats_context: cannot read %s: %w", path, err)
	}
	for field, value := range map[string]string{
		"nsc": c.NSC, "jetstream_domain": c.JSDomain, "jetstream_api_prefix": c.JSPrefix, "socks_proxy": c.SocksAddr,
	} {
		if value != "" {
			return endpoint{}, usagef("nats_context: %s: %s is not supported", path, field)
		}
	}
	if c.URL == "" {
		c.URL = nats.DefaultURL
	}
	e := endpoint{
		urls: c.URL, shown: config.URLs(c.URL).String(),
		advice:  "check context " + cfg.NATSContext + " in " + path,
		options: tlsOptions(config.TLS{CA: c.CA, Cert: c.Cert, Key: c.Key}),
	}
	if c.User != "" {
		e.options = append(e.options, nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		e.options = append(e.options, nats.Token(c.Token))
	}
	if c.Creds != "" {
		e.options = append(e.options, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return endpoint{}, usagef("nats_context: %s: nkey: %w", path, err)
		}
		e.options = append(e.options, option)
	}
	if c.InboxPfx != "" {
		e.options = append(e.options, nats.CustomInboxPrefix(c.InboxPfx))
	}
	return e, nil
}

// A connection is a connection to NATS, which says when it is of no use any more.
type connection struct {
	*nats.Conn
	denied chan error    // has room for the first missing permission
	closed chan struct{} // closed when the connection is, for good
}

// connect connects, and from then on reconnects for ever. Nothing is ever sent late: what cannot be sent at once fails.
func (e endpoint) connect(ctx context.Context, name string, log zerolog.Logger) (*connection, error) {
	c := &connection{denied: make(chan error, 1), closed: make(chan struct{})}
	options := append([]nats.Option{
		nats.Name(name),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(&writebehind.Dialer{Dialer: net.Dialer{Timeout: connectTimeout}}),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn().Err(err).Msg("disconnected from NATS, reconnecting")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Stringer("server", config.URLs(nc.ConnectedUrl())).Msg("reconnected to NATS")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.heard(log, err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}, e.options...)
	nc, err := nats.Connect(e.urls, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to NATS at %s: %w; %s", e.shown, hideSecret(err, e.urls), e.advice)
	}
	c.Conn = nc
	if ctx.Err() != nil {
		c.close()
		return nil, context.Cause(ctx)
	}
	return c, nil
}

// withJetStream calls do with a connection for a verb, which ends with it.
func (a *app) withJetStream(ctx context.Context, cfg config.Config, verb string, do func(*connection, jetstream.JetStream) error) (err error) {
	e, err := a.endpoint(cfg)
	if err != nil {
		return err
	}
	conn, err := e.connect(ctx, "mandrill "+verb, a.newLogger(cfg.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.close()) }()
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return fmt.Errorf("cannot use JetStream: %w", err)
	}
	return conn.explainDenial(verb, do(conn, js))
}

// hideSecret keeps an error that quotes a URL from showing what the URL hides.
func hideSecret(err error, urls string) error {
	for url := range strings.SplitSeq(urls, ",") {
		if strings.Contains(url, "@") && strings.Contains(err.Error(), strings.TrimSpace(url)) {
			return errors.New("the URL cannot be used")
		}
	}
	return err
}

func (c *connection) heard(log zerolog.Logger, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		log.Error().Err(err).Msg("NATS does not permit it")
		select {
		case c.denied <- err:
		default:
		}
		return
	}
	log.Warn().Err(err).Msg("NATS complains")
}

// close sends what was written, and waits until the connection's own goroutines have ended.
func (c *connection) close() error {
	var err error
	if c.IsConnected() {
		err = c.FlushTimeout(flushTimeout)
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil // lost meanwhile, as it may have been before
	}
	c.Close()
	<-c.closed
	return err
}
