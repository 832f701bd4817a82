package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
)

// certificate makes a certificate for 127.0.0.1 that vouches for itself, and returns the paths of its PEM files.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A server that wants to be known, and to know us, by certificates: we connect where both are in order, and otherwise
// say which server it was.
func TestConnect_TLS(t *testing.T) {
	serverCert, serverKey := certificate(t, "server")
	ourCert, ourKey := certificate(t, "worker")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	us, err := os.ReadFile(ourCert)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(us)
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, TLSTimeout: 5,
		TLS: true, TLSVerify: true,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
			MinVersion: tls.VersionTLS12,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	url := "tls://" + srv.Addr().String()

	for _, test := range []struct {
		name string
		tls  config.TLS
		ok   bool
	}{
		{"BothKnown", config.TLS{CA: serverCert, Cert: ourCert, Key: ourKey}, true},
		{"ServerUnknown", config.TLS{Cert: ourCert, Key: ourKey}, false},
		{"WeAreUnknown", config.TLS{CA: serverCert}, false},
		{"WrongAuthority", config.TLS{CA: ourCert, Cert: ourCert, Key: ourKey}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := (&app{}).endpoint(config.Config{NATS: config.URLs(url), TLS: test.tls})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := e.connect(t.Context(), "test", zerolog.Nop())
			if (err == nil) != test.ok {
				t.Errorf("got %v, want connected: %t", err, test.ok)
			}
			if err != nil && !strings.Contains(err.Error(), url) {
				t.Errorf("got %q, want the server named in it", err)
			}
			if conn != nil {
				if err := conn.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Fear: all is done and confirmed, and the command says that it failed, because the server went away while it said goodbye.
func TestConnection_LostWhileItIsClosedIsNoFailure(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	defer func() { <-ended }()
	defer listener.Close()
	go func() {
		defer close(ended)
		serveUntilSecondPing(listener)
	}()
	conn, err := endpoint{urls: "nats://" + listener.Addr().String()}.connect(t.Context(), "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.close(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// serveUntilSecondPing lets a client connect, and hangs up when it flushes.
func serveUntilSecondPing(listener net.Listener) {
	c, err := listener.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, `INFO {"server_id":"x","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576}`+"\r\n")
	pings := 0
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if lines.Text() != "PING" {
			continue
		}
		if pings++; pings == 2 {
			return
		}
		fmt.Fprint(c, "PONG\r\n")
	}
}
