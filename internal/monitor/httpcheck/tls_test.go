package httpcheck_test

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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
)

// An authority is what a server's certificate rests on.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, left time.Duration) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	cert := sign(t, template, template, key, key)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, file}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// serveTLS serves with a certificate that expires after a while.
func (a *authority) serveTLS(t *testing.T, left time.Duration, handler http.HandlerFunc) string {
	t.Helper()
	key := newKey(t)
	cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(left),
	}, a.cert, key, a.key)
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// The fear: a certificate expires on a Sunday, and nobody has been told.
func TestCheck_TellsHowLongTheCertificateIsValid(t *testing.T) {
	const day = 24 * time.Hour
	long := newAuthority(t, 1000*day)
	for _, tt := range []struct {
		name     string
		ca       *authority
		left     time.Duration
		minLeft  time.Duration
		want     monitor.Verdict
		seen     string
		wantLeft time.Duration
	}{
		{"Long", long, 90 * day, 14 * day, monitor.Good, "200 OK", 90 * day},
		{"NoMinimum", long, time.Hour, 0, monitor.Good, "200 OK", time.Hour},
		{"Short", long, 13 * day, 14 * day, monitor.Bad, "200 OK: the certificate expires in 31", 13 * day},
		{"TheAuthoritysExpiresFirst", newAuthority(t, 5*day), 90 * day, 14 * day, monitor.Bad, "200 OK: the certificate expires in 1", 5 * day},
		{"Expired", long, -time.Hour, 0, monitor.Bad, "tls: failed to verify certificate: x509: certificate has expired", -time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := tt.ca.serveTLS(t, tt.left, answer(200, ""))
			got := check(t, httpcheck.Config{URL: url, CA: tt.ca.file, MinTLSLeft: tt.minLeft})
			if got.Verdict != tt.want || !strings.HasPrefix(got.Seen, tt.seen) {
				t.Errorf("got %s, %q, want %s, %q", got.Verdict, got.Seen, tt.want, tt.seen)
			}
			left, ok := facts(got)[httpcheck.FactTLSLeft]
			if off := tt.wantLeft - time.Duration(left)*time.Second; !ok || off < 0 || off > time.Minute {
				t.Errorf("got %d seconds left, want %.f", left, tt.wantLeft.Seconds())
			}
		})
	}
}

func TestCheck_DoesNotTrustAnAuthorityThatItWasNotTold(t *testing.T) {
	url := newAuthority(t, time.Hour).serveTLS(t, time.Hour, answer(200, ""))
	for _, ca := range []string{"", newAuthority(t, time.Hour).file} {
		if got := check(t, httpcheck.Config{URL: url, CA: ca}); got.Verdict != monitor.Bad || !strings.Contains(got.Seen, "certificate") {
			t.Errorf("got %+v", got)
		}
	}
}

func TestCheck_IsNotRedirectedAwayFromTLS(t *testing.T) {
	plain := serve(t, answer(200, ""))
	a := newAuthority(t, time.Hour)
	url := a.serveTLS(t, time.Hour, http.RedirectHandler(plain, http.StatusFound).ServeHTTP)
	got := check(t, httpcheck.Config{URL: url, CA: a.file, Redirects: 5})
	if want := "redirected away from https, which is not followed"; got.Verdict != monitor.Bad || got.Seen != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}
