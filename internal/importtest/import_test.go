// Package importtest holds the directions in which Mandrill's packages may import each other, from the real import
// graph. It has only tests.
package importtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mayhem-mandrill/mandrill/"

// A rule says which of our packages those that match Package may import. Patterns are path.Match's; the first rule that
// matches a package is its own.
type rule struct {
	Package string
	May     []string
	Why     string
}

var (
	vocabulary = []string{"internal/restart"}
	onBroker   = []string{"internal/restart", "internal/stream"}
)

var rules = []rule{
	{"cmd/mandrill", []string{"*", "*/*", "*/*/*"}, "it is the only place where parts meet"},
	{"publisher", onBroker, "it knows neither who consumes nor who handles"},
	{"consumer", append([]string{"internal/ask"}, onBroker...), "it knows neither who publishes nor what is done with a message"},
	{
		"handler",
		[]string{"internal/restart", "internal/restart/bounded", "internal/journal", "internal/deadletter", "internal/store", "internal/policy"},
		"it knows neither consumer nor publisher, nor which driver and store it is given",
	},
	{"internal/restart", []string{"internal/plainjson"}, "a vocabulary imports nothing of ours but how it is written"},
	{"internal/store", vocabulary, "a vocabulary speaks of requests and outcomes only"},
	{"internal/policy", vocabulary, "its gates are pure functions"},
	{"internal/restart/restarttest", append([]string{"internal/restart/bounded"}, vocabulary...), "a contract is told in the vocabulary"},
	{"internal/restart/fleettest", append([]string{"internal/restart/simulated"}, vocabulary...), "it serves simulated hosts"},
	{"internal/restart/webhook", append([]string{"internal/callout"}, vocabulary...), "a driver knows hosts, and nothing of messages"},
	{"internal/restart/*", vocabulary, "a driver knows hosts, and nothing of messages"},
	{"internal/restart/*/*", nil, "a test's hosts are hosts"},
	{"internal/restart/*/*/*", nil, "a test's host is a program of its own"},
	{"internal/fleet", vocabulary, "it asks workers, whatever they do"},
	{"internal/bench", nil, "it measures, whatever it is given"},
	{"internal/lag", nil, "it only looks at the clock"},
	{"internal/sdnotify", nil, "it only tells what it is given"},
	{"internal/ops", vocabulary, "it tells what others count"},
	{"internal/monitor", nil, "it checks what it is given"},
	{"internal/monitor/httpcheck", []string{"internal/monitor", "internal/callout"}, "a check knows what a check is"},
	{"internal/monitor/*", []string{"internal/monitor"}, "a check knows what a check is"},
	{"internal/callout", nil, "it knows HTTP, and nothing of ours"},
	{"internal/notify", append([]string{"internal/callout"}, vocabulary...), "it tells what others decide"},
	{"internal/explain", append([]string{"internal/policy", "internal/control", "internal/journal"}, onBroker...), "it knows facts, and nothing of where they come from"},
	{
		"internal/store/*",
		append([]string{"internal/store", "internal/store/groupcommit", "internal/store/schema"}, vocabulary...),
		"a store knows requests, and nothing of messages",
	},
	{"internal/store/*/*", []string{"internal/porttest"}, "a test's database is a database"},
	{"internal/plainjson", nil, "it writes what it is given"},
	{"internal/plainjson/*", nil, "it only compares"},
	{"internal/writebehind", nil, "it knows connections, and nothing of what they are for"},
	{"internal/ask", nil, "it asks a server, whatever that is for"},
	{"internal/journal", append([]string{"internal/ask", "internal/plainjson"}, onBroker...), "it stands between the vocabulary and the broker"},
	{"internal/journal/*", append([]string{"internal/journal"}, onBroker...), "its contract is told in its own words"},
	{"internal/deadletter", onBroker, "it stands between the vocabulary and the broker"},
	{"internal/campaign", onBroker, "it decides what is asked for and when, and knows neither how nor who restarts"},
	{"internal/guard", append([]string{"internal/monitor", "internal/control", "internal/policy"}, vocabulary...), "it stands between what is checked and who is held back"},
	{"internal/schedule", onBroker, "it says when, and neither what is done nor by whom"},
	{"internal/control", append([]string{"internal/policy"}, onBroker...), "it stands between the vocabulary and the broker"},
	{"internal/stream", vocabulary, "everybody else spells subjects through it"},
	{"internal/natsd", nil, "it runs a server, whatever that is for"},
	{"internal/natsd/*", []string{"internal/natsd", "internal/porttest"}, "a test's server is a server"},
	{"internal/config", append([]string{"internal/policy", "internal/monitor", "internal/monitor/*", "internal/notify"}, vocabulary...), "it checks values by the rules of those who use them, and starts nothing"},
	{"internal/deploytest", nil, "it only looks"},
	{"internal/deploytest/*", nil, "a test's hosts are a program of their own"},
	{"internal/release", nil, "it builds the program, and is no part of it"},
	{"internal/porttest", nil, "a port is anybody's"},
	{"internal/importtest", nil, "it only looks"},
}

// testOnly are packages for tests: nothing that is built into the binary may reach them, nor the testing package.
var testOnly = []string{
	"testing", "internal/porttest", "internal/natsd/natsdtest", "internal/restart/restarttest", "internal/restart/fleettest",
	"internal/restart/docker/dockertest", "internal/store/storetest", "internal/store/postgres/postgrestest", "internal/journal/journaltest", "internal/plainjson/plainjsontest", "pgregory.net/rapid", "go.uber.org/goleak",
	"github.com/google/go-cmp/cmp", "github.com/rogpeppe/go-internal/testscript",
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, patterns ...string) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointOneWay(t *testing.T) {
	used := map[string]bool{}
	for _, p := range list(t, module+"...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.Package, name) })
		if i < 0 {
			t.Errorf("%s has no rule: say what it may import, and why", name)
			continue
		}
		used[rules[i].Package] = true
		for _, imported := range p.Imports {
			imported, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(rules[i].May, func(may string) bool { return matches(may, imported) }) {
				t.Errorf("%s imports %s, and %s", name, imported, rules[i].Why)
			}
		}
	}
	for _, r := range rules {
		if !used[r.Package] {
			t.Errorf("the rule for %s matches nothing any more", r.Package)
		}
	}
}

func TestBinaryHasNothingForTests(t *testing.T) {
	for _, p := range list(t, module+"cmd/mandrill") {
		for _, dep := range p.Deps {
			if slices.Contains(testOnly, strings.TrimPrefix(dep, module)) {
				t.Errorf("the binary depends on %s, which is for tests", dep)
			}
		}
	}
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
