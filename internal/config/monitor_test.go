package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/commandcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/tcpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// least has a monitor of each type, and nothing that can be left out.
var least = map[string]string{
	MonitorHTTP:    "type: http, every: 168h, url: 'https://a'",
	MonitorTCP:     "type: tcp, every: 168h, address: 'a:1'",
	MonitorCommand: "type: command, every: 168h, command: /bin/true",
}

// monitorLines returns the settings of monitors, as people see them.
func monitorLines(l *Loaded) []string {
	var lines []string
	for _, s := range l.Settings() {
		if strings.HasPrefix(s.Key, monitorsKey+".") {
			lines = append(lines, fmt.Sprintf("%s %s (%s)", s.Key, s.Value, s.Origin))
		}
	}
	return lines
}

func TestMonitor_ExampleFile(t *testing.T) {
	got, err := Load(Sources{File: "testdata/monitors.yaml", Environ: slices.Concat(home, []string{"HEALTH_TOKEN=hunter2"})})
	if err != nil {
		t.Fatal(err)
	}
	want := []MonitorSpec{
		{
			Name: "checkout", Type: "http", Every: 10 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1,
			Pause: []restart.Group{"web"}, ResumeAfter: 6,
			HTTP: HTTPCheck{
				URL: "https://checkout.example.net/health", Method: "GET", Headers: map[string]Secret{"Authorization": "Bearer hunter2"},
				Contains: `"database": "up"`, MinTLSLeft: 336 * time.Hour, MaxBody: 1 << 20,
			},
		},
		{
			Name: "queue", Type: "tcp", Every: 30 * time.Second, Failures: 3, Successes: 1, Pause: []restart.Group{"web", "batch"},
			TCP: tcpcheck.Config{Address: "queue.example.net:5672"},
		},
		{
			Name: "disks", Type: "command", Every: 5 * time.Minute, Failures: 1, Successes: 1,
			Command: commandcheck.Config{Command: []string{"/usr/local/bin/disks-are-free", "10%"}},
		},
	}
	if diff := cmp.Diff(want, got.Config.Monitors); diff != "" {
		t.Error(diff)
	}
	web := got.Config.For("web")
	if diff := cmp.Diff(want, web.Monitors); diff != "" {
		t.Errorf("for a group:\n%s", diff)
	}
}

func TestNotify_ExampleFile(t *testing.T) {
	got, err := Load(Sources{File: "testdata/notify.yaml", Environ: slices.Concat(home, []string{"MANDRILL_NOTIFY_URL=https://a/hunter2"})})
	if err != nil {
		t.Fatal(err)
	}
	n := got.Config.Notify
	if string(n.URL) != "https://a/hunter2" || !strings.HasPrefix(string(n.Template), `{"title": {{kind}}, `) {
		t.Errorf("got url %q and template %q", string(n.URL), string(n.Template))
	}
}

// monitorSamples has, for every key that can be left out, a value as the file has it, and as it is shown.
var monitorSamples = map[string][2]string{
	"timeout":       {"2s", "2s"},
	"initial_delay": {"3s", "3s"},
	"failures":      {"4", "4"},
	"successes":     {"5", "5"},
	"pause":         {"[web, db]", `["web","db"]`},
	"resume_after":  {"6", "6"},
	"method":        {"HEAD", "HEAD"},
	"headers":       {"{B: b, a: 'x: y'}", `["B: ****","a: ****"]`},
	"statuses":      {"[200, 503]", `["200","503"]`},
	"contains":      {"all is well", "all is well"},
	"matches":       {"'^(a|b)$$'", "^(a|b)$"},
	"min_tls_left":  {"336h", "336h"},
	"redirects":     {"7", "7"},
	"max_body":      {"8", "8"},
	"ca":            {"/ca.pem", "/ca.pem"},
	"banner":        {"SSH-2.0", "SSH-2.0"},
	"env":           {"[A, B]", `["A","B"]`},
}

