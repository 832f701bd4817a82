package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
)

// A snapshot is what `nats stream backup` writes: the stream's configuration and state, and its messages and consumers in
// chunks of an archive.
type snapshot struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
	chunks [][]byte
}

// backUp takes a snapshot of a stream through the server's interface, as the nats command does.
func backUp(t *testing.T, conn *nats.Conn, name string) *snapshot {
	t.Helper()
	inbox := conn.NewInbox()
	chunks, err := conn.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = chunks.Unsubscribe() }()
	s := &snapshot{}
	ask(t, conn, "$JS.API.STREAM.SNAPSHOT."+name, map[string]any{"deliver_subject": inbox, "chunk_size": 128 << 10}, s)
	for {
		chunk, err := chunks.NextMsg(patience)
		if err != nil {
			t.Fatalf("cannot back up stream %s: %v", name, err)
		}
		if len(chunk.Data) == 0 {
			return s
		}
		s.chunks = append(s.chunks, chunk.Data)
		if chunk.Reply != "" {
			if err := chunk.Respond(nil); err != nil { // for the next one
				t.Fatal(err)
			}
		}
	}
}

// restore makes the stream of a snapshot, which must not be there.
func restore(t *testing.T, conn *nats.Conn, name string, s *snapshot) {
	t.Helper()
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	ask(t, conn, "$JS.API.STREAM.RESTORE."+name, s, &to)
	for _, chunk := range append(s.chunks, nil) {
		answer, err := conn.Request(to.Subject, chunk, patience)
		if err != nil {
			t.Fatalf("cannot restore stream %s: %v", name, err)
		}
		if bytes.Contains(answer.Data, []byte(`"error"`)) {
			t.Fatalf("cannot restore stream %s: %s", name, answer.Data)
		}
	}
}

func ask(t *testing.T, conn *nats.Conn, subject string, question, into any) {
	t.Helper()
	data, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var failed struct{ Error any }
	if err := json.Unmarshal(answer.Data, &failed); err != nil || failed.Error != nil {
		t.Fatalf("%s: got %s", subject, answer.Data)
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatal(err)
	}
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
