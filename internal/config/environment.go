package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	envPrefix = "MANDRILL_"

	// FileVariable names the configuration file; the binary reads it.
	FileVariable = envPrefix + "CONFIG"

	testPrefix = envPrefix + "TEST_"
)

// serviceVariable matches what Kubernetes puts into every container for a service called mandrill or mandrill-….
var serviceVariable = regexp.MustCompile(`^MANDRILL(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// ofService reports whether a variable that has the name of a setting is one of Kubernetes' all the same: a service called
// mandrill-ssh has its URL in MANDRILL_SSH_PORT, and no setting of such a name takes a URL.
func ofService(name, text string) bool {
	return serviceVariable.MatchString(name) && strings.Contains(text, "://")
}

// environment returns the variables by name. Of a name that is there twice the first counts, as for os.Getenv.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if _, again := env[name]; !again {
			env[name] = text
		}
	}
	return env
}

// readEnvironment returns the values that stand in variables. A variable of ours that is no setting is a problem:
// a name with a slip in it would otherwise leave the default in effect, unseen.
func readEnvironment(env map[string]string) (layer, []error) {
	values := layer{}
	names := []string{FileVariable}
	for i := range table {
		s := &table[i]
		names = append(names, s.env())
		if text, ok := env[s.env()]; ok && !ofService(s.env(), text) {
			values[s.key] = split(s, []string{text}, "environment "+s.env())
		}
	}
	var unknown []string
	for name := range env {
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, testPrefix) &&
			!slices.Contains(names, name) && !serviceVariable.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	var problems []error
	for _, name := range unknown {
		problems = append(problems, &Problem{
			Origin: "environment " + name,
			Text:   fmt.Sprintf("unknown variable%s", guess(name, names)),
		})
	}
	return values, problems
}

// split makes an entry of the texts of a variable or a flag, which for a list stand for several values.
func split(s *setting, texts []string, origin string) entry {
	e := entry{key: s.key, origin: origin}
	for _, text := range texts {
		items, err := []string{text}, error(nil)
		switch {
		case !s.list():
		case s.commas:
			items = strings.Split(text, ",")
		case text == "":
			items = nil
		case strings.HasPrefix(text, "["):
			if items, err = parseList(text); err != nil {
				items = []string{text}
			}
		}
		for _, item := range items {
			e.values = append(e.values, value{text: item, shown: strconv.Quote(item), origin: origin, err: err})
		}
	}
	return e
}

// defaultData returns the folder for what a program keeps, or nothing if the environment names none. A relative
// XDG_STATE_HOME does not count: its specification says so.
func defaultData(env map[string]string) string {
	if state := env["XDG_STATE_HOME"]; filepath.IsAbs(state) {
		return filepath.Join(state, "mandrill")
	}
	if home := env["HOME"]; home != "" {
		return filepath.Join(home, ".local", "state", "mandrill")
	}
	return ""
}
