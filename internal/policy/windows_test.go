package policy_test

import (
	"math"
	"testing"
	"time"
	_ "time/tzdata" // the tests are about these zones, whatever the machine knows

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
)

func TestWindows_NoneAreAlwaysOpen(t *testing.T) {
	w := mustParse(t, nil, nil, "Europe/Berlin")
	if open, until := w.Open(now); w != nil || !open || !until.IsZero() {
		t.Errorf("got %v, open %t until %s", w, open, until)
	}
	if ok, next := w.Fits(now, math.MaxInt64); !ok || !next.Equal(now) {
		t.Errorf("got fits %t, next %s", ok, next)
	}
}

// In each case, a day is told from midnight to midnight, and what begins or ends outside is cut off there.
func TestWindows_AreOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		open   string
		except string
		zone   string
		from   string
		days   int
		want   []string
	}{
		{
			"within a day", "09:30-17:00", "", "UTC", "2026-05-04", 2,
			[]string{"Mon 4 09:30 +0000 - Mon 4 17:00 +0000", "Tue 5 09:30 +0000 - Tue 5 17:00 +0000"},
		},
		{
			"over midnight, on the day on which they begin", "fri 22:00-04:00", "", "Europe/Berlin", "2026-05-04", 7,
			[]string{"Fri 8 22:00 +0200 - Sat 9 04:00 +0200"},
		},
		{
			"over midnight, from the day before", "fri 22:00-04:00", "", "Europe/Berlin", "2026-05-09", 1,
			[]string{"Sat 9 00:00 +0200 - Sat 9 04:00 +0200"},
		},
		{
			"from Sunday into Monday", "sun 22:00-04:00", "", "UTC", "2026-05-03", 3,
			[]string{"Sun 3 22:00 +0000 - Mon 4 04:00 +0000"},
		},
		{
			"on days that go over the week's end", "sat-mon 12:00-13:00", "", "UTC", "2026-05-04", 7,
			[]string{
				"Mon 4 12:00 +0000 - Mon 4 13:00 +0000", "Sat 9 12:00 +0000 - Sat 9 13:00 +0000", "Sun 10 12:00 +0000 - Sun 10 13:00 +0000",
			},
		},
		{
			"on whole days, which join", "sat,sun 00:00-24:00", "", "Europe/Berlin", "2026-05-04", 8,
			[]string{"Sat 9 00:00 +0200 - Mon 11 00:00 +0200"},
		},
		{
			"where one window ends and another begins", "mon 20:00-24:00|tue 00:00-02:00|02:00-03:00", "", "UTC", "2026-05-04", 2,
			[]string{"Mon 4 02:00 +0000 - Mon 4 03:00 +0000", "Mon 4 20:00 +0000 - Tue 5 03:00 +0000"},
		},
		{
			"where windows overlap", "10:00-12:00|11:00-11:30|11:00-13:00|09:00-10:30", "", "UTC", "2026-05-04", 1,
			[]string{"Mon 4 09:00 +0000 - Mon 4 13:00 +0000"},
		},
		{
			"until midnight, however it is written", "mon 22:00-00:00|tue 23:00-24:00", "", "UTC", "2026-05-04", 3,
			[]string{"Mon 4 22:00 +0000 - Tue 5 00:00 +0000", "Tue 5 23:00 +0000 - Wed 6 00:00 +0000"},
		},
		{
			"in a zone ahead of UTC by 5 hours and 45 minutes", "mon 00:00-01:00", "", "Asia/Kathmandu", "2026-05-04", 7,
			[]string{"Mon 4 00:00 +0545 - Mon 4 01:00 +0545"},
		},

		// On an excluded date nothing is restarted, and all other dates are as ever.
		{
			"but on excluded dates", "12:00-13:00", "2026-12-24/2026-12-26", "UTC", "2026-12-23", 5,
			[]string{"Wed 23 12:00 +0000 - Wed 23 13:00 +0000", "Sun 27 12:00 +0000 - Sun 27 13:00 +0000"},
		},
		{
			"until an excluded date begins, and again when it has ended", "22:00-04:00", "2026-12-24", "Europe/Berlin", "2026-12-23", 3,
			[]string{
				"Wed 23 00:00 +0100 - Wed 23 04:00 +0100", "Wed 23 22:00 +0100 - Thu 24 00:00 +0100",
				"Fri 25 00:00 +0100 - Fri 25 04:00 +0100", "Fri 25 22:00 +0100 - Sat 26 00:00 +0100",
			},
		},
		{
			"always but on excluded dates", "", "2026-12-24|2026-12-26", "Europe/Berlin", "2026-12-23", 5,
			[]string{
				"Wed 23 00:00 +0100 - Thu 24 00:00 +0100", "Fri 25 00:00 +0100 - Sat 26 00:00 +0100",
				"Sun 27 00:00 +0100 - Mon 28 00:00 +0100",
			},
		},

		// Europe/Berlin: 02:00 to 03:00 is left out on 29 March and shown twice on 25 October.
		{
			"in the spring of Berlin, around the gap", "01:00-04:00", "", "Europe/Berlin", "2026-03-29", 1,
			[]string{"Sun 29 01:00 +0100 - Sun 29 04:00 +0200"},
		},
		{
			"in the spring of Berlin, into the gap", "01:30-02:30", "", "Europe/Berlin", "2026-03-29", 1,
			[]string{"Sun 29 01:30 +0100 - Sun 29 03:00 +0200"},
		},
		{
			"in the spring of Berlin, out of the gap", "02:30-04:00", "", "Europe/Berlin", "2026-03-29", 1,
			[]string{"Sun 29 03:00 +0200 - Sun 29 04:00 +0200"},
		},
		{"in the spring of Berlin, never within the gap", "02:00-03:00|02:15-02:45", "", "Europe/Berlin", "2026-03-29", 1, nil},
		{
			"in the spring of Berlin, joined by the gap", "01:00-02:00|03:00-04:00", "", "Europe/Berlin", "2026-03-29", 1,
			[]string{"Sun 29 01:00 +0100 - Sun 29 04:00 +0200"},
		},
		{
			"in the autumn of Berlin, around the repetition", "01:00-04:00", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 01:00 +0200 - Sun 25 04:00 +0100"},
		},
		{
			"in the autumn of Berlin, not again after an end in the repetition", "01:00-02:30", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 01:00 +0200 - Sun 25 02:30 +0200"},
		},
		{
			"in the autumn of Berlin, from the first of two beginnings", "02:30-04:00", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 02:30 +0200 - Sun 25 04:00 +0100"},
		},
		{
			"in the autumn of Berlin, once within the repetition", "02:15-02:45", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 02:15 +0200 - Sun 25 02:45 +0200"},
		},
		{
			"in the autumn of Berlin, for two hours", "02:00-03:00", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 02:00 +0200 - Sun 25 03:00 +0100"},
		},
		{
			"in the autumn of Berlin, before and after it", "01:00-02:00|03:00-04:00", "", "Europe/Berlin", "2026-10-25", 1,
			[]string{"Sun 25 01:00 +0200 - Sun 25 02:00 +0200", "Sun 25 03:00 +0100 - Sun 25 04:00 +0100"},
		},

		// America/New_York: 02:00 to 03:00 is left out on 8 March, 01:00 to 02:00 shown twice on 1 November.
		{
			"in the spring of New York", "sat 22:00-02:30", "", "America/New_York", "2026-03-07", 2,
			[]string{"Sat 7 22:00 -0500 - Sun 8 03:00 -0400"},
		},
		{
			"in the spring of New York, out of the gap", "02:59-03:01", "", "America/New_York", "2026-03-08", 1,
			[]string{"Sun 8 03:00 -0400 - Sun 8 03:01 -0400"},
		},
		{
			"in the autumn of New York", "sat 22:00-01:30", "", "America/New_York", "2026-10-31", 2,
			[]string{"Sat 31 22:00 -0400 - Sun 1 01:30 -0400"},
		},
		{
			"in the autumn of New York, through the repetition", "01:30-02:00", "", "America/New_York", "2026-11-01", 1,
			[]string{"Sun 1 01:30 -0400 - Sun 1 02:00 -0500"},
		},

		// Australia/Lord_Howe changes by half an hour.
		{
			"in the autumn of Lord Howe", "01:15-01:45|01:50-02:00", "", "Australia/Lord_Howe", "2026-04-05", 1,
			[]string{"Sun 5 01:15 +1100 - Sun 5 01:45 +1100", "Sun 5 01:50 +1100 - Sun 5 02:00 +1030"},
		},
		{
			"in the spring of Lord Howe", "01:45-02:15|02:20-02:45", "", "Australia/Lord_Howe", "2026-10-04", 1,
			[]string{"Sun 4 01:45 +1030 - Sun 4 02:45 +1100"},
		},

		// America/Santiago and Asia/Beirut change at midnight: a day begins at 01:00, another has 23:00 twice.
		{
			"in the spring of Santiago", "sat 23:00-00:30|sun 00:15-02:00", "", "America/Santiago", "2026-09-05", 2,
			[]string{"Sat 5 23:00 -0400 - Sun 6 02:00 -0300"},
		},
		{
			"in the spring of Santiago, without the day that begins at 01:00", "22:00-02:00", "2026-09-06", "America/Santiago", "2026-09-05", 3,
			[]string{
				"Sat 5 00:00 -0400 - Sat 5 02:00 -0400", "Sat 5 22:00 -0400 - Sun 6 01:00 -0300",
				"Mon 7 00:00 -0300 - Mon 7 02:00 -0300", "Mon 7 22:00 -0300 - Tue 8 00:00 -0300",
			},
		},
		{
			"in the autumn of Santiago", "sat 22:00-23:30|sun 00:00-02:00", "", "America/Santiago", "2026-04-04", 2,
			[]string{"Sat 4 22:00 -0300 - Sat 4 23:30 -0300", "Sun 5 00:00 -0400 - Sun 5 02:00 -0400"},
		},
		{
			"in the autumn of Santiago, until the day after is excluded", "sat 22:00-02:00", "2026-04-05", "America/Santiago", "2026-04-04", 2,
			[]string{"Sat 4 22:00 -0300 - Sun 5 00:00 -0400"},
		},
		{
			"in the autumn of Beirut, on a whole day", "sat 00:00-24:00", "", "Asia/Beirut", "2026-10-24", 2,
			[]string{"Sat 24 00:00 +0300 - Sun 25 00:00 +0200"},
		},
		{
			"in the spring of Beirut, on a whole day", "sun 00:00-24:00", "", "Asia/Beirut", "2026-03-28", 3,
			[]string{"Sun 29 01:00 +0300 - Mon 30 00:00 +0300"},
		},

		// Pacific/Apia had no 30 December 2011.
		{"on no day that there was not", "fri 00:00-24:00", "", "Pacific/Apia", "2011-12-29", 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := mustParse(t, split(tt.open), split(tt.except), tt.zone)
			zone := mustLoad(t, tt.zone)
			from, err := time.ParseInLocation(time.DateOnly, tt.from, zone)
			if err != nil {
				t.Fatal(err)
			}
			to := from.AddDate(0, 0, tt.days)
			var got []string
			for _, o := range openings(t, w, from, to) {
				got = append(got, o[0].In(zone).Format(forPeople)+" - "+o[1].In(zone).Format(forPeople))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("openings (-want +got):\n%s", diff)
			}
		})
	}
}

