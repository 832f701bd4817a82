package config

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Sources are where settings come from, weakest first.
type Sources struct {
	File    string              // path of the YAML file; empty means none
	Environ []string            // as os.Environ returns it; also what ${VAR} in the file means
	Flags   map[string][]string // texts by key, as ChangedFlags returns them
}

// Loaded is what Load found.
type Loaded struct {
	Config   Config
	origins  map[string]string // by key
	groups   []groupEffect
	monitors []monitorEffect // in the order of the file
}

// A groupEffect is what is in effect for a group that has a section of its own.
type groupEffect struct {
	section
	*effect
}

// A Setting is one line of what is in effect, for people.
type Setting struct {
	Key    string
	Value  string // secrets masked
	Origin string // "default", "file mandrill.yaml:3:5", "environment MANDRILL_ACK_WAIT" or "flag --ack-wait"
}

// Settings returns every setting, in the manual's order, and then, as groups.<group>.<key>, what stands in the groups'
// sections: with what is in effect there, which may come from a stronger source. Last, as monitors.<name>.<key>, come all
// settings of each monitor.
func (l *Loaded) Settings() []Setting {
	all := make([]Setting, len(table))
	for i := range table {
		s := &table[i]
		all[i] = Setting{Key: s.key, Value: s.get(&l.Config), Origin: l.origins[s.key]}
	}
	for _, g := range l.groups {
		for i := range table {
			s := &table[i]
			if _, own := g.values[s.key]; own {
				all = append(all, Setting{Key: scopeOf(g.group) + s.key, Value: s.get(&g.config), Origin: g.origins[s.key]})
			}
		}
	}
	for _, m := range l.monitors {
		for i := range monitorTable {
			if s := &monitorTable[i]; s.concerns(m.config.Monitors[0].Type) {
				all = append(all, Setting{Key: m.scope() + s.key, Value: s.get(&m.config), Origin: m.origins[s.key]})
			}
		}
	}
	return all
}

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
	m, problems := read(src, data)
	all, wrong := m.effect()
	problems = append(problems, wrong...)
	monitors, wrong := m.monitorEffects(all)
	problems = append(problems, wrong...)
	for _, one := range monitors {
		all.config.Monitors = append(all.config.Monitors, one.config.Monitors[0])
	}

	own := map[restart.Group]bool{}
	for _, s := range m.sections {
		own[s.group] = true
	}
	// Where every group that is served has a section, what drives none of them need not be complete.
	inUse := slices.ContainsFunc(all.config.Groups, func(g restart.Group) bool { return !own[g] })
	problems = append(problems, all.checkWhole()...)
	problems = append(problems, all.checkGroup("", inUse)...)

	l := &Loaded{Config: all.config, origins: all.origins, monitors: monitors}
	l.Config.own = map[restart.Group]*Config{}
	said := map[string]bool{}
	for _, err := range problems {
		said[err.Error()] = true
	}
	for _, s := range m.sections {
		e, wrong := m.groupEffect(s, all)
		for _, err := range wrong {
			if !said[err.Error()] {
				problems = append(problems, err)
			}
		}
		// Asked without its name, a group has the same problem as all, to the letter, where it is not its own.
		named := e.checkGroup(scopeOf(s.group), true)
		for i, err := range e.checkGroup("", true) {
			if !said[err.Error()] {
				problems = append(problems, named[i])
			}
		}
		l.groups = append(l.groups, groupEffect{s, e})
		l.Config.own[s.group] = &e.config
	}
	if len(problems) > 0 {
		return nil, &UsageError{errors.Join(problems...)}
	}
	return l, nil
}
