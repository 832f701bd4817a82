package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/tcpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// monitorsKey is the key of the file below which the monitors are. It is no setting.
const monitorsKey = "monitors"

// headersKey is the one key of a monitor that has a mapping.
const headersKey = "headers"

// monitorTypes are the types of monitors.
var monitorTypes = []string{MonitorHTTP, MonitorTCP, MonitorCommand}

// stopOns are what monitor.stop_on may be.
var stopOns = []string{string(monitor.Never), string(monitor.FirstFailure), string(monitor.AllFailed)}

// of makes settings reach into the one monitor that is being read, the first of an otherwise empty Config.
func of[T any](field func(*MonitorSpec) *T) func(*Config) *T {
	return func(c *Config) *T { return field(&c.Monitors[0]) }
}

// forType returns the setting as one that only monitors of a type have.
func (s setting) forType(kind string) setting {
	s.monitorType = kind
	return s
}

// mandatory returns the setting as one that has no default and cannot be left out.
func (s setting) mandatory() setting {
	s.required = true
	return s
}

// concerns reports whether a monitor of a type has the setting. Of one whose type is not known, it may have.
func (s *setting) concerns(kind string) bool {
	return s.monitorType == "" || kind == "" || s.monitorType == kind
}

// monitorTable holds every key of a monitor, in the order in which people read them. Nothing changes it. What a check can
// use is for the check's New to say; bounds that stand here are no wider.
var monitorTable = []setting{
	checked(oneOf("type", "", monitorTypes, of(func(m *MonitorSpec) *string { return &m.Type }),
		"What is checked."), checkType).mandatory(),
	duration("every", "", 10*time.Millisecond, 7*day, of(func(m *MonitorSpec) *time.Duration { return &m.Every }),
		"Time from one beat to the next.").mandatory(),
	duration("timeout", "0s", 0, 7*day, of(func(m *MonitorSpec) *time.Duration { return &m.Timeout }),
		"How long one check may take, at most `every`. 0s means nine tenths of `every`, or 10s if that is less."),
	duration("initial_delay", "0s", 0, 7*day, of(func(m *MonitorSpec) *time.Duration { return &m.InitialDelay }),
		"Time from the start to the first beat. 0s means at once."),
	integer("failures", "3", 1, million, of(func(m *MonitorSpec) *int { return &m.Failures }),
		"How many bad results in a row make it failed."),
	integer("successes", "1", 1, million, of(func(m *MonitorSpec) *int { return &m.Successes }),
		"How many good results in a row make it good."),
	pausing("pause", of(func(m *MonitorSpec) *[]restart.Group { return &m.Pause }),
		"Groups that are paused, for the whole fleet, when it fails; `[]`: none. Left out: those that the worker serves."),
	integer("resume_after", "0", 0, million, of(func(m *MonitorSpec) *int { return &m.ResumeAfter }),
		"How many good results in a row lift its pauses again. 0 means that only `mandrill resume` does."),

	monitorURL("url", of(func(m *MonitorSpec) *MonitorURL { return &m.HTTP.URL }),
		"Full URL of http or https, without credentials. What follows a `?` is never printed.").mandatory().forType(MonitorHTTP),
	checked(text("method", http.MethodGet, of(func(m *MonitorSpec) *string { return &m.HTTP.Method }),
		"Method of the request."), checkMethod).forType(MonitorHTTP),
	headers(headersKey, of(func(m *MonitorSpec) *map[string]Secret { return &m.HTTP.Headers }),
		"Headers of the request, as a section of `name: value`. The values are secret: never printed.").forType(MonitorHTTP),
	statuses("statuses", of(func(m *MonitorSpec) *[]int { return &m.HTTP.Statuses }),
		"Which are good. Empty means 200 to 299.").forType(MonitorHTTP),
	text("contains", "", of(func(m *MonitorSpec) *string { return &m.HTTP.Contains }),
		"Text that the body must contain.").forType(MonitorHTTP),
	checked(text("matches", "", of(func(m *MonitorSpec) *string { return &m.HTTP.Matches }),
		"Regular expression, in the syntax of RE2, that the body must match."), checkExpression).forType(MonitorHTTP),
	duration("min_tls_left", "0s", 0, 10*365*day, of(func(m *MonitorSpec) *time.Duration { return &m.HTTP.MinTLSLeft }),
		"Bad if the server's certificate, or one that it rests on, is valid for less time; for https only.").forType(MonitorHTTP),
	integer("redirects", "0", 0, 10, of(func(m *MonitorSpec) *int { return &m.HTTP.Redirects }),
		"How many are followed, on the same host only and never away from https. 0 means that a redirect is the response.").forType(MonitorHTTP),
	integer("max_body", strconv.Itoa(1<<20), 1, 64<<20, of(func(m *MonitorSpec) *int { return &m.HTTP.MaxBody }),
		"Bytes of the body that are read and searched.").forType(MonitorHTTP),
	path("ca", of(func(m *MonitorSpec) *string { return &m.HTTP.CA }),
		"PEM file of the only authorities that may vouch for the server. Empty means the system's.").forType(MonitorHTTP),

	checked(text("address", "", of(func(m *MonitorSpec) *string { return &m.TCP.Address }),
		"`host:port`; an IPv6 address in brackets, the port as a number."), checkAddress).mandatory().forType(MonitorTCP),
	checked(text("banner", "", of(func(m *MonitorSpec) *string { return &m.TCP.Banner }),
		"Text that must be in the first 4096 bytes that the server sends by itself. Empty means that connecting is enough."), checkBanner).forType(MonitorTCP),

	program("command", of(func(m *MonitorSpec) *[]string { return &m.Command.Command }),
		"Program and its arguments; no shell reads it. Exit status 0 is good.").mandatory().forType(MonitorCommand),
	variables("env", of(func(m *MonitorSpec) *[]string { return &m.Command.Env }),
		"Names of environment variables that the program gets too, beside PATH, HOME, LANG, TZ and TMPDIR.").forType(MonitorCommand),
}

