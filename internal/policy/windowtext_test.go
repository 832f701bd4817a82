package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
)

func TestParseWindows_PrintsBackWhatItTook(t *testing.T) {
	for _, tt := range []struct{ open, except, zone, want string }{
		{"", "", "", "always"},
		{"", "", "Europe/Berlin", "always"},
		{"22:00-04:00", "", "", "daily 22:00-04:00; UTC"},
		{"daily 22:00-04:00", "", "Europe/Berlin", "daily 22:00-04:00; Europe/Berlin"},
		{"  Mon-FRI \t 22:00-00:00 ", "", "UTC", "mon-fri 22:00-24:00; UTC"},
		{"sun,sat 00:00-24:00", "", "UTC", "sat,sun 00:00-24:00; UTC"},
		{"sun-mon 00:00-00:01", "", "UTC", "mon,sun 00:00-00:01; UTC"},
		{"fri-mon 00:00-00:01", "", "UTC", "mon,fri-sun 00:00-00:01; UTC"},
		{"mon,tue,wed,sat 00:00-00:01", "", "UTC", "mon-wed,sat 00:00-00:01; UTC"},
		{"mon-mon 23:59-23:58", "", "UTC", "mon 23:59-23:58; UTC"},
		{"mon-sun 00:00-00:01", "", "UTC", "daily 00:00-00:01; UTC"},
		{"wed-tue 00:00-00:01", "", "UTC", "daily 00:00-00:01; UTC"},
		{"mon 01:00-02:00|mon 01:00-02:00", "", "UTC", "mon 01:00-02:00; mon 01:00-02:00; UTC"},
		{"", "2026-12-24", "UTC", "daily 00:00-24:00; except 2026-12-24; UTC"},
		{"", "2026-12-24/2027-01-02|2024-02-29/2024-02-29", "UTC", "daily 00:00-24:00; except 2026-12-24/2027-01-02; except 2024-02-29; UTC"},
	} {
		if got := mustParse(t, split(tt.open), split(tt.except), tt.zone).String(); got != tt.want {
			t.Errorf("%q except %q: got %q, want %q", tt.open, tt.except, got, tt.want)
		}
	}
}

