package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home is an environment in which the data folder has a default.
var home = []string{"HOME=/home/ann"}

// loadText loads a file called m.yaml with the text, in an environment, with flags.
func loadText(text string, environ []string, flags map[string][]string) (*Loaded, error) {
	return load(Sources{File: "m.yaml", Environ: slices.Concat(environ, home), Flags: flags}, []byte(text))
}

// problemsOf returns the lines of the error of a file with the text.
func problemsOf(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	_, err := loadText(text, environ, nil)
	return lines(t, err)
}

func lines(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	if usage := new(UsageError); !errors.As(err, &usage) {
		t.Errorf("got %T, want a *UsageError, because the exit code depends on it", err)
	}
	return strings.Split(err.Error(), "\n")
}

// samples has three values for every setting, as Settings shows them, each another than the one before, and the first
// another than the default.
var samples = map[string][3]string{
	"group":                   {"web", "web,batch", "db"},
	"domain":                  {"a.example", "b.example", "c.example"},
	"nats":                    {"nats://a:4222", "tls://b,tls://c", "wss://d"},
	"nats_context":            {"a", "b", "c"},
	"creds":                   {"/a", "/b", "/c"},
	"token":                   {"a", "b", "c"},
	"tls.ca":                  {"/a", "/b", "/c"},
	"tls.cert":                {"/a", "/b", "/c"},
	"tls.key":                 {"/a", "/b", "/c"},
	"data":                    {"/a", "/b", "/c"},
	"sync":                    {"1s", "2m", "1h"},
	"database":                {"/a", "sqlite:///b", "postgres://c/d"},
	"history.keep":            {"216h", "240h", "1000h"},
	"replicas":                {"1", "3", "5"},
	"ack_wait":                {"1s", "2s", "3s"},
	"max_lease":               {"20m", "30m", "2h"},
	"max_in_flight":           {"1", "2", "3"},
	"budget":                  {"1", "2", "3"},
	"stop_after":              {"1", "2", "4"},
	"max_deliveries":          {"3", "4", "5"},
	"grace":                   {"0s", "1s", "2s"},
	"restart_timeout":         {"1s", "2s", "3s"},
	"verify_timeout":          {"1m", "2m", "3m30s"},
	"stable_for":              {"1s", "2s", "3s"},
	"probe_timeout":           {"100ms", "200ms", "300ms"},
	"probe_interval":          {"100ms", "200ms", "300ms"},
	"save_timeout":            {"1s", "2s", "3s"},
	"retry.base":              {"2s", "3s", "4s"},
	"retry.cap":               {"1s", "2s", "3s"},
	"retry.max_attempts":      {"1", "2", "4"},
	"publish.window":          {"1", "2", "3"},
	"publish.timeout":         {"1s", "2s", "3s"},
	"window.open":             {"mon-fri 22:00-04:00", `["sat,sun 01:00-02:00","daily 03:00-04:00"]`, "daily 05:00-06:00"},
	"window.except":           {`["2026-12-24","2026-12-31"]`, "2026-12-24/2027-01-02", "2027-01-01"},
	"window.zone":             {"Europe/Berlin", "America/New_York", "Asia/Kolkata"},
	"window.restart_takes":    {"0s", "1m", "2m"},
	"deny":                    {"db-*.example.net", `["a","b"]`, "c"},
	"only":                    {`["a","b"]`, "web-*", "[]"},
	"self":                    {"a", "b", `["c","d"]`},
	"dry_run":                 {"true", "false", "true"},
	"driver.kind":             {"ssh", "docker", "ssh"},
	"driver.slots":            {"1", "2", "3"},
	"simulated.restart_min":   {"1ms", "2ms", "3ms"},
	"simulated.restart_max":   {"2s", "3s", "4s"},
	"simulated.seed":          {"1", "2", "18446744073709551615"},
	"simulated.failure_rate":  {"0.1", "0.2", "1"},
	"simulated.hang_rate":     {"0.1", "0.2", "1"},
	"simulated.late_rate":     {"0.1", "0.2", "1"},
	"simulated.slow_rate":     {"0.1", "0.2", "1"},
	"command.probe":           {`["/bin/probe","{host}"]`, "/b", `["/c","a,b"," ",""]`},
	"command.restart":         {`["/bin/restart","{host}"]`, "/b", `["[","\\\"<&>"]`},
	"command.compare":         {"at_effect", "at_acceptance", "at_effect"},
	"command.max_delay":       {"1s", "2s", "24h"},
	"command.env":             {"A", `["B","_c1"]`, "D"},
	"command.output":          {"1", "2", "1048576"},
	"ssh.user":                {"ann", "bob", "eve"},
	"ssh.port":                {"1", "2", "65535"},
	"ssh.key":                 {"/a", "/b", "/c"},
	"ssh.agent":               {"/a", "/b", "/c"},
	"ssh.known_hosts":         {"/a", `["/b","/c"]`, "/d"},
	"ssh.jump":                {"a", "ann@b:2222", "c"},
	"ssh.reboot":              {"systemctl reboot", "b", "c"},
	"ssh.ready":               {"test -e /run/ready", "b", "c"},
	"ssh.boot_id":             {"/a", "/b", "/c"},
	"ssh.uptime":              {"/a", "/b", "/c"},
	"ssh.timeout":             {"100ms", "1s", "10m"},
	"docker.endpoint":         {"unix:///a", "tcp://b:2376", "unix:///c"},
	"docker.tls_ca":           {"/a", "/b", "/c"},
	"docker.tls_cert":         {"/a", "/b", "/c"},
	"docker.tls_key":          {"/a", "/b", "/c"},
	"docker.label":            {"a", "b", "c"},
	"docker.stop_timeout":     {"1s", "2s", "1h"},
	"webhook.probe_url":       {"https://a/{host}", "https://b/{host}", "https://c/{host}"},
	"webhook.restart_url":     {"https://a", "https://b", "https://c"},
	"webhook.secret":          {"a", "b", "c"},
	"webhook.max_delay":       {"1s", "2s", "24h"},
	"webhook.ca":              {"/a", "/b", "/c"},
	"slow_phase":              {"0s", "1s", "24h"},
	"monitor.stop_on":         {"first_failure", "all_failed", "first_failure"},
	"monitor.command":         {"/a", `["/b","x"]`, `["/c",""]`},
	"monitor.command_timeout": {"100ms", "1s", "1h"},
	"monitor.exit_code":       {"2", "3", "125"},
	"notify.url":              {"https://a/b", "http://c", "https://d?e=f"},
	"notify.secret":           {"a", "b", "c"},
	"notify.template":         {`{"a": {{text}}}`, "{\"b\":\n{{more}}}", "{{ kind }}"},
	"notify.on":               {"paused", `["resumed","breaker"]`, `["dead_letter","campaign_ended"]`},
	"notify.queue":            {"1", "2", "1000000"},
	"notify.every":            {"1ms", "2s", "24h"},
	"notify.timeout":          {"100ms", "1s", "10m"},
	"notify.grace":            {"1ms", "1s", "1h"},
	"notify.retry_base":       {"1ms", "2s", "3s"},
	"notify.retry_cap":        {"1s", "2s", "24h"},
	"notify.retry_total":      {"1ms", "1s", "168h"},
	"ops.listen":              {":1", "127.0.0.1:2", "0.0.0.0:3"},
	"ops.pprof":               {"true", "true", "true"},
	"lag.threshold":           {"1ms", "2ms", "3ms"},
	"log.level":               {"debug", "warn", "error"},
	"log.format":              {"console", "json", "console"},
}

