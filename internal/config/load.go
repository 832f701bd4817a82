package config

import (
	"errors"
	"fmt"
	"os"
)

// Sources are where settings come from, weakest first.
type Sources struct {
	File    string              // path of the YAML file; empty means none
	Environ []string            // as os.Environ returns it; also what ${VAR} in the file means
	Flags   map[string][]string // texts by key, as ChangedFlags returns them
}

// Loaded is what Load found.
type Loaded struct {
	Config  Config
	origins map[string]string // by key
}

// A Setting is one line of what is in effect, for people.
type Setting struct {
	Key    string
	Value  string // secrets masked
	Origin string // "default", "file mandrill.yaml:3:5", "environment MANDRILL_ACK_WAIT" or "flag --ack-wait"
}

// Settings returns every setting, in the manual's order.
func (l *Loaded) Settings() []Setting {
	all := make([]Setting, len(table))
	for i := range table {
		s := &table[i]
		all[i] = Setting{Key: s.key, Value: s.get(&l.Config), Origin: l.origins[s.key]}
	}
	return all
}

// A value is one text for a setting; a list has several.
type value struct {
	text   string
	shown  string // how an error may name it, unless the setting is hidden
	origin string
}

// A layer is what one source says, by key.
type layer map[string][]value

// Load reads, checks and merges the sources. A value is checked even where a stronger source replaces it. The error
// is a *UsageError with every Problem, joined.
func Load(src Sources) (*Loaded, error) {
	if src.File == "" {
		return load(src, nil)
	}
	data, err := os.ReadFile(src.File)
	if err != nil {
		return nil, &UsageError{fmt.Errorf("cannot read the configuration: %w", err)}
	}
	return load(src, data)
}

func load(src Sources, data []byte) (*Loaded, error) {
	env := environment(src.Environ)
	inFile, problems := readFile(src.File, data, env)
	inEnv, unknown := readEnvironment(env)
	inFlags, foreign := readFlags(src.Flags)
	problems = append(append(problems, unknown...), foreign...)

	l := &Loaded{origins: map[string]string{}}
	bad := map[string]bool{}
	for i := range table {
		s := &table[i]
		for _, from := range []layer{defaults(s, env), inFile, inEnv, inFlags} {
			wrong := l.apply(s, from[s.key])
			bad[s.key] = bad[s.key] || wrong != nil
			problems = append(problems, wrong...)
		}
	}
	problems = append(problems, l.crossCheck(bad)...)
	if len(problems) > 0 {
		return nil, &UsageError{errors.Join(problems...)}
	}
	return l, nil
}

func defaults(s *setting, env map[string]string) layer {
	text := s.def
	if s.key == "data" {
		text = defaultData(env)
	}
	return layer{s.key: {{text: text, shown: fmt.Sprintf("%q", text), origin: "default"}}}
}

func readFlags(flags map[string][]string) (layer, []error) {
	values := layer{}
	var problems []error
	for key, texts := range flags {
		s := lookup(key)
		if s == nil {
			problems = append(problems, &Problem{Key: key, Origin: "flag", Text: "no setting has this key"})
			continue
		}
		for _, text := range texts {
			values[key] = append(values[key], split(s, text, "flag --"+s.flag())...)
		}
	}
	return values, problems
}

// apply sets what one source says of a setting, if it says anything.
func (l *Loaded) apply(s *setting, values []value) []error {
	if len(values) == 0 {
		return nil
	}
	if s.list() {
		s.reset(&l.Config)
	}
	l.origins[s.key] = values[0].origin
	var problems []error
	for _, v := range values {
		err := s.set(&l.Config, v.text)
		if err == nil {
			continue
		}
		shown := v.shown
		if s.hidden {
			shown = "the value"
		}
		problems = append(problems, &Problem{Key: s.key, Origin: v.origin, Text: shown + " " + err.Error()})
	}
	return problems
}
