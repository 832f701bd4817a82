package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// The tests of this file keep README and manual from going stale. To add an example, put a comment right before its
// fenced block, which readers do not see:
//
//	<!-- script: NAME -->   before ```console: each line is "$ command", and testdata/script/NAME.txtar runs that very
//	                        command, by exec, exits or start; "command < FILE" is run after stdin FILE. The script is
//	                        where it is tested that the command does what the text says.
//	<!-- json: KIND -->     before ```json: it is decoded as what KIND says, see TestManual_JSONIsWhatTheProgramWrites.
//
// A console or JSON block without such a comment is an error, as is output in a console block: nobody would test it.

const root = "../.."

// pages returns README, changelog and manual, by path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no manual: %v", err)
	}
	texts := map[string]string{}
	for _, name := range append(names, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		texts[page] = string(text)
	}
	return texts
}

// A block is one fenced block.
type block struct {
	page, language string
	kind, name     string // of the comment before it; empty without one
	text           string
}

var fenced = regexp.MustCompile("(?ms)^(?:<!-- (\\w+): ([^\\n]+) -->\\n)?```(\\w*)\\n(.*?)^```$")

func blocks(t *testing.T, language string) []block {
	t.Helper()
	var found []block
	for page, text := range pages(t) {
		for _, m := range fenced.FindAllStringSubmatch(text, -1) {
			if m[3] == language {
				found = append(found, block{page: page, kind: m[1], name: m[2], language: m[3], text: m[4]})
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("there is no %s block, so the pattern is wrong", language)
	}
	return found
}

// scriptless are commands that no script can run: the first is what runs this test, the second would change the
// machine, and the others take minutes, because they measure something. The scripts run them with less to do.
var scriptless = []string{
	"go test ./...", "go install ./cmd/mandrill",
	"mandrill bench pipeline", "mandrill bench pipeline -n 100000 --profile profiles",
	"mandrill bench inflight -n 100000", "mandrill bench inflight -n 1000000 --ack-wait 60s",
	"mandrill bench acklag", "mandrill bench drain", "mandrill bench restart --latency 1s --in-flight 5000",
	"mandrill bench cost -n 1000000",
}

func TestManual_EveryCommandIsRunByAScript(t *testing.T) {
	t.Parallel()
	for _, b := range blocks(t, "console") {
		if b.kind != "script" {
			t.Errorf("%s: no script is named before\n%s", b.page, b.text)
			continue
		}
		run := slices.Clone(scriptless)
		if b.name != "none" {
			run = commandsOf(t, b.name)
		}
		for line := range strings.Lines(b.text) {
			command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ ")
			if !ok {
				t.Errorf("%s: output in a console block goes stale: %s", b.page, line)
				continue
			}
			command = strings.Replace(command, "go run ./cmd/mandrill", "mandrill", 1)
			if !slices.Contains(run, command) {
				t.Errorf("%s: script %s does not run %q", b.page, b.name, command)
			}
		}
	}
}

var scriptCommand = regexp.MustCompile(`^(?:exec|exits \d+|start \w+) (.*)$`)

// commandsOf returns the commands that a script runs.
func commandsOf(t *testing.T, script string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(scripts, script+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	stdin := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-- ") {
			break // the files
		}
		if file, ok := strings.CutPrefix(line, "stdin "); ok {
			stdin = " < " + file
		} else if m := scriptCommand.FindStringSubmatch(line); m != nil {
			commands = append(commands, m[1]+stdin)
			stdin = ""
		}
	}
	return commands
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

func TestManual_LinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	for page, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere: %v", page, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchors(texts[to]), anchor) {
				t.Errorf("%s: %s leads to no heading of %v", page, m[1], anchors(texts[to]))
			}
		}
	}
}

// anchors returns what headings are called in links.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestManual_FlagsExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"help": true}
	for _, verb := range allVerbs(newApp().rootCommand()) {
		for _, set := range []*pflag.FlagSet{verb.Flags(), verb.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		}
	}
	named := regexp.MustCompile("(?:^|[ `(|])--([a-z][a-z-]*)")
	for page, text := range pages(t) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if !known[m[1]] {
				t.Errorf("%s: there is no flag --%s", page, m[1])
			}
		}
	}
}

