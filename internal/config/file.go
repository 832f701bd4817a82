package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds what is parsed: the parser's memory grows with the square of the depth.
const maxFile = 64 << 10

// A fileReader turns a file into values by key. It goes on after a problem, so that all are reported together.
type fileReader struct {
	name     string
	env      map[string]string
	values   layer
	problems []error
}

// readFile returns the values that stand in a file, substituted but not yet checked.
func readFile(name string, data []byte, env map[string]string) (layer, []error) {
	r := &fileReader{name: name, env: env, values: layer{}}
	if len(data) > maxFile {
		r.problem("", r.place(1, 1), fmt.Sprintf("has %d bytes, more than %d", len(data), maxFile))
		return nil, r.problems
	}
	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.problem("", r.place(i+1, 1), "is not UTF-8")
			return nil, r.problems
		}
	}
	// The parser stops at the first key that is there twice; the walk below reports them all.
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil, r.problems
	}
	r.documents(file)
	return r.values, r.problems
}

// syntax reports what the parser found. Where its message quotes the file it is cut, because that may be a secret.
func (r *fileReader) syntax(err error) {
	var yerr yaml.Error
	if !errors.As(err, &yerr) {
		r.problem("", r.place(1, 1), "is not YAML")
		return
	}
	message, _, _ := strings.Cut(yerr.GetMessage(), `"`)
	r.problem("", r.at(yerr.GetToken()), "is not YAML: "+strings.TrimRight(message, ": "))
}

func (r *fileReader) documents(file *ast.File) {
	var docs []*ast.DocumentNode
	for _, doc := range file.Docs {
		// A directive such as %YAML 1.2 is a document of its own to the parser.
		if _, directive := doc.Body.(*ast.DirectiveNode); !directive {
			docs = append(docs, doc)
		}
	}
	switch len(docs) {
	case 0:
	case 1:
		r.document(docs[0])
	default:
		start := docs[1].Start
		if start == nil && docs[1].Body != nil {
			start = docs[1].Body.GetToken()
		}
		r.problem("", r.at(start), "a second document begins here; there must be one")
	}
}

func (r *fileReader) document(doc *ast.DocumentNode) {
	switch body := doc.Body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
	case ast.MapNode:
		r.mapping("", body)
	default:
		r.problem("", r.at(body.GetToken()), "settings are written as key: value")
	}
}

func (r *fileReader) mapping(prefix string, m ast.MapNode) {
	seen := map[string]string{}
	for entries := m.MapRange(); entries.Next(); {
		name, at := keyText(entries.Key()), r.at(entries.Key().GetToken())
		key := prefix + name
		if first, again := seen[name]; again {
			r.problem("", at, fmt.Sprintf("key %q is already there, at %s", key, first))
			continue
		}
		seen[name] = strings.TrimPrefix(at, "file ")
		s, section := lookup(key), members(key)
		switch {
		case s != nil && strings.Contains(name, "."):
			outer, inner, _ := strings.Cut(name, ".")
			r.problem("", at, fmt.Sprintf("unknown key %q: write %s below %s, indented", key, inner, outer))
		case s != nil:
			r.setting(s, entries.Value())
		case section != nil:
			r.section(key, section, entries.Value())
		default:
			r.problem("", at, fmt.Sprintf("unknown key %q%s", key, guess(key, fileKeys())))
		}
	}
}

func (r *fileReader) section(key string, names []string, node ast.Node) {
	switch node := node.(type) {
	case ast.MapNode:
		r.mapping(key+".", node)
	case *ast.NullNode: // Everything in it is commented out.
	default:
		r.problem(key, r.at(node.GetToken()), "is a section: write "+strings.Join(names, ", ")+" below it, indented")
	}
}

func (r *fileReader) setting(s *setting, node ast.Node) {
	items := []ast.Node{node}
	if seq, ok := node.(*ast.SequenceNode); ok {
		switch at := r.at(seq.GetToken()); {
		case !s.list():
			r.problem(s.key, at, "takes one value, not a list")
			return
		case len(seq.Values) == 0:
			r.problem(s.key, at, "is an empty list; leave the key out for the default")
		}
		items = seq.Values
	}
	for _, item := range items {
		if v, ok := r.scalar(s, item); ok {
			r.values[s.key] = append(r.values[s.key], v)
		}
	}
}

func (r *fileReader) scalar(s *setting, node ast.Node) (v value, ok bool) {
	at := r.at(node.GetToken())
	var raw string
	switch node := node.(type) {
	case *ast.StringNode:
		raw = node.Value
	case *ast.LiteralNode:
		raw = node.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		raw = node.GetToken().Value
	case *ast.NullNode:
		r.problem(s.key, at, "has no value; leave the key out for the default")
		return value{}, false
	case ast.MapNode:
		r.problem(s.key, at, "takes one value, not a section")
		return value{}, false
	default:
		r.problem(s.key, at, "takes plain text; anchors, aliases, tags and lists in lists are not known")
		return value{}, false
	}
	text, err := substitute(raw, r.env)
	if err != nil {
		r.problem(s.key, at, err.Error())
		return value{}, false
	}
	v = value{text: text, shown: strconv.Quote(text), origin: at}
	if text != raw {
		// What a variable holds may be a secret, whatever the setting is.
		v.shown = "the value of " + strconv.Quote(raw)
	}
	return v, true
}

func (r *fileReader) problem(key, origin, text string) {
	r.problems = append(r.problems, &Problem{Key: key, Origin: origin, Text: text})
}

func (r *fileReader) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return r.place(1, 1)
	}
	return r.place(t.Position.Line, t.Position.Column)
}

func (r *fileReader) place(line, column int) string {
	return fmt.Sprintf("file %s:%d:%d", r.name, line, column)
}

func keyText(node ast.Node) string {
	if s, ok := node.(*ast.StringNode); ok {
		return s.Value
	}
	return node.GetToken().Value
}

// fileKeys returns every key and every section.
func fileKeys() []string {
	var keys []string
	for _, s := range table {
		keys = append(keys, s.key)
		if section, _, ok := strings.Cut(s.key, "."); ok && !slices.Contains(keys, section) {
			keys = append(keys, section)
		}
	}
	return keys
}
