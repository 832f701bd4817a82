package config

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

// An argument that is torn apart at a comma is another command.
func TestList_IsTheSameWhereverItStands(t *testing.T) {
	for _, tt := range []struct {
		file     string
		variable string
		flags    []string
		want     []string
	}{
		{file: `self: a,b`, variable: "a,b", flags: []string{"a,b"}, want: []string{"a,b"}},
		{file: `self: [a, "b,c"]`, variable: `["a","b,c"]`, flags: []string{"a", "b,c"}, want: []string{"a", "b,c"}},
		{file: "self:\n- a\n- b,c", variable: `[a, "b,c"]`, flags: []string{`["a","b,c"]`}, want: []string{"a", "b,c"}},
		{file: `self: ["[a"]`, variable: `["[a"]`, flags: []string{`["[a"]`}, want: []string{"[a"}},
		{file: `self: "[a"`, variable: `['[a']`, flags: []string{`["[a"]`}, want: []string{"[a"}},
		{file: `self: [a, b, c, d]`, variable: "[a,b,c,d]", flags: []string{"a", `["b","c"]`, "", "d"}, want: []string{"a", "b", "c", "d"}},
		{file: `self: [007, true, 1e3]`, variable: `[007, true, 1e3]`, flags: []string{"007", "true", "1e3"}, want: []string{"007", "true", "1e3"}},
		{file: `self: [mon-fri 22:00-04:00]`, variable: `mon-fri 22:00-04:00`, flags: []string{"[mon-fri 22:00-04:00]"}, want: []string{"mon-fri 22:00-04:00"}},
		{file: `self: ["\u00fc\"\\"]`, variable: `["\u00fc\"\\"]`, flags: []string{`ü"\`}, want: []string{`ü"\`}},
		{file: `self: []`, variable: "", flags: []string{""}},
		{file: `self: ""`, variable: "[]", flags: []string{"[]"}},
		{file: `self: ${NONE:-}`, variable: "[ ]", flags: []string{"", ""}},
		{file: `self: ["${G}", "x${G}"]`, variable: `["a,[b","xa,[b"]`, flags: []string{"a,[b", "xa,[b"}, want: []string{"a,[b", "xa,[b"}},
		{file: `self: ${L}`, variable: `["[a,b]"]`, flags: []string{`["[a,b]"]`}, want: []string{"[a,b]"}}, // a variable in the file is a value and nothing more
	} {
		const weaker = "self: weaker"
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		AddFlags(flags, "self")
		for _, text := range tt.flags {
			if err := flags.Parse([]string{"--self", text}); err != nil {
				t.Fatal(err)
			}
		}
		for _, source := range []struct {
			name, file string
			environ    []string
			flags      map[string][]string
		}{
			{"file", tt.file, []string{"G=a,[b", "L=[a,b]"}, nil},
			{"environment", weaker, []string{"MANDRILL_SELF=" + tt.variable}, nil},
			{"flag", weaker, []string{"MANDRILL_SELF=weaker"}, ChangedFlags(flags)},
		} {
			got, err := loadText(source.file, source.environ, source.flags)
			if err != nil {
				t.Errorf("%s: %v", source.name, err)
			} else if diff := cmp.Diff(tt.want, got.Config.Self); diff != "" {
				t.Errorf("%s, %+v:\n%s", source.name, source, diff)
			}
		}
	}
}

func TestList_ErrBracketsThatHoldNoList(t *testing.T) {
	for _, text := range []string{"[", "[a", "[a] b", "[a]\n---\n[b]", "[{host}]", "[[a]]", "[~]", "[a: b]", "[*a]", "[&a b]", "[!!str a]", "[a]: b", "[\xff]", "[a]]", "- a\n[b]"} {
		if got, err := parseList(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
	_, err := loadText("", []string{"MANDRILL_SELF=[a"}, map[string][]string{"only": {"b", "[{c}]"}})
	want := []string{
		`flag --only: only: "[{c}]" is not a list: write ["one","two"], or one text that does not begin with [`,
		`environment MANDRILL_SELF: self: "[a" is not a list: write ["one","two"], or one text that does not begin with [`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Error(diff)
	}
}

// What 'config show' prints can be given back as a variable, and means the same.
func TestList_WhatIsShownCanBeRead(t *testing.T) {
	text := rapid.StringMatching("[ -~äß\u2028😀]{0,8}")
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(text, 0, 4).Draw(t, "items")
		shown := formatList(items)
		got, err := loadText("", []string{"MANDRILL_COMMAND_PROBE=" + shown}, nil)
		if err != nil {
			t.Fatalf("%s: %v", shown, err)
		}
		if !slices.Equal(got.Config.Command.Probe, items) {
			t.Errorf("%s: got %q, want %q", shown, got.Config.Command.Probe, items)
		}
	})
}

func TestBoolean_FlagAloneMeansTrue(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"--dry-run"}, true},
		{[]string{"--dry-run=true"}, true},
		{[]string{"--dry-run=false"}, false},
		{[]string{"--dry-run", "--dry-run=false"}, false},
		{nil, true}, // as the file says
	} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		AddFlags(flags)
		if err := flags.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		got, err := loadText("dry_run: true", nil, ChangedFlags(flags))
		if err != nil || got.Config.DryRun != tt.want {
			t.Errorf("%q: got %t, %v, want %t", tt.args, got != nil && got.Config.DryRun, err, tt.want)
		}
	}
}
