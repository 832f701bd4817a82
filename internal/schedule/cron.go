package schedule

import (
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A cronField is what may stand in one of the five fields.
type cronField struct {
	unit     string
	min, max uint64
	names    []string // of the values from min on
}

var cronFields = [...]cronField{
	{unit: "minute", min: 0, max: 59},
	{unit: "hour", min: 0, max: 23},
	{unit: "day of the month", min: 1, max: 31},
	{unit: "month", min: 1, max: 12, names: strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")},
	{unit: "day of the week", min: 0, max: 6, names: strings.Fields("SUN MON TUE WED THU FRI SAT")},
}

// A cronTimes is a parsed expression in its zone.
type cronTimes struct {
	fields    []string
	bits      *cron.SpecSchedule
	everyHour bool
}

// parseCron is stricter than the parser of the library, and than that of the server, which descends from it: both take
// some nonsense for something else, as "*-5" for "*", and "," for never.
func parseCron(expr string, loc *time.Location) (*cronTimes, error) {
	fields := strings.Fields(expr)
	switch {
	case len(fields) == 0:
		return nil, fieldErr("cron", "is empty")
	case strings.HasPrefix(fields[0], "@"):
		return nil, fieldErr("cron", "%.40q is no list of fields; write minute, hour, day of the month, month and day of the week", expr)
	case strings.Contains(fields[0], "="):
		return nil, fieldErr("cron", "field 1 (%.40q): a time zone is set apart from the expression", fields[0])
	case len(fields) != len(cronFields):
		return nil, fieldErr("cron", "has %d fields, not 5: minute, hour, day of the month, month and day of the week", len(fields))
	}
	for i, f := range cronFields {
		if problem := f.check(fields[i]); problem != "" {
			return nil, fieldErr("cron", "field %d (%.40q): %s", i+1, fields[i], problem)
		}
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parsed, err := parser.Parse(strings.Join(fields, " "))
	if err != nil {
		return nil, fieldErr("cron", "%v", err)
	}
	bits := parsed.(*cron.SpecSchedule)
	bits.Location = loc
	// From a fixed time on, so that what is taken today is taken tomorrow.
	if bits.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, loc)).IsZero() {
		return nil, fieldErr("cron", "%q never comes", strings.Join(fields, " "))
	}
	const hours = 1<<24 - 1
	return &cronTimes{fields: fields, bits: bits, everyHour: bits.Hour&hours == hours}, nil
}

// check returns what is wrong with a field's text: a list of "*", values and ranges, each with or without a step.
func (f cronField) check(text string) string {
	for element := range strings.SplitSeq(text, ",") {
		values, step, stepped := strings.Cut(element, "/")
		if stepped {
			if n, err := strconv.ParseUint(step, 10, 8); err != nil || n < 1 || n > f.max {
				return "the step " + strconv.Quote(step) + " is not a number from 1 to " + strconv.FormatUint(f.max, 10)
			}
		}
		if values == "*" {
			continue
		}
		from, to, isRange := strings.Cut(values, "-")
		first, ok := f.value(from)
		if !ok {
			return f.isNot(from)
		}
		if !isRange {
			continue
		}
		last, ok := f.value(to)
		if !ok {
			return f.isNot(to)
		}
		if first > last {
			return "the range " + strconv.Quote(values) + " ends before it begins"
		}
	}
	return ""
}

func (f cronField) value(text string) (uint64, bool) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + uint64(i), true
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	return n, err == nil && f.min <= n && n <= f.max
}

func (f cronField) isNot(text string) string {
	if text == "" {
		return "a value is missing"
	}
	s := strconv.Quote(text) + " is no " + f.unit + ", which goes from " +
		strconv.FormatUint(f.min, 10) + " to " + strconv.FormatUint(f.max, 10)
	if f.names != nil {
		s += " or " + f.names[0] + " to " + f.names[len(f.names)-1]
	}
	return s
}

func (c *cronTimes) next(after time.Time) time.Time {
	for {
		after = c.bits.Next(after.In(c.bits.Location))
		if after.IsZero() || c.everyHour || !shownBefore(after) {
			return after
		}
	}
}

// before returns the last planned time before t. It looks back further and further, and then halves what is left.
func (c *cronTimes) before(t time.Time) time.Time {
	const longest = 6 * 366 * 24 * time.Hour // no two times are further apart, but for the years without a 29 February
	from, found := t, time.Time{}
	for back := time.Minute; found.IsZero() && back < 4*longest; back *= 4 {
		from = t.Add(-min(back, longest))
		if next := c.next(from); next.Before(t) {
			found = next
		}
	}
	for none := t; !found.IsZero() && none.Sub(from) > time.Second; { // found is the first after from, and none is left after none
		middle := from.Add(none.Sub(from) / 2)
		if next := c.next(middle); !next.IsZero() && next.Before(t) {
			from, found = next, next
		} else {
			none = middle
		}
	}
	return found
}

// pattern returns the expression as the server is asked for it.
func (c *cronTimes) pattern(now time.Time) string {
	fields := c.fields
	if skipsMidnight(c.bits.Location, now) {
		fields = []string{fields[0], fields[1], "*", "*", "*"}
	}
	return "0 " + strings.Join(fields, " ")
}

// shownBefore reports whether clocks have shown t before: they have been set back over it.
func shownBefore(t time.Time) bool {
	start, _ := t.ZoneBounds()
	if start.IsZero() {
		return false
	}
	_, was := start.Add(-1).Zone()
	_, is := t.Zone()
	return t.Sub(start) < time.Duration(was-is)*time.Second
}

// skipsMidnight reports whether clocks jump over a midnight in the years to come, as far as is known.
func skipsMidnight(loc *time.Location, now time.Time) bool {
	const day = 24 * 60 * 60
	for t := now.In(loc); t.Before(now.AddDate(10, 0, 0)); {
		_, end := t.ZoneBounds()
		if end.IsZero() {
			return false
		}
		_, was := t.Zone()
		_, is := end.Zone()
		h, m, s := end.Add(-1).Clock() // the last second before
		from := (h*60+m)*60 + s + 1
		if to := from + is - was; to > from && (from == day || to > day) {
			return true
		}
		t = end
	}
	return false
}
