package schedule_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests are about these zones, whatever the machine knows

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
)

const shown = "Mon 2 Jan 15:04 -0700"

func TestParseCron_SaysWhichFieldIsWrong(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{"", "cron: is empty"},
		{"0 25 * * *", `cron: field 2 ("25"): "25" is no hour, which goes from 0 to 23`},
		{"60 * * * *", `cron: field 1 ("60"): "60" is no minute, which goes from 0 to 59`},
		{"0 0 0 * *", `cron: field 3 ("0"): "0" is no day of the month, which goes from 1 to 31`},
		{"0 0 1 13 *", `cron: field 4 ("13"): "13" is no month, which goes from 1 to 12 or JAN to DEC`},
		{"0 3 * * TUESDAY", `cron: field 5 ("TUESDAY"): "TUESDAY" is no day of the week, which goes from 0 to 6 or SUN to SAT`},
		{"0 3 * * 7", `cron: field 5 ("7"): "7" is no day of the week, which goes from 0 to 6 or SUN to SAT`},
		{"0 3 * * FRI-MON", `cron: field 5 ("FRI-MON"): the range "FRI-MON" ends before it begins`},
		{"*/0 * * * *", `cron: field 1 ("*/0"): the step "0" is not a number from 1 to 59`},
		{"*/90 * * * *", `cron: field 1 ("*/90"): the step "90" is not a number from 1 to 59`},
		{"0/ * * * *", `cron: field 1 ("0/"): the step "" is not a number from 1 to 59`},
		{"1,,2 * * * *", `cron: field 1 ("1,,2"): a value is missing`},
		{", * * * *", `cron: field 1 (","): a value is missing`},
		{"1- * * * *", `cron: field 1 ("1-"): a value is missing`},
		{"+1 * * * *", `cron: field 1 ("+1"): "+1" is no minute, which goes from 0 to 59`},
		{"*-5 * * * *", `cron: field 1 ("*-5"): "*" is no minute, which goes from 0 to 59`},
		{"1-2-3 * * * *", `cron: field 1 ("1-2-3"): "2-3" is no minute, which goes from 0 to 59`},
		{"0 0 31 FEB *", `cron: "0 0 31 FEB *" never comes`},
		{"0 0 3 * * TUE", "cron: has 6 fields, not 5: minute, hour, day of the month, month and day of the week"},
		{"0 3 * *", "cron: has 4 fields, not 5: minute, hour, day of the month, month and day of the week"},
		{"@hourly", `cron: "@hourly" is no list of fields; write minute, hour, day of the month, month and day of the week`},
		{"@every 5m", `cron: "@every 5m" is no list of fields; write minute, hour, day of the month, month and day of the week`},
		{"CRON_TZ=UTC 0 3 * * *", `cron: field 1 ("CRON_TZ=UTC"): a time zone is set apart from the expression`},
		{"TZ=UTC", `cron: field 1 ("TZ=UTC"): a time zone is set apart from the expression`},
	} {
		_, err := schedule.ParseCron(tt.expr, "UTC")
		wantFieldError(t, err, tt.want)
	}
}

