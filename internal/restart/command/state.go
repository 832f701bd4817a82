package command

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const maxEpoch = 256 // in bytes

// parseState reads what a probe printed.
func parseState(printed string) (restart.State, error) {
	first, rest, _ := strings.Cut(printed, "\n")
	epoch := restart.Epoch(strings.TrimSpace(first))
	if err := checkEpoch(epoch); err != nil {
		return restart.State{}, fmt.Errorf("the first line is not an epoch: %w", err)
	}
	// A script whose epoch is lost to an error prints what comes next, and that must not count as another boot.
	if key, _, found := strings.Cut(string(epoch), ":"); found && (key == "ready" || key == "since") {
		return restart.State{}, fmt.Errorf("the first line is not an epoch but %s", excerpt(first))
	}
	state := restart.State{Epoch: epoch, Ready: true}
	seen := make(map[string]bool)
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		if seen[key] {
			return restart.State{}, fmt.Errorf("it says %q twice", key)
		}
		seen[key] = true
		if err := setState(&state, key, strings.TrimSpace(value)); err != nil {
			return restart.State{}, fmt.Errorf("the line %s %w", excerpt(line), err)
		}
	}
	return state, nil
}

func setState(state *restart.State, key, value string) (err error) {
	switch key {
	case "ready":
		if value != "yes" && value != "no" {
			return errors.New("must say yes or no")
		}
		state.Ready = value == "yes"
	case "since":
		if state.Since, err = time.Parse(time.RFC3339, value); err != nil {
			return errors.New("must say a time as in RFC 3339")
		}
	default:
		return errors.New("is neither \"ready:\" nor \"since:\"")
	}
	return nil
}

// checkEpoch returns an error unless it is fit to be stored, logged and given to a program.
func checkEpoch(epoch restart.Epoch) error {
	s := string(epoch)
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > maxEpoch:
		return fmt.Errorf("it has %d bytes, more than %d", len(s), maxEpoch)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q has a character that cannot be printed", s)
	case s[0] == '-':
		return fmt.Errorf("%q begins with '-', which programs take for an option", s)
	}
	return nil
}