// company is what a setting cannot be used without. Without it, but with the first of it, the default must be legal.
var company = map[string][]string{
	"creds":    {"MANDRILL_NATS=nats://a"},
	"token":    {"MANDRILL_NATS=nats://a"},
	"tls.ca":   {"MANDRILL_NATS=nats://a"},
	"tls.cert": {"MANDRILL_NATS=nats://a", "MANDRILL_TLS_KEY=/k"},
	"tls.key":  {"MANDRILL_NATS=nats://a", "MANDRILL_TLS_CERT=/c"},
	"replicas": {"MANDRILL_NATS=nats://a"},

	"driver.kind":     {"MANDRILL_SSH_KNOWN_HOSTS=/k", "MANDRILL_SSH_KEY=/k"},
	"docker.tls_cert": {"MANDRILL_NATS=nats://a", "MANDRILL_DOCKER_TLS_KEY=/k"},
	"docker.tls_key":  {"MANDRILL_NATS=nats://a", "MANDRILL_DOCKER_TLS_CERT=/c"},
}

// inFile writes a setting as the file wants it.
func inFile(key, text string) string {
	if strings.HasPrefix(text, "[") {
		if section, name, ok := strings.Cut(key, "."); ok {
			return fmt.Sprintf("%s: {%s: %s}", section, name, text)
		}
		return key + ": " + text
	}
	if section, name, ok := strings.Cut(key, "."); ok {
		return fmt.Sprintf("%s: {%s: %q}", section, name, text)
	}
	if key == "group" {
		return "group: [" + text + "]"
	}
	return fmt.Sprintf("%s: %q", key, text)
}

