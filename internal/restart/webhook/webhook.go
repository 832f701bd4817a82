package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/callout"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// maxAnswer bounds what is read of a probe's answer.
	maxAnswer = 64 << 10

	// maxEpoch bounds an epoch in bytes: it travels in a header, and lives in a journal for as long as its request.
	maxEpoch = 256

	// maxText and textTimeout bound what is read of the text of a refusal, whose class is known without it.
	maxText     = 256
	textTimeout = time.Second
)

// A Driver asks one server for the hosts of one group.
type Driver struct {
	group                restart.Group
	probeURL, restartURL string // templates
	secret               []byte
	maxDelay             time.Duration

	probes   *http.Transport
	triggers *http.Transport
}

var _ restart.Driver = (*Driver)(nil)

// New returns a driver, which connects when it is first used. An error names the field that is wrong.
func New(cfg Config) (*Driver, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	authorities, err := readCA(cfg.CA)
	if err != nil {
		return nil, err
	}
	return &Driver{
		group:      cfg.Group,
		probeURL:   cfg.ProbeURL,
		restartURL: cfg.RestartURL,
		secret:     []byte(cfg.Secret),
		maxDelay:   cfg.MaxDelay,
		probes:     newProbeTransport(authorities),
		triggers:   newTriggerTransport(authorities),
	}, nil
}

// Close closes idle connections, and returns nil. Calls that are under way go on, and later ones connect again.
func (d *Driver) Close() error {
	d.probes.CloseIdleConnections()
	return nil
}

// Traits promises a compare at acceptance, which is all that a server can be asked for.
func (d *Driver) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtAcceptance, MaxDelay: d.maxDelay}
}

// Probe implements [restart.Driver]. It takes as long as its context allows.
func (d *Driver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	state, err := d.probe(ctx, host)
	if err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w", host, err)
	}
	return state, nil
}

func (d *Driver) probe(ctx context.Context, host restart.Host) (restart.State, error) {
	if err := host.Check(); err != nil {
		return restart.State{}, err
	}
	req, err := d.newRequest(ctx, http.MethodGet, d.fill(d.probeURL, host), nil)
	if err != nil {
		return restart.State{}, err
	}
	req.Header.Set("Cache-Control", "no-cache") // a cache would bring back a former boot
	resp, err := d.probes.RoundTrip(req)
	if err != nil {
		return restart.State{}, withRemedy(err)
	}
	defer resp.Body.Close()
	// An answer that is read to its end leaves its connection to the next probe, whatever it says.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return restart.State{}, statusError(resp.StatusCode, body)
	case err != nil:
		return restart.State{}, fmt.Errorf("the answer breaks off: %w", err)
	case len(body) > maxAnswer:
		return restart.State{}, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return parseState(body)
}

// Restart implements [restart.Driver]. It returns when the time within which it may take effect is over, if not before.
func (d *Driver) Restart(ctx context.Context, t restart.Trigger) error {
	if err := d.restart(ctx, t); err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

func (d *Driver) restart(ctx context.Context, t restart.Trigger) error {
	if err := checkTrigger(t); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Within)
	defer cancel()
	// Until a request has its connection, nothing of it has left this process.
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	})
	req, err := d.newRestartRequest(ctx, t)
	if err != nil {
		return fmt.Errorf("%w: %w", restart.ErrPermanent, err)
	}
	resp, err := d.triggers.RoundTrip(req)
	if err != nil {
		return classifyNoAnswer(err, connected)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	timer := time.AfterFunc(textTimeout, cancel)
	defer timer.Stop()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // as much of it as there is
	return classifyStatus(resp.StatusCode, resp.Header, text)
}

func checkTrigger(t restart.Trigger) error {
	if err := t.Host.Check(); err != nil {
		return err
	}
	switch {
	case !isEpoch(t.From):
		return fmt.Errorf("%w: %q cannot be an epoch of this driver", restart.ErrPermanent, t.From)
	case t.ID == uuid.Nil:
		return fmt.Errorf("%w: the request has no id, by which the server could know it again", restart.ErrPermanent)
	case t.Within < time.Millisecond:
		return fmt.Errorf("%w: there is no time left", restart.ErrRefused)
	}
	return nil
}

// A trigger is what the server is sent to restart a host.
type trigger struct {
	Host    restart.Host  `json:"host"`
	Group   restart.Group `json:"group"`
	ID      uuid.UUID     `json:"id"`
	Epoch   restart.Epoch `json:"epoch"`
	Attempt int           `json:"attempt"`
	Within  int64         `json:"within_ms"`
}

func (d *Driver) newRestartRequest(ctx context.Context, t restart.Trigger) (*http.Request, error) {
	body, err := json.Marshal(trigger{t.Host, d.group, t.ID, t.From, t.Attempt, t.Within.Milliseconds()})
	if err != nil {
		return nil, err
	}
	req, err := d.newRequest(ctx, http.MethodPost, d.fill(d.restartURL, t.Host), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", `"`+string(t.From)+`"`)
	req.Header.Set("Idempotency-Key", t.ID.String())
	return req, nil
}

func (d *Driver) newRequest(ctx context.Context, method, url string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("its URL cannot be made") // the error itself would quote it
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "mandrill")
	// The headers that make a request conditional are not signed, because its body says the same.
	if len(d.secret) > 0 {
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("X-Mandrill-Timestamp", timestamp)
		req.Header.Set("X-Mandrill-Signature", "v1="+callout.Sign(d.secret, timestamp, method, req.URL.RequestURI(), body))
	}
	return req, nil
}
