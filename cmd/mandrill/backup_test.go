package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A snapshot is what `nats stream backup` writes: the stream's configuration and state, and its messages and consumers in
// chunks of an archive.
type snapshot struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
	chunks [][]byte
}

// transferTimeout is for one try of a transfer, which a server breaks off when it has heard nothing for five seconds.
const transferTimeout = patience / 6

// backUp takes a snapshot of a stream through the server's interface, as the nats command does.
func backUp(t *testing.T, conn *nats.Conn, name string) (taken *snapshot) {
	t.Helper()
	patiently(t, "back up stream "+name, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), transferTimeout)
		defer cancel()
		taken, err = download(ctx, conn, name)
		return err
	})
	return taken
}

func download(ctx context.Context, conn *nats.Conn, name string) (*snapshot, error) {
	inbox := conn.NewInbox()
	chunks, err := conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = chunks.Unsubscribe() }()
	s := &snapshot{}
	question := map[string]any{"deliver_subject": inbox, "chunk_size": 128 << 10}
	if err := ask(ctx, conn, "$JS.API.STREAM.SNAPSHOT."+name, question, s); err != nil {
		return nil, err
	}
	for {
		chunk, err := chunks.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if len(chunk.Data) == 0 {
			// There is none either if all fitted into one chunk.
			if status := chunk.Header.Get("Status"); status != "" && status != "204" {
				return nil, fmt.Errorf("broken off with status %s: %s", status, chunk.Header.Get("Description"))
			}
			return s, nil
		}
		s.chunks = append(s.chunks, chunk.Data)
		if chunk.Reply != "" {
			if err := chunk.Respond(nil); err != nil { // for the next one
				return nil, err
			}
		}
	}
}

// restore makes the stream of a snapshot, which must not be there. In a cluster the first chunk may come to a node that does
// not know yet who takes it.
func restore(t *testing.T, conn *nats.Conn, name string, s *snapshot) {
	t.Helper()
	var half bool // of it may be there
	patiently(t, "restore stream "+name, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), transferTimeout)
		defer cancel()
		if half {
			if err := remove(ctx, conn, name); err != nil {
				return err
			}
		}
		half = true
		return upload(ctx, conn, name, s)
	})
}

func remove(ctx context.Context, conn *nats.Conn, name string) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	if err := js.DeleteStream(ctx, name); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return nil
}

func upload(ctx context.Context, conn *nats.Conn, name string, s *snapshot) error {
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := ask(ctx, conn, "$JS.API.STREAM.RESTORE."+name, s, &to); err != nil {
		return err
	}
	for _, chunk := range append(s.chunks, nil) {
		answer, err := conn.RequestWithContext(ctx, to.Subject, chunk)
		if err != nil {
			return err
		}
		if bytes.Contains(answer.Data, []byte(`"error"`)) {
			return fmt.Errorf("got %s", answer.Data)
		}
	}
	return nil
}

func ask(ctx context.Context, conn *nats.Conn, subject string, question, into any) error {
	data, err := json.Marshal(question)
	if err != nil {
		return err
	}
	answer, err := conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	var failed struct{ Error any }
	if err := json.Unmarshal(answer.Data, &failed); err != nil || failed.Error != nil {
		return fmt.Errorf("%s: got %s", subject, answer.Data)
	}
	return json.Unmarshal(answer.Data, into)
}

// postgresProgram returns the path of one of PostgreSQL's own programs, which the manual tells to use.
func postgresProgram(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no %s beside the PostgreSQL server", name)
	}
	return found[len(found)-1]
}

// dump backs a database up, also while it is in use: what it returns is of one moment.
func dump(t *testing.T, url string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), postgresProgram(t, "pg_dump"), "--no-owner", url).Output()
	if err != nil {
		t.Fatalf("cannot dump: %v", err)
	}
	return out
}

// load fills an empty database with a dump.
func load(t *testing.T, url string, dump []byte) {
	t.Helper()
	psql := exec.CommandContext(t.Context(), postgresProgram(t, "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction", url)
	psql.Stdin = bytes.NewReader(dump)
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("cannot restore the database: %v: %s", err, out)
	}
}
