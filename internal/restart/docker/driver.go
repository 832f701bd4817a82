package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// margin is what a restart is given on top of the stop timeout: an engine waits some 12 s more for what it had to kill,
// and then has to set the container up again.
const margin = 30 * time.Second

var (
	errNoTimeLeft = errors.New("no time is left")
	errNoEpoch    = errors.New("it is not said which boot may end")
)

// A Driver restarts the containers of one engine.
type Driver struct {
	api         *client.Client
	label       string // empty: hosts are found by container name
	stopTimeout time.Duration
}

var _ restart.Driver = (*Driver)(nil)

// New returns a driver, which has not connected to its engine yet. An error names the field that is wrong.
func New(cfg Config) (*Driver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	api, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return &Driver{api: api, label: cfg.Label, stopTimeout: cfg.StopTimeout}, nil
}

// Close closes the connections that are idle. Calls may go on.
func (d *Driver) Close() error { return d.api.Close() }

// Traits promises a compare at acceptance.
func (d *Driver) Traits() restart.Traits {
	return restart.Traits{Compare: restart.CompareAtAcceptance, MaxDelay: d.stopTimeout + margin}
}

// Probe implements [restart.Driver].
func (d *Driver) Probe(ctx context.Context, host restart.Host) (restart.State, error) {
	if err := host.Check(); err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w", host, err)
	}
	found, err := d.find(ctx, host)
	if err != nil {
		return restart.State{}, fmt.Errorf("cannot probe host %q: %w", host, err)
	}
	return stateOf(found), nil
}

// Restart implements [restart.Driver]. It returns when the container is up again, which takes up to the stop timeout
// and longer, because only then does the engine answer.
func (d *Driver) Restart(ctx context.Context, t restart.Trigger) error {
	if err := d.restart(ctx, t); err != nil {
		return fmt.Errorf("cannot restart host %q: %w", t.Host, err)
	}
	return nil
}

func (d *Driver) restart(ctx context.Context, t restart.Trigger) error {
	if err := t.Host.Check(); err != nil {
		return err
	}
	switch {
	case t.Within <= 0:
		return fmt.Errorf("%w: %w", restart.ErrRefused, errNoTimeLeft)
	case t.From == "":
		return fmt.Errorf("%w: %w", restart.ErrPermanent, errNoEpoch)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeLeft := time.AfterFunc(t.Within, func() { cancel(errNoTimeLeft) })
	defer timeLeft.Stop()

	found, err := d.find(ctx, t.Host)
	if err != nil && !errors.Is(err, restart.ErrPermanent) {
		err = fmt.Errorf("%w: %w", restart.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	if now := stateOf(found).Epoch; now != t.From {
		return fmt.Errorf("%w: %q", restart.ErrChanged, now)
	}
	return d.send(ctx, found.ID, timeLeft)
}

// send asks for the restart of a container, once. The time left bounds it until there is a connection to write to; then
// the request is on its way, and to stop waiting for the answer would only mean not to know it.
func (d *Driver) send(ctx context.Context, id string, timeLeft *time.Timer) error {
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		timeLeft.Stop()
		sent.Store(true)
	}})
	seconds := int(d.stopTimeout / time.Second)
	_, err := d.api.ContainerRestart(traced, id, client.ContainerRestartOptions{Timeout: &seconds})
	switch {
	case err == nil:
		return nil
	case !sent.Load():
		return fmt.Errorf("%w: %w", restart.ErrRefused, causeOf(ctx, err))
	case isForGood(err):
		return fmt.Errorf("%w: %w", restart.ErrPermanent, err)
	case cerrdefs.IsInvalidArgument(err):
		// The engine did not accept the request as such, as when it has been replaced by one of another API version.
		return fmt.Errorf("%w: %w", restart.ErrRefused, err)
	}
	return causeOf(ctx, err) // whatever went wrong may have done so halfway
}

// find returns the host's container. An error that wraps ErrPermanent means that there is none, or not exactly one, or
// that the engine forbids to look.
func (d *Driver) find(ctx context.Context, host restart.Host) (container.InspectResponse, error) {
	ref := string(host)
	if d.label != "" {
		id, err := d.labelled(ctx, host)
		if err != nil {
			return container.InspectResponse{}, err
		}
		ref = id
	}
	answer, err := d.api.ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
	found := answer.Container
	switch {
	case err != nil:
		return container.InspectResponse{}, classOf(ctx, err)
	case found.ID == "" || found.State == nil || found.State.StartedAt == "":
		return container.InspectResponse{}, errors.New("the engine's answer does not say which boot is running")
	case d.label == "" && found.Name != "/"+ref:
		// An engine takes the beginning of an id for a name, too.
		return container.InspectResponse{}, fmt.Errorf("%w: no container has this name", restart.ErrPermanent)
	}
	return found, nil
}

// labelled returns the id of the one container with the host's label, whether it runs or not.
func (d *Driver) labelled(ctx context.Context, host restart.Host) (id string, err error) {
	list, err := d.api.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", d.label+"="+string(host)),
	})
	if err != nil {
		return "", classOf(ctx, err)
	}
	if n := len(list.Items); n != 1 {
		return "", fmt.Errorf("%w: %d containers have it as their label %q, want one", restart.ErrPermanent, n, d.label)
	}
	return list.Items[0].ID, nil
}

func stateOf(found container.InspectResponse) restart.State {
	since, err := time.Parse(time.RFC3339Nano, found.State.StartedAt)
	if err != nil {
		since = time.Time{} // not known; the epoch is what counts
	}
	return restart.State{
		Epoch: restart.Epoch(found.ID + "@" + found.State.StartedAt),
		Since: since,
		// The status tells apart what runs from what is paused, or waits to be started again by the engine.
		Ready: found.State.Status == container.StateRunning && isHealthy(found.State.Health),
	}
}

func isHealthy(h *container.Health) bool {
	return h == nil || h.Status == "" || h.Status == container.NoHealthcheck || h.Status == container.Healthy
}

// classOf returns the error of a question, which did nothing, with its class.
func classOf(ctx context.Context, err error) error {
	if isForGood(err) {
		return fmt.Errorf("%w: %w", restart.ErrPermanent, err)
	}
	return causeOf(ctx, err)
}

// isForGood reports whether the engine, or a proxy before it, answered that the thing is not there or not allowed. Of a
// restart that it has begun an engine says neither: whatever happens then, it calls an internal error.
func isForGood(err error) bool {
	return cerrdefs.IsNotFound(err) || cerrdefs.IsUnauthorized(err) || cerrdefs.IsPermissionDenied(err)
}

// causeOf returns why the context ended, where it did, because that says more than that it ended.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
