// Package callout is what Mandrill's calls to other people's web servers have in common: what a URL must
// be, how a request is signed, and how long a server asks to be left alone.
package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ParseURL returns a full URL of http or https. An error does not quote it, because it may hold what is secret.
func ParseURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("is not a full URL of http or https")
	}
	return u, nil
}

// Sign returns the signature of a request: HMAC-SHA256 in hex. What is signed are its parts with line feeds between them:
// none but the last can hold one, so no two requests give the same text. Headers are not among them. One piece of code at
// a receiver checks whatever Mandrill sends.
func Sign(secret []byte, timestamp, method, uri string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "\n" + method + "\n" + uri + "\n"))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// RetryAfter returns how long the server asks to be left alone, but not longer than most; zero if it does not say.
func RetryAfter(header http.Header, now time.Time, most time.Duration) time.Duration {
	text := header.Get("Retry-After")
	// A number that is too large for its type is returned as the largest.
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	// The server means its own clock, which may differ from ours.
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, at.Sub(now)), most)
}
