package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

const (
	defaultStopTimeout = 10 * time.Second

	unixScheme = "unix://"
	tcpScheme  = "tcp://"
)

// Config says which engine has the hosts, and how they are found there.
type Config struct {
	// Endpoint is where the engine listens, as unix:///path or tcp://host:port. Empty means what the environment says to
	// every Docker client (DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY, DOCKER_API_VERSION), or else the default
	// socket.
	Endpoint string

	// TLSCA, TLSCert and TLSKey are PEM files. With any of them a tcp endpoint is spoken to over TLS: the first has who
	// may sign for the engine, empty meaning whom the system trusts; the others are what this side shows, both or neither.
	TLSCA, TLSCert, TLSKey string

	// Label is the name of the label that has the host's name. Empty means that the container itself has it.
	Label string

	// StopTimeout is how long a container is given to end before it is killed, in whole seconds. Zero means ten seconds.
	StopTimeout time.Duration
}

// withDefaults returns the configuration with its zero values replaced, or an error that names a field.
func (c Config) withDefaults() (Config, error) {
	if c.StopTimeout == 0 {
		c.StopTimeout = defaultStopTimeout
	}
	switch {
	case c.StopTimeout < 0:
		return Config{}, fmt.Errorf("stop_timeout: %s is negative", c.StopTimeout)
	case c.StopTimeout%time.Second != 0:
		return Config{}, fmt.Errorf("stop_timeout: %s is not in whole seconds, and an engine knows no parts of them", c.StopTimeout)
	case strings.Contains(c.Label, "="):
		return Config{}, fmt.Errorf("label: %q has a '=', want a label's name alone", c.Label)
	}
	return c, nil
}

// client returns a client of the engine, which connects when it is first used.
func (c Config) client() (*client.Client, error) {
	secure, err := c.tls()
	if err != nil {
		return nil, err
	}
	endpoint, opts := c.Endpoint, []client.Opt{client.WithHost(c.Endpoint)}
	switch {
	case endpoint == "":
		endpoint, opts = os.Getenv(client.EnvOverrideHost), []client.Opt{client.FromEnv}
	case secure != nil:
		transport := &http.Transport{TLSClientConfig: secure}
		opts = append([]client.Opt{client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect})}, opts...)
	}
	if endpoint != "" {
		if err := checkEndpoint(endpoint); err != nil {
			return nil, fmt.Errorf("endpoint: %w", err)
		}
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	return api, nil
}

// checkEndpoint does not repeat the endpoint in its errors, because there may be a password in it.
func checkEndpoint(endpoint string) error {
	if path, ok := strings.CutPrefix(endpoint, unixScheme); ok {
		if !filepath.IsAbs(path) {
			return errors.New("is not unix:// and an absolute path")
		}
		return nil
	}
	if !strings.HasPrefix(endpoint, tcpScheme) {
		return errors.New("begins with neither unix:// nor tcp://")
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Port() == "":
		return errors.New("is not tcp:// and a host and a port")
	case u.User != nil:
		return errors.New("has a user's name, which an engine does not ask for")
	}
	return nil
}

// tls returns how to speak TLS, or nil if it is not asked for.
func (c Config) tls() (*tls.Config, error) {
	if c.TLSCA == "" && c.TLSCert == "" && c.TLSKey == "" {
		return nil, nil
	}
	field := "tls_ca"
	if c.TLSCA == "" {
		field = "tls_cert"
	}
	switch {
	case !strings.HasPrefix(c.Endpoint, tcpScheme):
		return nil, fmt.Errorf("%s: goes with an endpoint that begins with tcp://", field)
	case c.TLSCert == "" && c.TLSKey != "":
		return nil, errors.New("tls_cert: is missing, and tls_key is there")
	case c.TLSCert != "" && c.TLSKey == "":
		return nil, errors.New("tls_key: is missing, and tls_cert is there")
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSCA != "" {
		pem, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca: %s has no certificate in PEM", c.TLSCA)
		}
	}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("tls_cert: %w", err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return secure, nil
}
