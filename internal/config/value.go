package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// The functions of this file make settings of one type each. Their errors never quote the value, because only the
// caller knows whether it may be shown.

func duration(key, def string, lo, hi time.Duration, field func(*Config) *time.Duration, doc string) setting {
	return setting{
		key: key, kind: "duration", def: def, doc: doc,
		bounds: formatDuration(lo) + " to " + formatDuration(hi),
		set: func(c *Config, text string) error {
			v, err := time.ParseDuration(text)
			if err != nil {
				return errors.New("is not a duration: write a number with its unit, such as 500ms, 30s, 5m or 1h30m")
			}
			*field(c) = v
			return within(v, lo, hi, formatDuration)
		},
		get: func(c *Config) string { return formatDuration(*field(c)) },
	}
}

// syncing is a duration for which zero is called "always".
func syncing(key string, field func(*Config) *time.Duration, doc string) setting {
	const always = "always"
	s := duration(key, always, time.Second, time.Hour, field, doc)
	setDuration, getDuration := s.set, s.get
	s.kind, s.bounds = "duration or always", "always, or "+s.bounds
	s.set = func(c *Config, text string) error {
		if text == always {
			*field(c) = 0
			return nil
		}
		return setDuration(c, text)
	}
	s.get = func(c *Config) string {
		if *field(c) == 0 {
			return always
		}
		return getDuration(c)
	}
	return s
}

func integer(key, def string, lo, hi int, field func(*Config) *int, doc string) setting {
	return setting{
		key: key, kind: "integer", def: def, doc: doc,
		bounds: fmt.Sprintf("%d to %d", lo, hi),
		set: func(c *Config, text string) error {
			v, err := strconv.Atoi(text)
			if err != nil {
				return errors.New("is not an integer")
			}
			*field(c) = v
			return within(v, lo, hi, strconv.Itoa)
		},
		get: func(c *Config) string { return strconv.Itoa(*field(c)) },
	}
}

func unsigned(key, def string, field func(*Config) *uint64, doc string) setting {
	return setting{
		key: key, kind: "integer", def: def, doc: doc,
		bounds: fmt.Sprintf("0 to %d", uint64(math.MaxUint64)),
		set: func(c *Config, text string) error {
			v, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return errors.New("is not an integer from 0 to 2^64-1")
			}
			*field(c) = v
			return nil
		},
		get: func(c *Config) string { return strconv.FormatUint(*field(c), 10) },
	}
}

// rate is a share of all cases.
func rate(key string, field func(*Config) *float64, doc string) setting {
	return setting{
		key: key, kind: "number", def: "0", doc: doc, bounds: "0 to 1",
		set: func(c *Config, text string) error {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(v) {
				return errors.New("is not a number")
			}
			*field(c) = v
			return within(v, 0, 1, formatFloat)
		},
		get: func(c *Config) string { return formatFloat(*field(c)) },
	}
}

