package schedule_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

func itoa(n int) string { return strconv.Itoa(n) }

// serverMain makes a program of the server's own cron.go: for each line of zone, time, count and pattern it prints the
// pattern's next times, one after another.
const serverMain = `package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
	_ "time/tzdata"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var zone string
		var at int64
		var count int
		head, pattern, _ := strings.Cut(lines.Text(), "\t")
		fmt.Sscan(head, &zone, &at, &count)
		loc, err := time.LoadLocation(zone)
		if err != nil {
			panic(err)
		}
		next := time.Unix(at, 0)
		for range count {
			if next, err = parseCron(pattern, loc, next.UnixNano()); err != nil {
				fmt.Print(" ", err)
				break
			}
			fmt.Print(" ", next.Unix())
		}
		fmt.Println()
	}
}
`

// What the server fires and this package does not drop must be what this package plans, whatever the clocks do. The
// server's parser is not exported, so its source is built apart.
func TestSpec_PlansWhatTheServerFires(t *testing.T) {
	t.Parallel()
	const count = 20
	type query struct {
		spec  schedule.Spec
		start time.Time
	}
	var queries []query
	var input bytes.Buffer
	ask := func(spec schedule.Spec, start time.Time) {
		queries = append(queries, query{spec, start})
		fmt.Fprintf(&input, "%s %d %d\t%s\n", spec.Zone, start.Unix(), count, spec.Pattern(start))
	}
	for _, zone := range zones {
		for _, expr := range []string{
			"30 2 * * *", "30 1 * * *", "0 0 * * *", "30 0 * * SUN", "0 3 * * TUE", "0 0 * * MON", "*/15 * * * *", "0 */2 * * *", "45 1 1 * *",
			"* 0-3 * * SUN", "0 23 28-31 * *",
		} {
			spec := mustCron(t, expr, zone)
			for _, change := range []string{ // the days before clocks change somewhere
				"2026-03-07", "2026-03-28", "2026-04-03", "2026-04-23", "2026-09-05", "2026-10-24", "2026-10-29", "2026-10-31",
			} {
				ask(spec, date(change+"T00:00:00Z"))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		for range 3 {
			ask(spec, time.Unix(rapid.Int64Range(1767225600, 1893456000).Draw(t, "now"), 0))
		}
	})

	for i, line := range strings.Split(strings.TrimRight(serverTimes(t, &input), "\n"), "\n") {
		q := queries[i]
		var want []time.Time
		var last time.Time
		for _, field := range strings.Fields(line) {
			unix, err := strconv.ParseInt(field, 10, 64)
			if err != nil && last.Year() > 2090 { // there is no 29 February in 2100, and the search ends before 2104
				break
			}
			if err != nil {
				t.Fatalf("%q in %s after %s: the server says %s", q.spec.Expr, q.spec.Zone, q.start, line)
			}
			last = time.Unix(unix, 0)
			if q.spec.Planned(last).Equal(last) {
				want = append(want, last)
			}
		}
		var got []time.Time
		for next := q.spec.Next(q.start); !next.After(last); next = q.spec.Next(next) {
			got = append(got, next)
		}
		if diff := cmp.Diff(utc(want), utc(got)); diff != "" {
			t.Fatalf("%q in %s after %s: fired (-) and planned (+):\n%s", q.spec.Expr, q.spec.Zone, q.start.UTC(), diff)
		}
	}
}

func utc(times []time.Time) (all []string) {
	for _, t := range times {
		all = append(all, t.UTC().Format(time.RFC3339))
	}
	return all
}

func serverTimes(t *testing.T, input *bytes.Buffer) string {
	t.Helper()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatalf("cannot find the server's source: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "server", "cron.go"))
	if err != nil {
		t.Fatalf("cannot read the server's source: %v", err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cron.go": strings.Replace(string(source), "package server\n", "package main\n", 1),
		"main.go": serverMain,
		"go.mod":  "module servercron\n\ngo 1.26\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, input, os.Stderr
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot run the server's source: %v", err)
	}
	return string(out)
}
