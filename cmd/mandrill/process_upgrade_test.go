package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
)

// baseVersion is what upgrades are tried from as long as no version is tagged: its database has an older schema, and it
// knows neither campaigns nor schedules.
const baseVersion = "8a35601"

// buildEarlier builds the program of the newest tagged version, or else of baseVersion, and returns it and its name.
func buildEarlier(t *testing.T) (program, version string) {
	t.Helper()
	git := func(args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "git", append([]string{"-C", "../.."}, args...)...).Output()
	}
	tags, err := git("tag", "--list", "v*", "--sort=-v:refname")
	if err != nil {
		t.Skipf("there is no earlier version without a git history: %v", err)
	}
	version, _, _ = strings.Cut(string(tags), "\n")
	if version == "" {
		version = baseVersion
	}
	source, err := git("archive", version)
	if err != nil {
		t.Skipf("this git history does not have version %s: %v", version, err)
	}
	dir := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "tar", "x", "-C", dir)
	unpack.Stdin = bytes.NewReader(source)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cannot unpack %s: %v: %s", version, err, out)
	}
	program = filepath.Join(t.TempDir(), "mandrill")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/mandrill")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v: %s", version, err, out)
	}
	return program, version
}

// An upgrade replaces workers one by one, so for a while two versions pull from one stream, write to one journal, and
// remember in one database, which the newer one migrates while the older one writes to it.
func TestProcess_WorkersOfTwoVersionsSideBySideRestartEachHostOnce(t *testing.T) {
	t.Parallel()
	program, version := buildEarlier(t)
	s := newScene(t, simulated.Config{RestartMin: 5 * time.Millisecond, RestartMax: 50 * time.Millisecond})
	s.usePostgres(t)
	hosts := simulatedHosts(t, s, "").byCommand(t, s.hosts.URL, "--command-compare", "at_effect", "--command-max-delay", "100ms")
	arguments := func() []string {
		return append([]string{
			"worker", "--log-level", "debug", "--data", t.TempDir(), "--database", s.database, "--nats", s.url, "--ack-wait", "5s",
			"--budget", "12", "--max-in-flight", "6", "--stable-for", "0s",
		}, hosts.args...)
	}
	ready := func(p *process) *process {
		t.Helper()
		p.awaitLine(t, "worker is ready", says("worker is ready"))
		return p
	}
	before, during, after := instances("before", 60), instances("during", 200), instances("after", 30)

	older := ready(runProgram(t, program, version, nil, "", arguments()...))
	s.publish(t, before)
	s.awaitBoots(t, 10)
	newer := ready(run(t, "current", hosts.environ, "", arguments()...))
	had := s.outcomesOf(t, older)
	s.publish(t, during) // the current version's requests
	eventually(t, "outcomes of both after the migration", func() bool {
		return s.outcomesOf(t, older) > had && s.outcomesOf(t, newer) > 0
	})
	// Each dies in the middle of its work once, and the other takes over by what the journal says of it.
	newer.kill(t)
	had = s.outcomesOf(t, older)
	eventually(t, "outcomes of the older one alone", func() bool { return s.outcomesOf(t, older) > had+12 })
	successor := ready(run(t, "successor", hosts.environ, "", arguments()...))
	eventually(t, "outcomes of the successor", func() bool { return s.outcomesOf(t, successor) > 0 })
	older.kill(t)
	again := runProgram(t, program, version+" again", nil, "", arguments()...)
	if migrated := len(newer.said(says("database schema migrated"))) > 0; migrated {
		again.wantExit(t, exitFailed)
		wantText(t, again, "use a newer program")
	} else {
		ready(again)
	}
	wantPublished(t, runProgram(t, program, "publisher of "+version, nil, strings.Join(after, "\n"),
		"publish", "--output", "json", "--nats", s.url), len(after))
	s.awaitEmpty(t)
	successor.stop(t)
	s.wantEachRestartedOnce(t, slices.Concat(before, during, after))
}