// TestLoad_StrongerSourceWins covers every setting: a row of the table that writes to another one's field, or a flag
// that the environment overrules, would be found by an operator at the worst of times.
func TestLoad_StrongerSourceWins(t *testing.T) {
	for _, s := range table {
		t.Run(s.key, func(t *testing.T) {
			sample, ok := samples[s.key]
			if !ok {
				t.Fatal("no samples: add some")
			}
			text := inFile(s.key, sample[0])
			environ := append(slices.Clone(company[s.key]), s.env()+"="+sample[1])
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			AddFlags(flags, s.key)
			if err := flags.Parse([]string{"--" + s.flag() + "=" + sample[2]}); err != nil {
				t.Fatal(err)
			}

			def, err := loadText("", company[s.key][:min(1, len(company[s.key]))], nil)
			if err != nil {
				t.Fatal(err)
			}
			checkOne(t, def, Setting{s.key, s.get(&def.Config), "default"})

			got, err := loadText(text, company[s.key], nil)
			if err != nil {
				t.Fatal(err)
			}
			if o := got.origins[s.key]; !strings.HasPrefix(o, "file m.yaml:1:") {
				t.Errorf("got origin %q, want it in line 1 of m.yaml", o)
			}
			checkOne(t, got, Setting{s.key, sample[0], got.origins[s.key]})

			got, err = loadText(text, environ, nil)
			if err != nil {
				t.Fatal(err)
			}
			checkOne(t, got, Setting{s.key, sample[1], "environment " + s.env()})

			got, err = loadText(text, environ, ChangedFlags(flags))
			if err != nil {
				t.Fatal(err)
			}
			checkOne(t, got, Setting{s.key, sample[2], "flag --" + s.flag()})
		})
	}
}

