package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
)

// A monitorSection is what the file says of one monitor.
type monitorSection struct {
	name   string
	origin string // of the name
	values layer
}

// scope returns what stands before the keys of the monitor.
func (s monitorSection) scope() string { return monitorsKey + "." + s.name + "." }

// A monitorEffect is what is in effect for one monitor, which is the first of its configuration.
type monitorEffect struct {
	monitorSection
	*effect
}

// monitorName is what fits into the key of a pause.
var monitorName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func (r *fileReader) monitors(m ast.MapNode) {
	general := r.values
	r.entries(monitorsKey+".", m, func(name, at string, node ast.Node) {
		if !monitorName.MatchString(name) {
			r.problem(monitorsKey, at, strconv.Quote(name)+" is not the name of a monitor: lower-case letters, digits and '-', 1 to 63 bytes")
			return
		}
		own := monitorSection{name: name, origin: at, values: layer{}}
		r.section(monitorsKey+"."+name, "type, every and more", node, func(m ast.MapNode) {
			r.values, r.scope = own.values, own.scope()
			r.monitor(m)
			r.values, r.scope = general, ""
		})
		r.contents.monitors = append(r.contents.monitors, own)
	})
}

func (r *fileReader) monitor(m ast.MapNode) {
	kind := r.monitorType(m)
	r.entries("", m, func(name, at string, node ast.Node) {
		s := lookupMonitor(name)
		switch {
		case s == nil:
			r.problem("", at, fmt.Sprintf("unknown key %q%s", r.scope+name, guess(name, monitorKeys(kind))))
		case !s.concerns(kind):
			r.problem(name, at, fmt.Sprintf("is for type %s, and this monitor is of type %s", s.monitorType, kind))
		case name == headersKey:
			r.section(name, "name: value", node, func(m ast.MapNode) { r.headers(s, at, m) })
		default:
			r.setting(s, node)
		}
	})
}

// monitorType returns the type of a monitor, or nothing if it is not known: that is told where its turn comes.
func (r *fileReader) monitorType(m ast.MapNode) string {
	for entries := m.MapRange(); entries.Next(); {
		if keyText(entries.Key()) != "type" {
			continue
		}
		raw, _ := plainText(entries.Value())
		kind, err := substitute(raw, r.env)
		if err == nil && slices.Contains(monitorTypes, kind) {
			return kind
		}
		break
	}
	return ""
}

// monitorKeys returns what a monitor of a type may have.
func monitorKeys(kind string) (keys []string) {
	for i := range monitorTable {
		if s := &monitorTable[i]; s.concerns(kind) {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// headers makes texts such as "name: value" of a mapping.
func (r *fileReader) headers(s *setting, at string, m ast.MapNode) {
	e := entry{key: r.scope + s.key, origin: at}
	seen := map[string]string{}
	r.entries(s.key+".", m, func(name, at string, node ast.Node) {
		if err := checkHeader(name); err != nil {
			r.problem(s.key, at, err.Error())
			return
		}
		// To HTTP both are one, and which of them were sent would be left to chance.
		lower := strings.ToLower(name)
		if first, again := seen[lower]; again {
			r.problem(s.key, at, fmt.Sprintf("%q is the same header as %q", name, first))
			return
		}
		seen[lower] = name
		if v, ok := r.scalar(s, node); ok {
			v.text = name + ":" + v.text
			e.values = append(e.values, v)
		}
	})
	r.values[s.key] = e
}

// monitorEffects merges what the file says of the monitors with their defaults, and checks it. all is what is in effect
// otherwise.
func (m *merger) monitorEffects(all *effect) (effects []monitorEffect, problems []error) {
	for _, section := range m.monitors {
		e := &effect{
			config:  Config{Monitors: []MonitorSpec{{Name: section.name, Pause: slices.Clone(all.config.Groups)}}},
			origins: map[string]string{}, bad: map[string]bool{},
		}
		one := monitorEffect{section, e}
		whole := strings.TrimSuffix(section.scope(), ".")
		for i := range monitorTable {
			s := &monitorTable[i]
			e.bad[s.key] = m.unread[section.scope()+s.key] || m.unread[whole]
			said, ok := section.values[s.key]
			switch {
			case ok:
				problems = append(problems, e.apply(s, said)...)
			case s.def != "" && s.concerns(e.config.Monitors[0].Type):
				problems = append(problems, e.apply(s, split(s, []string{s.def}, "default"))...)
			default:
				e.origins[s.key] = "default"
			}
		}
		problems = append(problems, one.check()...)
		effects = append(effects, one)
	}
	return effects, problems
}

// check asks what only the monitor as a whole can answer.
func (m monitorEffect) check() (problems []error) {
	spec := &m.config.Monitors[0]
	add := func(key, text string) {
		origin := m.origins[key]
		if origin == "default" {
			origin = m.origin
		}
		problems = append(problems, &Problem{Key: m.scope() + key, Origin: origin, Text: text})
		m.bad[key] = true
	}
	nothing := &Config{Monitors: []MonitorSpec{{}}}
	for i := range monitorTable {
		s := &monitorTable[i]
		known := spec.Type != "" || s.monitorType == ""
		if s.required && known && s.concerns(spec.Type) && !m.bad[s.key] && s.get(&m.config) == s.get(nothing) {
			add(s.key, "is missing")
		}
	}
	if !m.bad["every"] && !m.bad["timeout"] && spec.Timeout > spec.Every {
		add("timeout", fmt.Sprintf("%s is more than %severy, which is %s (%s)",
			formatDuration(spec.Timeout), m.scope(), formatDuration(spec.Every), m.origins["every"]))
	}
	if spec.Type == MonitorHTTP && !m.badFor(MonitorHTTP) {
		asked := spec.HTTP.config()
		asked.CA = "" // Load does not look at this machine.
		if _, err := httpcheck.New(asked); err != nil {
			key, text, _ := strings.Cut(err.Error(), ": ")
			add(key, text)
		}
	}
	return problems
}

// badFor reports whether a setting of the type is wrong already.
func (m monitorEffect) badFor(kind string) bool {
	return slices.ContainsFunc(monitorTable, func(s setting) bool { return s.monitorType == kind && m.bad[s.key] })
}