const forPeople = "Mon 2 15:04 -0700"

// openings goes from one answer to the next, and wants each to come true.
func openings(t *testing.T, w *policy.Windows, from, to time.Time) (all [][2]time.Time) {
	t.Helper()
	wasOpen := false
	for at := from; at.Before(to); {
		open, until := w.Open(at)
		switch {
		case at.After(from) && open == wasOpen:
			t.Fatalf("at %s: open is still %t", at, open)
		case until.IsZero() || until.After(to):
			until = to
		case !until.After(at):
			t.Fatalf("at %s: open %t until %s, which is no later", at, open, until)
		}
		if open {
			all = append(all, [2]time.Time{at, until})
		}
		at, wasOpen = until, open
	}
	return all
}

// What closes at midnight must not restart anything at midnight.
func TestWindows_AreClosedAtTheMomentOfTheirEnd(t *testing.T) {
	w := mustParse(t, []string{"mon 22:00-24:00"}, nil, "Europe/Berlin")
	zone := mustLoad(t, "Europe/Berlin")
	midnight := time.Date(2026, 5, 5, 0, 0, 0, 0, zone)
	nextWeek := time.Date(2026, 5, 11, 22, 0, 0, 0, zone)
	for _, tt := range []struct {
		name  string
		now   time.Time
		open  bool
		until time.Time
	}{
		{"a nanosecond before it begins", midnight.Add(-2*time.Hour - 1), false, midnight.Add(-2 * time.Hour)},
		{"when it begins", midnight.Add(-2 * time.Hour), true, midnight},
		{"at 23:59", midnight.Add(-time.Minute), true, midnight},
		{"a nanosecond before midnight", midnight.Add(-1), true, midnight},
		{"at midnight", midnight, false, nextWeek},
		{"at midnight, told in another zone", midnight.UTC(), false, nextWeek},
		{"a nanosecond after midnight", midnight.Add(1), false, nextWeek},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if open, until := w.Open(tt.now); open != tt.open || !until.Equal(tt.until) {
				t.Errorf("got open %t until %s, want %t until %s", open, until, tt.open, tt.until)
			}
			if ok, _ := w.Fits(tt.now, 0); ok != tt.open {
				t.Errorf("a restart that takes no time fits: got %t, want %t", ok, tt.open)
			}
		})
	}
}