// A row of the table that writes to another one's field would check something else than what the file says.
func TestMonitor_EveryKeyIsReadAndMovesNoOther(t *testing.T) {
	for kind, text := range least {
		def, err := loadText("monitors: {a: {"+text+"}}", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range monitorTable {
			s := &monitorTable[i]
			if s.required || !s.concerns(kind) {
				continue
			}
			sample, ok := monitorSamples[s.key]
			if !ok {
				t.Errorf("%s: no samples: add some", s.key)
				continue
			}
			got, err := loadText(fmt.Sprintf("monitors: {a: {%s, %s: %s}}", text, s.key, sample[0]), nil, nil)
			if err != nil {
				t.Errorf("%s: %v", s.key, err)
				continue
			}
			want := monitorLines(def)
			for i, line := range monitorLines(got) {
				if own := "monitors.a." + s.key + " "; strings.HasPrefix(line, own) {
					if !strings.HasPrefix(line, own+sample[1]+" (file m.yaml:1:") || line == want[i] {
						t.Errorf("got %s, want %s from the file", line, sample[1])
					}
				} else if line != want[i] {
					t.Errorf("%s moved %s to %s", s.key, want[i], line)
				}
			}
		}
	}
}

func TestMonitor_ShownWithDefaults(t *testing.T) {
	got, err := loadText("group: [web, db]\nmonitors:\n  port-2:\n    address: ${A}:22\n    every: 1m\n    type: tcp\n", []string{"A=[::1]"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"monitors.port-2.type tcp (file m.yaml:6:11)",
		"monitors.port-2.every 1m (file m.yaml:5:12)",
		"monitors.port-2.timeout 0s (default)",
		"monitors.port-2.initial_delay 0s (default)",
		"monitors.port-2.failures 3 (default)",
		"monitors.port-2.successes 1 (default)",
		`monitors.port-2.pause ["web","db"] (default)`,
		"monitors.port-2.resume_after 0 (default)",
		"monitors.port-2.address [::1]:22 (file m.yaml:4:14)",
		"monitors.port-2.banner  (default)",
	}
	if diff := cmp.Diff(want, monitorLines(got)); diff != "" {
		t.Error(diff)
	}
}

// A monitor that pauses more than it was told to stops a fleet; one that pauses less lets it restart into a fire.
func TestMonitor_PausesWhatTheFileSays(t *testing.T) {
	for _, tt := range []struct {
		group, pause string
		want         []restart.Group
	}{
		{"", "", []restart.Group{"default"}},
		{"group: [web, db]\n", "", []restart.Group{"web", "db"}},
		{"groups: {web: {}, db: {}}\n", "", []restart.Group{"web", "db"}},
		{"group: [web, db]\n", ", pause: []", nil},
		{"group: [web, db]\n", ", pause: ''", nil},
		{"group: [web, db]\n", ", pause: db", []restart.Group{"db"}},
		{"group: [web, db]\n", ", pause: [db, elsewhere]", []restart.Group{"db", "elsewhere"}},
	} {
		got, err := loadText(tt.group+"monitors: {a: {"+least[MonitorTCP]+tt.pause+"}}", nil, nil)
		if err != nil {
			t.Errorf("%q: %v", tt.pause, err)
		} else if diff := cmp.Diff(tt.want, got.Config.Monitors[0].Pause); diff != "" {
			t.Errorf("%q, %q:\n%s", tt.group, tt.pause, diff)
		}
	}
}

func TestMonitor_OrderIsThatOfTheFile(t *testing.T) {
	var text, want strings.Builder
	text.WriteString("monitors:\n")
	for i := range 50 {
		name := fmt.Sprintf("m%d", i*37%50)
		fmt.Fprintf(&text, "  %s: {%s}\n", name, least[MonitorTCP])
		want.WriteString(name + " ")
	}
	loaded, err := loadText(text.String(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := loaded.Specs()
	if err != nil {
		t.Fatal(err)
	}
	var got, made strings.Builder
	for i, m := range loaded.Config.Monitors {
		got.WriteString(m.Name + " ")
		made.WriteString(specs[i].Name + " ")
	}
	if got.String() != want.String() || made.String() != want.String() {
		t.Errorf("got %s and %s, want %s", &got, &made, &want)
	}
}

// The bounds are printed in the manual: a check that refuses one of them would make it lie.
func TestMonitor_BoundsCanBeUsed(t *testing.T) {
	for i := range monitorTable {
		s := &monitorTable[i]
		lo, hi, ok := strings.Cut(s.bounds, " to ")
		if !ok {
			continue
		}
		for kind, text := range least {
			if !s.concerns(kind) {
				continue
			}
			if s.key == "every" {
				text = strings.Replace(text, "every: 168h, ", "", 1)
			}
			for _, bound := range []string{lo, hi} {
				got, err := loadText(fmt.Sprintf("monitors: {a: {%s, %s: %s}}", text, s.key, bound), nil, nil)
				if err == nil {
					_, err = got.Specs()
				}
				if err != nil {
					t.Errorf("%s: %s: %v", s.key, bound, err)
				}
			}
		}
	}
}

// D08: an error must lead to the line that is to be mended, and all of them at once.
func TestMonitor_Err(t *testing.T) {
	const (
		name    = "is not the name of a monitor: lower-case letters, digits and '-', 1 to 63 bytes"
		group   = "is not a group: letters, digits and '-', 1 to 63 bytes"
		address = "is not host:port, with a port from 1 to 65535"
	)
	http, tcp, command := least[MonitorHTTP], least[MonitorTCP], least[MonitorCommand]
	for _, tt := range []struct {
		text string // below monitors
		want []string
	}{
		// Names.
		{"  Checkout: {" + tcp + "}", []string{`2:3: monitors: "Checkout" ` + name}},
		{"  a.b: {" + tcp + "}", []string{`2:3: monitors: "a.b" ` + name}},
		{"  a_b: {" + tcp + "}", []string{`2:3: monitors: "a_b" ` + name}},
		{"  '': {" + tcp + "}", []string{`2:3: monitors: "" ` + name}},
		{"  \"a\\nb\": {" + tcp + "}", []string{`2:3: monitors: "a\nb" ` + name}},
		{"  '${A}': {" + tcp + "}", []string{`2:3: monitors: "${A}" ` + name}},
		{"  " + strings.Repeat("a", 64) + ": {" + tcp + "}", []string{`2:3: monitors: "` + strings.Repeat("a", 64) + `" ` + name}},
		{"  a: {" + tcp + "}\n  a: {" + tcp + "}", []string{`3:3: key "monitors.a" is already there, at m.yaml:2:3`}},
		{"  - a", []string{`2:3: monitors: is a section: write the monitors' names below it, indented`}},
		{"  a: http", []string{`2:6: monitors.a: is a section: write type, every and more below it, indented`}},
		{"  a: [" + tcp + "]", []string{`2:6: monitors.a: is a section: write type, every and more below it, indented`}},

		// Keys.
		{"  a: {" + tcp + ", evry: 1s}", []string{`2:47: unknown key "monitors.a.evry"; did you mean every?`}},
		{"  a: {" + tcp + ", addres: b}", []string{`2:47: unknown key "monitors.a.addres"; did you mean address?`}},
		{"  a: {" + http + ", addres: b}", []string{`2:50: unknown key "monitors.a.addres"`}},
		{"  a: {" + tcp + ", failures: 1, failures: 2}", []string{`2:60: key "monitors.a.failures" is already there, at m.yaml:2:47`}},
		{"  a: {" + http + ", banner: b}", []string{`2:50: monitors.a.banner: is for type tcp, and this monitor is of type http`}},
		{"  a: {banner: b, " + http + "}", []string{`2:7: monitors.a.banner: is for type tcp, and this monitor is of type http`}},
		{"  a: {" + tcp + ", url: b}", []string{`2:47: monitors.a.url: is for type http, and this monitor is of type tcp`}},
		{"  a: {" + tcp + ", headers: {A: b}}", []string{`2:47: monitors.a.headers: is for type http, and this monitor is of type tcp`}},
		{"  a: {" + tcp + ", env: [A]}", []string{`2:47: monitors.a.env: is for type command, and this monitor is of type tcp`}},

		// What is missing.
		{"  a:", []string{`2:3: monitors.a.type: is missing`, `2:3: monitors.a.every: is missing`}},
		{"  a: {}", []string{`2:3: monitors.a.type: is missing`, `2:3: monitors.a.every: is missing`}},
		{"  a: {type: http}", []string{`2:3: monitors.a.every: is missing`, `2:3: monitors.a.url: is missing`}},
		{"  a: {type: tcp}", []string{`2:3: monitors.a.every: is missing`, `2:3: monitors.a.address: is missing`}},
		{"  a: {type: command}", []string{`2:3: monitors.a.every: is missing`, `2:3: monitors.a.command: is missing`}},
		{"  a: {type: http, every: 1s, url: ''}", []string{`2:35: monitors.a.url: is missing`}},
		{"  a: {type: tcp, every: 1s, address: ''}", []string{`2:38: monitors.a.address: is missing`}},
		{"  a: {type: command, every: 1s, command: []}", []string{`2:42: monitors.a.command: is missing`}},
		{"  a: {type: tcp, every: ~, address: 'a:1'}", []string{`2:25: monitors.a.every: has no value; leave the key out for the default`}},

		// Values.
		{"  a: {type: htp, every: 1s, url: 'http://a'}", []string{`2:13: monitors.a.type: "htp" is none of http, tcp, command; did you mean http?`}},
		{"  a: {type: snmp, every: 1s}", []string{`2:13: monitors.a.type: "snmp" is none of http, tcp, command`}},
		{"  a: {type: [tcp], every: 1s}", []string{`2:13: monitors.a.type: takes one value, not a list`}},
		{"  a: {type: tcp, every: 0s, address: 'a:1'}", []string{`2:25: monitors.a.every: "0s" is less than 10ms`}},
		{"  a: {type: tcp, every: -1s, address: 'a:1'}", []string{`2:25: monitors.a.every: "-1s" is less than 10ms`}},
		{"  a: {type: tcp, every: 5, address: 'a:1'}", []string{`2:25: monitors.a.every: "5" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`}},
		{"  a: {type: tcp, every: 1s, timeout: 1001ms, address: 'a:1'}", []string{`2:38: monitors.a.timeout: 1.001s is more than monitors.a.every, which is 1s (file m.yaml:2:25)`}},
		{"  a: {" + tcp + ", timeout: -1s}", []string{`2:56: monitors.a.timeout: "-1s" is less than 0s`}},
		{"  a: {" + tcp + ", initial_delay: -1s}", []string{`2:62: monitors.a.initial_delay: "-1s" is less than 0s`}},
		{"  a: {" + tcp + ", failures: 0}", []string{`2:57: monitors.a.failures: "0" is less than 1`}},
		{"  a: {" + tcp + ", successes: 0}", []string{`2:58: monitors.a.successes: "0" is less than 1`}},
		{"  a: {" + tcp + ", resume_after: -1}", []string{`2:61: monitors.a.resume_after: "-1" is less than 0`}},
		{"  a: {" + tcp + ", pause: [a b, web, web]}", []string{`2:55: monitors.a.pause: "a b" ` + group, `2:65: monitors.a.pause: "web" is named twice`}},
		{"  a: {" + tcp + ", pause: _all}", []string{`2:54: monitors.a.pause: "_all" ` + group}},
		{"  a: {" + tcp + ", pause: ~}", []string{`2:54: monitors.a.pause: has no value; leave the key out for the default`}},
		{"  a: {" + tcp + ", banner: '${NOPE}'}", []string{`2:55: monitors.a.banner: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`}},
		{"  a: {type: http, every: 1s, url: example.net}", []string{`2:35: monitors.a.url: the value is not a full URL of http or https`}},
		{"  a: {type: http, every: 1s, url: 'ftp://a'}", []string{`2:35: monitors.a.url: the value is not a full URL of http or https`}},
		{"  a: {type: http, every: 1s, url: 'http://ann@a'}", []string{`2:35: monitors.a.url: the value holds credentials, which belong into headers`}},
		{"  a: {type: http, every: 1s, url: 'http://a', min_tls_left: 1h}", []string{`2:61: monitors.a.min_tls_left: needs a url of https`}},
		{"  a: {" + http + ", min_tls_left: -1h}", []string{`2:64: monitors.a.min_tls_left: "-1h" is less than 0s`}},
		{"  a: {" + http + ", matches: '(a'}", []string{`2:59: monitors.a.matches: "(a" is not a regular expression: missing closing )`}},
		{"  a: {" + http + ", matches: '[${B:-z-a}]'}", []string{`2:59: monitors.a.matches: the value of "[${B:-z-a}]" is not a regular expression: invalid character class range`}},
		{"  a: {" + http + ", method: 'A B'}", []string{`2:58: monitors.a.method: "A B" is not a method`}},
		{"  a: {" + http + ", statuses: [199, 200, 600, ok]}", []string{
			`2:61: monitors.a.statuses: "199" is not a status from 200 to 599`,
			`2:71: monitors.a.statuses: "600" is not a status from 200 to 599`,
			`2:76: monitors.a.statuses: "ok" is not a status from 200 to 599`,
		}},
		{"  a: {" + http + ", redirects: 11}", []string{`2:61: monitors.a.redirects: "11" is more than 10`}},
		{"  a: {" + http + ", max_body: 0}", []string{`2:60: monitors.a.max_body: "0" is less than 1`}},
		{"  a: {" + http + ", ca: ~/a.pem}", []string{`2:54: monitors.a.ca: "~/a.pem" begins with ~, which only a shell understands; write the path in full`}},
		{"  a: {" + http + ", headers: {a b: c, A: d, a: e, A: f, G: \"h\\n\", I: ~}}", []string{
			`2:60: monitors.a.headers: "a b" is not the name of a header`,
			`2:74: monitors.a.headers: "a" is the same header as "A"`,
			`2:80: key "monitors.a.headers.A" is already there, at m.yaml:2:68`,
			`2:99: monitors.a.headers: has no value; leave the key out for the default`,
			`2:89: monitors.a.headers: the value has a line end or another control character`,
		}},
		{"  a: {" + http + ", headers: [A]}", []string{`2:59: monitors.a.headers: is a section: write name: value below it, indented`}},
		{"  a: {type: tcp, every: 1s, address: a}", []string{`2:38: monitors.a.address: "a" ` + address}},
		{"  a: {type: tcp, every: 1s, address: 'a:http'}", []string{`2:38: monitors.a.address: "a:http" ` + address}},
		{"  a: {type: tcp, every: 1s, address: '::1:80'}", []string{`2:38: monitors.a.address: "::1:80" ` + address}},
		{"  a: {" + tcp + ", banner: " + strings.Repeat("b", 4097) + "}", []string{
			`2:55: monitors.a.banner: "` + strings.Repeat("b", 4097) + `" has 4097 bytes, more than 4096`,
		}},
		{"  a: {type: command, every: 1s, command: ['', b]}", []string{`2:43: monitors.a.command: "" names no program`}},
		{"  a: {type: command, every: 1s, command: [b, \"c\\0\"]}", []string{`2:46: monitors.a.command: "c\x00" has a line end or another control character`}},
		{"  a: {" + command + ", env: [A, B=c]}", []string{`2:64: monitors.a.env: the value is not the name of a variable: letters, digits and '_', and no value`}},

		// Two monitors, each with its own.
		{"  a: {type: tcp, every: 1, address: 'a:1'}\n  b: {type: tcp, every: 1s}\n  c: {" + tcp + "}", []string{
			`2:25: monitors.a.every: "1" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`,
			`3:3: monitors.b.address: is missing`,
		}},
	} {
		var want []string
		for _, line := range tt.want {
			want = append(want, "file m.yaml:"+line)
		}
		if diff := cmp.Diff(want, problemsOf(t, "monitors:\n"+tt.text+"\n")); diff != "" {
			t.Errorf("%q:\n%s", tt.text, diff)
		}
	}
}

func TestMonitor_NothingConfiguredIsFine(t *testing.T) {
	for _, text := range []string{"", "monitors:\n", "monitors: {}\n", "monitors:\n  # a: {}\n"} {
		got, err := loadText(text, nil, nil)
		if err != nil || len(got.Config.Monitors) > 0 {
			t.Errorf("%q: got %v, want no monitor and no problem", text, err)
			continue
		}
		if specs, err := got.Specs(); err != nil || len(specs) > 0 {
			t.Errorf("%q: got %v, %v, want nothing to run", text, specs, err)
		}
	}
}

// D01: what stands in the file must reach the check: a field that is dropped on the way is a check that looks good.
func TestSpecs_NothingIsLost(t *testing.T) {
	var text strings.Builder
	text.WriteString("monitors: {a: {" + least[MonitorHTTP])
	for _, s := range monitorTable {
		if sample, ok := monitorSamples[s.key]; ok && s.concerns(MonitorHTTP) && s.key != "ca" { // which is not there
			fmt.Fprintf(&text, ", %s: %s", s.key, sample[0])
		}
	}
	loaded, err := loadText(text.String()+"}}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := loaded.Config.Monitors[0]
	m.HTTP.CA = "/ca.pem"
	noZeroIn(t, reflect.ValueOf(m.HTTP.config()))
	specs, err := loaded.Specs()
	if err != nil {
		t.Fatal(err)
	}
	noZeroIn(t, reflect.ValueOf(specs[0]))
	want := monitor.Spec{
		Name: "a", Check: specs[0].Check, Every: 168 * time.Hour, InitialDelay: 3 * time.Second, Timeout: 2 * time.Second,
		Failures: 4, Successes: 5,
	}
	if specs[0] != want {
		t.Errorf("got %+v, want %+v", specs[0], want)
	}
}

func noZeroIn(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s.%s is lost", v.Type(), v.Type().Field(i).Name)
		}
	}
}

// A verb that runs no monitors, such as the one that resumes a group, must work on a machine that lacks what they need.
func TestSpecs_ErrWhatTheMachineLacks(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := loadText(`monitors:
  no-ca: {type: http, every: 1s, url: 'https://a', ca: `+dir+`/none.pem}
  empty: {type: http, every: 1s, url: 'https://a', ca: '${SECRET}'}
  absent: {type: command, every: 1s, command: [`+dir+`/absent, hunter2]}
  nowhere: {type: command, every: 1s, command: mandrill-absent}
  fine: {type: command, every: 1s, command: /bin/sh}
  script: {type: command, every: 1s, command: `+empty+`}
`, []string{"SECRET=" + empty, "MANDRILL_MONITOR_COMMAND=" + dir + "/absent"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := loaded.Specs()
	want := []string{
		"file m.yaml:2:56: monitors.no-ca.ca: cannot be read: no such file or directory",
		"file m.yaml:3:56: monitors.empty.ca: has no certificate in PEM",
		"file m.yaml:4:47: monitors.absent.command: names no program that can be run: no such file or directory",
		"file m.yaml:5:48: monitors.nowhere.command: names no program that can be run: executable file not found in $PATH",
		"file m.yaml:7:47: monitors.script.command: names no program that can be run: permission denied",
		"environment MANDRILL_MONITOR_COMMAND: monitor.command: names no program that can be run: no such file or directory",
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" || specs != nil {
		t.Errorf("got %v and\n%s", specs, diff)
	}
	if p := new(Problem); !errors.As(err, &p) || p.Key != "monitors.no-ca.ca" {
		t.Errorf("got problem %+v, want the first one", p)
	}
}