// lookupMonitor returns the setting of a monitor's key, or nil.
func lookupMonitor(key string) *setting {
	for i := range monitorTable {
		if monitorTable[i].key == key {
			return &monitorTable[i]
		}
	}
	return nil
}

// anywhere stands for the URL while something else is checked.
const anywhere = "https://host"

// pausing is a list of groups that may be empty.
func pausing(key string, field func(*Config) *[]restart.Group, doc string) setting {
	s := groups(key, field, doc)
	s.kind, s.def, s.commas = "list", "", false
	s.get = func(c *Config) string { return formatTexts(*field(c)) }
	return s
}

func monitorURL(key string, field func(*Config) *MonitorURL, doc string) setting {
	return setting{
		key: key, kind: "URL", doc: doc, hidden: true,
		set: func(c *Config, text string) error {
			*field(c) = MonitorURL(text)
			if text == "" {
				return nil // it is missing, which is told by itself
			}
			_, err := httpcheck.New(httpcheck.Config{URL: text})
			return withoutKey(err)
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

// headers is a list of texts such as "name: value", which the file's reader makes. The name was checked.
func headers(key string, field func(*Config) *map[string]Secret, doc string) setting {
	return setting{
		key: key, kind: "section", doc: doc, hidden: true,
		reset: func(c *Config) { *field(c) = map[string]Secret{} },
		set: func(c *Config, text string) error {
			name, value, _ := strings.Cut(text, ":")
			(*field(c))[name] = Secret(value)
			_, err := httpcheck.New(httpcheck.Config{URL: anywhere, Headers: map[string]string{name: value}})
			if err != nil {
				return errors.New("has a line end or another control character")
			}
			return nil
		},
		get: func(c *Config) string {
			var shown []string
			for _, name := range slices.Sorted(maps.Keys(*field(c))) {
				shown = append(shown, name+": "+mask)
			}
			return formatList(shown)
		},
	}
}

// checkHeader is about the name of a header.
func checkHeader(name string) error {
	_, err := httpcheck.New(httpcheck.Config{URL: anywhere, Headers: map[string]string{name: ""}})
	return withoutKey(err)
}

func statuses(key string, field func(*Config) *[]int, doc string) setting {
	return setting{
		key: key, kind: "list", doc: doc, bounds: "200 to 599",
		reset: func(c *Config) { *field(c) = nil },
		set: func(c *Config, text string) error {
			code, err := strconv.Atoi(text)
			if err == nil {
				_, err = httpcheck.New(httpcheck.Config{URL: anywhere, Statuses: []int{code}})
			}
			if err != nil {
				return errors.New("is not a status from 200 to 599")
			}
			*field(c) = append(*field(c), code)
			return nil
		},
		get: func(c *Config) string {
			var texts []string
			for _, code := range *field(c) {
				texts = append(texts, strconv.Itoa(code))
			}
			return formatList(texts)
		},
	}
}

func checkType(text string) error {
	if !slices.Contains(monitorTypes, text) {
		return errors.New("is none of " + strings.Join(monitorTypes, ", ") + guess(text, monitorTypes))
	}
	return nil
}

func checkMethod(text string) error {
	if _, err := httpcheck.New(httpcheck.Config{URL: anywhere, Method: text}); err != nil {
		return errors.New("is not a method")
	}
	return nil
}

func checkExpression(text string) error {
	_, err := httpcheck.New(httpcheck.Config{URL: anywhere, Matches: text})
	if e, ok := errors.AsType[*syntax.Error](err); ok { // The rest of it quotes the value.
		return fmt.Errorf("is not a regular expression: %s", e.Code)
	}
	return withoutKey(err)
}

func checkAddress(text string) error {
	if text == "" {
		return nil // it is missing, which is told by itself
	}
	if _, err := tcpcheck.New(tcpcheck.Config{Address: text}); err != nil {
		return errors.New("is not host:port, with a port from 1 to 65535")
	}
	return nil
}

func checkBanner(text string) error {
	_, err := tcpcheck.New(tcpcheck.Config{Address: "host:1", Banner: text})
	return withoutKey(err)
}

// withoutKey leaves out the key that begins an error, because ours names it too.
func withoutKey(err error) error {
	if err == nil {
		return nil
	}
	_, text, _ := strings.Cut(err.Error(), ": ")
	return errors.New(text)
}
