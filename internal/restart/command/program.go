package command

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// What a program is told, as {host} in its arguments and as RESTART_HOST in its environment.
var (
	probeNames   = []string{"host", "group"}
	restartNames = []string{"host", "group", "epoch", "id", "attempt", "within"}
)

const variablePrefix = "RESTART_"

// placeholder matches an argument that is meant as one, whether there is such a placeholder or not. {} is none.
var placeholder = regexp.MustCompile(`^\{[A-Za-z0-9_-]+\}$`)

// A program is what to run, and what to tell it.
type program struct {
	path  string
	argv  []string
	names []string // of what it is told
}

// newProgram finds a program and checks its arguments. No error quotes an argument, which may be a password.
func newProgram(argv, names []string) (program, error) {
	if len(argv) == 0 || argv[0] == "" {
		return program{}, errors.New("is missing; it takes a program and its arguments, as a list")
	}
	for i, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return program{}, fmt.Errorf("argument %d has a NUL byte", i)
		}
		if err := checkPlaceholder(arg, i == 0, names); err != nil {
			return program{}, fmt.Errorf("argument %d %w", i, err)
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return program{}, fmt.Errorf("cannot find the program: %w", err)
	}
	return program{path: path, argv: slices.Clone(argv), names: names}, nil
}

func checkPlaceholder(arg string, first bool, names []string) error {
	whole := placeholder.MatchString(arg)
	if whole && !first {
		if slices.Contains(names, strings.Trim(arg, "{}")) {
			return nil
		}
		return fmt.Errorf("is %s, which is not known here; known are {%s}", arg, strings.Join(names, "}, {"))
	}
	for _, name := range restartNames {
		if p := "{" + name + "}"; !strings.Contains(arg, p) {
			continue
		} else if first {
			return fmt.Errorf("is the program, which cannot have %s in it", p)
		} else {
			return fmt.Errorf("has %s as a part; a placeholder must be a whole argument", p)
		}
	}
	return nil
}

// fill returns the arguments and the variables that tell the program the values, which are in the order of its names.
func (p program) fill(values ...string) (argv, variables []string) {
	argv = slices.Clone(p.argv)
	for i, name := range p.names {
		variables = append(variables, variablePrefix+strings.ToUpper(name)+"="+values[i])
	}
	for i, arg := range argv {
		if placeholder.MatchString(arg) {
			argv[i] = values[slices.Index(p.names, strings.Trim(arg, "{}"))]
		}
	}
	return argv, variables
}
