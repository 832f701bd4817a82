package schedule

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const maxNameLen = 63

// Headers of firings that the server did not make.
const (
	runNowHeader  = "Mandrill-Run-Now" // the firing's id
	runByHeader   = "Mandrill-Run-By"
	plannedHeader = "Mandrill-Planned" // the planned time that the server did not fire
)

// CheckName returns a *restart.FieldError unless name is one token of lower-case letters, digits and '-', 63 bytes at
// most.
func CheckName(name string) error {
	switch {
	case name == "":
		return fieldErr("name", "is empty")
	case len(name) > maxNameLen:
		return fieldErr("name", "has %d bytes, more than %d", len(name), maxNameLen)
	case strings.HasPrefix(name, "-"):
		return fieldErr("name", "%q begins with '-', which programs take for an option", name)
	}
	for _, r := range name {
		if !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') {
			return fieldErr("name", "%q has the character %q; only lower-case letters, digits and '-' are allowed", name, r)
		}
	}
	return nil
}

// firingSpace is the name space of the ids of firings.
var firingSpace = uuid.MustParse("7c1d9e44-2b0f-5a63-9a71-6d616e647269")

func fieldErr(field, format string, args ...any) error {
	return &restart.FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}