func TestParse_RefusesWhatNobodyCanMean(t *testing.T) {
	for _, tt := range []struct {
		parse func() (schedule.Spec, error)
		want  string
	}{
		{func() (schedule.Spec, error) { return schedule.ParseCron("0 3 * * *", "Europe/Bärlin") }, `tz: "Europe/Bärlin" is no time zone; write one like Europe/Berlin`},
		{func() (schedule.Spec, error) { return schedule.ParseCron("0 3 * * *", "Local") }, `tz: "Local" is no time zone; write one like Europe/Berlin`},
		{func() (schedule.Spec, error) { return schedule.ParseAt("tomorrow") }, `at: "tomorrow" is no time like 2026-01-02T15:04:05Z`},
		{func() (schedule.Spec, error) { return schedule.ParseEvery("soon") }, `every: "soon" is no duration like 10m or 6h`},
		{func() (schedule.Spec, error) { return schedule.ParseEvery("7m") }, "every: 7m0s does not divide a minute, an hour or a day evenly, as 30s, 15m and 6h do; use cron for other times"},
		{func() (schedule.Spec, error) { return schedule.ParseEvery("500ms") }, "every: 500ms does not divide a minute, an hour or a day evenly, as 30s, 15m and 6h do; use cron for other times"},
		{func() (schedule.Spec, error) { return schedule.ParseEvery("-1h") }, "every: -1h0m0s does not divide a minute, an hour or a day evenly, as 30s, 15m and 6h do; use cron for other times"},
		{func() (schedule.Spec, error) { return schedule.ParseEvery("48h") }, "every: 48h0m0s does not divide a minute, an hour or a day evenly, as 30s, 15m and 6h do; use cron for other times"},
	} {
		_, err := tt.parse()
		wantFieldError(t, err, tt.want)
	}
}

func TestSpec_IsTheSameAfterItsJSON(t *testing.T) {
	every, errEvery := schedule.ParseEvery("15m")
	at, errAt := schedule.ParseAt("2026-05-04T03:00:00.9+02:00")
	if err := errors.Join(errEvery, errAt); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[*schedule.Spec]string{
		new(mustCron(t, " 0  3 * *\tTUE ", "Europe/Berlin")): `{"kind":"cron","expr":"0 3 * * TUE","tz":"Europe/Berlin"}`,
		&every: `{"kind":"every","expr":"15m0s"}`,
		&at:    `{"kind":"at","expr":"2026-05-04T01:00:00Z"}`,
	} {
		got, err := json.Marshal(spec)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		var again schedule.Spec
		if err := json.Unmarshal(got, &again); err != nil {
			t.Error(err)
		}
		now := date("2026-05-03T12:34:56Z")
		if !again.Next(now).Equal(spec.Next(now)) || again.Next(now).IsZero() {
			t.Errorf("%s: next is %s, and was %s", want, again.Next(now), spec.Next(now))
		}
	}
}

