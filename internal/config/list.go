package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// list is any number of texts, each of one line, in which a comma is a character like any other.
func list(key string, field func(*Config) *[]string, doc string) setting {
	return setting{
		key: key, kind: "list", doc: doc,
		reset: func(c *Config) { *field(c) = nil },
		set: func(c *Config, text string) error {
			*field(c) = append(*field(c), text)
			return oneLine(text)
		},
		get: func(c *Config) string { return formatList(*field(c)) },
	}
}

// names is a list whose items are names of some kind, so that none of them is empty.
func names(key string, field func(*Config) *[]string, doc string) setting {
	return checked(list(key, field, doc), func(text string) error {
		if text == "" {
			return errors.New("has nothing in it")
		}
		return nil
	})
}

func paths(key string, field func(*Config) *[]string, doc string) setting {
	return checked(names(key, field, doc), checkPath)
}

// program is a program and its arguments, or nothing.
func program(key string, field func(*Config) *[]string, doc string) setting {
	s := list(key, field, doc)
	set := s.set
	s.set = func(c *Config, text string) error {
		if text == "" && len(*field(c)) == 0 {
			return errors.New("names no program")
		}
		return set(c, text)
	}
	return s
}

// variables is a list of names of environment variables. Its errors do not quote them: where a value stands with the
// name, it may be a secret.
func variables(key string, field func(*Config) *[]string, doc string) setting {
	s := checked(list(key, field, doc), func(text string) error {
		if !variableName.MatchString(text) {
			return errors.New("is not the name of a variable: letters, digits and '_', and no value")
		}
		return nil
	})
	s.hidden = true
	return s
}

// checked returns the setting with a check that comes before its own.
func checked(s setting, check func(text string) error) setting {
	set := s.set
	s.set = func(c *Config, text string) error {
		if err := check(text); err != nil {
			return err
		}
		return set(c, text)
	}
	return s
}

// formatList writes a list as the environment and a flag take it.
func formatList(items []string) string {
	if len(items) == 1 && items[0] != "" && !strings.HasPrefix(items[0], "[") {
		return items[0]
	}
	if len(items) == 0 {
		return "[]"
	}
	var out bytes.Buffer
	asJSON := json.NewEncoder(&out)
	asJSON.SetEscapeHTML(false) // People read it.
	if err := asJSON.Encode(items); err != nil {
		panic(err) // unreachable: texts have a form in JSON
	}
	return strings.TrimSpace(out.String())
}

// formatTexts is formatList for what are texts.
func formatTexts[T ~string](items []T) string { return formatList(texts(items)) }

func texts[T ~string](items []T) []string {
	var all []string
	for _, item := range items {
		all = append(all, string(item))
	}
	return all
}

var errNotList = errors.New(`is not a list: write ["one","two"], or one text that does not begin with [`)

// parseList reads a list as it stands in brackets, in JSON or YAML.
func parseList(text string) ([]string, error) {
	if len(text) > maxFile || !utf8.ValidString(text) {
		return nil, errNotList
	}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil || len(file.Docs) != 1 {
		return nil, errNotList
	}
	seq, ok := file.Docs[0].Body.(*ast.SequenceNode)
	if !ok {
		return nil, errNotList
	}
	var items []string
	for _, node := range seq.Values {
		item, problem := plainText(node)
		if problem != "" {
			return nil, errNotList
		}
		items = append(items, item)
	}
	return items, nil
}
