package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// A scope is the flags by which requests and dead letters alike are chosen.
type scope struct {
	host, group, since, until string
}

// given reports whether any flag narrows the choice.
func (s *scope) given() bool { return s.host != "" || s.group != "" || s.since != "" || s.until != "" }

// parse returns what the flags say, as the fields of a filter. Spans count back from now.
func (s *scope) parse(domain string, now time.Time) (f store.Filter, err error) {
	if s.host != "" {
		if f.Host, err = restart.HostOf(s.host, domain); err != nil {
			return f, usagef("--host: %w", err)
		}
	}
	if s.group != "" {
		if f.Group, err = restart.ParseGroup(s.group); err != nil {
			return f, usagef("--group: %w", err)
		}
	}
	if f.Since, err = parsePast("since", s.since, now); err != nil {
		return f, err
	}
	f.Until, err = parsePast("until", s.until, now)
	return f, err
}

// A historyFilter is the flags that choose requests of the history.
type historyFilter struct {
	scope
	outcome string
	limit   int
}

func (f *historyFilter) addFlags(cmd *cobra.Command, limit int) {
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "", "only requests for this host; a name without a dot is an instance")
	flags.StringVar(&f.group, "group", "", "only requests of this group")
	flags.StringVar(&f.outcome, "outcome", "", "only requests that ended so: "+kindNames())
	flags.StringVar(&f.since, "since", "", "only what was requested since then: a span such as 1h, or a time such as 2006-01-02T15:04:05Z")
	flags.StringVar(&f.until, "until", "", "only what was requested before then: a span or a time, as --since")
	flags.IntVar(&f.limit, "limit", limit, "how many at most, the newest; 0 is all")
}

// given reports whether any flag narrows the choice.
func (f *historyFilter) given() bool {
	return f.scope.given() || f.outcome != ""
}

// filter returns what the flags say, checked. Spans count back from now.
func (f *historyFilter) filter(domain string, now time.Time) (store.Filter, error) {
	filter, err := f.parse(domain, now)
	if err != nil {
		return filter, err
	}
	filter.Kind = restart.Kind(f.outcome)
	if f.outcome != "" && !slices.Contains(restart.Kinds, filter.Kind) {
		return filter, usagef("--outcome: %q is none of %s", f.outcome, kindNames())
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, usagef("--since: %s is not before --until %s", f.since, f.until)
	}
	if f.limit < 0 {
		return filter, usagef("--limit: %d is negative", f.limit)
	}
	filter.Limit = f.limit
	return filter, nil
}

func kindNames() string {
	names := make([]string, len(restart.Kinds))
	for i, kind := range restart.Kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}

// parsePast reads a flag that is a span, counted back from now, or a time.
func parsePast(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if span, err := time.ParseDuration(text); err == nil {
		if span < 0 {
			return time.Time{}, usagef("--%s: %s is in the future; a span counts back from now", flag, text)
		}
		return now.Add(-span), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--%s: %q is neither a span such as 1h nor a time such as 2006-01-02T15:04:05Z", flag, text)
	}
	return at, nil
}
