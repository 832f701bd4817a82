package policy

import (
	"iter"
	"math"
	"slices"
	"sort"
	"time"
)

// Windows are the times at which a group's hosts may be restarted, as ParseWindows returns them. Nil means always.
//
// They are told on the clock of a zone, and that clock jumps. One rule says what its times mean: the moment of a local
// time is the first one at which the clock shows it or a later one. So a time that the clock leaves out is the moment
// after the gap, and of a time that it shows twice the first counts: while the clock repeats an hour, it counts as
// standing still. What is closed when the repetition begins stays closed, what is open stays open, and nothing opens
// twice. As the rule keeps the order of times, windows that touch on the clock are one, on every day.
//
// Every moment at which a window ends is outside it.
type Windows struct {
	zone   *time.Location
	open   []window
	except []dates

	week [7][]piece // what open comes to on each day of the week, Monday first
}

// A piece is a part of a day, in minutes of its clock: 0 to 24*60.
type piece struct{ from, to int }

const (
	dayMinutes  = 24 * 60
	weekMinutes = 7 * dayMinutes

	// horizon is how many days ahead Windows look.
	horizon = 366
)

// Open reports whether a restart may begin, and until when that is so. A zero time means that it stays so for a year at
// least.
func (w *Windows) Open(now time.Time) (open bool, until time.Time) {
	if w == nil {
		return true, time.Time{}
	}
	today := w.dayOf(now)
	for s := range w.spans(today) {
		switch {
		case now.Before(s.from):
			return false, s.from
		case now.Before(s.to) && s.to.Before(w.moment(reading(today+horizon)*dayMinutes)):
			return true, s.to
		case now.Before(s.to):
			return true, time.Time{}
		}
	}
	return false, time.Time{}
}

// Fits reports whether a restart that takes so long may begin now and ends before the window does. Next is the first
// moment at which one may: now, a later one, or zero if there is none within a year.
func (w *Windows) Fits(now time.Time, takes time.Duration) (ok bool, next time.Time) {
	if w == nil {
		return true, now
	}
	for s := range w.spans(w.dayOf(now)) {
		begin := now
		if s.from.After(now) {
			begin = s.from
		}
		if begin.Before(s.to) && !begin.Add(takes).After(s.to) {
			return begin.Equal(now), begin
		}
	}
	return false, time.Time{}
}

// Longest returns for how long they are open at most, in a week without excluded dates and without a change of the
// clock. A restart that takes longer never fits.
func (w *Windows) Longest() time.Duration {
	if w == nil {
		return math.MaxInt64
	}
	longest := reading(0)
	every := &Windows{week: w.week}
	for from, to := range every.readings(0, 3*7) { // the first and the last are cut off, and the same as another
		longest = max(longest, to-from)
	}
	if longest >= weekMinutes {
		return math.MaxInt64
	}
	return time.Duration(longest) * time.Minute
}

// show returns the moment as the zone's clock shows it.
func (w *Windows) show(t time.Time) string { return t.In(w.zone).Format(time.RFC3339) }

// A span is a stretch of time in which a restart may begin: at from, and before to.
type span struct{ from, to time.Time }

// spans yields when it is open, in order and each as long as can be, from the beginning of today to the horizon, which
// may cut off the last.
func (w *Windows) spans(today day) iter.Seq[span] {
	return func(yield func(span) bool) {
		var last span
		for from, to := range w.readings(today, today+horizon) {
			next := span{w.moment(from), w.moment(to)}
			switch {
			case !next.from.Before(next.to): // the clock leaves it out
				continue
			case next.from.Equal(last.to): // the clock leaves out what is between
				last.to = next.to
				continue
			case !last.to.IsZero() && !yield(last):
				return
			}
			last = next
		}
		if !last.to.IsZero() {
			yield(last)
		}
	}
}

// A reading is what a zone's clock shows: minutes since it showed the beginning of 1970.
type reading int64

// A day is one on the calendar, counted from the first of 1970.
type day int64

func (w *Windows) dayOf(t time.Time) day {
	_, offset := t.In(w.zone).Zone()
	return dayOfSeconds(t.Unix() + int64(offset))
}

func dayOfSeconds(s int64) day {
	const daySeconds = dayMinutes * 60
	d := day(s / daySeconds)
	if s%daySeconds < 0 {
		d--
	}
	return d
}

// weekday counts from Monday: the first of 1970 was a Thursday.
func (d day) weekday() int { return int(((d+3)%7 + 7) % 7) }

// readings yields the readings from which and to which it is open, in order and joined where they touch, on the days
// from first to before end.
func (w *Windows) readings(first, end day) iter.Seq2[reading, reading] {
	return func(yield func(from, to reading) bool) {
		var from, to reading
		for d := first; d < end; d++ {
			if w.excluded(d) {
				continue
			}
			midnight := reading(d) * dayMinutes
			for _, p := range w.week[d.weekday()] {
				if next := midnight + reading(p.from); next != to {
					if from < to && !yield(from, to) {
						return
					}
					from = next
				}
				to = midnight + reading(p.to)
			}
		}
		if from < to {
			yield(from, to)
		}
	}
}

func (w *Windows) excluded(d day) bool {
	return slices.ContainsFunc(w.except, func(e dates) bool { return e.first <= d && d <= e.last })
}

// moment returns the first moment at which the zone's clock shows r or a later time.
func (w *Windows) moment(r reading) time.Time {
	// No zone is as far from UTC as that, and none changes its clock twice in twice that time.
	const farthest = 26 * 60 * 60
	shown := int64(r) * 60
	earliest, latest := shown-farthest, shown+farthest
	before, after := w.offset(earliest), w.offset(latest)
	if before == after {
		return time.Unix(shown-before, 0).UTC()
	}
	change := earliest + int64(sort.Search(int(latest-earliest), func(i int) bool { return w.offset(earliest+int64(i)) == after }))
	if shown-before < change {
		return time.Unix(shown-before, 0).UTC()
	}
	return time.Unix(max(change, shown-after), 0).UTC()
}

// offset returns by how many seconds the zone's clock is ahead of UTC.
func (w *Windows) offset(unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(w.zone).Zone()
	return int64(offset)
}
