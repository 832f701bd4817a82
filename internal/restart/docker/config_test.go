package docker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/docker"
)

func TestNew_NamesTheFieldThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const engine = "tcp://engine.example.net:2376"
	for _, c := range []struct {
		field string
		cfg   docker.Config
	}{
		{"endpoint", docker.Config{Endpoint: "engine.example.net"}},
		{"endpoint", docker.Config{Endpoint: "ssh://engine.example.net"}},
		{"endpoint", docker.Config{Endpoint: "http://engine.example.net:2375"}},
		{"endpoint", docker.Config{Endpoint: "tcp://"}},
		{"endpoint", docker.Config{Endpoint: "tcp://engine.example.net"}},
		{"endpoint", docker.Config{Endpoint: "tcp://:2375"}},
		{"endpoint", docker.Config{Endpoint: "tcp://engine.example.net:port"}},
		{"endpoint", docker.Config{Endpoint: "unix://"}},
		{"endpoint", docker.Config{Endpoint: "unix://docker.sock"}},
		{"endpoint", docker.Config{Endpoint: "unix:///" + strings.Repeat("a", 200)}},
		{"tls_ca", docker.Config{TLSCA: empty}},
		{"tls_ca", docker.Config{Endpoint: "unix:///run/docker.sock", TLSCA: empty}},
		{"tls_ca", docker.Config{Endpoint: engine, TLSCA: filepath.Join(dir, "none.pem")}},
		{"tls_ca", docker.Config{Endpoint: engine, TLSCA: empty}},
		{"tls_cert", docker.Config{Endpoint: engine, TLSKey: empty}},
		{"tls_key", docker.Config{Endpoint: engine, TLSCert: empty}},
		{"tls_cert", docker.Config{Endpoint: engine, TLSCert: empty, TLSKey: empty}},
		{"label", docker.Config{Label: "host=web"}},
		{"stop_timeout", docker.Config{StopTimeout: -time.Second}},
		{"stop_timeout", docker.Config{StopTimeout: 1500 * time.Millisecond}},
	} {
		if _, err := docker.New(c.cfg); err == nil || !strings.HasPrefix(err.Error(), c.field+": ") {
			t.Errorf("%+v: got %v, want an error that begins with %q", c.cfg, err, c.field)
		}
	}
}

func TestNew_TellsNoPassword(t *testing.T) {
	for _, endpoint := range []string{
		"tcp://user:s3cret@engine.example.net:2376", "tcp://user:s3cret@engine.example.net",
		"tcp://user:s3cret%@engine:1", "ssh://user:s3cret@engine",
	} {
		if _, err := docker.New(docker.Config{Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want an error without the password", endpoint, err)
		}
	}
}

func TestNew_GoesByTheEnvironmentWithoutAnEndpoint(t *testing.T) {
	fake := newFake(&fakeContainer{id: "0a1b2c", name: string(host)})
	_, endpoint := serve(t, fake)
	t.Setenv("DOCKER_HOST", endpoint)
	epochOf(t, newDriver(t, docker.Config{}), host)

	t.Setenv("DOCKER_HOST", "ssh://engine.example.net")
	if _, err := docker.New(docker.Config{}); err == nil || !strings.HasPrefix(err.Error(), "endpoint: ") {
		t.Errorf("got %v, want an error that begins with the endpoint", err)
	}
	epochOf(t, newDriver(t, docker.Config{Endpoint: endpoint}), host)
}

func TestDriver_OnlyTheTrustedSpeakOverTLS(t *testing.T) {
	dir, ca, stranger := t.TempDir(), newAuthority(t), newAuthority(t)
	fake := newFake(&fakeContainer{id: "0a1b2c", name: string(host)})
	server := httptest.NewUnstartedServer(fake)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)

	config := func(name string, trusts, shows *authority) docker.Config {
		cfg := docker.Config{Endpoint: "tcp://" + server.Listener.Addr().String(), TLSCA: filepath.Join(dir, name+"-ca.pem")}
		writePEM(t, cfg.TLSCA, "CERTIFICATE", trusts.cert.Raw)
		if shows != nil {
			pair := shows.issue(t)
			key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			cfg.TLSCert, cfg.TLSKey = filepath.Join(dir, name+"-cert.pem"), filepath.Join(dir, name+"-key.pem")
			writePEM(t, cfg.TLSCert, "CERTIFICATE", pair.Certificate[0])
			writePEM(t, cfg.TLSKey, "PRIVATE KEY", key)
		}
		return cfg
	}
	epochOf(t, newDriver(t, config("good", ca, ca)), host)
	for name, cfg := range map[string]docker.Config{
		"a foreign engine":        config("foreign", stranger, ca),
		"a client of a stranger":  config("stranger", ca, stranger),
		"a client that says none": config("none", ca, nil),
	} {
		fake.asked()
		d := newDriver(t, cfg)
		_, err := d.Probe(t.Context(), host)
		wantClass(t, err, nil)
		wantClass(t, d.Restart(t.Context(), trigger("0a1b2c@x")), restart.ErrRefused)
		if asked := fake.asked(); asked != nil {
			t.Errorf("%s: the engine heard %q", name, asked)
		}
	}
}

// An authority signs certificates of this machine.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.cert = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, a.key)
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key := newKey(t)
	cert := a.sign(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// sign signs the certificate of a key; a parent of nil means that it is its own.
func (a *authority) sign(t *testing.T, cert, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber, cert.Subject = serial, pkix.Name{CommonName: "test " + serial.String()}
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = cert
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
