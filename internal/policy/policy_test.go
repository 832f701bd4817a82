package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestNotAfter(t *testing.T) {
	expired := func(text string) *policy.Refusal {
		return &policy.Refusal{Kind: restart.Expired, Reason: restart.ReasonNotAfter, Detail: text}
	}
	for _, tt := range []struct {
		name     string
		notAfter time.Time
		want     *policy.Refusal
	}{
		{"an hour is left", now.Add(time.Hour), nil},
		{"a nanosecond is left", now.Add(1), nil},
		{"it is that very moment", now, nil},
		{"it is the same moment in another zone", now.In(time.FixedZone("", 3600)), nil},
		{"a nanosecond has passed", now.Add(-1), expired("not_after 2026-05-04T11:59:59Z has passed")},
		{"a day has passed", now.Add(-24 * time.Hour), expired("not_after 2026-05-03T12:00:00Z has passed")},
		{"there is none", time.Time{}, expired("not_after 0001-01-01T00:00:00Z has passed")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := policy.NotAfter(restart.Request{NotAfter: tt.notAfter}, now)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

// M25: only restart a host that has been up for more than 7 days.
func TestMinUptime(t *testing.T) {
	const week = 168 * time.Hour
	younger := func(since string) *policy.Refusal {
		return &policy.Refusal{
			Kind: restart.Skipped, Reason: restart.ReasonMinUptime, Detail: "up since " + since + ", which is less than 168h0m0s",
		}
	}
	for _, tt := range []struct {
		name  string
		want  time.Duration
		since time.Time
		no    *policy.Refusal
	}{
		{"nothing is asked", 0, now, nil},
		{"nothing is asked, and nothing known", 0, time.Time{}, nil},
		{"up for longer", week, now.Add(-week - 1), nil},
		{"up for exactly as long", week, now.Add(-week), nil},
		{"a nanosecond too young", week, now.Add(-week + 1), younger("2026-04-27T12:00:00Z")},
		{"just booted", week, now, younger("2026-05-04T12:00:00Z")},
		{"booted in the future, by its own clock", week, now.Add(time.Hour), younger("2026-05-04T13:00:00Z")},
		{"its zone is another", week, now.In(time.FixedZone("", 7200)), younger("2026-05-04T12:00:00Z")},
		{"up for longer than can be counted", week, time.Unix(-1<<40, 0), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := restart.Request{Host: "host-1", MinUptime: restart.Duration(tt.want)}
			got, err := policy.MinUptime(r, restart.State{Since: tt.since}, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.no, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

// Not to know is neither a yes nor a no for good: the message must come again.
func TestMinUptime_IsAnErrorWhereNobodyKnows(t *testing.T) {
	r := restart.Request{Host: "host-1", MinUptime: restart.Duration(time.Hour)}
	refusal, err := policy.MinUptime(r, restart.State{Epoch: "boot 1", Ready: true}, now)
	if refusal != nil || err == nil || !strings.Contains(err.Error(), "host-1") {
		t.Errorf("got %+v, %v, want an error that names the host", refusal, err)
	}
}

func TestMinUptime_NeverPassesAHostThatIsYounger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		asked := rapid.Int64Range(1, 1<<62).Draw(rt, "asked")
		age := rapid.OneOf(rapid.Int64Range(-1<<62, 1<<62), rapid.Int64Range(asked-3, asked+3)).Draw(rt, "age")
		r := restart.Request{MinUptime: restart.Duration(asked)}
		refusal, err := policy.MinUptime(r, restart.State{Since: now.Add(-time.Duration(age))}, now)
		if err != nil {
			rt.Fatal(err)
		}
		if passed := refusal == nil; passed != (age >= asked) {
			rt.Fatalf("up for %s, asked for %s: passed is %t", time.Duration(age), time.Duration(asked), passed)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	r := restart.Request{Host: "host-1", NotAfter: now.Add(time.Hour), MinUptime: restart.Duration(time.Hour)}
	state := restart.State{Epoch: "boot 1", Since: now.Add(-2 * time.Hour), Ready: true}
	b.ReportAllocs()
	for b.Loop() {
		if refusal := policy.NotAfter(r, now); refusal != nil {
			b.Fatal(refusal)
		}
		if refusal, err := policy.MinUptime(r, state, now); refusal != nil || err != nil {
			b.Fatal(refusal, err)
		}
	}
}
