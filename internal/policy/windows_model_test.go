package policy_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
)

// A modelWindow is a window as the model knows it, which does not read texts.
type modelWindow struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes as the clock shows them, up to 24:00
}

// A model says step by step when windows are open, by looking at the clock alone.
type model struct {
	zone    *time.Location
	windows []modelWindow
	except  []time.Time // dates, in UTC
}

// A face is what a clock shows.
type face struct {
	year, yearday, minute int
	weekday               time.Weekday
}

// A look is one at a zone's clock.
type look struct {
	at time.Time
	face
}

// watch looks at the zone's clock on every step. A later time than what the clock shows counts for as long as it was
// shown before.
func watch(zone *time.Location, from, to time.Time, step time.Duration) (looks []look) {
	var shown face
	for at := from.Add(-4 * time.Hour); at.Before(to); at = at.Add(step) {
		local := at.In(zone)
		hour, minute, _ := local.Clock()
		now := face{local.Year(), local.YearDay(), 60*hour + minute, local.Weekday()}
		if cmp.Or(now.year-shown.year, now.yearday-shown.yearday, now.minute-shown.minute) > 0 {
			shown = now
		}
		if !at.Before(from) {
			looks = append(looks, look{at, shown})
		}
	}
	return looks
}

func (m model) open(f face) bool {
	for _, date := range m.except {
		if date.YearDay() == f.yearday && date.Year() == f.year {
			return false
		}
	}
	yesterday := (f.weekday + 6) % 7
	for _, w := range m.windows {
		switch {
		case w.from < w.to:
			if w.days[f.weekday] && w.from <= f.minute && f.minute < w.to {
				return true
			}
		case w.days[f.weekday] && w.from <= f.minute, w.days[yesterday] && f.minute < w.to:
			return true
		}
	}
	return false
}

// openings returns when it is open between the first look and the end, where all that happens does so at a look.
func (m model) openings(looks []look, end time.Time) (all [][2]time.Time) {
	wasOpen := false
	for _, l := range looks {
		open := m.open(l.face)
		if open && !wasOpen {
			all = append(all, [2]time.Time{l.at, end})
		} else if wasOpen && !open {
			all[len(all)-1][1] = l.at
		}
		wasOpen = open
	}
	return all
}

func (m model) parse(t require) *policy.Windows {
	var open, except []string
	for _, w := range m.windows {
		var days []string
		for d, is := range w.days {
			if is {
				days = append(days, strings.ToLower(time.Weekday(d).String()[:3]))
			}
		}
		open = append(open, fmt.Sprintf("%s %02d:%02d-%02d:%02d", strings.Join(days, ","), w.from/60, w.from%60, w.to/60, w.to%60))
	}
	for _, date := range m.except {
		except = append(except, date.Format(time.DateOnly))
	}
	w, err := policy.ParseWindows(open, except, m.zone.String())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func clock(hour, minute int) int { return 60*hour + minute }

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// require is what a test and a property have in common.
type require interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// zones change their clocks by an hour, by half of one, at midnight, around Ramadan, by law of another country, or not.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "America/Havana",
	"Africa/Casablanca", "Africa/Cairo", "America/Nuuk", "Atlantic/Azores", "Antarctica/Troll", "Asia/Kathmandu", "Pacific/Chatham",
}

// Years with every change of the clock in them, and none may move a window.
func TestWindows_AreTheModelsForYears(t *testing.T) {
	everyDay := [7]bool{true, true, true, true, true, true, true}
	weekend := [7]bool{time.Saturday: true, time.Sunday: true}
	saturday := [7]bool{time.Saturday: true}
	for _, name := range zones {
		zone := mustLoad(t, name)
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, zone)
		to := time.Date(2029, 2, 1, 0, 0, 0, 0, zone)
		looks := watch(zone, from, to, 15*time.Minute)
		for _, m := range []model{
			{zone, []modelWindow{
				{weekend, clock(0, 15), clock(1, 15)}, {weekend, clock(1, 45), clock(2, 15)}, {weekend, clock(2, 45), clock(3, 30)},
			}, nil},
			{zone, []modelWindow{
				{saturday, clock(22, 30), clock(0, 30)}, {saturday, clock(23, 45), clock(23, 15)},
			}, []time.Time{date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1)}},
			{zone, []modelWindow{
				{everyDay, clock(23, 0), clock(2, 30)},
			}, []time.Time{date(2026, 9, 6), date(2027, 4, 4), date(2028, 2, 29), date(2028, 12, 31)}},
		} {
			w := m.parse(t)
			if diff := gocmp.Diff(m.openings(looks, to), openings(t, w, from, to), gocmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("%s: openings (-model +got):\n%s", w, diff)
			}
		}
	}
}

