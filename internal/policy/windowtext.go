package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A window is what one text opens on each of its days.
type window struct {
	days weekdays
	// from and to are minutes since the day began. To is more than a day has where the window goes on over midnight.
	from, to int
}

// Weekdays are a bit for each, from Monday.
type weekdays uint8

const (
	daily        weekdays = 1<<7 - 1
	weekdayNames          = "mon tue wed thu fri sat sun"
)

// Dates are days from the first to the last.
type dates struct{ first, last day }

// ParseWindows returns what the open texts open, less the dates that the except texts exclude, all on the clock of a
// zone by its IANA name, which is UTC if it is empty. Without open texts it is always open, and without any text the
// result is nil. Every error names its text.
//
// An open text is hours with or without days before them: "mon-fri 22:00-04:00", "sat,sun 00:00-24:00", "01:00-05:00".
// Hours that go on over midnight belong to the day on which they begin. An except text is a date, or the first and the
// last of several: "2026-12-24/2027-01-02". On an excluded date it is closed, from midnight to midnight.
func ParseWindows(open, except []string, zone string) (*Windows, error) {
	w := &Windows{}
	var problems []error
	for _, text := range open {
		parsed, err := parseWindow(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%.80q: %w", text, err))
		}
		w.open = append(w.open, parsed)
	}
	for _, text := range except {
		parsed, err := parseDates(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%.80q: %w", text, err))
		}
		w.except = append(w.except, parsed)
	}
	var err error
	if w.zone, err = parseZone(zone); err != nil {
		problems = append(problems, fmt.Errorf("%.80q: %w", zone, err))
	}
	switch {
	case len(problems) > 0:
		return nil, errors.Join(problems...)
	case len(open) == 0 && len(except) == 0:
		return nil, nil
	case len(open) == 0:
		w.open = []window{{daily, 0, dayMinutes}}
	}
	w.week = weekOf(w.open)
	return w, nil
}

func parseWindow(text string) (window, error) {
	w := window{days: daily}
	fields := strings.Fields(strings.ToLower(text))
	if len(fields) == 2 {
		var err error
		if w.days, err = parseWeekdays(fields[0]); err != nil {
			return window{}, err
		}
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return window{}, errors.New("is not a window: write hours, with or without days, such as mon-fri 22:00-04:00")
	}
	from, to, _ := strings.Cut(fields[0], "-")
	var fromOK, toOK bool
	w.from, fromOK = parseClock(from)
	w.to, toOK = parseClock(to)
	switch {
	case !fromOK || !toOK:
		return window{}, errors.New("has no hours such as 22:00-04:00, from 00:00 to 24:00")
	case w.from == dayMinutes:
		return window{}, errors.New("begins at 24:00: write 00:00, of the next day")
	case w.from == w.to:
		return window{}, errors.New("ends when it begins: a whole day is 00:00-24:00")
	case w.to < w.from:
		w.to += dayMinutes
	}
	return w, nil
}

func parseWeekdays(text string) (weekdays, error) {
	if text == "daily" {
		return daily, nil
	}
	var days weekdays
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		names := strings.Fields(weekdayNames)
		i, end := slices.Index(names, first), slices.Index(names, last)
		if i < 0 || end < 0 {
			return 0, fmt.Errorf("%.20q is not a day or several: write mon, sat,sun, mon-fri or daily", part)
		}
		for days |= 1 << i; i != end; days |= 1 << i {
			i = (i + 1) % 7
		}
	}
	return days, nil
}

// parseClock returns the minutes of a time of day from 00:00 to 24:00.
func parseClock(text string) (minutes int, ok bool) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errHour := strconv.ParseUint(hour, 10, 8)
	m, errMinute := strconv.ParseUint(minute, 10, 8)
	minutes = int(60*h + m)
	ok = ok && len(hour) == 2 && len(minute) == 2 && errHour == nil && errMinute == nil && m < 60 && minutes <= dayMinutes
	return minutes, ok
}

func parseDates(text string) (dates, error) {
	first, last, isRange := strings.Cut(text, "/")
	if !isRange {
		last = first
	}
	from, errFirst := time.Parse(time.DateOnly, first)
	to, errLast := time.Parse(time.DateOnly, last)
	switch {
	case errFirst != nil || errLast != nil:
		return dates{}, errors.New("is not a date, or two: write 2026-12-24, or 2026-12-24/2027-01-02")
	case to.Before(from):
		return dates{}, errors.New("ends before it begins")
	}
	return dates{dayOfSeconds(from.Unix()), dayOfSeconds(to.Unix())}, nil
}

// parseZone refuses Local, because the same file would mean something else on another machine.
func parseZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errors.New("is another zone on each machine: write its name, such as Europe/Berlin")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("cannot be found as a time zone: write a name such as Europe/Berlin (%.200v)", err)
	}
	return zone, nil
}

// weekOf returns what the windows come to on each day of the week.
func weekOf(windows []window) (week [7][]piece) {
	for _, w := range windows {
		for i := range week {
			if w.days&(1<<i) == 0 {
				continue
			}
			week[i] = append(week[i], piece{w.from, min(w.to, dayMinutes)})
			if w.to > dayMinutes {
				next := (i + 1) % 7
				week[next] = append(week[next], piece{0, w.to - dayMinutes})
			}
		}
	}
	for i, pieces := range week {
		slices.SortFunc(pieces, func(a, b piece) int { return a.from - b.from })
		joined := pieces[:0]
		for _, p := range pieces {
			if n := len(joined); n > 0 && p.from <= joined[n-1].to {
				joined[n-1].to = max(joined[n-1].to, p.to)
			} else {
				joined = append(joined, p)
			}
		}
		week[i] = joined
	}
	return week
}

// String returns the windows as they are configured, separated by semicolons.
func (w *Windows) String() string {
	if w == nil {
		return "always"
	}
	var texts []string
	for _, window := range w.open {
		texts = append(texts, window.String())
	}
	for _, e := range w.except {
		texts = append(texts, "except "+e.String())
	}
	return strings.Join(append(texts, w.zone.String()), "; ")
}

func (w window) String() string {
	to := w.to
	if to > dayMinutes {
		to -= dayMinutes
	}
	return fmt.Sprintf("%s %02d:%02d-%02d:%02d", w.days, w.from/60, w.from%60, to/60, to%60)
}

// String writes three or more days in a row as one part.
func (d weekdays) String() string {
	if d == daily {
		return "daily"
	}
	names := strings.Fields(weekdayNames)
	var parts []string
	for i := 0; i < len(names); i++ {
		end := i
		for end < len(names) && d&(1<<end) != 0 {
			end++
		}
		switch {
		case end-i > 2:
			parts = append(parts, names[i]+"-"+names[end-1])
			i = end
		case end > i:
			parts = append(parts, names[i])
		}
	}
	return strings.Join(parts, ",")
}

func (d dates) String() string {
	if d.first == d.last {
		return d.first.String()
	}
	return d.first.String() + "/" + d.last.String()
}

func (d day) String() string {
	return time.Unix(int64(d)*dayMinutes*60, 0).UTC().Format(time.DateOnly)
}