// A night on which clocks change has one run of everything that runs at a given hour, or none where that hour is skipped.
func TestSpec_PlansOverClockChanges(t *testing.T) {
	for _, tt := range []struct {
		name, expr, zone, after string
		want                    []string
	}{
		{
			"Berlin forward: 02:30 is skipped", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00",
			[]string{"Sat 28 Mar 02:30 +0100", "Mon 30 Mar 02:30 +0200", "Tue 31 Mar 02:30 +0200"},
		},
		{
			"Berlin forward: 03:00 is there, an hour earlier", "0 3 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00",
			[]string{"Sat 28 Mar 03:00 +0100", "Sun 29 Mar 03:00 +0200", "Mon 30 Mar 03:00 +0200"},
		},
		{
			"Berlin forward: every half hour goes on", "*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00",
			[]string{"Sun 29 Mar 01:30 +0100", "Sun 29 Mar 03:00 +0200", "Sun 29 Mar 03:30 +0200"},
		},
		{
			"Berlin back: 02:30 once, the first", "30 2 * * *", "Europe/Berlin", "2026-10-24T03:00:00+02:00",
			[]string{"Sun 25 Oct 02:30 +0200", "Mon 26 Oct 02:30 +0100", "Tue 27 Oct 02:30 +0100"},
		},
		{
			"Berlin back: weekly", "30 2 * * SUN", "Europe/Berlin", "2026-10-24T03:00:00+02:00",
			[]string{"Sun 25 Oct 02:30 +0200", "Sun 1 Nov 02:30 +0100", "Sun 8 Nov 02:30 +0100"},
		},
		{
			"Berlin back: every half hour goes on", "*/30 * * * *", "Europe/Berlin", "2026-10-25T02:00:00+02:00",
			[]string{"Sun 25 Oct 02:30 +0200", "Sun 25 Oct 02:00 +0100", "Sun 25 Oct 02:30 +0100", "Sun 25 Oct 03:00 +0100"},
		},
		{
			"Berlin back: every two hours, each once", "0 */2 * * *", "Europe/Berlin", "2026-10-24T23:00:00+02:00",
			[]string{"Sun 25 Oct 00:00 +0200", "Sun 25 Oct 02:00 +0200", "Sun 25 Oct 04:00 +0100"},
		},
		{
			"New York forward: 02:30 is skipped", "30 2 * * *", "America/New_York", "2026-03-07T00:00:00-05:00",
			[]string{"Sat 7 Mar 02:30 -0500", "Mon 9 Mar 02:30 -0400", "Tue 10 Mar 02:30 -0400"},
		},
		{
			"New York forward: weekly", "30 2 * * SUN", "America/New_York", "2026-03-07T00:00:00-05:00",
			[]string{"Sun 15 Mar 02:30 -0400", "Sun 22 Mar 02:30 -0400"},
		},
		{
			"New York forward: 03:00 is there", "0 3 * * *", "America/New_York", "2026-03-08T00:00:00-05:00",
			[]string{"Sun 8 Mar 03:00 -0400", "Mon 9 Mar 03:00 -0400"},
		},
		{
			"New York back: 01:30 once, the first", "30 1 * * *", "America/New_York", "2026-10-31T02:00:00-04:00",
			[]string{"Sun 1 Nov 01:30 -0400", "Mon 2 Nov 01:30 -0500", "Tue 3 Nov 01:30 -0500"},
		},
		{
			"New York back: hourly goes on", "30 * * * *", "America/New_York", "2026-11-01T00:31:00-04:00",
			[]string{"Sun 1 Nov 01:30 -0400", "Sun 1 Nov 01:30 -0500", "Sun 1 Nov 02:30 -0500"},
		},
		{
			"Santiago forward, at midnight: the week's day is not lost", "0 3 * * TUE", "America/Santiago", "2026-09-02T00:00:00-04:00",
			[]string{"Tue 8 Sep 03:00 -0300", "Tue 15 Sep 03:00 -0300"},
		},
		{
			"UTC: either kind of day is enough", "0 0 13 * FRI", "", "2026-02-10T00:00:00Z",
			[]string{"Fri 13 Feb 00:00 +0000", "Fri 20 Feb 00:00 +0000", "Fri 27 Feb 00:00 +0000", "Fri 6 Mar 00:00 +0000", "Fri 13 Mar 00:00 +0000"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := mustCron(t, tt.expr, tt.zone)
			var got []string
			for _, next := range spec.NextN(date(tt.after), len(tt.want)) {
				got = append(got, next.Format(shown))
				if planned := spec.Planned(next.Add(900 * time.Millisecond)); !planned.Equal(next) {
					t.Errorf("just after %s, %s is planned", next, planned)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Where clocks go back, the server fires again what it fired an hour before. That firing is of no other time.
func TestSpec_SecondShowingOfAWallTimeIsTheFirstOne(t *testing.T) {
	spec := mustCron(t, "30 2 * * *", "Europe/Berlin")
	if got, want := spec.Planned(date("2026-10-25T02:30:00+01:00")), date("2026-10-25T02:30:00+02:00"); !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSpec_EveryAndAt(t *testing.T) {
	every, err := schedule.ParseEvery("6h")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := every.Next(date("2026-05-04T05:59:59Z")), date("2026-05-04T06:00:00Z"); !got.Equal(want) {
		t.Errorf("next: got %s, want %s", got, want)
	}
	if got, want := every.Planned(date("2026-05-04T06:00:00Z")), date("2026-05-04T06:00:00Z"); !got.Equal(want) {
		t.Errorf("planned: got %s, want %s", got, want)
	}
	at, err := schedule.ParseAt("2026-05-04T06:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	due := date("2026-05-04T06:00:00Z")
	if !at.Next(due).IsZero() || !at.Next(due.Add(-1)).Equal(due) || !at.Planned(due).Equal(due) || !at.Planned(due.Add(-1)).IsZero() {
		t.Error("a single time is not planned once")
	}
}

var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Europe/Dublin",
	"America/Santiago", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Atlantic/Azores", "America/Scoresbysund", "Antarctica/Troll",
}

// drawSpec returns any expression that is taken.
func drawSpec(t *rapid.T) schedule.Spec {
	field := func(label string, lo, hi int, names ...string) string {
		value := func() string {
			n := rapid.IntRange(lo, hi).Draw(t, label)
			if names != nil && rapid.Bool().Draw(t, "named") {
				return names[n-lo]
			}
			return itoa(n)
		}
		var elements []string
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "elements") {
			element := ""
			switch rapid.IntRange(0, 3).Draw(t, "form") {
			case 0:
				element = "*"
			case 1, 2:
				element = value()
			case 3:
				a, b := rapid.IntRange(lo, hi).Draw(t, "from"), rapid.IntRange(lo, hi).Draw(t, "to")
				element = itoa(min(a, b)) + "-" + itoa(max(a, b))
			}
			if rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				element += "/" + itoa(rapid.IntRange(1, hi).Draw(t, "by"))
			}
			elements = append(elements, element)
		}
		return strings.Join(elements, ",")
	}
	zone := rapid.SampledFrom(zones).Draw(t, "zone")
	expr := strings.Join([]string{
		field("minute", 0, 59), field("hour", 0, 23), field("day", 1, 31),
		field("month", 1, 12, strings.Fields("jan Feb MAR apr may jun jul aug sep oct nov dec")...),
		field("weekday", 0, 6, strings.Fields("sun Mon TUE wed thu fri sat")...),
	}, " ")
	spec, err := schedule.ParseCron(expr, zone)
	if err != nil && strings.Contains(err.Error(), "never comes") {
		t.SkipNow()
	}
	if err != nil {
		t.Fatalf("%q: %v", expr, err)
	}
	return spec
}

func TestSpec_PlannedIsTheLastOfTheNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		now := time.Unix(rapid.Int64Range(1767225600, 1893456000).Draw(t, "now"), 0) // the years 2026 to 2029
		times := spec.NextN(now, 5)
		for i, next := range times {
			if !next.After(now) || i > 0 && !next.After(times[i-1]) {
				t.Fatalf("after %s comes %s", now, times)
			}
			if got := spec.Planned(next); !got.Equal(next) {
				t.Fatalf("at %s, %s is planned", next, got)
			}
			// Where clocks move by half an hour, the server leaves out the hours until the next that it would fire in, and so
			// does Next, but only if it begins before the clocks have moved.
			if i > 0 && spec.Zone != "Australia/Lord_Howe" {
				if got := spec.Planned(next.Add(-1)); !got.Equal(times[i-1]) {
					t.Fatalf("before %s, %s is planned, not %s", next, got, times[i-1])
				}
			}
		}
	})
}

func FuzzParseCron(f *testing.F) {
	for _, expr := range []string{"0 3 * * TUE", "*/5 1-4,7 ? JAN-MAR 0", "CRON_TZ=UTC 0 0 * * *", "@every 1s", ", , , , ,", "99999999999999999999 * * * *"} {
		f.Add(expr, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, expr, zone string) {
		spec, err := schedule.ParseCron(expr, zone)
		if err != nil {
			if !errors.As(err, new(*restart.FieldError)) {
				t.Errorf("%q in %q: %v names no field", expr, zone, err)
			}
			return
		}
		again, err := schedule.ParseCron(spec.Expr, spec.Zone)
		now := date("2026-05-04T06:00:00Z")
		if err != nil || !slices.EqualFunc(spec.NextN(now, 2), again.NextN(now, 2), time.Time.Equal) {
			t.Errorf("%q in %q is another as %q: %v", expr, zone, spec.Expr, err)
		}
	})
}

func mustCron(t *testing.T, expr, zone string) schedule.Spec {
	t.Helper()
	spec, err := schedule.ParseCron(expr, zone)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func wantFieldError(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.As(err, new(*restart.FieldError)) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func date(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}