func oneOf(key, def string, words []string, field func(*Config) *string, doc string) setting {
	return setting{
		key: key, kind: "word", def: def, doc: doc,
		bounds: strings.Join(words, ", "),
		set: func(c *Config, text string) error {
			if !slices.Contains(words, text) {
				return errors.New("is none of " + strings.Join(words, ", "))
			}
			*field(c) = text
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}

// boolean is true or false; as a flag it is true by its name alone.
func boolean(key string, field func(*Config) *bool, doc string) setting {
	return setting{
		key: key, kind: kindBool, def: "false", doc: doc, bounds: "true, false",
		set: func(c *Config, text string) error {
			if text != "true" && text != "false" {
				return errors.New("is neither true nor false")
			}
			*field(c) = text == "true"
			return nil
		},
		get: func(c *Config) string { return strconv.FormatBool(*field(c)) },
	}
}

func compare(key string, field func(*Config) *restart.Compare, doc string) setting {
	var words []string
	values := []restart.Compare{restart.CompareAtEffect, restart.CompareAtAcceptance}
	for _, v := range values {
		words = append(words, v.String())
	}
	return setting{
		key: key, kind: "word", def: restart.CompareAtAcceptance.String(), doc: doc,
		bounds: strings.Join(words, ", "),
		set: func(c *Config, text string) error {
			i := slices.Index(words, text)
			if i < 0 {
				return errors.New("is none of " + strings.Join(words, ", "))
			}
			*field(c) = values[i]
			return nil
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

// text is one line of any characters; it may be empty.
func text(key, def string, field func(*Config) *string, doc string) setting {
	return setting{
		key: key, kind: "text", def: def, doc: doc,
		set: func(c *Config, text string) error {
			*field(c) = text
			return oneLine(text)
		},
		get: func(c *Config) string { return *field(c) },
	}
}

func secret(key string, field func(*Config) *Secret, doc string) setting {
	return setting{
		key: key, kind: "text", doc: doc, hidden: true,
		set: func(c *Config, text string) error {
			*field(c) = Secret(text)
			return oneLine(text)
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

func path(key string, field func(*Config) *string, doc string) setting {
	s := text(key, "", field, doc)
	setText := s.set
	s.kind = "path"
	s.set = func(c *Config, text string) error {
		if err := checkPath(text); err != nil {
			return err
		}
		return setText(c, text)
	}
	return s
}

func checkPath(text string) error {
	if text == "~" || strings.HasPrefix(text, "~/") {
		return errors.New("begins with ~, which only a shell understands; write the path in full")
	}
	return nil
}

func database(key string, field func(*Config) *Database, doc string) setting {
	return setting{
		key: key, kind: "URL or path", doc: doc, hidden: true,
		set: func(c *Config, text string) error {
			*field(c) = Database(text)
			if err := oneLine(text); err != nil {
				return err
			}
			return checkDatabase(text)
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

func urls(key string, field func(*Config) *URLs, doc string) setting {
	return setting{
		key: key, kind: "URLs", doc: doc, hidden: true,
		bounds: "nats, tls, ws or wss, separated by commas",
		set: func(c *Config, text string) error {
			*field(c) = URLs(text)
			if text == "" {
				return nil
			}
			for part := range strings.SplitSeq(text, ",") {
				if err := checkNATSURL(part); err != nil {
					return err
				}
			}
			return nil
		},
		get: func(c *Config) string { return field(c).String() },
	}
}

// checkNATSURL refuses a path and a query, which NATS has no use for: where one stands, it is a part of a password
// that was not escaped, and would be printed.
func checkNATSURL(s string) error {
	if !strings.Contains(s, "://") {
		s = "nats://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil: // It quotes the URL, and with it the password.
		return errors.New("has a part that is not a URL such as nats://host:4222; special characters of a password are written as %XX")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return errors.New("has a URL whose scheme is none of nats, tls, ws, wss")
	case u.Hostname() == "":
		return errors.New("has a URL without a host")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a URL with more than user, host and port; special characters of a password are written as %XX")
	}
	return nil
}

func domain(key, def string, field func(*Config) *string, doc string) setting {
	return setting{
		key: key, kind: "text", def: def, doc: doc,
		set: func(c *Config, text string) error {
			host, err := restart.ParseHost(text)
			if err != nil { // It quotes the value.
				return errors.New("is not a domain: letters, digits, '-', '_' and '.', no empty label, 253 bytes at most")
			}
			*field(c) = string(host)
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}

var errNotGroup = errors.New("is not a group: letters, digits and '-', 1 to 63 bytes")

func groups(key string, field func(*Config) *[]restart.Group, doc string) setting {
	return setting{
		key: key, kind: "names", def: string(restart.DefaultGroup), doc: doc, commas: true,
		reset: func(c *Config) { *field(c) = nil },
		set: func(c *Config, text string) error {
			group, err := restart.ParseGroup(text)
			if err != nil { // It quotes the value.
				return errNotGroup
			}
			if slices.Contains(*field(c), group) {
				return errors.New("is named twice")
			}
			*field(c) = append(*field(c), group)
			return nil
		},
		get: func(c *Config) string {
			var names []string
			for _, group := range *field(c) {
				names = append(names, string(group))
			}
			return strings.Join(names, ",")
		},
	}
}

func within[T cmp.Ordered](v, lo, hi T, format func(T) string) error {
	switch {
	case v < lo:
		return errors.New("is less than " + format(lo))
	case v > hi:
		return errors.New("is more than " + format(hi))
	}
	return nil
}

// oneLine refuses what a file or a command leaves at the end of a variable without anybody seeing it.
func oneLine(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("has a line end or another control character")
	}
	return nil
}

// formatDuration leaves out the zeros that time.Duration writes at the end.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