// checkOne checks that a setting is as wanted, and that no other has moved that nobody set.
func checkOne(t *testing.T, l *Loaded, want Setting) {
	t.Helper()
	def, err := loadText("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := def.Settings()
	for i, got := range l.Settings() {
		if other := lookup(got.Key).realDef; other != "" && l.Config.Driver.Kind != DriverSimulated {
			before[i].Value = other
		}
		switch {
		case got.Key != want.Key && got.Origin == "default" && got != before[i]:
			t.Errorf("%s moved %s from %q to %q", want.Key, got.Key, before[i].Value, got.Value)
		case got.Key != want.Key:
		case got.Value == mask:
			text := string(map[string]Secret{
				"token": l.Config.Token, "webhook.secret": l.Config.Webhook.Secret, "notify.url": l.Config.Notify.URL,
				"notify.secret": l.Config.Notify.Secret, "notify.template": l.Config.Notify.Template,
			}[got.Key])
			if text != want.Value {
				t.Errorf("got %s %q, want %q", got.Key, text, want.Value)
			}
		case got != want:
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestLoad_NothingConfigured_IsTheDesignsDefaults(t *testing.T) {
	got, err := Load(Sources{Environ: home})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, s := range got.Settings() {
		fmt.Fprintf(&text, "%s=%s\n", s.Key, s.Value)
	}
	want := `group=default
domain=example.net
nats=
nats_context=
creds=
token=
tls.ca=
tls.cert=
tls.key=
data=/home/ann/.local/state/mandrill
sync=always
database=
history.keep=9600h
replicas=0
ack_wait=30s
max_lease=1h
max_in_flight=2000
budget=2000
stop_after=3
max_deliveries=50
grace=25s
restart_timeout=2m
verify_timeout=10m
stable_for=0s
probe_timeout=10s
probe_interval=1s
save_timeout=30s
retry.base=1s
retry.cap=5m
retry.max_attempts=3
publish.window=4096
publish.timeout=10s
window.open=[]
window.except=[]
window.zone=UTC
window.restart_takes=5m
deny=[]
only=[]
self=[]
dry_run=false
driver.kind=simulated
driver.slots=1000
simulated.restart_min=0s
simulated.restart_max=1s
simulated.seed=0
simulated.failure_rate=0
simulated.hang_rate=0
simulated.late_rate=0
simulated.slow_rate=0
command.probe=[]
command.restart=[]
command.compare=at_acceptance
command.max_delay=0s
command.env=[]
command.output=4096
ssh.user=root
ssh.port=22
ssh.key=
ssh.agent=
ssh.known_hosts=[]
ssh.jump=
ssh.reboot=
ssh.ready=
ssh.boot_id=
ssh.uptime=
ssh.timeout=15s
docker.endpoint=
docker.tls_ca=
docker.tls_cert=
docker.tls_key=
docker.label=
docker.stop_timeout=10s
webhook.probe_url=
webhook.restart_url=
webhook.secret=
webhook.max_delay=0s
webhook.ca=
slow_phase=30s
monitor.stop_on=never
monitor.command=[]
monitor.command_timeout=30s
monitor.exit_code=1
notify.url=
notify.secret=
notify.template=
notify.on=[]
notify.queue=256
notify.every=1m
notify.timeout=10s
notify.grace=5s
notify.retry_base=1s
notify.retry_cap=1m
notify.retry_total=15m
ops.listen=
ops.pprof=false
lag.threshold=250ms
log.level=info
log.format=auto
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLoad_DataFolderFollowsTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    string
	}{
		{[]string{"XDG_STATE_HOME=/state", "HOME=/h"}, "/state/mandrill"},
		{[]string{"XDG_STATE_HOME=relative", "HOME=/h"}, "/h/.local/state/mandrill"},
		{[]string{"MANDRILL_DATA=/data"}, "/data"},
	} {
		got, err := Load(Sources{Environ: tt.environ})
		if err != nil {
			t.Fatal(err)
		}
		if got.Config.Data != tt.want {
			t.Errorf("%q: got %q, want %q", tt.environ, got.Config.Data, tt.want)
		}
	}
	_, err := Load(Sources{})
	want := []string{"default: data: is empty, and neither XDG_STATE_HOME nor HOME says where it could be: set it"}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestLoad_ErrValue(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"ack_wait: 30", `1:11: ack_wait: "30" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`},
		{"ack_wait: 30 s", `1:11: ack_wait: "30 s" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`},
		{"retry:\n  cap: 1d", `2:8: retry.cap: "1d" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`},
		{"ack_wait: 999ms", `1:11: ack_wait: "999ms" is less than 1s`},
		{"ack_wait: 0", `1:11: ack_wait: "0" is less than 1s`},
		{"ack_wait: -5s", `1:11: ack_wait: "-5s" is less than 1s`},
		{"ack_wait: 61m", `1:11: ack_wait: "61m" is more than 1h`},
		{"grace: -1s", `1:8: grace: "-1s" is less than 0s`},
		{"sync: never", `1:7: sync: "never" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`},
		{"sync: 0s", `1:7: sync: "0s" is less than 1s`},
		{"simulated: {restart_max: 0s}", `1:26: simulated.restart_max: "0s" is less than 1ns`},
		{"budget: 0", `1:9: budget: "0" is less than 1`},
		{"budget: -1", `1:9: budget: "-1" is less than 1`},
		{"budget: 2.5", `1:9: budget: "2.5" is not an integer`},
		{"budget: 99999999999999999999", `1:9: budget: "99999999999999999999" is not an integer`},
		{"budget: true", `1:9: budget: "true" is not an integer`},
		{"replicas: 6", `1:11: replicas: "6" is more than 5`},
		{"simulated: {seed: -1}", `1:19: simulated.seed: "-1" is not an integer from 0 to 2^64-1`},
		{"simulated: {hang_rate: 1.01}", `1:24: simulated.hang_rate: "1.01" is more than 1`},
		{"simulated: {hang_rate: -0.1}", `1:24: simulated.hang_rate: "-0.1" is less than 0`},
		{"simulated: {hang_rate: .nan}", `1:24: simulated.hang_rate: ".nan" is not a number`},
		{"simulated: {hang_rate: nan}", `1:24: simulated.hang_rate: "nan" is not a number`},
		{"simulated: {hang_rate: 50%}", `1:24: simulated.hang_rate: "50%" is not a number`},
		{"log: {level: loud}", `1:14: log.level: "loud" is none of trace, debug, info, warn, error`},
		{"group: a b", `1:8: group: "a b" is not a group: letters, digits and '-', 1 to 63 bytes`},
		{"group: [web, web]", `1:14: group: "web" is named twice`},
		{"group: []", `1:8: group: is an empty list; leave the key out for the default`},
		{"domain: a..b", `1:9: domain: "a..b" is not a domain: letters, digits, '-', '_' and '.', no empty label, 253 bytes at most`},
		{"creds: ~/nats.creds", `1:8: creds: "~/nats.creds" begins with ~, which only a shell understands; write the path in full`},
		{"data: |\n  /data", `1:7: data: "/data\n" has a line end or another control character`},
		{"database: mysql://db/mandrill", `1:11: database: the value is a URL whose scheme is none of sqlite, postgres, postgresql`},
		{"database: postgres://db", `1:11: database: the value names no database: write postgres://user@host:5432/name`},
		{"database: host=db dbname=mandrill", `1:11: database: the value is neither a URL nor a path: write postgres://user@host:5432/name`},
		{"database: sqlite://mandrill.db", `1:11: database: the value is not a URL such as sqlite:///path/of/file.db; special characters of the path are written as %XX`},
		{"history: {keep: 24h}", `1:17: history.keep: "24h" is less than 216h`},
		{"dry_run: yes", `1:10: dry_run: "yes" is neither true nor false`},
		{"dry_run: 1", `1:10: dry_run: "1" is neither true nor false`},
		{"dry_run: True", `1:10: dry_run: "True" is neither true nor false`},
		{"dry_run: ''", `1:10: dry_run: "" is neither true nor false`},
		{"stop_after: 0", `1:13: stop_after: "0" is less than 1`},
		{"driver: {kind: shh}", `1:16: driver.kind: "shh" is none of simulated, command, ssh, docker, webhook`},
		{"command: {compare: never}", `1:20: command.compare: "never" is none of at_effect, at_acceptance`},
		{"command: {output: 1048577}", `1:19: command.output: "1048577" is more than 1048576`},
		{"command: {probe: [/p, \"a\\n\"]}", `1:23: command.probe: "a\n" has a line end or another control character`},
		{"command: {env: [A, B C]}", `1:20: command.env: the value is not the name of a variable: letters, digits and '_', and no value`},
		{"monitor: {stop_on: always}", `1:20: monitor.stop_on: "always" is none of never, first_failure, all_failed`},
		{"monitor: {exit_code: 0}", `1:22: monitor.exit_code: "0" is less than 1`},
		{"monitor: {exit_code: 126}", `1:22: monitor.exit_code: "126" is more than 125`},
		{"monitor: {command: ['', a]}", `1:21: monitor.command: "" names no program`},
		{"notify: {url: example.net}", `1:15: notify.url: the value is not a full URL of http or https`},
		{"notify: {url: 'https://ann:x@a'}", `1:15: notify.url: the value holds a user or a password, which would not be sent`},
		{"notify: {on: [paused, deadletter]}", `1:23: notify.on: "deadletter" is none of paused, resumed, breaker, dead_letter, campaign_ended`},
		{"notify: {template: 'text: {{text}}'}", `1:20: notify.template: the value is not a template that gives JSON: line 1: invalid character 'e' in literal true (expecting 'r')`},
		{"notify: {template: '{\"a\": \"{{text}}\"}'}", `1:20: notify.template: the value is not a template that gives JSON: line 1: {{text}} stands inside a JSON string: write it without quotes around it`},
		{"notify: {template: '{{json .Text}}'}", `1:20: notify.template: the value is not a template that gives JSON: line 1: what stands in {{ }} is not one of the names kind, group, host, id, cause, by, why, detail, at, until, more, text, slack_text`},
		{"notify: {template: '{{colour}}'}", `1:20: notify.template: the value is not a template that gives JSON: line 1: {{colour}} is none of the names kind, group, host, id, cause, by, why, detail, at, until, more, text, slack_text`},
		{"notify: {template: '{\"a\": {{text}'}", `1:20: notify.template: the value is not a template that gives JSON: line 1: a {{ is not closed`},
		{"self: [a, '']", `1:11: self: "" has nothing in it`},
		{"ssh: {port: 65536}", `1:13: ssh.port: "65536" is more than 65535`},
		{"ssh: {known_hosts: [/a, ~/b]}", `1:25: ssh.known_hosts: "~/b" begins with ~, which only a shell understands; write the path in full`},
		{"docker: {stop_timeout: 0s}", `1:24: docker.stop_timeout: "0s" is less than 1s`},
		{"nats: http://a", `1:7: nats: the value has a URL whose scheme is none of nats, tls, ws, wss`},
		{"nats: a,,b", `1:7: nats: the value has a URL without a host`},
		{"nats: nats://a:port", `1:7: nats: the value has a part that is not a URL such as nats://host:4222; special characters of a password are written as %XX`},
	} {
		// A literal ends with a line end only if the file does.
		got := problemsOf(t, tt.text+"\n")
		if diff := cmp.Diff([]string{"file m.yaml:" + tt.want}, got); diff != "" {
			t.Errorf("%q:\n%s", tt.text, diff)
		}
	}
}

func TestLoad_ErrSettingsThatContradictEachOther(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"notify: {retry_base: 2m}", `1:22: notify.retry_base: 2m is more than notify.retry_cap, which is 1m (default)`},
		{"retry: {base: 10m}", `1:15: retry.base: 10m is more than retry.cap, which is 5m (default)`},
		{"stable_for: 1m\nverify_timeout: 1m", `1:13: stable_for: 1m is not less than verify_timeout, which is 1m (file m.yaml:2:17)`},
		{"probe_interval: 2s\nverify_timeout: 1s", `1:17: probe_interval: 2s is more than verify_timeout, which is 1s (file m.yaml:2:17)`},
		{
			"max_lease: 12m\nverify_timeout: 11m",
			`1:12: max_lease: 12m does not leave a slow restart the time to be verified: it is less than the sum of restart_timeout, which is 2m (default) and verify_timeout, which is 11m (file m.yaml:2:17)`,
		},
		{"ack_wait: 20m\nmax_lease: 15m", `1:11: ack_wait: 20m is more than max_lease, which is 15m (file m.yaml:2:12)`},
		{"max_deliveries: 2", `1:17: max_deliveries: 2 leaves the last attempts unmade: it is less than retry.max_attempts, which is 3 (default)`},
		{"simulated: {restart_min: 2s}", `1:26: simulated.restart_min: 2s is more than simulated.restart_max, which is 1s (default)`},
		{"creds: /c", `1:8: creds: is for NATS servers of your own: it needs nats or nats_context`},
		{"tls: {ca: /c}", `1:11: tls.ca: is for NATS servers of your own: it needs nats or nats_context`},
		{"token: t", `1:8: token: is for NATS servers of your own: it needs nats or nats_context`},
		{"replicas: 3", `1:11: replicas: 3 is too many for the one embedded server; it needs nats or nats_context`},
		{"nats: a\nnats_context: b", `2:15: nats_context: b brings its own URL and cannot be set together with nats, which is a (file m.yaml:1:7)`},
		{"nats: a\ncreds: /c\ntoken: t", `3:8: token: **** cannot be set together with creds, which is /c (file m.yaml:2:8)`},
		{"nats: a\ntls: {cert: /c}", `2:13: tls.cert: /c needs tls.key, which is empty (default)`},
		{"nats: a\ntls: {key: /k}", `2:12: tls.key: /k needs tls.cert, which is empty (default)`},
		{"docker: {tls_cert: /c}", `1:20: docker.tls_cert: /c needs docker.tls_key, which is empty (default)`},
		{"docker: {tls_key: /k}", `1:19: docker.tls_key: /k needs docker.tls_cert, which is empty (default)`},
		{"verify_timeout: 5s\ndriver: {kind: docker}\nstable_for: 5s", `3:13: stable_for: 5s is not less than verify_timeout, which is 5s (file m.yaml:1:17)`},
		// A setting that is wrong already is not compared with others.
		{"retry: {base: 10m, cap: 5}", `1:25: retry.cap: "5" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`},
	} {
		if diff := cmp.Diff([]string{"file m.yaml:" + tt.want}, problemsOf(t, tt.text)); diff != "" {
			t.Errorf("%q:\n%s", tt.text, diff)
		}
	}
}

func TestLoad_ErrNamesEveryProblemAndWhereItCameFrom(t *testing.T) {
	_, err := loadText("ack_wiat: 5s\nbudget: 0\ndata: ${NOT_THERE}\n",
		[]string{"MANDRILL_GRACE=1", "MANDRILL_GRAC=1s"},
		map[string][]string{"log.level": {"loud"}, "group": {"web", "b c"}})
	want := []string{
		`file m.yaml:1:1: unknown key "ack_wiat"; did you mean ack_wait?`,
		`file m.yaml:3:7: data: uses ${NOT_THERE}, which is not set: set it, or write ${NOT_THERE:-default}`,
		`environment MANDRILL_GRAC: unknown variable; did you mean MANDRILL_GRACE?`,
		`flag --group: group: "b c" is not a group: letters, digits and '-', 1 to 63 bytes`,
		`file m.yaml:2:9: budget: "0" is less than 1`,
		`environment MANDRILL_GRACE: grace: "1" is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m`,
		`flag --log-level: log.level: "loud" is none of trace, debug, info, warn, error`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Error(diff)
	}
	var p *Problem
	if !errors.As(err, &p) || p.Origin != "file m.yaml:1:1" {
		t.Errorf("got problem %+v, want the first one", p)
	}
}

// A wrong value must not lie in wait until the flag that hides it is left out.
func TestLoad_ErrInTheFileAlsoWhereAFlagReplacesIt(t *testing.T) {
	_, err := loadText("ack_wait: 5", nil, map[string][]string{"ack_wait": {"5s"}})
	if err == nil {
		t.Error("got no error, want the file's value refused")
	}
}

func TestLoad_ErrFileThatCannotBeRead(t *testing.T) {
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml"), Environ: home})
	if !errors.Is(err, os.ErrNotExist) || !errors.As(err, new(*UsageError)) {
		t.Errorf("got %v, want a *UsageError that wraps os.ErrNotExist", err)
	}
}

func TestLoad_ExampleFile(t *testing.T) {
	got, err := Load(Sources{File: "testdata/mandrill.yaml", Environ: slices.Concat(home, []string{"NATS_TOKEN=hunter2"})})
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		Groups []restart.Group
		CA     string
		Token  string
		Retry  Retry
	}
	want := short{[]restart.Group{"web", "batch"}, "/etc/mandrill/ca.pem", "hunter2", Retry{2e9, 600e9, 5}}
	c := got.Config
	if diff := cmp.Diff(want, short{c.Groups, c.TLS.CA, string(c.Token), c.Retry}); diff != "" {
		t.Error(diff)
	}
}

// A log line or a pasted error message is how secrets get out.
func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "hunter2"
	t.Run("InWhatIsInEffect", func(t *testing.T) {
		for _, text := range []string{
			"nats: nats://ann:hunter2@a:4222,tls://hunter2@b,hunter2@c\ntoken: hunter2",
			"nats: nats://ann:hunter2/%40hunter2@a\ntoken: hunter2",
			"nats: nats://ann:a@hunter2@a",
			"nats: nats://a\ntoken: ${SECRET}",
			"webhook: {secret: hunter2}",
			"groups: {web: {webhook: {secret: hunter2}}}",
			"webhook: {secret: hunter2}\ngroups: {web: {budget: 1}}",
			"notify: {url: 'https://a/hunter2', secret: hunter2, template: '{\"key\": \"${SECRET}\"}'}",
			"monitors: {a: {type: http, every: 1s, url: 'https://a/?token=hunter2', headers: {A: Bearer ${SECRET}}}}",
			"monitors: {a: {type: http, every: 1s, url: 'https://a/#hunter2'}}\ngroups: {web: {budget: 1}}",
		} {
			got, err := loadText(text, []string{"SECRET=" + secret}, nil)
			if err != nil {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q: error: %v", text, err)
				}
				continue
			}
			asJSON, err := json.Marshal(got.Config)
			if err != nil {
				t.Fatal(err)
			}
			web := got.Config.For("web")
			for _, printed := range []string{
				fmt.Sprintf("%v %+v %#v", got.Config, got.Config, got.Config), fmt.Sprint(got.Settings()), string(asJSON),
				fmt.Sprintf("%v %+v %#v", &got.Config, &got.Config, &got.Config), fmt.Sprintf("%v %+v %#v", web, web, web),
			} {
				if strings.Contains(printed, secret) {
					t.Errorf("%q: printed %s", text, printed)
				}
			}
		}
	})
	t.Run("InErrors", func(t *testing.T) {
		for _, text := range []string{
			"token: hunter2\n",
			"token: [hunter2]\n",
			"token: {a: hunter2}\n",
			"token: hunter2: hunter2\n",
			"token: |hunter2\n",
			"token: >hunter2\n  hunter2\n",
			"token: \"hunter2\n",
			"token: \"hunter2\\q\"\n",
			"token: 'hunter2\n",
			"token: @hunter2\n",
			"token: !hunter2 a\n",
			"token: &hunter2 a\n",
			"token: *hunter2\n",
			"token: %hunter2\n",
			"token: {hunter2\n",
			"token: [hunter2\n",
			"token: a\ntoken: hunter2\n",
			"token: $hunter2\n",
			"token: ${hunter2\n",
			"token: a${hunter2 }\n",
			"token: |\n  hunter2\n",
			"tokne: hunter2\n",
			"nats: http://ann:hunter2@a\n",
			"nats: nats://ann:hunter2/@a\n",
			"nats: nats://ann:hunter2#@a\n",
			"nats: nats://ann:hunter2?@a\n",
			"nats: nats://ann:%hunter2@a\n",
			"nats: nats://ann:hunter2@a\nnats_context: b\n",
			"database: mysql://ann:hunter2@a/b\n",
			"database: postgres://ann:hunter2@a\n",
			"database: postgres://ann:hunter2/@a/b\n",
			"database: postgres://ann:1/hunter2@a/b\n",
			"database: postgres://ann:hunter2?@a/b\n",
			"database: postgres://ann:1?hunter2@a/b\n",
			"database: postgres://ann:hunter2#@a/b\n",
			"database: postgres://ann:%hunter2@a/b\n",
			"database: host=a password=hunter2\n",
			"ack_wait: ${SECRET}\n",
			"group: ${SECRET}!\n",
			"domain: ${SECRET}!\n",
			"log: {level: '${SECRET}'}\n",
			"webhook: {secret: [hunter2]}\n",
			"webhook: {secret: \"hunter2\\n\"}\n",
			"groups: {web: {webhook: {secret: [hunter2]}}}\n",
			"groups: {web: {webhook: {secret: \"hunter2\\n\"}}}\n",
			"groups: {web: {webhook: {secret: \"hunter2\", max_delay: 1}}}\n",
			"groups: {web: {webhook: {secret: hunter2}, driver: {kind: webhook}}}\n",
			"command: {env: [A=hunter2]}\n",
			"command: {env: A=hunter2}\n",
			"deny: ['${SECRET}', \"\\n${SECRET}\"]\n",
			"notify: {url: 'https://ann:hunter2@a'}\n",
			"notify: {url: 'hunter2'}\n",
			"notify: {url: 'https://a/#hunter2'}\n",
			"notify: {url: 'https://a/%hunter2'}\n",
			"notify: {secret: \"hunter2\\n\"}\n",
			"notify: {template: 'hunter2'}\n",
			"notify: {template: '{\"key\": \"hunter2\", \"a\": {{nope}}}'}\n",
			"notify: {template: '{\"key\": \"hunter2\", \"a\": {{text }'}\n",
			"notify: {template: '{\"a\": {{text, \"key\": \"hunter2\"'}\n",
			"notify: {template: '{\"a\": {{text}, \"key\": \"hunter2\"}}'}\n",
			"notify: {template: '{\"key\": \"hunter2 {{text}}\"}'}\n",
			"notify: {template: '{\"a\": {{text}} \"hunter2\"}'}\n",
			"notify: {template: '{\"a\": hunter2}'}\n",
			"notify: {template: '{{${SECRET}}}'}\n",
			"notify: {template: '{\"a\": {{${SECRET} 1}}}'}\n",
			"notify: {on: ['${SECRET}']}\n",
			"monitors: {a: {type: http, every: 1s, url: 'hunter2'}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'https://ann:hunter2@a'}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'https://a/%hunter2'}}\n",
			"monitors: {a: {type: http, every: 1s, url: ['https://a/?hunter2']}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a/?hunter2', min_tls_left: 1h}}\n",
			"monitors: {a: {type: http, every: 1s, timeout: 2s, url: 'http://a/?hunter2'}}\n",
			"monitors: {a: {type: http, url: 'http://a/?hunter2', headers: {A: hunter2}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: {A: \"hunter2\\n\"}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: {A: [hunter2]}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: {A: {b: hunter2}}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: 'A: hunter2'}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: [A: hunter2]}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: {A: x, A: hunter2}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', headers: {a: x, A: hunter2}}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', matches: '(${SECRET}'}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', matches: '(?${SECRET})'}}\n",
			"monitors: {a: {type: http, every: 1s, url: 'http://a', method: '${SECRET} x'}}\n",
			"monitors: {a: {type: '${SECRET}', every: 1s}}\n",
			"monitors: {a: {type: tcp, every: 1s, url: hunter2, address: '${SECRET}'}}\n",
			"monitors: {a: {type: command, every: 1s, command: a, env: [A=hunter2]}}\n",
		} {
			_, err := loadText(text, []string{"SECRET=" + secret}, nil)
			if err == nil {
				t.Errorf("%q: got no error", text)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", text, err)
			}
		}
		_, err := loadText("", []string{
			"MANDRILL_TOKEN=hunter2", "MANDRILL_TOKNE=hunter2", "MANDRILL_NATS=x://hunter2@a",
			"MANDRILL_WEBHOOK_SECRET=hunter2\n", `MANDRILL_COMMAND_ENV=["A=hunter2"]`,
		}, map[string][]string{"token": {"hunter2\n"}, "nats": {"x://hunter2@b"}, "webhook.secret": {"hunter2\n"}, "command.env": {"[hunter2"}})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("got %v, want an error without the secret", err)
		}
	})
}

