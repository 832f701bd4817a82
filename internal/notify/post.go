package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
)

const (
	maxHeader = 16 << 10
	maxAnswer = 4 << 10

	// maxRetryAfter bounds how long a server may put a message off at once, so that no number it sends overflows.
	maxRetryAfter = 24 * time.Hour
)

// newTransport returns a transport that keeps no connection: messages are rare.
func newTransport(timeout time.Duration) http.RoundTripper {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
		TLSHandshakeTimeout:    timeout,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// post sends a message once. Its error is a *backoff.PermanentError if another attempt would be answered the same, and
// wraps a *backoff.RetryAfterError if the server says when to come again. It never quotes the answer, which may quote the
// URL.
func (n *Notifier) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(errors.New("its URL cannot be used")) // the error itself would quote it
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mandrill")
	if n.cfg.Secret != "" {
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		signature := callout.Sign([]byte(n.cfg.Secret), timestamp, req.Method, req.URL.RequestURI(), body)
		req.Header.Set("X-Mandrill-Timestamp", timestamp)
		req.Header.Set("X-Mandrill-Signature", "v1="+signature)
	}
	// Unlike a client, a transport follows no redirect, and its errors do not quote the URL.
	resp, err := n.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status has said all; closing at once would reset the connection
	return classify(resp.StatusCode, resp.Header)
}

func classify(code int, header http.Header) error {
	err := fmt.Errorf("the server answered %s", strings.TrimSpace(strconv.Itoa(code)+" "+http.StatusText(code)))
	switch {
	case code/100 == 2:
		return nil
	case code/100 == 3:
		return backoff.Permanent(fmt.Errorf("%w, and redirects are not followed: configure the final URL", err))
	case code != http.StatusTooManyRequests && code/100 != 5:
		return backoff.Permanent(err)
	}
	if after := callout.RetryAfter(header, time.Now(), maxRetryAfter); after > 0 {
		return fmt.Errorf("%w: %w", err, &backoff.RetryAfterError{Duration: after})
	}
	return err
}
