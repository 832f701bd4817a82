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

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// maxFile bounds what is parsed: the parser's memory grows with the square of the depth.
const maxFile = 64 << 10

// A fileReader turns a file into values by key. It goes on after a problem, so that all are reported together.
type fileReader struct {
	name     string
	env      map[string]string
	problems []error

	contents contents
	values   layer  // where settings go now: the file's, or those of a group's section
	scope    string // what stands before their keys in messages
	served   entry  // the groups that have sections, as the setting "group"
}

// contents is what stands in a file, substituted but not yet checked.
type contents struct {
	values   layer
	sections []section
	monitors []monitorSection
}

// A section is what a file says of one group.
type section struct {
	group  restart.Group
	values layer
}

// groupsKey is the key of the file below which the sections of the groups are. It is no setting.
const groupsKey = "groups"

// scopeOf returns what stands before the keys of a group's section.
func scopeOf(group restart.Group) string { return groupsKey + "." + string(group) + "." }

// readFile returns what stands in a file.
func readFile(name string, data []byte, env map[string]string) (contents, []error) {
	r := &fileReader{name: name, env: env, values: layer{}}
	r.contents.values = r.values
	if len(data) > maxFile {
		r.problem("", r.place(1, 1), fmt.Sprintf("has %d bytes, more than %d", len(data), maxFile))
		return r.contents, r.problems
	}
	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.problem("", r.place(i+1, 1), "is not UTF-8")
			return r.contents, r.problems
		}
	}
	// The parser stops at the first key that is there twice; the walk below reports them all.
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return r.contents, r.problems
	}
	r.documents(file)
	if _, set := r.values["group"]; !set && len(r.contents.sections) > 0 {
		r.values["group"] = r.served
	}
	return r.contents, r.problems
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
	r.entries(prefix, m, func(name, at string, node ast.Node) {
		key := prefix + name
		s, names := lookup(key), members(key)
		switch {
		case s != nil && strings.Contains(name, "."):
			outer, inner, _ := strings.Cut(name, ".")
			r.problem("", at, fmt.Sprintf("unknown key %q: write %s below %s, indented", r.scope+key, inner, outer))
		case r.scope != "" && (s != nil || names != nil || key == monitorsKey) && !differs(key):
			r.problem(key, at, "is for all groups: write it outside of "+groupsKey)
		case s != nil:
			r.setting(s, node)
		case names != nil:
			r.section(key, strings.Join(names, ", "), node, func(m ast.MapNode) { r.mapping(key+".", m) })
		case r.scope == "" && key == groupsKey:
			r.section(key, "the groups' names", node, func(m ast.MapNode) { r.groups(at, m) })
		case key == monitorsKey:
			r.section(key, "the monitors' names", node, r.monitors)
		default:
			r.problem("", at, fmt.Sprintf("unknown key %q%s", r.scope+key, guess(key, r.known())))
		}
	})
}

// entries calls do with every entry of a mapping but those whose key was there before, which are problems.
func (r *fileReader) entries(prefix string, m ast.MapNode, do func(name, at string, node ast.Node)) {
	seen := map[string]string{}
	for entries := m.MapRange(); entries.Next(); {
		name, at := keyText(entries.Key()), r.at(entries.Key().GetToken())
		if first, again := seen[name]; again {
			r.problem("", at, fmt.Sprintf("key %q is already there, at %s", r.scope+prefix+name, first))
			continue
		}
		seen[name] = strings.TrimPrefix(at, "file ")
		do(name, at, entries.Value())
	}
}

// section reads what stands below a key, which must be a mapping, if there is anything.
func (r *fileReader) section(key, within string, node ast.Node, read func(ast.MapNode)) {
	switch node := node.(type) {
	case ast.MapNode:
		read(node)
	case *ast.NullNode: // Everything in it is commented out.
	default:
		r.problem(key, r.at(node.GetToken()), "is a section: write "+within+" below it, indented")
	}
}

// groups reads the sections of the groups. Where the file does not say which groups are served, it is these.
func (r *fileReader) groups(at string, m ast.MapNode) {
	general := r.values
	served := entry{key: "group", origin: at}
	r.entries(groupsKey+".", m, func(name, at string, node ast.Node) {
		group, err := restart.ParseGroup(name)
		if err != nil { // It quotes the name.
			r.problem(groupsKey, at, strconv.Quote(name)+" "+errNotGroup.Error())
			return
		}
		served.values = append(served.values, value{text: name, shown: strconv.Quote(name), origin: at})
		own := section{group: group, values: layer{}}
		r.section(groupsKey+"."+name, "settings", node, func(m ast.MapNode) {
			r.values, r.scope = own.values, scopeOf(group)
			r.mapping("", m)
			r.values, r.scope = general, ""
		})
		r.contents.sections = append(r.contents.sections, own)
	})
	r.served = served
}

func (r *fileReader) setting(s *setting, node ast.Node) {
	e := entry{key: r.scope + s.key, origin: r.at(node.GetToken())}
	items := []ast.Node{node}
	seq, isList := node.(*ast.SequenceNode)
	if isList {
		switch items = seq.Values; {
		case !s.list():
			r.problem(s.key, e.origin, "takes one value, not a list")
			return
		case len(items) == 0 && s.commas:
			r.problem(s.key, e.origin, "is an empty list; leave the key out for the default")
			return
		}
	}
	for _, item := range items {
		if v, ok := r.scalar(s, item); ok {
			e.values = append(e.values, v)
		}
	}
	if len(e.values) == 0 && len(items) > 0 {
		return // Each of them was a problem.
	}
	if s.list() && !s.commas && !isList && e.values[0].text == "" {
		e.values = nil
	}
	r.values[s.key] = e
}

func (r *fileReader) scalar(s *setting, node ast.Node) (v value, ok bool) {
	at := r.at(node.GetToken())
	raw, problem := plainText(node)
	if _, braces := node.(ast.MapNode); braces && s.list() && !s.commas {
		problem = "takes texts, and to YAML this is a section: put quotes around it"
	}
	if problem != "" {
		r.problem(s.key, at, problem)
		return value{}, false
	}
	text, err := substitute(raw, r.env)
	if err != nil {
		r.problem(s.key, at, err.Error())
		return value{}, false
	}
	v = value{text: text, shown: strconv.Quote(text), origin: at}
	if text != raw {
		v.shown, v.foreign = "the value of "+strconv.Quote(raw), strings.Contains(raw, "${")
	}
	return v, true
}

// plainText returns a scalar's text as it was written, or what is wrong with it.
func plainText(node ast.Node) (text, problem string) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, ""
	case *ast.LiteralNode:
		return node.Value.Value, ""
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, ""
	case *ast.NullNode:
		return "", "has no value; leave the key out for the default"
	case ast.MapNode:
		return "", "takes one value, not a section"
	}
	return "", "takes plain text; anchors, aliases, tags and lists in lists are not known"
}

// problem reports what is wrong with the setting or section of a key, or, if that is empty, with something else.
func (r *fileReader) problem(key, origin, text string) {
	if key != "" {
		key = r.scope + key
	}
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

// known returns every key and every section that may stand here.
func (r *fileReader) known() []string {
	var keys []string
	if r.scope == "" {
		keys = append(keys, groupsKey, monitorsKey)
	}
	for _, s := range table {
		if r.scope != "" && !s.byGroup {
			continue
		}
		keys = append(keys, s.key)
		if section, _, ok := strings.Cut(s.key, "."); ok && !slices.Contains(keys, section) {
			keys = append(keys, section)
		}
	}
	return keys
}
