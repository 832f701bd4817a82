package sqlite_test

import (
	"bufio"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// What a caller was told is durable must be there after the process was killed, in the middle of a commit or of a
// checkpoint; and nothing that is left behind, the lock least of all, may keep the next process out.
func TestStore_KilledProcessLosesNothingItConfirmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mandrill.db")
	confirmed := make(map[string]bool) // lines of all rounds
	for range 5 {
		for _, line := range killedWhileSaving(t, path, 1+rand.IntN(1500)) {
			confirmed[line] = true
		}
		s := mustOpen(t, path)
		stored := make(map[string]bool)
		for e, err := range s.History(t.Context(), store.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			stored["saved "+e.Request.ID.String()] = true
		}
		for _, id := range finishedIDs(t, path) {
			stored["finished "+id] = true
		}
		for line := range confirmed {
			if !stored[line] {
				t.Errorf("%s: not stored", line)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mustBeSound(t, path)
	}
}

func finishedIDs(t *testing.T, path string) (ids []string) {
	t.Helper()
	rows, err := mustOpenRaw(t, path).Query("SELECT id FROM outcomes")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// killedWhileSaving runs the child, kills it after some lines, and returns all that it wrote in full.
func killedWhileSaving(t *testing.T, path string, after int) (lines []string) {
	t.Helper()
	cmd := childCommand(t, "save", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		if err == io.EOF { // what remains is half a line
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(line))
		if len(lines) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // says that it was killed
	if len(lines) < after {
		t.Fatalf("the child ended by itself after %d lines: %q", len(lines), lines)
	}
	return lines
}

func mustBeSound(t *testing.T, path string) {
	t.Helper()
	var verdict string
	if err := mustOpenRaw(t, path).QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity check: %s, error %v", verdict, err)
	}
}