// drawModel makes windows around a moment that is, more often than not, near a change of the clock.
func drawModel(rt *rapid.T) (m model, at time.Time) {
	zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(rt, "zone"))
	if err != nil {
		rt.Fatal(err)
	}
	m.zone = zone
	at = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 20*365*24).Draw(rt, "hour")) * time.Hour)
	if rapid.IntRange(0, 3).Draw(rt, "near a change") > 0 {
		at = nextChange(zone, at)
	}
	at = at.Add(time.Duration(rapid.Int64Range(-int64(26*time.Hour), int64(26*time.Hour)).Draw(rt, "from there")))

	someTime := rapid.Custom(func(rt *rapid.T) int {
		return clock(rapid.SampledFrom([]int{0, 1, 2, 3, 12, 22, 23}).Draw(rt, "hour"), rapid.IntRange(0, 59).Draw(rt, "minute"))
	})
	for range rapid.IntRange(1, 4).Draw(rt, "windows") {
		w := modelWindow{from: someTime.Draw(rt, "from"), to: rapid.OneOf(someTime, rapid.Just(clock(24, 0))).Draw(rt, "to")}
		for d := range w.days {
			w.days[d] = rapid.IntRange(0, 2).Draw(rt, "on the day") > 0
		}
		if w.from == w.to || w.days == [7]bool{} {
			w = modelWindow{[7]bool{time.Sunday: true}, clock(0, 0), clock(24, 0)}
		}
		m.windows = append(m.windows, w)
	}
	for range rapid.IntRange(0, 2).Draw(rt, "excluded dates") {
		year, month, day := at.In(zone).Date()
		m.except = append(m.except, date(year, month, day+rapid.IntRange(-2, 3).Draw(rt, "excluded")))
	}
	return m, at
}

// nextChange returns when the zone's clock jumps next, within a year, to the hour.
func nextChange(zone *time.Location, at time.Time) time.Time {
	_, before := at.In(zone).Zone()
	for i := range 366 * 24 {
		later := at.Add(time.Duration(i) * time.Hour)
		if _, offset := later.In(zone).Zone(); offset != before {
			return later
		}
	}
	return at
}

func TestWindows_AnswerLikeTheModel(t *testing.T) {
	const days = 10
	rapid.Check(t, func(rt *rapid.T) {
		m, now := drawModel(rt)
		w := m.parse(rt)
		takes := time.Duration(rapid.IntRange(0, 26*60).Draw(rt, "takes")) * time.Minute

		first := now.Truncate(time.Minute) // no zone here, then, changes between minutes
		end := first.Add(days * 24 * time.Hour)
		var stretches [][2]time.Time
		for _, s := range m.openings(watch(m.zone, first, end, time.Minute), end) {
			if !s[1].Equal(end) { // the model does not see how long the last one is
				stretches = append(stretches, s)
			} else {
				end = s[0]
			}
		}

		wantOpen, wantUntil := false, end
		if len(stretches) > 0 {
			wantOpen, wantUntil = stretches[0][0].Equal(first), stretches[0][0]
			if wantOpen {
				wantUntil = stretches[0][1]
			}
		} else if end.Equal(first) {
			wantOpen, wantUntil = true, first.Add(days*24*time.Hour)
		}
		open, until := w.Open(now)
		unseen := !wantUntil.Before(end) && (until.IsZero() || !until.Before(end))
		if open != wantOpen || !until.Equal(wantUntil) && !unseen {
			rt.Fatalf("%s at %s: got open %t until %s, want %t until %s", w, now, open, until, wantOpen, wantUntil)
		}

		fits, next := w.Fits(now, takes)
		if fits && (!open || !next.Equal(now) || !until.IsZero() && now.Add(takes).After(until)) {
			rt.Fatalf("%s at %s: %s fits, next %s, but open is %t until %s", w, now, takes, next, open, until)
		}
		for _, s := range stretches {
			begin := s[0]
			if begin.Before(now) {
				begin = now
			}
			if begin.Add(takes).After(s[1]) {
				continue
			}
			if !next.Equal(begin) || fits != begin.Equal(now) {
				rt.Fatalf("%s at %s: %s fits %t, next %s, want next %s", w, now, takes, fits, next, begin)
			}
			return
		}
		if !next.IsZero() && next.Before(end) {
			rt.Fatalf("%s at %s: %s fits at %s, and the model says no", w, now, takes, next)
		}
		if next.IsZero() && takes <= w.Longest() {
			rt.Fatalf("%s at %s: %s never fits, and the longest is %s", w, now, takes, w.Longest())
		}
	})
}

// An excluded date is one on which nothing is restarted, by the calendar on the wall of the operator.
func TestWindows_AreNeverOpenOnAnExcludedDate(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, now := drawModel(rt)
		m.except = append(m.except, date(now.In(m.zone).Date()))
		if open, until := m.parse(rt).Open(now); open {
			rt.Fatalf("open at %s until %s", now.In(m.zone), until)
		}
	})
}

// Whoever waits until the moment that he was told must find it open then, and not have missed an earlier one.
func TestWindows_NextIsTheFirstMomentThatFits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, now := drawModel(rt)
		w := m.parse(rt)
		takes := time.Duration(rapid.Int64Range(0, int64(6*time.Hour)).Draw(rt, "takes"))
		fits, next := w.Fits(now, takes)
		if fits || next.IsZero() {
			return
		}
		if ok, again := w.Fits(next, takes); !ok || !again.Equal(next) {
			rt.Fatalf("%s: told %s to wait until %s, when it is told %t, %s", w, now, next, ok, again)
		}
		earlier := now.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(now))-1).Draw(rt, "earlier")))
		if ok, again := w.Fits(earlier, takes); ok || !again.Equal(next) {
			rt.Fatalf("%s: told %s to wait until %s, but at %s it is told %t, %s", w, now, next, earlier, ok, again)
		}
	})
}
