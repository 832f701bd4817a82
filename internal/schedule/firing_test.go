package schedule_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A firing is judged by what the server wrote into it, and by nobody's clock but the stream's.
func TestFiring(t *testing.T) {
	const hour = time.Hour
	nightly, berlin := "0 3 * * *", "Europe/Berlin"
	byServer := func(next string) nats.Header {
		return nats.Header{"Nats-Scheduler": {stream.ScheduleDef("s")}, "Nats-Schedule-Next": {next}}
	}
	for _, tt := range []struct {
		name    string
		expr    string
		catchUp bool
		paused  bool
		header  nats.Header
		fired   string
		now     string // as fired, if empty
		due     bool
		planned string
		until   string
		outcome schedule.Outcome
	}{
		{
			name: "on time", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:00:00Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z",
		},
		{
			name: "stamped early, by a clock that was set back", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T00:59:58Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z",
		},
		{
			name: "an hour before its time", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T00:00:00Z",
			planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z", outcome: schedule.Failed,
		},
		{
			name: "half a minute late, after an election", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:00:30Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z",
		},
		{
			name: "ten minutes late", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:10:00Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z", outcome: schedule.Missed,
		},
		{
			name: "ten minutes late, caught up", catchUp: true, header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:10:00Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:10:00Z",
		},
		{
			name: "days late, caught up, once", catchUp: true, header: byServer("2026-05-10T01:00:00Z"), fired: "2026-05-09T12:00:00Z",
			due: true, planned: "2026-05-09T01:00:00Z", until: "2026-05-09T13:00:00Z",
		},
		{
			name: "late, and just before the next, which the server then skips", header: byServer("2026-05-06T01:00:00Z"), fired: "2026-05-05T00:59:59.7Z",
			due: true, planned: "2026-05-05T01:00:00Z", until: "2026-05-05T02:00:00Z",
		},
		{
			name: "no worker in time", header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:00:00Z", now: "2026-05-04T02:00:01Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z", outcome: schedule.Missed,
		},
		{
			name: "no worker in time, and catching up is for the broker's absence", catchUp: true,
			header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:00:00Z", now: "2026-05-04T02:00:01Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z", outcome: schedule.Missed,
		},
		{
			name: "paused since", paused: true, header: byServer("2026-05-05T01:00:00Z"), fired: "2026-05-04T01:00:00Z",
			due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z", outcome: schedule.Skipped,
		},
		{
			name: "paused, but wanted now", paused: true, fired: "2026-05-04T11:11:11Z",
			header: nats.Header{"Mandrill-Run-Now": {"0198a8b2-0000-7000-8000-000000000001"}, "Mandrill-Run-By": {"ann"}},
			due:    true, planned: "2026-05-04T11:11:11Z", until: "2026-05-04T12:11:11Z",
		},
		{
			name: "of a time before the schedule was", header: byServer("2026-05-02T01:00:00Z"), fired: "2026-05-01T12:30:00Z",
			planned: "2026-05-01T01:00:00Z", until: "2026-05-01T02:00:00Z", outcome: schedule.Missed,
		},
		{
			name: "02:30 fired again on the hour that is shown twice", expr: "30 2 * * *", header: byServer("2026-10-26T01:30:00Z"), fired: "2026-10-25T01:30:00Z",
			due: true, planned: "2026-10-25T00:30:00Z", until: "2026-10-25T01:30:00Z", outcome: schedule.Missed, // it has a result already
		},
		{
			name: "made by a worker in the server's place", catchUp: true, header: nats.Header{schedule.PlannedHeader: {"2026-05-04T01:00:00Z"}},
			fired: "2026-05-04T01:05:00Z", due: true, planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:05:00Z",
		},
		{
			name: "made by a worker whose clock is ahead", header: nats.Header{schedule.PlannedHeader: {"2026-05-05T01:00:00Z"}},
			fired: "2026-05-05T00:30:00Z", planned: "2026-05-05T01:00:00Z", until: "2026-05-05T02:00:00Z", outcome: schedule.Failed,
		},
		{
			name: "made by a stranger for any time", header: nats.Header{schedule.PlannedHeader: {"2026-05-04T01:01:00Z"}},
			fired: "2026-05-04T01:01:00Z", planned: "2026-05-04T01:00:00Z", until: "2026-05-04T02:00:00Z",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.expr == "" {
				tt.expr = nightly
			}
			if tt.now == "" {
				tt.now = tt.fired
			}
			d := schedule.Definition{
				Name: "s", Spec: mustCron(t, tt.expr, berlin), ValidFor: restart.Duration(hour), CatchUp: tt.catchUp, Paused: tt.paused,
				Since: date("2026-05-01T12:00:00Z"),
			}
			f, due, r, err := schedule.Read(d, tt.header, date(tt.fired), date(tt.now))
			if err != nil {
				t.Fatal(err)
			}
			if due != tt.due || !f.Planned.Equal(date(tt.planned)) || !f.NotAfter.Equal(date(tt.until)) || r.Outcome != tt.outcome {
				t.Errorf("got due %t, planned %s, not after %s, %q (%s)", due, f.Planned.UTC(), f.NotAfter.UTC(), r.Outcome, r.Why)
			}
			if !f.Manual && f.ID != schedule.FiringID("s", date(tt.planned)) {
				t.Errorf("the id is %s", f.ID)
			}
		})
	}
}

func TestFiring_OfAStrangerIsNone(t *testing.T) {
	d := schedule.Definition{Name: "s", Spec: mustCron(t, "0 3 * * *", "")}
	for name, header := range map[string]nats.Header{
		"no header":          {},
		"another schedule's": {"Nats-Scheduler": {stream.ScheduleDef("other")}, "Nats-Schedule-Next": {"2026-05-05T01:00:00Z"}},
		"no time":            {schedule.PlannedHeader: {"soon"}},
		"no id":              {"Mandrill-Run-Now": {"me"}},
	} {
		if _, _, _, err := schedule.Read(d, header, time.Now(), time.Now()); err == nil {
			t.Errorf("%s: it is taken for a firing", name)
		}
	}
}
