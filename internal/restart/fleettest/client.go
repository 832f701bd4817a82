package fleettest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// A Client is the driver of the hosts behind a [Server].
type Client struct {
	url  string
	http *http.Client
}

var _ restart.Driver = (*Client)(nil)

// NewClient returns a client for a server's URL. It connects when it is first used.
func NewClient(url string) *Client {
	// Not the default transport, whose connections outlive the client, and which keeps only two of them: thousands of
	// calls at once would then use the machine's ports up.
	return &Client{url: url, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
}

// Close closes idle connections.
func (c *Client) Close() error { c.http.CloseIdleConnections(); return nil }

// Traits are those of the simulated fleet.
func (c *Client) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtEffect}
}

// Probe implements [restart.Driver].
func (c *Client) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	a, err := c.do(ctx, "/probe", call{Host: host})
	if err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w", host, err)
	}
	return a.State, nil
}

// Restart implements [restart.Driver].
func (c *Client) Restart(ctx context.Context, t restart.Trigger) error {
	_, err := c.do(ctx, "/restart", call{Host: t.Host, From: t.From, Within: restart.Duration(t.Within)})
	if err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

// do returns the server's answer to a call, or the error that it answered. An error of no class may also mean that there
// was no answer, or none to be understood.
func (c *Client) do(ctx context.Context, path string, what call) (answer, error) {
	if err := what.Host.Check(); err != nil {
		return answer{}, err
	}
	body, err := json.Marshal(what)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("the server answered %s: %q", resp.Status, data)
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return answer{}, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return a, a.err()
}

// err returns the error that the server answered, of the class that it had there.
func (a answer) err() error {
	if a.Error == "" {
		return nil
	}
	return &remoteError{text: a.Error, class: classes[a.Class]}
}

type remoteError struct {
	text  string
	class error // nil: none
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }
