package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// groupLines returns the settings that stand in sections of groups, as people see them.
func groupLines(l *Loaded) []string {
	var lines []string
	for _, s := range l.Settings()[len(table):] {
		lines = append(lines, fmt.Sprintf("%s %s (%s)", s.Key, s.Value, s.Origin))
	}
	return lines
}

func TestGroup_SectionIsForItsGroupAlone(t *testing.T) {
	got, err := loadText("budget: 7\nretry: {cap: 10m}\ndeny: [a, b]\ngroups:\n  web: {budget: 5, retry: {base: 2s}, deny: []}\n  batch: {}\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		Budget int
		Retry  Retry
		Deny   []string
		Grace  string
	}
	in := func(c Config) short { return short{c.Budget, c.Retry, c.Deny, c.Grace.String()} }
	general := short{7, Retry{1e9, 600e9, 3}, []string{"a", "b"}, "25s"}
	for group, want := range map[restart.Group]short{
		"web":   {5, Retry{2e9, 600e9, 3}, nil, "25s"},
		"batch": general,
		"db":    general,
	} {
		if diff := cmp.Diff(want, in(got.Config.For(group))); diff != "" {
			t.Errorf("%s:\n%s", group, diff)
		}
	}
	if diff := cmp.Diff(general, in(got.Config)); diff != "" {
		t.Error(diff)
	}
	want := []string{
		"groups.web.budget 5 (file m.yaml:5:17)", "groups.web.retry.base 2s (file m.yaml:5:34)", "groups.web.deny [] (file m.yaml:5:45)",
	}
	if diff := cmp.Diff(want, groupLines(got)); diff != "" {
		t.Error(diff)
	}
}

// What may differ is a promise to operators, and what may not would be set for one group and be in effect for none.
func TestGroup_WhatMayDiffer(t *testing.T) {
	var forAll []string
	for _, s := range table {
		if section, _, _ := strings.Cut(s.key, "."); !s.byGroup && !slices.Contains(forAll, section) {
			forAll = append(forAll, section)
		}
	}
	want := []string{
		"group", "domain", "nats", "nats_context", "creds", "token", "tls", "data", "sync", "database", "history", "replicas",
		"ack_wait", "max_lease", "max_in_flight", "max_deliveries", "grace", "save_timeout", "publish", "self",
		"slow_phase", "monitor", "notify", "ops", "lag", "log",
	}
	if diff := cmp.Diff(want, forAll); diff != "" {
		t.Error(diff)
	}
}

func TestGroup_StrongerSourceWins(t *testing.T) {
	for _, s := range table {
		section, _, nested := strings.Cut(s.key, ".")
		inGroup := fmt.Sprintf("groups: {web: {%s}}", inFile(s.key, samples[s.key][1]))
		if !s.byGroup {
			refused := s.key
			if nested {
				refused = section
			}
			want := fmt.Sprintf("file m.yaml:1:16: groups.web.%s: is for all groups: write it outside of groups", refused)
			if diff := cmp.Diff([]string{want}, problemsOf(t, inGroup)); diff != "" {
				t.Errorf("%s:\n%s", s.key, diff)
			}
			continue
		}
		t.Run(s.key, func(t *testing.T) {
			sample := samples[s.key]
			text := inFile(s.key, sample[0]) + "\n" + inGroup
			check := func(l *Loaded, err error, want, origin string) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				lines := groupLines(l)
				shown := want
				if s.key == "webhook.secret" {
					shown = mask
				}
				if len(lines) != 1 || !strings.HasPrefix(lines[0], "groups.web."+s.key+" "+shown+" ("+origin) {
					t.Errorf("got %q, want %s from %s", lines, shown, origin)
				}
				web := l.Config.For("web")
				if got := s.get(&web); got != shown {
					t.Errorf("got %s, want %s", got, shown)
				}
			}
			l, err := loadText(text, company[s.key], nil)
			check(l, err, sample[1], "file m.yaml:2:")
			if got := s.get(&l.Config); got != sample[0] && got != mask {
				t.Errorf("for all: got %s, want %s", got, sample[0])
			}
			l, err = loadText(text, append(slices.Clone(company[s.key]), s.env()+"="+sample[0]), nil)
			check(l, err, sample[0], "environment ")
			l, err = loadText(text, append(slices.Clone(company[s.key]), s.env()+"="+sample[0]), map[string][]string{s.key: {sample[2]}})
			check(l, err, sample[2], "flag ")
		})
	}
}

// One flag makes all groups harmless, whatever the file says of each.
func TestGroup_FlagTriesEverythingHarmlessly(t *testing.T) {
	got, err := Load(Sources{File: "testdata/groups.yaml", Environ: home, Flags: map[string][]string{"driver.kind": {"simulated"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range append(got.Config.Groups, "another") {
		c := got.Config.For(group)
		if c.Driver.Kind != DriverSimulated || c.StableFor != 0 || c.Driver.Slots != 1000 {
			t.Errorf("%s: got %+v, stable for %s", group, c.Driver, c.StableFor)
		}
	}
}

func TestGroup_ExampleFile(t *testing.T) {
	got, err := Load(Sources{File: "testdata/groups.yaml", Environ: home})
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		Kind        string
		Slots       int
		Budget      int
		StableFor   string
		Probe, Open []string
		Zone        string
		DryRun      bool
	}
	open := []string{"mon-fri 22:00-04:00", "sat,sun 00:00-24:00"}
	want := []short{
		{"ssh", 50, 5, "10s", nil, nil, "Europe/Berlin", false},
		{"command", 50, 20, "10s", []string{"/usr/local/bin/boot-id", "{host}"}, open, "Europe/Berlin", false},
		{"ssh", 50, 20, "10s", nil, open, "Europe/Berlin", true},
	}
	var all []short
	for _, group := range got.Config.Groups {
		c := got.Config.For(group)
		all = append(all, short{c.Driver.Kind, c.Driver.Slots, c.Budget, c.StableFor.String(), c.Command.Probe, c.Window.Open, c.Window.Zone, c.DryRun})
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]restart.Group{"web", "batch", "lab"}, got.Config.Groups); diff != "" {
		t.Error(diff)
	}
}

func TestGroup_DefaultsFollowTheGroupsDriver(t *testing.T) {
	got, err := loadText("driver: {kind: docker}\ngroups: {lab: {driver: {kind: simulated}}, web: {budget: 3}}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[restart.Group]string{"lab": "2000 1000 0s", "web": "3 50 10s", "db": "20 50 10s"} {
		c := got.Config.For(group)
		if got := fmt.Sprint(c.Budget, c.Driver.Slots, c.StableFor); got != want {
			t.Errorf("%s: got %s, want %s", group, got, want)
		}
	}
	for _, s := range got.Settings() {
		if (s.Key == "budget" || s.Key == "stable_for" || s.Key == "driver.slots") && s.Origin != "default" {
			t.Errorf("got %+v, want it a default", s)
		}
	}
	got, err = loadText("driver: {kind: docker}\nbudget: 2000", nil, nil)
	if err != nil || got.Config.Budget != 2000 {
		t.Errorf("got %v, want what is set left alone, though it is the other driver's default", err)
	}
}

func TestGroup_SectionsAreServedUnlessGroupsAreNamed(t *testing.T) {
	const sections = "groups: {web: {}, batch: ~, db: {budget: 1}}\n"
	for _, tt := range []struct {
		text    string
		environ []string
		flags   map[string][]string
		want    string
		origin  string
	}{
		{sections, nil, nil, "web,batch,db", "file m.yaml:1:1"},
		{sections + "group: [db, lab]", nil, nil, "db,lab", "file m.yaml:2:8"},
		{sections, []string{"MANDRILL_GROUP=lab"}, nil, "lab", "environment MANDRILL_GROUP"},
		{sections, nil, map[string][]string{"group": {"db"}}, "db", "flag --group"},
		{"groups: {}", nil, nil, "default", "default"},
		{"groups:\n  # web: {}\n", nil, nil, "default", "default"},
	} {
		got, err := loadText(tt.text, tt.environ, tt.flags)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if s := got.Settings()[0]; s != (Setting{"group", tt.want, tt.origin}) {
			t.Errorf("%q: got %+v, want %s from %s", tt.text, s, tt.want, tt.origin)
		}
		if web := got.Config.For("db"); strings.Contains(tt.text, "db: {") && web.Budget != 1 {
			t.Errorf("%q: got budget %d for a section, served or not, want 1", tt.text, web.Budget)
		}
	}
}

func TestGroup_ErrSection(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"groups: {web: {bugdet: 5}}", `1:16: unknown key "groups.web.bugdet"; did you mean budget?`},
		{"groups: {web: {retry: {bass: 5s}}}", `1:24: unknown key "groups.web.retry.bass"; did you mean retry.base?`},
		{"groups: {web: {retry.base: 5s}}", `1:16: unknown key "groups.web.retry.base": write base below retry, indented`},
		{"groups: {web: {ack_wiat: 5s}}", `1:16: unknown key "groups.web.ack_wiat"`},
		{"grups: {web: {}}", `1:1: unknown key "grups"; did you mean groups?`},
		{"groups: {web: {groups: {}}}", `1:16: unknown key "groups.web.groups"`},
		{"groups: {web: {monitors: {}}}", `1:16: groups.web.monitors: is for all groups: write it outside of groups`},
		{"groups: {web: {log: {level: info}}}", `1:16: groups.web.log: is for all groups: write it outside of groups`},
		{"groups: {web: {budget: 5, budget: 6}}", `1:27: key "groups.web.budget" is already there, at m.yaml:1:16`},
		{"groups: {web: {ssh: {port: 5, port: 6}}}", `1:31: key "groups.web.ssh.port" is already there, at m.yaml:1:22`},
		{"groups: {web: {}, web: {}}", `1:19: key "groups.web" is already there, at m.yaml:1:10`},
		{"groups: {}\ngroups: {}", `2:1: key "groups" is already there, at m.yaml:1:1`},
		{"groups: {a b: {}}", `1:10: groups: "a b" is not a group: letters, digits and '-', 1 to 63 bytes`},
		{"groups: {'${G}': {}}", `1:10: groups: "${G}" is not a group: letters, digits and '-', 1 to 63 bytes`},
		{"groups: [web]", `1:9: groups: is a section: write the groups' names below it, indented`},
		{"groups: web", `1:9: groups: is a section: write the groups' names below it, indented`},
		{"groups: {web: 5}", `1:15: groups.web: is a section: write settings below it, indented`},
		{"groups: {web: {ssh: on}}", `1:21: groups.web.ssh: is a section: write user, port, key, agent, known_hosts, jump, reboot, ready, boot_id, uptime, timeout below it, indented`},
		{"groups: {web: {budget: 0}}", `1:24: groups.web.budget: "0" is less than 1`},
		{"groups: {web: {budget: [1]}}", `1:24: groups.web.budget: takes one value, not a list`},
		{"groups: {web: {deny: ['${NOPE}']}}", `1:23: groups.web.deny: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`},

		// What a group lacks or contradicts, together with what is for all.
		{"retry: {cap: 1s}\ngroups: {web: {retry: {base: 2s}}}", `2:30: groups.web.retry.base: 2s is more than groups.web.retry.cap, which is 1s (file m.yaml:1:14)`},
		{
			"groups: {web: {verify_timeout: 59m}}",
			`default: max_lease: 1h does not leave a slow restart the time to be verified: it is less than the sum of groups.web.restart_timeout, which is 2m (default) and groups.web.verify_timeout, which is 59m (file m.yaml:1:32)`,
		},
		{"retry: {base: 10m}\ngroups: {web: {budget: 1}, db: {}}", `1:15: retry.base: 10m is more than retry.cap, which is 5m (default)`},
		{"retry: {base: 10m}\ngroups: {web: {retry: {cap: 20m}}}", `1:15: retry.base: 10m is more than retry.cap, which is 5m (default)`},
		{"budget: 0\ngroups: {web: {budget: 1}, db: {}}", `1:9: budget: "0" is less than 1`},
		{"groups: {web: {driver: {kind: webhook}, webhook: {probe_url: a, restart_url: b}}}", `default: groups.web.webhook.max_delay: is missing; it is needed by groups.web.driver.kind, which is webhook (file m.yaml:1:31)`},
		{"groups: {web: {driver: {kind: ssh}, ssh: {key: /k, known_hosts: []}}}\ngroup: db", `1:65: groups.web.ssh.known_hosts: is missing; it is needed by groups.web.driver.kind, which is ssh (file m.yaml:1:31)`},
		// A problem that is told already brings no further one.
		{"groups: {web: {driver: {kind: ssh}, ssh: on}}", `1:42: groups.web.ssh: is a section: write user, port, key, agent, known_hosts, jump, reboot, ready, boot_id, uptime, timeout below it, indented`},
		{"groups: {web: {driver: {kind: command}, command: {probe: a, restart: '${NOPE}', max_delay: 1s}}}", `1:70: groups.web.command.restart: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`},
		{"groups: {web: {driver: {kind: shh}}}", `1:31: groups.web.driver.kind: "shh" is none of simulated, command, ssh, docker, webhook`},
	} {
		want := tt.want
		if !strings.HasPrefix(want, "default: ") {
			want = "file m.yaml:" + want
		}
		if diff := cmp.Diff([]string{want}, problemsOf(t, tt.text)); diff != "" {
			t.Errorf("%q:\n%s", tt.text, diff)
		}
	}
}

func TestGroup_ErrEveryGroupThatHasAProblem(t *testing.T) {
	_, err := loadText("ssh: {user: ann}\ngroups:\n  web: {ssh: {key: /k}}\n  db: {ssh: {key: /k, known_hosts: /h}, budget: x}\n  lab: {}\n",
		nil, map[string][]string{"driver.kind": {"ssh"}})
	want := []string{
		`default: groups.web.ssh.known_hosts: is missing; it is needed by groups.web.driver.kind, which is ssh (flag --driver-kind)`,
		`file m.yaml:4:49: groups.db.budget: "x" is not an integer`,
		`default: groups.lab.ssh.known_hosts: is missing; it is needed by groups.lab.driver.kind, which is ssh (flag --driver-kind)`,
		`default: groups.lab.ssh.key: is missing, and so is groups.lab.ssh.agent; it is needed by groups.lab.driver.kind, which is ssh (flag --driver-kind)`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Error(diff)
	}
}

// A driver that lacks what it needs is found before the worker starts, not at the first host.
func TestDriver_NeedsItsSettings(t *testing.T) {
	missing := func(key, by string) string {
		return "default: " + key + "; it is needed by " + by
	}
	const compare = "command.compare, which is at_acceptance (default)"
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"driver: {kind: simulated}", nil},
		{"driver: {kind: docker}", nil},
		{"driver: {kind: command}", []string{
			missing("command.probe: is missing", "driver.kind, which is command (file m.yaml:1:16)"),
			missing("command.restart: is missing", "driver.kind, which is command (file m.yaml:1:16)"),
			missing("command.max_delay: is missing", compare),
		}},
		{"driver: {kind: command}\ncommand: {probe: a, restart: b}", []string{missing("command.max_delay: is missing", compare)}},
		{"driver: {kind: command}\ncommand: {probe: a, restart: b, max_delay: 1s}", nil},
		{"driver: {kind: command}\ncommand: {probe: a, restart: b, compare: at_effect}", nil},
		{"driver: {kind: ssh}", []string{
			missing("ssh.known_hosts: is missing", "driver.kind, which is ssh (file m.yaml:1:16)"),
			missing("ssh.key: is missing, and so is ssh.agent", "driver.kind, which is ssh (file m.yaml:1:16)"),
		}},
		{"driver: {kind: ssh}\nssh: {known_hosts: a, key: k}", nil},
		{"driver: {kind: ssh}\nssh: {known_hosts: [a, b], agent: k}", nil},
		{"driver: {kind: webhook}", []string{
			missing("webhook.probe_url: is missing", "driver.kind, which is webhook (file m.yaml:1:16)"),
			missing("webhook.restart_url: is missing", "driver.kind, which is webhook (file m.yaml:1:16)"),
			missing("webhook.max_delay: is missing", "driver.kind, which is webhook (file m.yaml:1:16)"),
		}},
		{"driver: {kind: webhook}\nwebhook: {probe_url: a, restart_url: b, max_delay: 1s}", nil},
		// The driver of all groups may be left to be completed by each, where each does.
		{"driver: {kind: ssh}\nssh: {key: k}\ngroups: {web: {ssh: {known_hosts: a}}}", nil},
		{"driver: {kind: ssh}\nssh: {key: k}\ngroups: {web: {ssh: {known_hosts: a}}}\ngroup: [web, db]", []string{
			missing("ssh.known_hosts: is missing", "driver.kind, which is ssh (file m.yaml:1:16)"),
		}},
	} {
		if diff := cmp.Diff(tt.want, problemsOf(t, tt.text)); diff != "" {
			t.Errorf("%q:\n%s", tt.text, diff)
		}
	}
}
