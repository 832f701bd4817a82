package webhook

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Config says which server is asked.
type Config struct {
	// Group is what {group} stands for.
	Group restart.Group

	// ProbeURL and RestartURL are full URLs of http or https. In them {host} and {group} may stand as a whole segment
	// of the path or as a whole value in the query. ProbeURL must have {host}, because one answer cannot be every
	// host's; RestartURL need not, because the body names the host.
	ProbeURL, RestartURL string

	// Secret is the key of the requests' signatures. If it is empty, requests are not signed, and anyone who reaches
	// the server can ask it for the same.
	Secret string

	// MaxDelay is how late the server may let a request take effect that it has taken. It is required.
	MaxDelay time.Duration

	// CA is the path of a PEM file with the only authorities that are trusted to vouch for the server. If it is empty,
	// the system's are.
	CA string
}

func (c Config) validate() error {
	if _, err := restart.ParseGroup(string(c.Group)); err != nil {
		return err // begins with "group: "
	}
	if err := checkTemplate(c.ProbeURL); err != nil {
		return fmt.Errorf("probe_url: %w", err)
	}
	if !strings.Contains(c.ProbeURL, "{host}") {
		return errors.New("probe_url: has no {host}, so all hosts would get the same answer")
	}
	if err := checkTemplate(c.RestartURL); err != nil {
		return fmt.Errorf("restart_url: %w", err)
	}
	switch {
	case c.MaxDelay == 0:
		return errors.New("max_delay: is missing")
	case c.MaxDelay < 0:
		return fmt.Errorf("max_delay: %s is negative", c.MaxDelay)
	}
	return nil
}

// checkTemplate returns an error that does not quote the URL, because that may hold what it must not.
func checkTemplate(text string) error {
	u, err := callout.ParseURL(text)
	switch {
	case err != nil:
		return err
	case u.User != nil:
		return errors.New("holds credentials, which belong into webhook.secret")
	case strings.Contains(text, "#"):
		return errors.New("has a fragment, which is never sent")
	}

	// The text is taken apart as it stands, because that is how it is filled in: a parsed path is decoded.
	base, query, _ := strings.Cut(text, "?")
	ok := true
	for _, segment := range strings.Split(base, "/")[3:] { // after the scheme, nothing, and the server, which has no braces
		ok = ok && isWhole(segment)
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		ok = ok && !hasBraces(key) && isWhole(value)
	}
	if !ok {
		return errors.New("has braces elsewhere than in {host} or {group} as a whole segment of the path or a whole value in the query")
	}
	return nil
}

func isWhole(part string) bool { return part == "{host}" || part == "{group}" || !hasBraces(part) }

func hasBraces(part string) bool { return strings.ContainsAny(part, "{}") }

// fill returns the URL for a host. Nothing is escaped: the characters of a checked host and group mean themselves
// wherever in a URL a template lets them stand.
func (d *Driver) fill(template string, host restart.Host) string {
	return strings.NewReplacer("{host}", string(host), "{group}", string(d.group)).Replace(template)
}

// readCA returns the authorities in a PEM file, or nil, which means the system's, if no file is named.
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
