// Package httpcheck is the check that sends an HTTP request and judges the response.
//
// Each check has a connection of its own, so that it sees what a new client would see: the name, the port, the
// certificate of now. Proxies of the environment are not used, because what a check says must not depend on the shell
// that the process was started from.
package httpcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// What is measured. The time taken is measured for all kinds of checks.
const (
	FactCode    = "code"             // the response's status
	FactBytes   = "bytes"            // of the response's body, as far as it was read
	FactTLSLeft = "tls_seconds_left" // until the server's certificate, or one that it rests on, expires
)

const (
	defaultMaxBody = 1 << 20
	limitMaxBody   = 64 << 20
	maxHeader      = 64 << 10
	maxRedirects   = 10
)

// Config says what is asked, and which response is good.
type Config struct {
	URL    string // full, of http or https, without credentials
	Method string // empty means GET

	// Headers are sent with the request. Their values may be secrets, and are never told.
	Headers map[string]string

	// Statuses are those that are good. None means 200 to 299.
	Statuses []int

	// Contains and Matches, unless they are empty, must be found in the body, the second as a regular expression.
	Contains, Matches string

	// MinTLSLeft is how long the server's certificate must be valid for still. Zero means that now is enough.
	MinTLSLeft time.Duration

	// Redirects is how many may be followed, from one address of the same host to another and never away from https. Zero
	// means that a redirect is the response.
	Redirects int

	// MaxBody is how many bytes of the body are read and searched. Zero means 1 MiB.
	MaxBody int64

	// CA is the path of a PEM file with the only authorities that are trusted to vouch for the server. If it is empty,
	// the system's are.
	CA string
}

type check struct {
	cfg     Config
	matches *regexp.Regexp // nil if nothing need match
	client  *http.Client
}

// New returns a check that has sent nothing yet. An error begins with the name of the field that is wrong.
func New(cfg Config) (monitor.Check, error) {
	if cfg.Method == "" {
		cfg.Method = http.MethodGet
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &check{cfg: cfg}
	if cfg.Matches != "" {
		var err error
		if c.matches, err = regexp.Compile(cfg.Matches); err != nil {
			return nil, fmt.Errorf("matches: %w", err)
		}
	}
	authorities, err := readCA(cfg.CA)
	if err != nil {
		return nil, err
	}
	c.client = &http.Client{
		CheckRedirect: c.redirect,
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{RootCAs: authorities},
			DisableKeepAlives:      true,
			DisableCompression:     true, // so that what is counted is what was sent
			MaxResponseHeaderBytes: maxHeader,
		},
	}
	return c, nil
}

