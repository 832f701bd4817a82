package restart

import (
	"fmt"
	"strings"
)

// maxHostLen and maxGroupLen bound names in bytes: the first is the limit of DNS, the second that of one of its
// labels.
const (
	maxHostLen  = 253
	maxGroupLen = 63
)

// DefaultGroup is the group of a request that names none.
const DefaultGroup Group = "default"

// A Host is the full, validated, lower-case name of a host. Its dots are legal in a subject, as tokens.
type Host string

// A Group is the validated name of the hosts that share a consumer, a budget and a driver. It is one subject token.
type Group string

// A FieldError says what is wrong with one field of a request.
type FieldError struct {
	Field   string // as it stands on the wire
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// ParseHost returns s as a host name: letters, digits, '-', '_' and '.', lower-cased, no '-' at its beginning, no empty
// label, 253 bytes at most. The error is a *FieldError for "host".
func ParseHost(s string) (Host, error) {
	switch {
	case s == "":
		return "", &FieldError{"host", "is empty"}
	case len(s) > maxHostLen:
		return "", &FieldError{"host", fmt.Sprintf("has %d bytes, more than %d", len(s), maxHostLen)}
	}
	for _, r := range s {
		if !isLetterOrDigit(r) && r != '-' && r != '_' && r != '.' {
			return "", &FieldError{"host", fmt.Sprintf("%q has the character %q; only letters, digits, '-', '_' and '.' are allowed", s, r)}
		}
	}
	if strings.HasPrefix(s, "-") {
		return "", &FieldError{"host", fmt.Sprintf("%q begins with '-', which programs take for an option", s)}
	}
	if strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return "", &FieldError{"host", fmt.Sprintf("%q has an empty label", s)}
	}
	return Host(strings.ToLower(s)), nil
}

// Check returns an error that wraps ErrPermanent unless h is as ParseHost returns it. A driver asks it of every host: what
// it passes on to a command line, a URL or another shell rests on it.
func (h Host) Check() error {
	if parsed, err := ParseHost(string(h)); err != nil {
		return fmt.Errorf("%w: %w", ErrPermanent, err)
	} else if parsed != h {
		return fmt.Errorf("%w: host: %q is not in lower case", ErrPermanent, h)
	}
	return nil
}

// HostOf returns the host that an instance means: its own name where it has a dot, otherwise instance.domain. The
// error is a *FieldError for "instance".
func HostOf(instance, domain string) (Host, error) {
	name := instance
	if instance != "" && !strings.Contains(instance, ".") {
		name = instance + "." + domain
	}
	host, err := ParseHost(name)
	if fe, ok := err.(*FieldError); ok {
		return "", &FieldError{"instance", fe.Problem}
	}
	return host, err
}

// ParseGroup returns s as a group name: letters, digits and '-', 63 bytes at most. The error is a *FieldError for
// "group".
func ParseGroup(s string) (Group, error) {
	switch {
	case s == "":
		return "", &FieldError{"group", "is empty"}
	case len(s) > maxGroupLen:
		return "", &FieldError{"group", fmt.Sprintf("has %d bytes, more than %d", len(s), maxGroupLen)}
	}
	for _, r := range s {
		if !isLetterOrDigit(r) && r != '-' {
			return "", &FieldError{"group", fmt.Sprintf("%q has the character %q; only letters, digits and '-' are allowed", s, r)}
		}
	}
	return Group(s), nil
}

func isLetterOrDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