func TestParseWindows_NamesWhatItRefuses(t *testing.T) {
	for _, tt := range []struct{ open, except, zone, want string }{
		{"mon-fry 22:00-04:00", "", "", `"mon-fry 22:00-04:00": "mon-fry" is not a day or several: write mon, sat,sun, mon-fri or daily`},
		{"monday 22:00-04:00", "", "", `"monday 22:00-04:00": "monday" is not a day or several: write mon, sat,sun, mon-fri or daily`},
		{"mon,daily 22:00-04:00", "", "", `"mon,daily 22:00-04:00": "daily" is not a day or several: write mon, sat,sun, mon-fri or daily`},
		{"mon,, 22:00-04:00", "", "", `"mon,, 22:00-04:00": "" is not a day or several: write mon, sat,sun, mon-fri or daily`},
		{"mon-tue-wed 22:00-04:00", "", "", `"mon-tue-wed 22:00-04:00": "mon-tue-wed" is not a day or several: write mon, sat,sun, mon-fri or daily`},
		{"mon - fri 22:00-04:00", "", "", `"mon - fri 22:00-04:00": is not a window: write hours, with or without days, such as mon-fri 22:00-04:00`},
		{" ", "", "", `" ": is not a window: write hours, with or without days, such as mon-fri 22:00-04:00`},
		{"mon", "", "", `"mon": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"22:00", "", "", `"22:00": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"2:00-04:00", "", "", `"2:00-04:00": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"22:00-04:00-05:00", "", "", `"22:00-04:00-05:00": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"22:00-04:60", "", "", `"22:00-04:60": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"22:00-24:01", "", "", `"22:00-24:01": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"+2:00-04:00", "", "", `"+2:00-04:00": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"22:00-04:00+02:00", "", "", `"22:00-04:00+02:00": has no hours such as 22:00-04:00, from 00:00 to 24:00`},
		{"24:00-04:00", "", "", `"24:00-04:00": begins at 24:00: write 00:00, of the next day`},
		{"04:00-04:00", "", "", `"04:00-04:00": ends when it begins: a whole day is 00:00-24:00`},
		{"00:00-00:00", "", "", `"00:00-00:00": ends when it begins: a whole day is 00:00-24:00`},
		{"", "24.12.2026", "", `"24.12.2026": is not a date, or two: write 2026-12-24, or 2026-12-24/2027-01-02`},
		{"", "2026-02-29", "", `"2026-02-29": is not a date, or two: write 2026-12-24, or 2026-12-24/2027-01-02`},
		{"", "2026-12-24/", "", `"2026-12-24/": is not a date, or two: write 2026-12-24, or 2026-12-24/2027-01-02`},
		{"", "2027-01-02/2026-12-24", "", `"2027-01-02/2026-12-24": ends before it begins`},
		{"", "", "Local", `"Local": is another zone on each machine: write its name, such as Europe/Berlin`},
		{"", "", "Europe/Berln", `"Europe/Berln": cannot be found as a time zone: write a name such as Europe/Berlin (unknown time zone Europe/Berln)`},
		{"22:00-04:00", "", "../etc/localtime", `"../etc/localtime": cannot be found as a time zone: write a name such as Europe/Berlin ` +
			`(time: invalid location name)`},
		{
			"01:00-02:00|nightly", "tomorrow", "CET+1", `"nightly": has no hours such as 22:00-04:00, from 00:00 to 24:00` + "\n" +
				`"tomorrow": is not a date, or two: write 2026-12-24, or 2026-12-24/2027-01-02` + "\n" +
				`"CET+1": cannot be found as a time zone: write a name such as Europe/Berlin (unknown time zone CET+1)`,
		},
	} {
		w, err := policy.ParseWindows(split(tt.open), split(tt.except), tt.zone)
		if err == nil || w != nil {
			t.Errorf("%q except %q in %q: got %v, want an error", tt.open, tt.except, tt.zone, w)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%q except %q in %q: error (-want +got):\n%s", tt.open, tt.except, tt.zone, diff)
		}
	}
}

// Whatever an operator writes must be refused, or mean what is shown to him.
func FuzzParseWindows(f *testing.F) {
	f.Add("mon-fri 22:00-04:00|sat,sun 00:00-24:00", "2026-12-24|2026-12-24/2027-01-02", "Europe/Berlin", int64(1_777_896_000))
	f.Add("22:00-00:00", "", "", int64(0))
	f.Add("daily 00:00-24:00", "0000-01-01/9999-12-31", "UTC", int64(-62_135_596_799))
	f.Add("wed-tue 23:59-23:58", "1969-12-31", "Australia/Lord_Howe", int64(1<<40))
	f.Add("fr\u0130 22:00\u200304:00", "2026-02-29", "Local", int64(-1<<40))
	f.Add("", "", "../x", int64(1))
	f.Fuzz(func(t *testing.T, open, except, zone string, unix int64) {
		w, err := policy.ParseWindows(split(open), split(except), zone)
		if err != nil {
			if w != nil || len(err.Error()) > 1000*(3+strings.Count(open+except, "|")) {
				t.Fatalf("got %v beside an error of %d bytes", w, len(err.Error()))
			}
			return
		}
		if w == nil {
			return
		}
		parts := strings.Split(w.String(), "; ")
		var opens, excepts []string
		for _, part := range parts[:len(parts)-1] {
			if date, ok := strings.CutPrefix(part, "except "); ok {
				excepts = append(excepts, date)
			} else {
				opens = append(opens, part)
			}
		}
		again := mustParse(t, opens, excepts, parts[len(parts)-1])
		if again.String() != w.String() || again.Longest() != w.Longest() {
			t.Fatalf("got %s, printed back %s", w, again)
		}
		at := time.Unix(unix%(1<<40), 0)
		isOpen, until := w.Open(at)
		isOpenAgain, untilAgain := again.Open(at)
		if isOpen != isOpenAgain || !until.Equal(untilAgain) || !until.IsZero() && !until.After(at) {
			t.Fatalf("%s at %s: got open %t until %s, and printed back %t until %s", w, at, isOpen, until, isOpenAgain, untilAgain)
		}
	})
}

// split takes apart what a test's table writes as one text.
func split(texts string) []string {
	if texts == "" {
		return nil
	}
	return strings.Split(texts, "|")
}

func mustParse(t testing.TB, open, except []string, zone string) *policy.Windows {
	t.Helper()
	w, err := policy.ParseWindows(open, except, zone)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustLoad(t testing.TB, zone string) *time.Location {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return location
}
