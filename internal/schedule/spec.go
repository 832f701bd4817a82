package schedule

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Kind says how a schedule's times are given.
type Kind string

// The kinds of schedules.
const (
	Cron  Kind = "cron"
	At    Kind = "at"
	Every Kind = "every"
)

// A Spec says when something is planned. The zero Spec is not valid: see ParseCron, ParseAt and ParseEvery.
type Spec struct {
	Kind Kind
	Expr string // five fields, a time in RFC 3339, or a duration
	Zone string // of a cron expression

	cron  *cronTimes
	at    time.Time
	every time.Duration
}

// ParseCron returns the times of a cron expression: minute, hour, day of the month, month and day of the week, each "*", a
// value, a range or a list of them, with or without a step; months and days of the week may be names of three letters.
// Where both kinds of day are given and neither is "*", either is enough. An empty zone is UTC. The error is a
// *restart.FieldError for "cron" or "tz".
func ParseCron(expr, zone string) (Spec, error) {
	if zone == "" {
		zone = "UTC"
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" { // which is another zone on another machine
		return Spec{}, fieldErr("tz", "%.80q is no time zone; write one like Europe/Berlin", zone)
	}
	c, err := parseCron(expr, loc)
	if err != nil {
		return Spec{}, err
	}
	return Spec{Kind: Cron, Expr: strings.Join(c.fields, " "), Zone: zone, cron: c}, nil
}

// The server counts nanoseconds since 1970 in 64 bits, and fires at once what is beyond them.
const (
	firstYear = 1970
	lastYear  = 2261
)

// ParseAt returns one time, which is written as RFC 3339 has it, to the second. It may have passed. The error is a
// *restart.FieldError for "at".
func ParseAt(text string) (Spec, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Spec{}, fieldErr("at", "%.40q is no time like 2026-01-02T15:04:05Z", text)
	}
	t = t.UTC().Truncate(time.Second)
	if t.Year() < firstYear || t.Year() > lastYear {
		return Spec{}, fieldErr("at", "%.40q is not between the years %d and %d", text, firstYear, lastYear)
	}
	return Spec{Kind: At, Expr: t.Format(time.RFC3339), at: t}, nil
}

// ParseEvery returns the times at even intervals from midnight, UTC. So the interval must divide a minute, an hour or a
// day: then no outage, restart or change of the definition moves the times. The error is a *restart.FieldError for
// "every".
func ParseEvery(text string) (Spec, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return Spec{}, fieldErr("every", "%.40q is no duration like 10m or 6h", text)
	}
	if everyPattern(d) == "" {
		return Spec{}, fieldErr("every", "%s does not divide a minute, an hour or a day evenly, as 30s, 15m and 6h do; use cron for other times", d)
	}
	return Spec{Kind: Every, Expr: d.String(), every: d}, nil
}

// everyPattern returns the server's words for an interval; empty if it has none that start anew each day.
func everyPattern(d time.Duration) string {
	step := func(unit time.Duration) string { return "*/" + strconv.FormatInt(int64(d/unit), 10) }
	divides := func(unit, whole time.Duration) bool { return d >= unit && d < whole && d%unit == 0 && whole%d == 0 }
	const day = 24 * time.Hour
	switch {
	case divides(time.Second, time.Minute):
		return step(time.Second) + " * * * * *"
	case divides(time.Minute, time.Hour):
		return "0 " + step(time.Minute) + " * * * *"
	case divides(time.Hour, day):
		return "0 0 " + step(time.Hour) + " * * *"
	case d == day:
		return "0 0 0 * * *"
	default:
		return ""
	}
}

// Next returns the first planned time after t; zero if there is none.
func (s Spec) Next(t time.Time) time.Time {
	switch {
	case s.Kind == Every:
		return t.UTC().Truncate(s.every).Add(s.every)
	case s.Kind == Cron:
		return s.cron.next(t)
	case s.at.After(t):
		return s.at
	default:
		return time.Time{}
	}
}

// NextN returns up to n planned times after t.
func (s Spec) NextN(t time.Time, n int) []time.Time {
	var times []time.Time
	for range n {
		if t = s.Next(t); t.IsZero() {
			break
		}
		times = append(times, t)
	}
	return times
}

// Planned returns the last planned time that is not after t; zero if there is none.
func (s Spec) Planned(t time.Time) time.Time {
	switch {
	case s.Kind == Every:
		return t.UTC().Truncate(s.every)
	case s.Kind == Cron:
		return s.cron.before(t.Add(1)).UTC()
	case s.at.After(t):
		return time.Time{}
	default:
		return s.at
	}
}

// publishOptions ask the server for the times.
func (s Spec) publishOptions(now time.Time) []jetstream.PublishOpt {
	switch s.Kind {
	case Every:
		return []jetstream.PublishOpt{jetstream.WithScheduleCron(everyPattern(s.every))}
	case Cron:
		return []jetstream.PublishOpt{jetstream.WithScheduleCron(s.cron.pattern(now)), jetstream.WithScheduleTimeZone(s.Zone)}
	default:
		return []jetstream.PublishOpt{jetstream.WithScheduleAt(s.at)}
	}
}

type specWire struct {
	Kind Kind   `json:"kind"`
	Expr string `json:"expr"`
	Zone string `json:"tz,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s Spec) MarshalJSON() ([]byte, error) { return json.Marshal(specWire{s.Kind, s.Expr, s.Zone}) }

// UnmarshalJSON implements json.Unmarshaler. It checks what it reads.
func (s *Spec) UnmarshalJSON(data []byte) (err error) {
	var w specWire
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	switch {
	case w.Kind == Cron:
		*s, err = ParseCron(w.Expr, w.Zone)
	case w.Zone != "":
		err = fieldErr("tz", "is only for cron")
	case w.Kind == At:
		*s, err = ParseAt(w.Expr)
	case w.Kind == Every:
		*s, err = ParseEvery(w.Expr)
	default:
		err = fieldErr("kind", "%.40q is not cron, at or every", w.Kind)
	}
	return err
}