func TestReadme_SettingsAreAsTheyAre(t *testing.T) {
	t.Parallel()
	loaded, err := config.Load(config.Sources{Environ: []string{"HOME=/home/somebody"}})
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{}
	for _, s := range loaded.Settings() {
		defaults[s.Key] = s.Value
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| `(MANDRILL_[A-Z_]+)` \\| `--([a-z-]+)` \\| `?([^`|]*?)`? \\|")
	rows := row.FindAllStringSubmatch(pages(t)["README.md"], -1)
	if len(rows) < 5 {
		t.Fatalf("got %d rows of settings", len(rows))
	}
	for _, m := range rows {
		value, known := defaults[m[1]]
		if !known {
			t.Errorf("there is no setting %s", m[1])
		}
		if want := "MANDRILL_" + strings.ToUpper(strings.ReplaceAll(m[1], ".", "_")); m[2] != want {
			t.Errorf("%s: got variable %s, want %s", m[1], m[2], want)
		}
		if want := strings.NewReplacer(".", "-", "_", "-").Replace(m[1]); m[3] != want {
			t.Errorf("%s: got flag --%s, want --%s", m[1], m[3], want)
		}
		if m[1] != "data" && m[1] != "nats" && m[4] != value {
			t.Errorf("%s: got default %q, want %q", m[1], m[4], value)
		}
	}
}

func TestReadme_FloorPlanHasEveryPackage(t *testing.T) {
	t.Parallel()
	list := exec.Command("go", "list", "-f", "{{.Dir}}", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	readme := pages(t)["README.md"]
	for dir := range strings.Lines(string(out)) {
		folder, err := filepath.Rel(top, strings.TrimSpace(dir))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(readme, "| `"+filepath.ToSlash(folder)+"` |") {
			t.Errorf("%s is not in the floor plan", folder)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|").FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && strings.Contains(m[1], "/") {
			t.Errorf("the floor plan has %s, which is not there", m[1])
		}
	}
}

func TestManual_TableOfOutcomesIsWhole(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile(filepath.Join(root, "internal/restart/outcome.go"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	constant := regexp.MustCompile(`(?m)^\s+Reason\w+\s+Reason = "(\w+)"\s+// (\w+)`)
	for _, m := range constant.FindAllStringSubmatch(string(code), -1) {
		want = append(want, m[2]+" "+m[1])
	}
	var got []string
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `(\\w+)` \\|")
	for _, m := range row.FindAllStringSubmatch(pages(t)["docs/concepts.md"], -1) {
		got = append(got, m[1]+" "+m[2])
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("concepts.md differs from the code (-code +manual):\n%s", diff)
	}
	for _, kind := range restart.Kinds {
		if !slices.ContainsFunc(got, func(row string) bool { return strings.HasPrefix(row, string(kind)+" ") }) {
			t.Errorf("there is no outcome %s", kind)
		}
	}
}

func TestManual_JSONIsWhatTheProgramWrites(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, b := range blocks(t, "json") {
		seen[b.name]++
		switch b.name {
		case "request":
			sameJSON[restart.Request](t, b)
			decodeExample(t, b)
			if problems := requestSchema(t).check([]byte(b.text)); len(problems) > 0 {
				t.Errorf("%s: the example is not as the schema says: %v", b.page, problems)
			}
		case "outcome":
			sameJSON[restart.Outcome](t, b)
		case "letter":
			sameJSON[deadletter.Letter](t, b)
		case "demo":
			sameJSON[demoSummary](t, b)
		case "server":
			sameJSON[struct {
				URL string `json:"url"`
			}](t, b)
		case "schema": // has a test of its own
		default:
			t.Errorf("%s: the comment before this block does not say what it is:\n%s", b.page, b.text)
		}
	}
	for _, name := range []string{"request", "outcome", "letter", "demo", "server", "schema"} {
		if seen[name] == 0 {
			t.Errorf("there is no example of a %s", name)
		}
	}
}

