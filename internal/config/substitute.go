package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// substitute replaces ${VAR} and ${VAR:-default} by what the environment says, and $$ by a dollar. What is put in is
// not looked at again. Its errors name variables, and quote nothing else, because the text may be a secret.
func substitute(text string, env map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{"):
			reference, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", errors.New("has a ${ that no } closes; a default cannot hold another ${}")
			}
			value, err := resolve(reference, env)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			text = after
		default:
			return "", errors.New("has a lone dollar: write $$ for a dollar, ${VAR} for a variable")
		}
	}
}

// resolve returns what stands for VAR or VAR:-default. As in a shell, the default is also for a variable that is set
// and empty.
func resolve(reference string, env map[string]string) (string, error) {
	name, def, hasDefault := strings.Cut(reference, ":-")
	if !variableName.MatchString(name) {
		return "", errors.New("has a ${} that is neither ${VAR} nor ${VAR:-default}")
	}
	if hasDefault {
		// Only $$ can succeed here, because the first } has ended the reference.
		def, err := substitute(def, nil)
		if err != nil {
			return "", err
		}
		if env[name] == "" {
			return def, nil
		}
		return env[name], nil
	}
	value, ok := env[name]
	if !ok {
		return "", fmt.Errorf("uses ${%s}, which is not set: set it, or write ${%s:-default}", name, name)
	}
	return value, nil
}
