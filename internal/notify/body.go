package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// defaultTemplate gives what Slack, and whoever understands its messages, takes.
const defaultTemplate = `{"text":{{slack_text}}}`

// A value is something of a notice that a template may name.
type value struct {
	name string
	json func(Notice) string
}

// values are all there are. Each gives one value of JSON for every notice.
var values = []value{
	{"kind", func(n Notice) string { return quote(string(n.Kind)) }},
	{"group", func(n Notice) string { return quote(string(n.Group)) }},
	{"host", func(n Notice) string { return quote(string(n.Host)) }},
	{"id", func(n Notice) string {
		if n.ID == uuid.Nil {
			return `""`
		}
		return quote(n.ID.String())
	}},
	{"cause", func(n Notice) string { return quote(n.Cause) }},
	{"by", func(n Notice) string { return quote(n.By) }},
	{"why", func(n Notice) string { return quote(n.Why) }},
	{"detail", func(n Notice) string { return quote(n.Detail) }},
	{"at", func(n Notice) string { return quoteTime(n.At) }},
	{"until", func(n Notice) string { return quoteTime(n.Until) }},
	{"more", func(n Notice) string { return strconv.Itoa(n.More) }},
	{"text", func(n Notice) string { return quote(n.Text()) }},
	{"slack_text", func(n Notice) string { return quote(escape(n.Text())) }},
}

func quote(text string) string {
	data, _ := json.Marshal(text) // which cannot fail: what is not UTF-8 is replaced
	return string(data)
}

func quoteTime(t time.Time) string {
	if t.IsZero() {
		return "null"
	}
	return quote(t.UTC().Format(time.RFC3339Nano))
}

// escape returns the text without what Slack would take for a link or a call to everybody in the channel: much of it was
// written by whoever may publish a request.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// A template is a JSON document in which names stand for some of its values. That it gives JSON is certain before it
// meets a notice: it is JSON with null in the names' place, and what takes this place is always one value too. The
// language of text/template could not promise this, and has the linker keep every exported method of the program.
type template struct {
	parts []part
	end   string // what follows the last name
}

type part struct {
	before string // what stands between the last name and this
	value  value
	line   int
}

// parseTemplate returns errors that quote nothing of a template but single words in braces, and at most one character
// of the rest: it may hold a key.
func parseTemplate(text string) (*template, error) {
	t := &template{}
	line, inString := 1, false
	for {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			t.end = text
			return t, t.check()
		}
		line += strings.Count(before, "\n")
		inString = endsInString(before, inString)
		name, rest, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, fmt.Errorf("line %d: a {{ is not closed", line)
		}
		v, err := valueOf(strings.Trim(name, " \t"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if inString {
			return nil, fmt.Errorf("line %d: {{%s}} stands inside a JSON string: write it without quotes around it", line, v.name)
		}
		t.parts = append(t.parts, part{before: before, value: v, line: line})
		text = rest
	}
}

// endsInString reports whether a JSON string is open at the end of a piece of JSON, given whether one is at its start.
func endsInString(piece string, open bool) bool {
	for i := 0; i < len(piece); i++ {
		switch {
		case piece[i] == '"':
			open = !open
		case piece[i] == '\\' && open:
			i++ // what follows is no end
		}
	}
	return open
}

func valueOf(name string) (value, error) {
	names := make([]string, len(values))
	for i, v := range values {
		if v.name == name {
			return v, nil
		}
		names[i] = v.name
	}
	known := strings.Join(names, ", ")
	if strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
		return value{}, fmt.Errorf("what stands in {{ }} is not one of the names %s", known)
	}
	return value{}, fmt.Errorf("{{%s}} is none of the names %s", name, known)
}

// check returns an error if the template does not give JSON.
func (t *template) check() error {
	var b strings.Builder
	begins := make([]int, len(t.parts))
	for i, p := range t.parts {
		b.WriteString(p.before)
		begins[i] = b.Len()
		b.WriteString("null")
	}
	b.WriteString(t.end)
	document := b.String()

	var body json.RawMessage
	err := json.Unmarshal([]byte(document), &body)
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return err // nil: JSON can be wrong in its syntax only
	}
	at := int(syntax.Offset) - 1 // of the byte that is wrong
	for i, p := range t.parts {
		if at == begins[i] { // where null itself goes wrong, if it may not stand there
			return fmt.Errorf("line %d: {{%s}} stands where no JSON value may", p.line, p.value.name)
		}
	}
	line := 1 + strings.Count(document[:max(at, 0)], "\n")
	return fmt.Errorf("line %d: %w", line, err)
}

// render returns the body of the message that tells a notice.
func (t *template) render(n Notice) []byte {
	var b []byte
	for _, p := range t.parts {
		b = append(b, p.before...)
		b = append(b, p.value.json(n)...)
	}
	return append(b, t.end...)
}
