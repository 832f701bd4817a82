package notify_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/notify"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func newTemplate(text string) (*notify.Notifier, error) {
	return notify.New(notify.Config{URL: "https://hooks.example.net/" + token, Template: text})
}

var names = []string{"kind", "group", "host", "id", "cause", "by", "why", "detail", "at", "until", "more", "text", "slack_text"}

// everyName is a template that names all there is.
func everyName() string {
	var members []string
	for _, name := range names {
		members = append(members, `"`+name+`": {{`+name+`}}`)
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// Much of a notice was written by strangers: what they write must not become anything but a text of the message.
func TestTemplate_EveryNameIsReplacedByItsValue(t *testing.T) {
	const rough = "say \"no\"\\\n\t<!channel> & so on\xff"
	const read = "say \"no\"\\\n\t<!channel> & so on\ufffd"
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for name, tc := range map[string]struct {
		notice notify.Notice
		want   map[string]any
	}{
		"everything": {
			notify.Notice{
				Kind: notify.Paused, Group: "web", Host: "cattle-a1b2.example.net", ID: id, Cause: "a" + rough, By: "b" + rough,
				Why: "c" + rough, Detail: "d" + rough, At: at, Until: at.Add(time.Hour).In(time.FixedZone("", 3600)), More: 41,
			},
			map[string]any{
				"kind": "paused", "group": "web", "host": "cattle-a1b2.example.net", "id": "018f4b1e-5c7a-7000-8000-000000000001",
				"cause": "a" + read, "by": "b" + read, "why": "c" + read, "detail": "d" + read,
				"at": "2026-01-02T03:04:05.000006Z", "until": "2026-01-02T04:04:05.000006Z", "more": 41.0,
				"text": `Group web is paused (asay "no"\ <!channel> & so on` + "\ufffd" + `), by bsay "no"\ <!channel> & so on` + "\ufffd" +
					`, until 2026-01-02T04:04:05Z: csay "no"\ <!channel> & so on` + "\ufffd" + `; dsay "no"\ <!channel> & so on` + "\ufffd (and 41 more)",
				"slack_text": `Group web is paused (asay "no"\ &lt;!channel&gt; &amp; so on` + "\ufffd" + `), by bsay "no"\ &lt;!channel&gt; &amp; so on` + "\ufffd" +
					`, until 2026-01-02T04:04:05Z: csay "no"\ &lt;!channel&gt; &amp; so on` + "\ufffd" + `; dsay "no"\ &lt;!channel&gt; &amp; so on` + "\ufffd (and 41 more)",
			},
		},
		"nothing": {
			notify.Notice{Kind: notify.Resumed, At: at},
			map[string]any{
				"kind": "resumed", "group": "", "host": "", "id": "", "cause": "", "by": "", "why": "", "detail": "",
				"at": "2026-01-02T03:04:05.000006Z", "until": nil, "more": 0.0,
				"text": "All groups are resumed", "slack_text": "All groups are resumed",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := newTemplate(everyName())
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(n.Body(tc.notice)), &got); err != nil {
				t.Fatal(err)
			}
			check(t, "values", got, tc.want)
		})
	}
}

func TestTemplate_NameStandsWhereAValueMay(t *testing.T) {
	notice := notify.Notice{Kind: notify.Paused, Group: "web", More: 2}
	for text, want := range map[string]string{
		`{{more}}`:                        `2`,
		" {{ kind }}\n":                   " \"paused\"\n",
		"{{\tkind  }}":                    `"paused"`,
		`[{{group}},{{group}}]`:           `["web","web"]`,
		`{"a":{"b":{{more}}}}`:            `{"a":{"b":2}}`,
		`{"\"":{{more}},"\\":{{more}}}`:   `{"\"":2,"\\":2}`,
		`{"a":"{more} }} {\u007bmore}}"}`: `{"a":"{more} }} {\u007bmore}}"}`,
		`{}`:                              `{}`,
		``:                                `{"text":"Group web is paused (and 2 more)"}`,
	} {
		n, err := newTemplate(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		check(t, text, n.Body(notice), want)
	}
}

func TestTemplate_ErrNamesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": {{kind}`:                       "line 1: a {{ is not closed",
		"{\n\"a\": {{kind}},\n\"b\": {{":      "line 3: a {{ is not closed",
		"{\n\"a\": {{kond}}}":                 "line 2: {{kond}} is none of the names " + strings.Join(names, ", "),
		`{{Kind}}`:                            "line 1: {{Kind}} is none of the names kind, ",
		`{{}}`:                                "line 1: {{}} is none of the names kind, ",
		`{{.Kind}}`:                           "line 1: what stands in {{ }} is not one of the names kind, ",
		`{{json .Kind}}`:                      "line 1: what stands in {{ }} is not one of the names kind, ",
		`{{kind group}}`:                      "line 1: what stands in {{ }} is not one of the names kind, ",
		"{{\nkind}}":                          "line 1: what stands in {{ }} is not one of the names kind, ",
		`{"a": {{{kind}}}}`:                   "line 1: what stands in {{ }} is not one of the names kind, ",
		`{"a": "{{kind}}"}`:                   "line 1: {{kind}} stands inside a JSON string: write it without quotes around it",
		"{\"a\":\n\"it is \\\" {{ kind }}\"}": "line 2: {{kind}} stands inside a JSON string: write it without quotes around it",
		`{"a": {{kind}}, "b": "\\\"{{why}}"}`: "line 1: {{why}} stands inside a JSON string",
		"{\n{{text}}: 1}":                     "line 2: {{text}} stands where no JSON value may",
		`[{{kind}} {{why}}]`:                  "line 1: {{why}} stands where no JSON value may",
		`{{kind}}{{why}}`:                     "line 1: {{why}} stands where no JSON value may",
		`{"a": 1{{more}}}`:                    "line 1: {{more}} stands where no JSON value may",
		`{"a": -{{more}}}`:                    "line 1: {{more}} stands where no JSON value may",
		`{"a": {{more}}0}`:                    "line 1: invalid character '0'",
		"{\n\"a\": {{more}}\n":                "line 2: unexpected end of JSON input",
		`{"a": {{more}}`:                      "line 1: unexpected end of JSON input",
		"{}\n\n{}":                            "line 3: invalid character '{'",
		` `:                                   "line 1: unexpected end of JSON input",
		`resumed`:                             "line 1: invalid character 'r'",
	} {
		_, err := newTemplate(text)
		if want := "template: " + want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// A notification that could not be made would be known only from a log, when something has happened already.
func TestTemplate_WhatIsTakenGivesJSONForEveryNotice(t *testing.T) {
	var pieces []string
	for _, name := range names {
		pieces = append(pieces, "{{"+name+"}}")
	}
	pieces = append(pieces, "{", "}", "[", "]", ",", ":", `"`, `"a":`, `\`, "1", "-", "e", "null", "\n")
	piece := rapid.SampledFrom(pieces)
	rapid.Check(t, func(t *rapid.T) {
		inner := strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "pieces"), "")
		text := rapid.SampledFrom([]string{"", "[", `{"a":`}).Draw(t, "before") + inner + rapid.SampledFrom([]string{"", "]", "}"}).Draw(t, "after")
		n, err := newTemplate(text)
		if err != nil {
			return
		}
		word := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\"\\{}\n\x00<&\u2028"))))
		instant := rapid.Custom(func(t *rapid.T) time.Time { return time.Unix(rapid.Int64Range(-1<<38, 1<<38).Draw(t, "second"), 0) })
		body := n.Body(notify.Notice{
			Kind: rapid.SampledFrom(notify.Kinds).Draw(t, "kind"), Group: restart.Group(word.Draw(t, "group")),
			Host: restart.Host(word.Draw(t, "host")), ID: rapid.SampledFrom([]uuid.UUID{uuid.Nil, uuid.Max}).Draw(t, "id"),
			Cause: word.Draw(t, "cause"), By: word.Draw(t, "by"), Why: word.Draw(t, "why"), Detail: word.Draw(t, "detail"),
			At: instant.Draw(t, "at"), Until: instant.Draw(t, "until"), More: rapid.IntMin(0).Draw(t, "more"),
		})
		if !json.Valid([]byte(body)) {
			t.Errorf("the template %q gives %q", text, body)
		}
	})
}
