package config

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// A value is one text for a setting; a list has any number of them.
type value struct {
	text   string
	shown  string // how an error may name it, unless the setting is hidden
	origin string
	err    error // why it is none

	foreign bool // a variable is part of it, so that it may be a secret, whatever the setting is
}

// An entry is what one source says of one setting.
type entry struct {
	key    string // as messages name it, with the group whose section it stands in
	origin string
	values []value // one, unless the setting is a list
}

// A layer is what one source says, by key.
type layer map[string]entry

// A merger holds what all sources say.
type merger struct {
	contents
	env            map[string]string
	inEnv, inFlags layer
	unread         map[string]bool // keys of settings and sections of the file that could not be read
}

// read reads the sources. It goes on after a problem.
func read(src Sources, data []byte) (*merger, []error) {
	m := &merger{env: environment(src.Environ), unread: map[string]bool{}}
	var problems, unknown, foreign []error
	m.contents, problems = readFile(src.File, data, m.env)
	for _, err := range problems {
		if p, ok := errors.AsType[*Problem](err); ok && p.Key != "" {
			m.unread[p.Key] = true
		}
	}
	m.inEnv, unknown = readEnvironment(m.env)
	m.inFlags, foreign = readFlags(src.Flags)
	return m, slices.Concat(problems, unknown, foreign)
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
		values[key] = split(s, texts, "flag --"+s.flag())
	}
	return values, problems
}

// An effect is what the sources come to, for all groups or for one.
type effect struct {
	config  Config
	origins map[string]string // by key
	bad     map[string]bool   // keys that are wrong already
}

// effect merges the sources for all groups.
func (m *merger) effect() (*effect, []error) {
	e := &effect{origins: map[string]string{}, bad: map[string]bool{}}
	return e, m.merge(e, section{}, func(*setting) bool { return true })
}

// groupEffect merges the sources for the group of a section. all is what is in effect for all groups, and stays so for
// what may not differ.
func (m *merger) groupEffect(own section, all *effect) (*effect, []error) {
	e := &effect{config: all.config, origins: maps.Clone(all.origins), bad: maps.Clone(all.bad)}
	return e, m.merge(e, own, func(s *setting) bool { return s.byGroup })
}

// merge sets what the sources, weakest first, say of the settings that are wanted.
func (m *merger) merge(e *effect, own section, wanted func(*setting) bool) (problems []error) {
	scope := scopeOf(own.group)
	layers := []layer{m.values, own.values, m.inEnv, m.inFlags}
	somethingReal := restartsSomething(layers)
	for i := range table {
		s := &table[i]
		if !wanted(s) {
			continue
		}
		problems = append(problems, e.apply(s, m.standard(s, somethingReal))...)
		for _, from := range layers {
			if said, ok := from[s.key]; ok {
				problems = append(problems, e.apply(s, said)...)
			}
		}
		outer, _, _ := strings.Cut(s.key, ".")
		for _, key := range []string{s.key, outer, scope + s.key, scope + outer} {
			e.bad[s.key] = e.bad[s.key] || m.unread[key]
		}
	}
	return problems
}

// restartsSomething reports whether the driver that the layers, weakest first, come to restarts something real.
func restartsSomething(layers []layer) bool {
	kind := ""
	for _, from := range layers {
		for _, v := range from["driver.kind"].values {
			kind = v.text
		}
	}
	return slices.Contains(realDrivers, kind)
}

// standard returns a setting's default.
func (m *merger) standard(s *setting, somethingReal bool) entry {
	text := s.def
	switch {
	case s.key == "data":
		text = defaultData(m.env)
	case somethingReal && s.realDef != "":
		text = s.realDef
	}
	return split(s, []string{text}, "default")
}

// apply sets what one source says of a setting.
func (e *effect) apply(s *setting, said entry) []error {
	if s.list() {
		s.reset(&e.config)
	}
	e.origins[s.key] = said.origin
	var problems []error
	for _, v := range said.values {
		err := v.err
		if err == nil {
			err = s.set(&e.config, v.text)
		}
		if err == nil {
			continue
		}
		shown, text := v.shown, err.Error()
		if s.hidden {
			shown = "the value"
		}
		if q, ok := errors.AsType[*quotingError](err); ok && v.foreign {
			text = q.brief
		}
		e.bad[s.key] = true
		problems = append(problems, &Problem{Key: said.key, Origin: v.origin, Text: shown + " " + text})
	}
	return problems
}
