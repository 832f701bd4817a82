package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// D08: the file is strict.
func TestFile_ErrNamesThePlace(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"UnknownKey":        {"domain: a\nack_wiat: 5s", `2:1: unknown key "ack_wiat"; did you mean ack_wait?`},
		"UnknownNestedKey":  {"retry:\n  bass: 5s", `2:3: unknown key "retry.bass"; did you mean retry.base?`},
		"UnknownSection":    {"retyr:\n  base: 5s", `1:1: unknown key "retyr"; did you mean retry?`},
		"OtherCase":         {"Domain: a", `1:1: unknown key "Domain"; did you mean domain?`},
		"NothingNear":       {"colour: red", `1:1: unknown key "colour"`},
		"FlatKey":           {"retry.base: 5s", `1:1: unknown key "retry.base": write base below retry, indented`},
		"MergeKey":          {"<<: {domain: a}", `1:1: unknown key "<<"`},
		"DuplicateKey":      {"domain: a\ngrace: 1s\ndomain: b", `3:1: key "domain" is already there, at m.yaml:1:1`},
		"DuplicateQuoted":   {"domain: a\n\"domain\": b", `2:1: key "domain" is already there, at m.yaml:1:1`},
		"DuplicateSection":  {"retry: {base: 1s}\nretry: {cap: 1m}", `2:1: key "retry" is already there, at m.yaml:1:1`},
		"DuplicateNested":   {"retry:\n  base: 1s\n  base: 2s", `3:3: key "retry.base" is already there, at m.yaml:2:3`},
		"TwoDocuments":      {"domain: a\n---\ndomain: b", `2:1: a second document begins here; there must be one`},
		"Scalar":            {"hello", `1:1: settings are written as key: value`},
		"List":              {"- domain: a", `1:1: settings are written as key: value`},
		"ListForOne":        {"domain: [a]", `1:9: domain: takes one value, not a list`},
		"MapForOne":         {"domain: {a: b}", `1:9: domain: takes one value, not a section`},
		"ListInList":        {"group: [[a]]", `1:9: group: takes plain text; anchors, aliases, tags and lists in lists are not known`},
		"MapInList":         {"group: [{a: b}]", `1:9: group: takes one value, not a section`},
		"BracesInList":      {"command:\n  probe:\n  - /p\n  - {host}", `4:5: command.probe: takes texts, and to YAML this is a section: put quotes around it`},
		"ListInTexts":       {"deny: [[a]]", `1:8: deny: takes plain text; anchors, aliases, tags and lists in lists are not known`},
		"NothingForTexts":   {"deny:\ngrace: 1s", `1:6: deny: has no value; leave the key out for the default`},
		"VariableInTexts":   {"deny:\n- a\n- x${NOPE}", `3:3: deny: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`},
		"NothingInList":     {"group:\n- web\n- ~", `3:3: group: has no value; leave the key out for the default`},
		"OneForSection":     {"tls: on", `1:6: tls: is a section: write ca, cert, key below it, indented`},
		"NoValue":           {"domain:\ngrace: 1s", `1:8: domain: has no value; leave the key out for the default`},
		"Anchor":            {"domain: &a b", `1:9: domain: takes plain text; anchors, aliases, tags and lists in lists are not known`},
		"Tag":               {"domain: !!str b", `1:9: domain: takes plain text; anchors, aliases, tags and lists in lists are not known`},
		"NotYAML":           {"domain: a\nretry: {base: 1s", `2:8: is not YAML: could not find flow mapping end token '}'`},
		"Tab":               {"retry:\n\tbase: 1s", `2:1: is not YAML: found character '	' that cannot start any token`},
		"NotUTF8":           {"domain: a\ngrace: \xff", `2:1: is not UTF-8`},
		"TooLong":           {strings.Repeat("#", maxFile+1), `1:1: has 65537 bytes, more than 65536`},
		"VariableNotSet":    {"domain: a\ncreds: x${NOPE}", `2:8: creds: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`},
		"VariableInSection": {"tls:\n  ca: ${NOPE}", `2:7: tls.ca: uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{"file m.yaml:" + tt.want}, problemsOf(t, tt.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFile_NothingInItIsFine(t *testing.T) {
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n", "---\n# nothing\n", "~\n", "{}\n", "retry:\n  # base: 1s\n", "retry: {}\n"} {
		if got := problemsOf(t, text); got != nil {
			t.Errorf("%q: got %q, want no problem", text, got)
		}
	}
}

func TestFile_ListMayBeOneOrMany(t *testing.T) {
	for text, want := range map[string]string{
		"group: web":              "web",
		"group: [web, batch]":     "web,batch",
		"group:\n- web\n- batch":  "web,batch",
		"group: ['${G}', \"db\"]": "x,db",
		"group: 5":                "5",
	} {
		got, err := loadText(text, []string{"G=x"}, nil)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := lookup("group").get(&got.Config); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// Digits in a token are text: a leading zero or a great length must survive.
func TestFile_NumbersAreKeptAsWritten(t *testing.T) {
	for _, token := range []string{"007", "1e3", "0x1f", "123456789012345678901234567890", "1_000", "true", ".inf"} {
		got, err := loadText("nats: a\ntoken: "+token, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", token, err)
		} else if string(got.Config.Token) != token {
			t.Errorf("got %s, want %s", string(got.Config.Token), token)
		}
	}
}

// D08: what a variable holds is a value and nothing more: it brings no keys, no comments and no further variables.
func TestFile_VariableCannotChangeTheFile(t *testing.T) {
	evil := "a # b: {c: ${HOME}} $$"
	got, err := loadText("nats: a\ntoken: ${EVIL}\nbudget: ${N}\n# ${IN_A_COMMENT}\n", []string{"EVIL=" + evil, "N=7"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Config.Token) != evil || got.Config.Budget != 7 {
		t.Errorf("got token %q and budget %d, want %q and 7", string(got.Config.Token), got.Config.Budget, evil)
	}
}

// D08
func TestSubstitute(t *testing.T) {
	env := map[string]string{"A": "1", "B_2": "$A ${A}", "EMPTY": ""}
	const (
		lone   = "has a lone dollar: write $$ for a dollar, ${VAR} for a variable"
		open   = "has a ${ that no } closes; a default cannot hold another ${}"
		form   = "has a ${} that is neither ${VAR} nor ${VAR:-default}"
		absent = "uses ${NOPE}, which is not set: set it, or write ${NOPE:-default}"
	)
	for _, tt := range []struct{ text, want, err string }{
		{text: "", want: ""},
		{text: "plain {} }", want: "plain {} }"},
		{text: "${A}", want: "1"},
		{text: "x${A}y${A}z", want: "x1y1z"},
		{text: "${B_2}", want: "$A ${A}"},
		{text: "${EMPTY}", want: ""},
		{text: "${EMPTY:-d}", want: "d"},
		{text: "${NOPE:-d}", want: "d"},
		{text: "${NOPE:-}", want: ""},
		{text: "${NOPE:-a:-b}", want: "a:-b"},
		{text: "${NOPE:-$$}", want: "$"},
		{text: "${A:-d}", want: "1"},
		{text: "$$", want: "$"},
		{text: "$${A}", want: "${A}"},
		{text: "$$${A}", want: "$1"},
		{text: "$$$$", want: "$$"},
		{text: "${NOPE}", err: absent},
		{text: "$", err: lone},
		{text: "$$$", err: lone},
		{text: "$A", err: lone},
		{text: "${NOPE:-$A}", err: lone},
		{text: "${A:-$A}", err: lone}, // wrong also while it is not used
		{text: "${", err: open},
		{text: "${A", err: open},
		{text: "${NOPE:-${A}}", err: open},
		{text: "${}", err: form},
		{text: "${:-d}", err: form},
		{text: "${1}", err: form},
		{text: "${A-d}", err: form},
		{text: "${A:d}", err: form},
		{text: "${ A }", err: form},
	} {
		got, err := substitute(tt.text, env)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != tt.want || message != tt.err {
			t.Errorf("%q: got %q, error %q; want %q, error %q", tt.text, got, message, tt.want, tt.err)
		}
	}
}
