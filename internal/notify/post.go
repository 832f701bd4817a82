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
		signature := sign([]byte(n.cfg.Secret), timestamp, req.Method, req.URL.RequestURI(), body)
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
	if after := retryAfter(header, time.Now()); after > 0 {
		return fmt.Errorf("%w: %w", err, &backoff.RetryAfterError{Duration: after})
	}
	return err
}

// retryAfter returns how long the server asks to be left alone, within bounds; zero if it does not say.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	// A number that is too large for its type is returned as the largest.
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	// The server means its own clock, which may differ from ours.
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}
