package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const hostd = "github.com/mayhem-mandrill/mandrill/internal/restart/docker/dockertest/hostd"

// build gives the engine the image of hosts, which is one program. The image has a name of its own, so that tests of
// several packages can share an engine and each remove what is theirs.
func (e *Engine) build(ctx context.Context) error {
	program := filepath.Join(e.dir, "hostd")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, hostd)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	files, err := archive(program)
	if err != nil {
		return err
	}
	progress, err := e.api.ImageImport(ctx, client.ImageImportSource{Source: files, SourceName: "-"}, e.image,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/hostd"]`}})
	if err != nil {
		return err
	}
	defer progress.Close()
	for lines := json.NewDecoder(progress); ; {
		var line struct{ Error string }
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

func archive(program string) (io.Reader, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err = w.WriteHeader(&tar.Header{Name: filepath.Base(program), Mode: 0o755, Size: int64(len(content))})
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return &files, w.Close()
}

func (e *Engine) removeImage(ctx context.Context) error {
	_, err := e.api.ImageRemove(ctx, e.image, client.ImageRemoveOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil // it was never built
	}
	return err
}