func TestWindows_Fits(t *testing.T) {
	// An hour on Mondays, four hours on Tuesdays, and on the last Sunday of March one that has only a half.
	w := mustParse(t, []string{"mon 22:00-23:00", "tue 22:00-02:00", "sun 01:30-03:00"}, []string{"2026-05-12"}, "Europe/Berlin")
	zone := mustLoad(t, "Europe/Berlin")
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2026, month, day, hour, minute, 0, 0, zone)
	}
	for _, tt := range []struct {
		name  string
		now   time.Time
		takes time.Duration
		ok    bool
		next  time.Time
	}{
		{"it ends when the window does", at(5, 4, 22, 30), 30 * time.Minute, true, at(5, 4, 22, 30)},
		{"it ends a nanosecond later", at(5, 4, 22, 30), 30*time.Minute + 1, false, at(5, 5, 22, 0)},
		{"it is asked a nanosecond later", at(5, 4, 22, 30).Add(1), 30 * time.Minute, false, at(5, 5, 22, 0)},
		{"the window is closed, and the next is long enough", at(5, 4, 12, 0), time.Hour, false, at(5, 4, 22, 0)},
		{"the window is closed, and the next is too short", at(5, 4, 12, 0), time.Hour + 1, false, at(5, 5, 22, 0)},
		{"the window that is long enough is excluded next week", at(5, 6, 12, 0), 3 * time.Hour, false, at(5, 19, 22, 0)},
		{"it is the longest that ever fits", at(5, 5, 22, 0), 4 * time.Hour, true, at(5, 5, 22, 0)},
		{"it never fits", at(5, 5, 22, 0), 4*time.Hour + 1, false, time.Time{}},
		{"it takes longer than can be counted", at(5, 5, 22, 0), math.MaxInt64, false, time.Time{}},
		{"the clock goes forward within the window", at(3, 29, 1, 30), 30 * time.Minute, true, at(3, 29, 1, 30)},
		{"the clock goes forward, and an hour is not there", at(3, 29, 1, 30), 31 * time.Minute, false, at(3, 30, 22, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ok, next := w.Fits(tt.now, tt.takes)
			if ok != tt.ok || !next.Equal(tt.next) {
				t.Errorf("got %t, next %s, want %t, next %s", ok, next, tt.ok, tt.next)
			}
		})
	}
}

