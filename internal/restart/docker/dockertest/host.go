package dockertest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// healthEvery is how often a health check runs. It is a process each time, and tests run many containers.
const healthEvery = 200 * time.Millisecond

// Options say what a host is like. The zero value is up until it is asked to end, and has no health check.
type Options struct {
	Labels      map[string]string
	HealthCheck bool // says ready soon after each boot, and only once that boot has been counted
	NeverReady  bool // the health check says so
	IgnoresTerm bool // ends only when it is killed
	ExitsFrom   int  // the boot, counted from 1, from which on it exits at once; 0 means none
}

func (o Options) config(image string) *container.Config {
	cfg := &container.Config{
		Image: image, Labels: o.Labels,
		// With the network "none" too an engine keeps books of who is in it, over which one of 20.10 locks itself up for good
		// when dozens of containers end and start at once (https://github.com/moby/moby/issues/46661).
		NetworkDisabled: true,
	}
	if o.HealthCheck || o.NeverReady {
		cfg.Healthcheck = &container.HealthConfig{
			Test: []string{"CMD", "/hostd", "health"}, Interval: healthEvery, Timeout: patience, Retries: 1,
		}
	}
	if o.NeverReady {
		cfg.Env = append(cfg.Env, "NEVER_READY=1")
	}
	if o.IgnoresTerm {
		cfg.Env = append(cfg.Env, "IGNORES_TERM=1")
	}
	if o.ExitsFrom > 0 {
		cfg.Env = append(cfg.Env, "EXITS_FROM="+strconv.Itoa(o.ExitsFrom))
	}
	return cfg
}

// NewName returns a host's name that no other container has, whatever else is tested on the same engine.
func NewName(prefix string) string { return prefix + "-" + uuid.NewString()[:8] }

// Run starts a host, in a container of that name, which the end of the test removes. It returns the container's id,
// once the first boot has been counted.
func (e *Engine) Run(tb testing.TB, name string, o Options) (id string) {
	tb.Helper()
	folder := e.folder(name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	created, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:   name,
		Config: o.config(e.image),
		HostConfig: &container.HostConfig{
			NetworkMode: "none",
			Mounts:      []mount.Mount{{Type: mount.TypeBind, Source: folder, Target: "/host"}},
		},
	})
	if err != nil {
		tb.Fatalf("cannot create host %q: %v", name, err)
	}
	tb.Cleanup(func() { e.removeHost(tb, created.ID, folder) })
	if _, err := e.api.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		tb.Fatalf("cannot start host %q: %v", name, err)
	}
	e.await(tb, name, "is not up", func() bool { return e.Boots(name) > 0 })
	return created.ID
}

func (e *Engine) removeHost(tb testing.TB, id, folder string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	if err := errors.Join(err, os.RemoveAll(folder)); err != nil {
		tb.Errorf("cannot remove container %s: %v", id, err)
	}
}

// Boots returns how often a host has booted, by its own count, in its first act: a boot that the engine has begun a
// moment ago may be missing, one that has passed a health check is not. A host that never ran has not booted.
func (e *Engine) Boots(name string) int {
	lines, err := os.ReadFile(filepath.Join(e.folder(name), "boots"))
	if err != nil {
		return 0
	}
	return bytes.Count(lines, []byte("\n"))
}

// AwaitBoots returns when a host has booted so often.
func (e *Engine) AwaitBoots(tb testing.TB, name string, boots int) {
	tb.Helper()
	e.await(tb, name, "has not booted so often", func() bool { return e.Boots(name) >= boots })
}

// AwaitAsked returns when the running boot of a host has been asked to end.
func (e *Engine) AwaitAsked(tb testing.TB, name string) {
	tb.Helper()
	e.await(tb, name, "was not asked to end", func() bool {
		_, err := os.Stat(filepath.Join(e.folder(name), "asked"))
		return !errors.Is(err, fs.ErrNotExist)
	})
}

// UnreadyNext makes the health check of a host's next boot say ready only after d.
func (e *Engine) UnreadyNext(tb testing.TB, name string, d time.Duration) {
	tb.Helper()
	e.order(tb, name, "unready "+d.String())
}

// FlapNext makes the health check of a host's next boot say ready, after d not ready, and after 2d ready for good.
func (e *Engine) FlapNext(tb testing.TB, name string, d time.Duration) {
	tb.Helper()
	e.order(tb, name, "flap "+d.String())
}

// Restart restarts a host by another hand, and returns when it is up.
func (e *Engine) Restart(tb testing.TB, name string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if _, err := e.api.ContainerRestart(ctx, name, client.ContainerRestartOptions{}); err != nil {
		tb.Fatalf("cannot restart host %q: %v", name, err)
	}
}

func (e *Engine) folder(name string) string { return filepath.Join(e.dir, "hosts", name) }

func (e *Engine) order(tb testing.TB, name, what string) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(e.folder(name), "next"), []byte(what), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func (e *Engine) await(tb testing.TB, name, otherwise string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			tb.Fatalf("host %q %s, after %s", name, otherwise, patience)
		}
	}
}
