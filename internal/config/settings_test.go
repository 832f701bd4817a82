package config

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated parts of the manual")

// TestManual_IsNotStale holds the chapters' tables against the tables of settings, and their examples against the files
// that other tests load. -update writes both.
func TestManual_IsNotStale(t *testing.T) {
	for chapter, parts := range map[string]map[string]string{
		"configuration": {
			"settings": manualTable(table), "example": example(t, "mandrill"), "groups": example(t, "groups"),
		},
		"monitors": {
			"example": example(t, "monitors"), "all": monitorRows(""), "http": monitorRows(MonitorHTTP), "tcp": monitorRows(MonitorTCP),
			"command": monitorRows(MonitorCommand), "end": sectionRows("monitor"),
		},
		"notifications": {"settings": sectionRows("notify"), "template": example(t, "notify")},
	} {
		name := "../../docs/" + chapter + ".md"
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		after := string(before)
		for mark, text := range parts {
			after = replaceBetween(t, after, mark, text)
		}
		if *update {
			if err := os.WriteFile(name, []byte(after), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(before), after); diff != "" {
			t.Errorf("%s: run go test ./internal/config -update:\n%s", name, diff)
		}
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return "```yaml\n" + string(text) + "```\n"
}

func replaceBetween(t *testing.T, text, mark, by string) string {
	t.Helper()
	begin, end := "<!-- "+mark+": generated -->\n", "<!-- "+mark+": end -->"
	head, rest, ok := strings.Cut(text, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("the chapter has no place for %q", mark)
	}
	return head + begin + by + end + tail
}

func manualTable(rows []setting) string {
	var out strings.Builder
	out.WriteString("| key | type | default | bounds | by group | what it is |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, s := range rows {
		byGroup := ""
		if s.byGroup {
			byGroup = "yes"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s | %s |\n", s.key, s.kind, manualDefault(s), s.bounds, byGroup, s.doc)
	}
	return out.String()
}

func manualDefault(s setting) string {
	switch {
	case s.key == "data":
		return "`$XDG_STATE_HOME/mandrill`, else `~/.local/state/mandrill`"
	case s.required:
		return "required"
	case s.def == "":
		return ""
	}
	return s.defaultText("`")
}

// shortTable is a table of settings none of which is by group.
func shortTable(rows []setting) string {
	var out strings.Builder
	out.WriteString("| key | type | default | bounds | what it is |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range rows {
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", s.key, s.kind, manualDefault(s), s.bounds, s.doc)
	}
	return out.String()
}

func monitorRows(kind string) string {
	return shortTable(slices.DeleteFunc(slices.Clone(monitorTable), func(s setting) bool { return s.monitorType != kind }))
}

func sectionRows(section string) string {
	return shortTable(slices.DeleteFunc(slices.Clone(table), func(s setting) bool { return !strings.HasPrefix(s.key, section+".") }))
}

func TestSettings_NamesAreUnambiguous(t *testing.T) {
	seen := map[string]string{FileVariable: "the file", "config": "the file", groupsKey: "the groups' sections", monitorsKey: "the monitors"}
	for _, s := range table {
		for _, name := range []string{s.key, s.env(), "--" + s.flag()} {
			if other, taken := seen[name]; taken {
				t.Errorf("%s is the name of both %s and %s", name, other, s.key)
			}
			seen[name] = s.key
		}
		if lookup(s.key) != nil && members(s.key) != nil {
			t.Errorf("%s is a setting and a section", s.key)
		}
		if strings.Count(s.key, ".") > 1 || s.doc == "" || strings.Contains(s.doc, "|") {
			t.Errorf("%s: the key has more than one dot, or the description is not fit for the manual", s.key)
		}
		if section, _, ok := strings.Cut(s.key, "."); ok && differs(section) && !s.byGroup {
			t.Errorf("%s is for all groups, in a section that is not; the file's reader cannot say so", s.key)
		}
		if s.realDef != "" && !s.byGroup {
			t.Errorf("%s has a default by the driver, which is by group, and is for all groups", s.key)
		}
		if serviceVariable.MatchString(s.env()) && s.kind != "integer" || strings.HasPrefix(s.env(), testPrefix) {
			t.Errorf("%s: %s would be taken for a variable that is not ours", s.key, s.env())
		}
	}
}

func TestSettings_NamesFollowFromTheKey(t *testing.T) {
	for key, want := range map[string][2]string{
		"ack_wait":           {"MANDRILL_ACK_WAIT", "ack-wait"},
		"retry.max_attempts": {"MANDRILL_RETRY_MAX_ATTEMPTS", "retry-max-attempts"},
	} {
		if got := [2]string{lookup(key).env(), lookup(key).flag()}; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEnvironment_ErrUnknownVariable(t *testing.T) {
	for name, want := range map[string]string{
		"MANDRILL_ACK_WAITS":  "unknown variable; did you mean MANDRILL_ACK_WAIT?",
		"MANDRILL_CONFIGS":    "unknown variable; did you mean MANDRILL_CONFIG?",
		"MANDRILL_RETRY.BASE": "unknown variable; did you mean MANDRILL_RETRY_BASE?",
		"MANDRILL_":           "unknown variable",
		"MANDRILL_ZEBRA_HERD": "unknown variable",
	} {
		if diff := cmp.Diff([]string{"environment " + name + ": " + want}, problemsOf(t, "", name+"=1")); diff != "" {
			t.Error(diff)
		}
	}
}

// In a namespace with a service called mandrill, Kubernetes puts its variables into every container: a worker that
// refused them could not run there.
func TestEnvironment_LeavesAloneWhatIsNotForIt(t *testing.T) {
	for _, name := range []string{
		"MANDRILL_CONFIG", "MANDRILL_TEST_ALL", "MANDRILLS", "MANDRILL", "mandrill_ack_wait",
		"MANDRILL_SERVICE_HOST", "MANDRILL_SERVICE_PORT", "MANDRILL_SERVICE_PORT_HTTP", "MANDRILL_PORT",
		"MANDRILL_PORT_4222_TCP", "MANDRILL_PORT_4222_TCP_ADDR", "MANDRILL_PORT_4222_TCP_PORT", "MANDRILL_PORT_4222_TCP_PROTO",
		"MANDRILL_NATS_SERVICE_HOST", "MANDRILL_NATS_PORT_4222_TCP_ADDR",
	} {
		if got := problemsOf(t, "", name+"=1"); got != nil {
			t.Errorf("got %q, want no problem", got)
		}
	}
	got, err := loadText("", []string{"MANDRILL_SSH_PORT=tcp://10.0.0.1:22"}, nil)
	if err != nil || got.Config.SSH.Port != 22 || got.origins["ssh.port"] != "default" {
		t.Errorf("got %v, want what stands for a service called mandrill-ssh left alone", err)
	}
}

func TestEnvironment_EmptyIsAValue(t *testing.T) {
	got, err := loadText("nats: a", []string{"MANDRILL_NATS="}, nil)
	if err != nil || got.Config.NATS != "" {
		t.Errorf("got %v, want the variable to take the file's server away", err)
	}
	if got := problemsOf(t, "", "MANDRILL_ACK_WAIT="); len(got) != 1 {
		t.Errorf("got %q, want an empty duration refused", got)
	}
}

func TestEnvironment_FirstOfTwoCounts(t *testing.T) {
	got, err := loadText("", []string{"MANDRILL_BUDGET=1", "MANDRILL_BUDGET=2"}, nil)
	if err != nil || got.Config.Budget != 1 {
		t.Errorf("got %v, want the first, as os.Getenv returns it", err)
	}
}

func TestFlags_OnlyWhatWasSetIsRead(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.String("output", "text", "somebody else's")
	AddFlags(fs, "group", "ack_wait", "grace", "token")
	args := []string{"--group", "web", "--group=batch,db", "--ack-wait", "1s", "--ack-wait", "2s", "--token", "hunter2", "--output", "json"}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"group": {"web", "batch,db"}, "ack_wait": {"2s"}, "token": {"hunter2"}}
	if diff := cmp.Diff(want, ChangedFlags(fs)); diff != "" {
		t.Error(diff)
	}
	got, err := loadText("", []string{"MANDRILL_NATS=a"}, ChangedFlags(fs))
	if err != nil {
		t.Fatal(err)
	}
	if got := lookup("group").get(&got.Config); got != "web,batch,db" {
		t.Errorf("got groups %s, want web,batch,db", got)
	}
	if got := fs.Lookup("token").Value.String(); got != mask {
		t.Errorf("the flag prints %s, want it masked", got)
	}
}

func TestFlags_HelpNamesDefaultAndBounds(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(fs)
	help := strings.Join(strings.Fields(fs.FlagUsages()), " ")
	for _, want := range []string{
		"--ack-wait duration Length of a lease",
		"(1s to 1h) (default 30s)",
		"--retry-max-attempts integer",
		"(1 to 1000000) (default 2000 with the simulated driver, else 20)",
		"--dry-run Decide about every request",
		"--nats URLs NATS servers. Empty means the embedded server, unless nats_context is set.",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in %s", want, help)
		}
	}
}

func TestFlags_ErrUnknownKeyPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got no panic, want the slip found by the first test that runs the command")
		}
	}()
	AddFlags(pflag.NewFlagSet("", pflag.ContinueOnError), "ack-wait")
}
