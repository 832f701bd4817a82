package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Patterns choose hosts by name, as ParsePatterns returns them: * stands for any number of characters, dots included,
// and ? for one.
type Patterns []string

// ParsePatterns returns the texts as patterns, in lower case. A text that no host's name can match is an error, because
// a deny list with a slip in it protects nothing. Every error names its text.
func ParsePatterns(texts []string) (Patterns, error) {
	var patterns Patterns
	var problems []error
	for _, text := range texts {
		// Whatever a pattern matches, it matches a name in which each wildcard is one letter.
		if _, err := restart.ParseHost(strings.NewReplacer("*", "a", "?", "a").Replace(text)); err != nil {
			problems = append(problems, fmt.Errorf("%.80q: is not a pattern of host names: letters, digits, '-', '_', '.', '*' and '?', "+
				"no '-' at its beginning, no empty label, 253 bytes at most", text))
			continue
		}
		patterns = append(patterns, strings.ToLower(text))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return patterns, nil
}

// String returns the patterns as people write them.
func (p Patterns) String() string { return strings.Join(p, ", ") }

// matching returns a pattern that matches the whole name.
func (p Patterns) matching(host restart.Host) (pattern string, ok bool) {
	for _, pattern := range p {
		if matches(pattern, string(host)) {
			return pattern, true
		}
	}
	return "", false
}

// maybeMatching returns a pattern that matches the name, or may mean it: db-1 and db-1.example.net are taken for one
// host, because a resolver takes them for one, too.
func (p Patterns) maybeMatching(host restart.Host) (pattern string, ok bool) {
	for _, pattern := range p {
		if matches(pattern, string(host)) || short(pattern, string(host)) && matches(label(pattern), label(string(host))) {
			return pattern, true
		}
	}
	return "", false
}

// matches leaves the work to path.Match, to which a dot is like any character. Its error is about brackets and
// backslashes, which no pattern has.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// Self is the machine that the worker runs on. The zero Self is none.
type Self struct {
	Names []restart.Host // by which it may be asked for: with and without domain, and its addresses
	Boot  restart.Epoch  // its own boot, as a driver would report it; empty: not known
}

// named returns the name by which the host is, or may be, the machine.
func (s Self) named(host restart.Host) (name restart.Host, ok bool) {
	for _, name := range s.Names {
		if name == host || short(string(name), string(host)) && label(string(name)) == label(string(host)) {
			return name, true
		}
	}
	return "", false
}

// short reports whether either name leaves its domain open.
func short(a, b string) bool { return !strings.Contains(a, ".") || !strings.Contains(b, ".") }

func label(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}
