package config

import (
	"errors"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/commandcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/httpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/monitor/tcpcheck"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Monitor says when monitors end what they guard, and what is done then.
type Monitor struct {
	StopOn         string   // one of monitor.StopOn
	Command        []string // program and arguments; empty: none
	CommandTimeout time.Duration
	ExitCode       int
}

// The types of monitors.
const (
	MonitorHTTP    = "http"
	MonitorTCP     = "tcp"
	MonitorCommand = "command"
)

// A MonitorSpec is one monitor of the file, and what it holds back. Of HTTP, TCP and Command only that of its type counts.
type MonitorSpec struct {
	Name string
	Type string

	Every, Timeout, InitialDelay time.Duration // zero timeout: by Every, see monitor.Spec
	Failures, Successes          int

	// Pause is which groups are paused once it has failed: where the file does not say, those that are served.
	Pause       []restart.Group
	ResumeAfter int // good results in a row; zero: a person resumes

	HTTP    HTTPCheck
	TCP     tcpcheck.Config
	Command commandcheck.Config
}

// HTTPCheck is httpcheck.Config, safe to print.
type HTTPCheck struct {
	URL               MonitorURL
	Method            string
	Headers           map[string]Secret
	Statuses          []int
	Contains, Matches string
	MinTLSLeft        time.Duration
	Redirects         int
	MaxBody           int
	CA                string
}

func (h HTTPCheck) config() httpcheck.Config {
	c := httpcheck.Config{
		URL: string(h.URL), Method: h.Method, Headers: map[string]string{}, Statuses: h.Statuses, Contains: h.Contains,
		Matches: h.Matches, MinTLSLeft: h.MinTLSLeft, Redirects: h.Redirects, MaxBody: int64(h.MaxBody), CA: h.CA,
	}
	for name, value := range h.Headers {
		c.Headers[name] = string(value)
	}
	return c
}

// A MonitorURL is a URL of http or https. Where it has more than a path the rest prints as ****, because a token may
// stand there; string(u) is the text itself.
type MonitorURL string

func (u MonitorURL) String() string {
	if i := strings.IndexAny(string(u), "?#"); i >= 0 {
		return string(u[:i+1]) + mask
	}
	return string(u)
}

// GoString implements fmt.GoStringer.
func (u MonitorURL) GoString() string { return u.String() }

// MarshalText implements encoding.TextMarshaler.
func (u MonitorURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Specs makes the monitors, ready to be run. Unlike Load it looks at this machine, where a program or a file that a
// monitor needs may be missing: that is no problem of a verb that runs no monitors. The error is a *UsageError with
// every Problem, joined.
func (l *Loaded) Specs() ([]monitor.Spec, error) {
	var specs []monitor.Spec
	var problems []error
	for _, m := range l.monitors {
		spec := m.config.Monitors[0]
		check, err := spec.newCheck()
		if err != nil {
			key, _, _ := strings.Cut(err.Error(), ":")
			problems = append(problems, unusable(m.scope()+key, m.origins[key], err))
			continue
		}
		specs = append(specs, monitor.Spec{
			Name: spec.Name, Check: check, Every: spec.Every, InitialDelay: spec.InitialDelay, Timeout: spec.Timeout,
			Failures: spec.Failures, Successes: spec.Successes,
		})
	}
	// What is run once everything has gone wrong must not turn out then to be missing.
	if command := l.Config.Monitor.Command; len(command) > 0 {
		if _, err := commandcheck.New(commandcheck.Config{Command: command}); err != nil {
			problems = append(problems, unusable("monitor.command", l.origins["monitor.command"], err))
		}
	}
	if len(problems) > 0 {
		return nil, &UsageError{errors.Join(problems...)}
	}
	return specs, nil
}

func (m MonitorSpec) newCheck() (monitor.Check, error) {
	switch m.Type {
	case MonitorHTTP:
		return httpcheck.New(m.HTTP.config())
	case MonitorTCP:
		return tcpcheck.New(m.TCP)
	default:
		return commandcheck.New(m.Command)
	}
}

// unusable returns the problem of a setting that names what is not on this machine. The error of its check begins with
// the key, and then quotes what may have come from a variable.
func unusable(key, origin string, err error) error {
	_, text, _ := strings.Cut(err.Error(), ": ")
	if quoted, err := strconv.QuotedPrefix(text); err == nil {
		text = strings.TrimPrefix(text[len(quoted):], " ")
	}
	what := "cannot be read: "
	if e, ok := errors.AsType[*exec.Error](err); ok {
		what = "names no program that can be run: "
		text = what + e.Err.Error()
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		text = what + e.Err.Error()
	}
	return &Problem{Key: key, Origin: origin, Text: text}
}