func (c Config) validate() error {
	if err := checkURL(c.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if _, err := http.NewRequest(c.Method, c.URL, nil); err != nil {
		return fmt.Errorf("method: %q is none", c.Method) // what else there is was checked before
	}
	for name, value := range c.Headers {
		switch {
		case !isToken(name):
			return fmt.Errorf("headers: %q is not the name of a header", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return fmt.Errorf("headers: the value of %q has a control character", name)
		}
	}
	for _, code := range c.Statuses {
		if code < 200 || code > 599 {
			return fmt.Errorf("statuses: %d is not between 200 and 599", code)
		}
	}
	switch {
	case c.MinTLSLeft < 0:
		return fmt.Errorf("min_tls_left: %s is negative", c.MinTLSLeft)
	case c.MinTLSLeft > 0 && !strings.HasPrefix(strings.ToLower(c.URL), "https:"):
		return errors.New("min_tls_left: needs a url of https")
	case c.Redirects < 0 || c.Redirects > maxRedirects:
		return fmt.Errorf("redirects: %d is not between 0 and %d", c.Redirects, maxRedirects)
	case c.MaxBody < 0 || c.MaxBody > limitMaxBody:
		return fmt.Errorf("max_body: %d is not between 1 and %d", c.MaxBody, limitMaxBody)
	}
	return nil
}

// checkURL returns an error that does not quote the URL, because that may hold what it must not.
func checkURL(text string) error {
	u, err := callout.ParseURL(text)
	if err == nil && u.User != nil {
		err = errors.New("holds credentials, which belong into headers")
	}
	return err
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func readCA(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca: cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %q has no certificate in PEM", path)
	}
	return pool, nil
}

// redirect says whether a redirect is followed. Elsewhere than on the same host it would take headers, which may hold
// credentials, to somebody else, and would judge somebody else.
func (c *check) redirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL
	switch {
	case c.cfg.Redirects == 0:
		return http.ErrUseLastResponse
	case len(via) > c.cfg.Redirects:
		return fmt.Errorf("more than %d redirects", c.cfg.Redirects)
	case req.URL.Hostname() != last.Hostname():
		return errors.New("redirected to another host, which is not followed")
	case last.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("redirected away from https, which is not followed")
	}
	return nil
}

// Check implements [monitor.Check].
func (c *check) Check(ctx context.Context) monitor.Result {
	req, err := http.NewRequestWithContext(ctx, c.cfg.Method, c.cfg.URL, nil)
	if err != nil {
		return monitor.Result{Verdict: monitor.Bad, Seen: fmt.Sprintf("cannot ask: %v", err)} // New has tried it
	}
	for name, value := range c.cfg.Headers {
		if strings.EqualFold(name, "Host") {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return noResponse(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxBody))
	if err != nil {
		r := noResponse(ctx, fmt.Errorf("%s, and the body broke off: %w", status(resp.StatusCode), err))
		r.Facts = facts(resp, len(body))
		return r
	}
	r := monitor.Result{Verdict: monitor.Good, Seen: status(resp.StatusCode), Facts: facts(resp, len(body))}
	if err := c.judge(resp, body); err != nil {
		r.Verdict, r.Seen = monitor.Bad, r.Seen+": "+err.Error()
	}
	return r
}

func (c *check) judge(resp *http.Response, body []byte) error {
	good := slices.Contains(c.cfg.Statuses, resp.StatusCode)
	if len(c.cfg.Statuses) == 0 {
		good = resp.StatusCode/100 == 2
	}
	switch {
	case !good:
		return fmt.Errorf("want %s", c.wanted())
	case !bytes.Contains(body, []byte(c.cfg.Contains)):
		return fmt.Errorf("the body does not contain what is wanted%s", c.within(body))
	case c.matches != nil && !c.matches.Match(body):
		return fmt.Errorf("the body does not match what is wanted%s", c.within(body))
	}
	if resp.TLS != nil {
		if left := time.Until(validUntil(resp.TLS)); left < c.cfg.MinTLSLeft {
			return fmt.Errorf("the certificate expires in %s, less than %s", left.Round(time.Second), c.cfg.MinTLSLeft)
		}
	}
	return nil
}

func (c *check) wanted() string {
	if len(c.cfg.Statuses) == 0 {
		return "200 to 299"
	}
	return strings.Trim(fmt.Sprint(c.cfg.Statuses), "[]")
}

// within says where a match may have been missed.
func (c *check) within(body []byte) string {
	if int64(len(body)) < c.cfg.MaxBody {
		return ""
	}
	return fmt.Sprintf(" in its first %d bytes (max_body)", c.cfg.MaxBody)
}

// noResponse is the result where there is none, or not all of one.
func noResponse(ctx context.Context, err error) monitor.Result {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // it quotes the URL, whose query may hold a secret
	}
	r := monitor.Result{Verdict: monitor.Bad, Seen: fmt.Sprintf("%.200s", err.Error())}
	if ctx.Err() != nil {
		r.Verdict = monitor.Unknown
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		r.Facts = []monitor.Fact{tlsLeft(e.Cert.NotAfter)}
	}
	return r
}

func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

func facts(resp *http.Response, read int) []monitor.Fact {
	facts := []monitor.Fact{{Name: FactCode, Value: int64(resp.StatusCode)}, {Name: FactBytes, Value: int64(read)}}
	if resp.TLS != nil {
		facts = append(facts, tlsLeft(validUntil(resp.TLS)))
	}
	return facts
}

func tlsLeft(until time.Time) monitor.Fact {
	return monitor.Fact{Name: FactTLSLeft, Value: int64(time.Until(until) / time.Second)}
}

// validUntil returns until when the server can be trusted by what it has shown: for as long as every certificate of one
// chain is valid.
func validUntil(state *tls.ConnectionState) (until time.Time) {
	for _, chain := range state.VerifiedChains {
		first := chain[0].NotAfter
		for _, cert := range chain[1:] {
			if cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		if first.After(until) {
			until = first
		}
	}
	return until
}