// sameJSON checks that T reads all of an example, and writes the same again.
func sameJSON[T any](t *testing.T, b block) {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(b.text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		t.Errorf("%s: %s: %v", b.page, b.name, err)
		return
	}
	again, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	// Durations have more than one spelling.
	again = bytes.ReplaceAll(again, []byte(`"168h0m0s"`), []byte(`"168h"`))
	if diff := cmp.Diff(anyJSON(t, []byte(b.text)), anyJSON(t, again)); diff != "" {
		t.Errorf("%s: %s (-manual +program):\n%s", b.page, b.name, diff)
	}
}

func anyJSON(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// envelope is that of a message whose subject names the example's host.
var envelope = restart.Envelope{
	Version: restart.WireVersion, Group: "default", Host: "cattle-a1b2.example.net",
	Stored:     time.Date(2026, 11, 21, 2, 15, 13, 0, time.UTC),
	FallbackID: uuid.MustParse("0b2f7c8e-33a5-5d7a-9f0c-7e1a5f3c2d10"),
}

func decodeExample(t *testing.T, b block) {
	t.Helper()
	r, err := restart.Decode(envelope, []byte(b.text))
	if err != nil {
		t.Errorf("%s: a worker would give up the example: %v", b.page, err)
	}
	if r.ID == envelope.FallbackID {
		t.Errorf("%s: the example has no usable id", b.page)
	}
}

// A schema is as much of a JSON Schema as the manual's needs.
type schema struct {
	Type       string            `json:"type"`
	Required   []string          `json:"required"`
	Format     string            `json:"format"`
	Pattern    string            `json:"pattern"`
	MaxLength  int               `json:"maxLength"`
	Properties map[string]schema `json:"properties"`

	// For people, or as is the default.
	Schema      string `json:"$schema"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Additional  bool   `json:"additionalProperties"`
}

func requestSchema(t *testing.T) schema {
	t.Helper()
	for _, b := range blocks(t, "json") {
		if b.name != "schema" {
			continue
		}
		var s schema
		decoder := json.NewDecoder(strings.NewReader(b.text))
		decoder.DisallowUnknownFields() // a rule that is not checked here would be no rule
		if err := decoder.Decode(&s); err != nil {
			t.Fatalf("%s: %v", b.page, err)
		}
		return s
	}
	t.Fatal("there is no schema")
	return schema{}
}

// check returns what is wrong with a request, by the schema.
func (s schema) check(data []byte) (problems []string) {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return []string{"not an object"}
	}
	for _, name := range s.Required {
		if _, there := object[name]; !there {
			problems = append(problems, name+" is missing")
		}
	}
	for name, property := range s.Properties {
		if value, there := object[name]; there && !property.allows(value) {
			problems = append(problems, fmt.Sprintf("%s: %v", name, value))
		}
	}
	return problems
}

func (s schema) allows(value any) bool {
	text, ok := value.(string)
	if !ok {
		return false // all are strings, see TestSchema_IsOfTheRequest
	}
	switch s.Format {
	case "uuid":
		if _, err := uuid.Parse(text); err != nil || len(text) != 36 {
			return false
		}
	case "date-time":
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return false
		}
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		return false
	}
	return s.MaxLength == 0 || utf8.RuneCountInString(text) <= s.MaxLength
}

// TestSchema_IsOfTheRequest holds the schema's fields against those that the code writes.
func TestSchema_IsOfTheRequest(t *testing.T) {
	t.Parallel()
	s := requestSchema(t)
	var written []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[restart.Request]()) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			written = append(written, name)
		}
	}
	var told []string
	for name, property := range s.Properties {
		told = append(told, name)
		if property.Type != "string" || property.Description == "" {
			t.Errorf("%s: must be a string, with a description", name)
		}
	}
	slices.Sort(written)
	slices.Sort(told)
	if diff := cmp.Diff(written, told); diff != "" {
		t.Errorf("the schema differs from the code (-code +schema):\n%s", diff)
	}

	for name, r := range map[string]restart.Request{
		"least": {Instance: "cattle-a1b2"},
		"most": {
			Instance: "web_1.Example.org", Group: "web-1", Reason: "a \"reason\"", RequestedBy: "x@y",
			NotAfter: time.Now().Add(time.Hour), Campaign: "c", ReplayOf: "r", RequeuedFrom: "q",
			MinUptime: restart.Duration(90*time.Minute + 1500*time.Microsecond),
		},
	} {
		if err := r.Complete("example.net", time.Now()); err != nil {
			t.Fatal(err)
		}
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if problems := s.check(data); len(problems) > 0 {
			t.Errorf("%s: what is published is not as the schema says: %v\n%s", name, problems, data)
		}
	}
}

// TestSchema_AgreesWithDecode holds the schema's verdict against the worker's, in both directions.
func TestSchema_AgreesWithDecode(t *testing.T) {
	t.Parallel()
	s := requestSchema(t)
	for _, payload := range []string{
		`{}`,
		`{"host":"cattle-a1b2.example.net","group":"default"}`,
		`{"instance":"cattle-a1b2"}`, `{"instance":1}`, `{"instance":["a"]}`,
		`{"host":""}`, `{"host":7}`,
		`{"host":"Cattle-A1B2.example.net"}`, `{"host":"a..b"}`, `{"host":"a b"}`, `{"host":".a"}`,
		`{"group":7}`, `{"group":"w b"}`, `{"group":"a.b"}`,
		`{"reason":"why"}`, `{"reason":7}`, `{"requested_by":{}}`, `{"requested_by":"x"}`,
		`{"requested_at":"2026-11-21T02:15:13Z"}`, `{"requested_at":"2026-11-21T02:15:13.123456789+02:00"}`,
		`{"requested_at":"2026-11-21"}`, `{"requested_at":""}`, `{"requested_at":1763691313}`,
		`{"not_after":"2026-11-22T02:15:13Z"}`, `{"not_after":"tomorrow"}`, `{"not_after":true}`,
		`{"min_uptime":"168h"}`, `{"min_uptime":"1h30m"}`, `{"min_uptime":"1.5h"}`, `{"min_uptime":"7d"}`,
		`{"min_uptime":"-1h"}`, `{"min_uptime":168}`, `{"min_uptime":"168"}`,
		`{"campaign":"c","replay_of":"r","requeued_from":"q"}`, `{"campaign":1}`, `{"replay_of":1}`, `{"requeued_from":1}`,
		`{"reason":"` + strings.Repeat("x", 4096) + `"}`, `{"reason":"` + strings.Repeat("x", 4097) + `"}`,
		`{"instance":"` + strings.Repeat("x", 4097) + `"}`, `{"requested_by":"` + strings.Repeat("x", 4097) + `"}`,
		`{"colour":"brown","horns":{"left":1}}`,
		`[]`, `"text"`, `7`, `null`, ``, `{`,
	} {
		problems := s.check([]byte(payload))
		_, err := restart.Decode(envelope, []byte(payload))
		// An empty host or group is one that was left out, to a worker.
		if payload == `{"host":""}` {
			err = fmt.Errorf("the schema is stricter here")
		}
		if (err == nil) != (len(problems) == 0) {
			t.Errorf("%s: the schema says %v, Decode says %v", payload, problems, err)
		}
	}
	// The id alone is read more kindly than the schema says: what is unusable is replaced.
	for _, id := range []string{`"cattle"`, `7`, `""`, `"01a1fbe2-e6cc-736c-b479"`} {
		payload := []byte(`{"id":` + id + `}`)
		r, err := restart.Decode(envelope, payload)
		if err != nil || r.ID != envelope.FallbackID || len(s.check(payload)) == 0 {
			t.Errorf("id %s: got %s, %v, and by the schema %v", id, r.ID, err, s.check(payload))
		}
	}
}

// TestPermissions_OfAPublisherSuffice: a publisher that is given what the manual says, and nothing more, can publish.
func TestPermissions_OfAPublisherSuffice(t *testing.T) {
	t.Parallel()
	broker := startRestricted(t, allowedBy(t, "publisher", "waiter"))

	run := func(args ...string) (stdout, stderr string) {
		command := exec.CommandContext(t.Context(), "mandrill", append([]string{"publish", "--nats", broker}, args...)...)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		var out, err bytes.Buffer
		command.Stdout, command.Stderr = &out, &err
		if e := command.Run(); e != nil {
			t.Logf("%v: %v", args, e)
		}
		return out.String(), err.String()
	}
	if out, err := run("cattle-a1b2", "--group", "web"); !strings.Contains(out, "\tconfirmed\t") || err != "" {
		t.Errorf("got %q, %q", out, err)
	}
	if out, _ := run("cattle-a1b2", "--group", "web"); !strings.Contains(out, "\talready_queued\t") {
		t.Errorf("got %q", out)
	}
	out, stderr := run("cattle-c3d4", "--group", "web", "--wait", "--wait-timeout", "1ms")
	if !strings.Contains(out, "--wait-timeout 1ms is over") || strings.Contains(stderr, "permit") {
		t.Errorf("got %q, %q", out, stderr)
	}
	out, _ = run("cattle-a1b2", "--group", "batch", "--publish-timeout", "500ms")
	if !strings.Contains(out, "\tfailed\t") || !strings.Contains(strings.ToLower(out), "permission") {
		t.Errorf("another group was published to, or nobody said why not: %q", out)
	}
}

// TestPermissions_OfCampaignsSuffice: whoever is given what the manual says, and nothing more, can begin campaigns of the
// group and steer them, and begin none of another.
func TestPermissions_OfCampaignsSuffice(t *testing.T) {
	t.Parallel()
	broker := startRestricted(t, allowedBy(t, "roll", "campaign"))
	home := t.TempDir()
	run := func(code int, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "mandrill", append(args, "--nats", broker, "--data", home)...)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
		out, err := command.CombinedOutput()
		if got, err := exitCodeOf(err); got != code || err != nil {
			t.Fatalf("%v: got exit code %d, %v, want %d:\n%s", args, got, err, code, out)
		}
		if code == 0 && strings.Contains(string(out), "permit") {
			t.Errorf("%v: got %s", args, out)
		}
		return string(out)
	}
	run(0, "roll", "cattle-1", "cattle-2", "--group", "web", "--dry-run")
	id := anyID.FindString(run(0, "roll", "cattle-1", "cattle-2", "--group", "web"))
	run(0, "campaign", "list")
	run(0, "campaign", "pause", id[24:])
	run(0, "campaign", "resume", id)
	run(0, "campaign", "show", id)
	run(0, "campaign", "report", id)
	run(0, "campaign", "abort", id)
	if out := run(1, "roll", "cattle-1", "--group", "batch"); !strings.Contains(strings.ToLower(out), "permission") {
		t.Errorf("nobody said why not: %s", out)
	}
}

// allowedBy returns what the blocks of the manual allow that have these names, in group web.
func allowedBy(t *testing.T, names ...string) *server.Permissions {
	t.Helper()
	allowed := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	for _, b := range blocks(t, "text") {
		if b.kind != "permissions" || !slices.Contains(names, b.name) {
			continue
		}
		for line := range strings.Lines(b.text) {
			what, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
			subject = strings.ReplaceAll(strings.TrimSpace(subject), "<group>", "web")
			switch what {
			case "publish":
				allowed.Publish.Allow = append(allowed.Publish.Allow, subject)
			case "subscribe":
				allowed.Subscribe.Allow = append(allowed.Subscribe.Allow, subject)
			default:
				t.Errorf("%s: %q is no permission", b.page, line)
			}
		}
	}
	if len(allowed.Publish.Allow) == 0 || len(allowed.Subscribe.Allow) == 0 {
		t.Fatal("no permissions are all permissions")
	}
	return allowed
}

// startRestricted runs a server with our streams and a user who may do only so much, and returns that user's URL.
func startRestricted(t *testing.T, allowed *server.Permissions) string {
	t.Helper()
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "admin", Password: "hush"},
			{Username: "publisher", Password: "hush", Permissions: allowed},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	t.Cleanup(func() { broker.Shutdown(); broker.WaitForShutdown() })
	if !broker.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	conn, err := nats.Connect(broker.ClientURL(), nats.UserInfo("admin", "hush"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := stream.Ensure(ctx, js, stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.EnsureControl(ctx, js, stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.EnsureCampaigns(ctx, js, stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(broker.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("publisher", "hush")
	return u.String()
}