// FuzzLoad: whatever stands in the file, the worker does not die of it, and what it says has a place.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("testdata/mandrill.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, text := range []string{
		"", "---\n", "a: &x 1\nb: *x", "<<: {a: b}", "? a\n: b", "group:\n- a\n- b", "%YAML 1.2\n---\n", "token: |+2\n a",
		"monitors: {a: {type: http, every: 1s, url: 'https://a', headers: {A: b}, matches: '('}}", "monitors:\n  a:\n    type: tcp\n    ? x\n",
		"monitors: {a: ~, A: {}, b: [], a: {type: command, command: [~, {}], every: 1s}}", "monitors: {a: {headers: [a], pause: {}, type: {}}}",
		"monitors: {a: &x {type: tcp}, b: *x, c: {<<: *x}}", "notify: {template: '{{a\n}}', on: {}}",
		"a: !!binary x", "groups: {web: {budget: 1}, web: [], ? : x}", "groups: {group: {groups: {a: b}}}", "deny: [[a], {b}, *c]", "\xff", "retry: {base: ${X:-$$}}", "...", "\x00", "- - - a", "{a: [}", "token: \"\\", "k: >-\n\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := loadText(string(data), nil, nil)
		if err == nil {
			return
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if !strings.HasPrefix(line, "file m.yaml:") {
				t.Errorf("no place in %q", line)
			}
		}
	})
}
