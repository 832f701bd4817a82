package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/natsd"
)

// The files of the data folder.
const (
	streamsFolder = "jetstream"
	databaseFile  = "mandrill.db"
	serverFile    = "server.json" // where the embedded server is, while it runs
	tokenFile     = "token"       // what clients present; kept, so that they find back to a server that was restarted
)

// healthInterval is how often the embedded server is asked whether it is well. It does not tell by itself. It is believed
// when it has complained of the same for unwellFor: it complains of a stream that is only just being made, too, which takes seconds
// where the disk has much to do.
const (
	healthInterval = 2 * time.Second
	unwellFor      = 10 * time.Second
)

// serverInfo is what serverFile holds.
type serverInfo struct {
	URL string `json:"url"` // without the token
	PID int    `json:"pid"`
}

// embeddedServer is the server in the data folder, run by this process.
type embeddedServer struct {
	*natsd.Server
	endpoint endpoint
	token    string
	file     string
}

// startEmbedded runs a server in the data folder, on loopback unless listen says otherwise, behind a random token.
func startEmbedded(ctx context.Context, data, listen string, sync time.Duration, log zerolog.Logger) (*embeddedServer, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create data folder %q, choose another with --data: %w", data, err)
	}
	token, err := keepToken(filepath.Join(data, tokenFile))
	if err != nil {
		return nil, err
	}
	server, err := natsd.Start(ctx, natsd.Config{
		Dir: filepath.Join(data, streamsFolder), Listen: listen, Token: token, SyncInterval: sync,
		Name: "mandrill", Logger: log,
	})
	if err != nil {
		return nil, err
	}
	s := &embeddedServer{Server: server, token: token, file: filepath.Join(data, serverFile)}
	s.endpoint = tokenEndpoint(server.URL(), token)
	info, err := json.Marshal(serverInfo{server.URL(), os.Getpid()})
	if err == nil {
		err = replaceFile(s.file, info)
	}
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("cannot write down where the embedded server is: %w", err)
	}
	return s, nil
}

// watch returns why the server cannot serve any more, or nil when ctx ends.
func (s *embeddedServer) watch(ctx context.Context) error { return awaitUnwell(ctx, s.Err) }

// awaitUnwell asks for a complaint from time to time, and returns one that lasts; nil when ctx ends.
func awaitUnwell(ctx context.Context, ask func() error) error {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	var complaint string
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := ask()
		switch {
		case err == nil:
			complaint = ""
		case err.Error() != complaint:
			complaint, since = err.Error(), time.Now()
		case time.Since(since) >= unwellFor:
			return err
		}
	}
}

func (s *embeddedServer) close() error {
	err := os.Remove(s.file)
	s.Close()
	return err
}

func tokenEndpoint(url, token string) endpoint {
	return endpoint{urls: url, shown: url, advice: "the embedded server is gone", options: []nats.Option{nats.Token(token)}}
}

// embeddedEndpoint returns the server that another process runs in the data folder.
func embeddedEndpoint(data string) (endpoint, error) {
	advice := fmt.Sprintf("start one with 'mandrill worker' or 'mandrill server' on this data folder (%s), or name a server with --nats", data)
	text, err := os.ReadFile(filepath.Join(data, serverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, fmt.Errorf("no embedded server is running: %s", advice)
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("cannot read where the embedded server is: %w", err)
	}
	var info serverInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return endpoint{}, fmt.Errorf("cannot read %s: %w", filepath.Join(data, serverFile), err)
	}
	token, err := os.ReadFile(filepath.Join(data, tokenFile))
	if err != nil {
		return endpoint{}, fmt.Errorf("cannot read the embedded server's token: %w", err)
	}
	e := tokenEndpoint(info.URL, strings.TrimSpace(string(token)))
	e.advice = "the embedded server that ran there is gone: " + advice
	return e, nil
}

// keepToken returns the token in the file, which it makes if it is not there.
func keepToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	switch {
	case err == nil && len(strings.TrimSpace(string(text))) > 0:
		return strings.TrimSpace(string(text)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("cannot read the embedded server's token: %w", err)
	}
	token := rand.Text()
	if err := replaceFile(path, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("cannot keep the embedded server's token: %w", err)
	}
	return token, nil
}

// replaceFile writes a file that only its owner can read, whole or not at all.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