func TestWindows_Longest(t *testing.T) {
	for _, tt := range []struct {
		open, except string
		want         time.Duration
	}{
		{"", "", math.MaxInt64},
		{"", "2026-12-24", math.MaxInt64},
		{"00:00-24:00", "", math.MaxInt64},
		{"12:00-24:00|00:00-12:00", "", math.MaxInt64},
		{"00:00-23:59", "", 23*time.Hour + 59*time.Minute},
		{"22:00-04:00", "", 6 * time.Hour},
		{"mon 10:00-10:01", "2026-01-01/2026-12-31", time.Minute},
		{"mon 10:00-11:00|tue 10:00-12:00", "", 2 * time.Hour},
		{"fri 22:00-24:00|sat,sun 00:00-24:00|mon 00:00-06:00", "", 56 * time.Hour},
		{"tue-sun 00:00-24:00|mon 00:00-23:00", "", 167 * time.Hour},
	} {
		w := mustParse(t, split(tt.open), split(tt.except), "Europe/Berlin")
		if got := w.Longest(); got != tt.want {
			t.Errorf("%s: got %s, want %s", w, got, tt.want)
		}
	}
}

func TestWindows_LookAYearAhead(t *testing.T) {
	open := []string{"mon 10:00-11:00"}
	long := mustParse(t, open, []string{"2026-01-01/2026-12-31"}, "UTC")
	want := time.Date(2027, 1, 4, 10, 0, 0, 0, time.UTC)
	if isOpen, until := long.Open(now); isOpen || !until.Equal(want) {
		t.Errorf("got open %t until %s, want it closed until %s", isOpen, until, want)
	}
	never := mustParse(t, open, []string{"2026-01-01/2029-12-31"}, "UTC")
	if isOpen, until := never.Open(now); isOpen || !until.IsZero() {
		t.Errorf("got open %t until %s, want it closed until nobody knows when", isOpen, until)
	}
	if ok, next := never.Fits(now, time.Minute); ok || !next.IsZero() {
		t.Errorf("got fits %t, next %s, want neither", ok, next)
	}
	always := mustParse(t, nil, []string{"2029-12-24"}, "UTC")
	if isOpen, until := always.Open(now); !isOpen || !until.IsZero() {
		t.Errorf("got open %t until %s, want it open until nobody knows when", isOpen, until)
	}
	if ok, next := always.Fits(now, 300*24*time.Hour); !ok || !next.Equal(now) {
		t.Errorf("got fits %t, next %s", ok, next)
	}
}

func BenchmarkWindows_Fits(b *testing.B) {
	for name, open := range map[string]string{"nightly": "22:00-04:00", "weekly": "sun 22:00-04:00", "always": "00:00-24:00"} {
		b.Run(name, func(b *testing.B) {
			w := mustParse(b, split(open), []string{"2029-12-24/2030-01-02"}, "Europe/Berlin")
			b.ReportAllocs()
			for b.Loop() {
				w.Fits(now, time.Minute)
			}
		})
	}
}
