package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	connectTimeout = 10 * time.Second // to connect, and again to agree on TLS
	idleTimeout    = time.Minute
	maxIdle        = 64
	maxHeader      = 16 << 10
)

// newProbeTransport returns a transport that keeps its connections, because a host that restarts is probed often. That
// it may repeat a probe on its own harms nobody.
//
// Proxies of the environment are not used: what the server said must not depend on the shell that a worker was started
// from. HTTP/1 alone is spoken, whose connections carry one request at a time.
func newProbeTransport(authorities *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: authorities},
		TLSHandshakeTimeout:    connectTimeout,
		Protocols:              protocols,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}
}

// newTriggerTransport returns a transport that makes a connection for each request. On a kept one it would repeat a
// request that was lost, because an Idempotency-Key tells it that it may; and of a request that was lost on a kept one
// nobody would know whether it was sent.
func newTriggerTransport(authorities *x509.CertPool) *http.Transport {
	t := newProbeTransport(authorities)
	t.DisableKeepAlives = true
	t.DialContext = dialAbortive
	return t
}

// dialAbortive returns a connection that forgets what it has not sent when it is closed. Otherwise the system would go
// on sending for minutes, and a trigger could arrive when a link is mended, long after its call has returned.
func dialAbortive(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
