package explain_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/control"
	"github.com/mayhem-mandrill/mandrill/internal/explain"
	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	host  restart.Host  = "db-1.example.net"
	group restart.Group = "db"
)

// now is a Monday.
var (
	now       = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	tonight   = time.Date(2026, 5, 4, 22, 0, 0, 0, time.UTC)
	requestID = uuid.MustParse("01a1fbe2-e6cc-736c-b479-60539a1e765f")
	never     time.Time
)

// nothingInTheWay is a request that the next worker takes up, for a host that was probed.
func nothingInTheWay() explain.Facts {
	return explain.Facts{
		Now: now, Host: host, Group: group,
		Queued: &explain.Message{
			Request:  restart.Request{ID: requestID, Host: host, Group: group, RequestedAt: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour)},
			Sequence: 7, Stored: now.Add(-time.Minute),
		},
		Consumer: &explain.Consumer{Budget: 20, Waiting: 1, Pending: 1, Delivered: 6},
		State:    &restart.State{Epoch: "boot 1", Since: now.Add(-time.Hour), Ready: true},
		Limits:   explain.Limits{MaxAttempts: 3, RetryCap: 5 * time.Minute, AckWait: 30 * time.Second, VerifyTimeout: 10 * time.Minute},
	}
}

func pause(cause control.Cause, until time.Time) control.Pause {
	return control.Pause{Group: group, Cause: cause, Since: now.Add(-time.Hour), Until: until, By: "ann", Why: "reasons"}
}

func nightly(t *testing.T) policy.Rules {
	t.Helper()
	windows, err := policy.ParseWindows([]string{"22:00-04:00"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return policy.Rules{Windows: windows, Takes: 5 * time.Minute}
}

func restarting(attempt int) journal.Event {
	return journal.Event{Kind: journal.Restarting, Attempt: attempt, From: "boot 1", Worker: "w1", At: now.Add(-time.Minute)}
}

func failed(at time.Time) journal.Event {
	return journal.Event{Kind: journal.Failed, Attempt: 1, From: "boot 1", Worker: "w1", At: at, Detail: "refused for now: busy"}
}

func dead(at time.Time) restart.Outcome {
	return restart.Outcome{
		ID: requestID, Host: host, Group: group, Kind: restart.Dead, Reason: restart.ReasonAttempts, Detail: "3 attempts used up", At: at,
	}
}

// codes are the causes, those that block with an exclamation mark before them.
func codes(r explain.Report) []string {
	got := []string{}
	for _, c := range r.Causes {
		mark := ""
		if c.Blocks {
			mark = "!"
		}
		got = append(got, mark+string(c.Code))
	}
	return got
}

type change func(*testing.T, *explain.Facts)

func notQueued(_ *testing.T, f *explain.Facts) { f.Queued, f.Consumer.Pending = nil, 0 }

func paused(cause control.Cause, until time.Time) change {
	return func(_ *testing.T, f *explain.Facts) { f.Control.Pauses = append(f.Control.Pauses, pause(cause, until)) }
}

func handedOut(_ *testing.T, f *explain.Facts) {
	f.Consumer.InFlight, f.Consumer.Delivered, f.Consumer.Pending = 1, 7, 0
}

func event(events ...journal.Event) change {
	return func(t *testing.T, f *explain.Facts) {
		f.Events, f.EventsOf = append(f.Events, events...), requestID
		if f.Queued != nil {
			handedOut(t, f)
		}
	}
}

func gap(parts ...explain.Part) change {
	return func(_ *testing.T, f *explain.Facts) {
		for _, part := range parts {
			f.Gaps = append(f.Gaps, explain.Gap{Part: part, Why: "no answer"})
		}
	}
}

// causesInCode returns every code that report.go has.
func causesInCode(t *testing.T) (all []string) {
	t.Helper()
	code, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`Cause\w+\s+Code = "(\w+)"`).FindAllStringSubmatch(string(code), -1) {
		all = append(all, m[1])
	}
	if len(all) < 20 {
		t.Fatalf("got %d codes, so the pattern is wrong", len(all))
	}
	return all
}

// Fear: somebody asks why nothing happens, and is told of something else, or of a time at which nothing will happen
// either.
func TestExplain(t *testing.T) {
	told := map[string]bool{}
	for _, tt := range []struct {
		name    string
		change  []change
		verdict explain.Verdict
		causes  []string
		next    time.Time
		says    []string // in the summary or in a cause
	}{
		{"nothing is in the way", nil, explain.VerdictQueued, nil, now, []string{"nothing is known to be in its way"}},

		// What ends the request.
		{
			"not_after has passed",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Queued.Request.NotAfter = now.Add(-time.Second) }},
			explain.VerdictWillEnd,
			[]string{"!not_after"},
			never,
			[]string{"has passed", "ends expired"},
		},
		{
			"host is denied",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.Deny = policy.Patterns{"db-*"} }},
			explain.VerdictWillEnd,
			[]string{"!deny"},
			never,
			[]string{`denied by "db-*"`, "ends skipped"},
		},
		{
			"host is not among the only ones",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.Only = policy.Patterns{"web-*"} }},
			explain.VerdictWillEnd,
			[]string{"!only"},
			never,
			[]string{"matches none of the only patterns"},
		},
		{
			"the worker runs on the host",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.Self.Names = []restart.Host{"db-1"} }},
			explain.VerdictWillEnd,
			[]string{"!self"},
			never,
			[]string{"the worker runs on it"},
		},
		{
			"this machine is the host, and workers may run on others",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.Self.Boot, f.Elsewhere = "boot 1", true }},
			explain.VerdictQueued,
			[]string{"self"},
			now,
			[]string{"if a worker runs on this machine"},
		},
		{
			"its campaign was aborted, and the group is paused",
			[]change{paused(control.ByHand, never), func(_ *testing.T, f *explain.Facts) {
				f.Queued.Request.Campaign = "c1"
				f.Control.Aborted = map[string]policy.Hold{"c1": {By: "ann", Why: "wrong image", Aborts: true}}
			}},
			explain.VerdictWillEnd,
			[]string{"!pause", "!aborted"},
			never,
			[]string{"its campaign c1 was aborted by ann: wrong image", "ends cancelled"},
		},
		{
			"host is not up for long enough",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Queued.Request.MinUptime = restart.Duration(2 * time.Hour) }},
			explain.VerdictWillEnd,
			[]string{"!min_uptime"},
			never,
			[]string{"less than 2h0m0s", "ends skipped"},
		},
		{
			"host will be up for long enough when its window opens",
			[]change{func(t *testing.T, f *explain.Facts) {
				f.Rules, f.Queued.Request.MinUptime = nightly(t), restart.Duration(2*time.Hour)
			}},
			explain.VerdictHeld,
			[]string{"!window"},
			tonight, nil,
		},
		{
			"uptime cannot be told",
			[]change{func(_ *testing.T, f *explain.Facts) {
				f.Queued.Request.MinUptime, f.State.Since = restart.Duration(time.Hour), time.Time{}
			}},
			explain.VerdictHeld,
			[]string{"!min_uptime"},
			never,
			[]string{"cannot tell the uptime"},
		},
		{
			"uptime is asked for, and the host was not probed",
			[]change{func(_ *testing.T, f *explain.Facts) {
				f.Queued.Request.MinUptime, f.State = restart.Duration(time.Hour), nil
			}, gap(explain.PartEpoch)},
			explain.VerdictQueued, nil, now, nil,
		},
		{
			"dry run",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.DryRun = true }},
			explain.VerdictWillEnd,
			[]string{"!dry_run"},
			never,
			[]string{"would have been restarted", "ends skipped"},
		},
		{
			"dry run of a host that was not probed",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.DryRun, f.State = true, nil }, gap(explain.PartEpoch)},
			explain.VerdictWillEnd,
			[]string{"!dry_run"},
			never,
			[]string{"dry_run is on"},
		},
		{
			"dry run says nothing where another gate ends the request",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Rules.DryRun, f.Rules.Deny = true, policy.Patterns{"*"} }},
			explain.VerdictWillEnd,
			[]string{"!deny"},
			never, nil,
		},
		{
			"message cannot be read",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Queued.Err = errors.New("not a request: null") }},
			explain.VerdictWillEnd,
			[]string{"!malformed"},
			never,
			[]string{"not a request: null", "ends dead"},
		},

		// What holds the group.
		{"pause without an end", []change{paused(control.ByHand, never)}, explain.VerdictHeld, []string{"!pause"}, never, []string{"by ann: reasons", "the request expires at 2026-05-05T12:00:00Z"}},
		{"pause with an end", []change{paused(control.ByHand, now.Add(time.Hour))}, explain.VerdictHeld, []string{"!pause"}, now.Add(time.Hour), []string{"it could be at 2026-05-04T13:00:00Z"}},
		{"pause that is over", []change{paused(control.ByHand, now)}, explain.VerdictQueued, nil, now, nil},
		{"breaker", []change{paused(control.ByBreaker, never)}, explain.VerdictHeld, []string{"!breaker"}, never, nil},
		{"monitor", []change{paused("disk-full", now.Add(time.Hour))}, explain.VerdictHeld, []string{"!monitor"}, now.Add(time.Hour), []string{"reason disk-full"}},
		{"window entry of a worker", []change{paused(control.ByWindow, tonight)}, explain.VerdictHeld, []string{"!window"}, tonight, nil},
		{
			"window of this configuration, and the same entry of a worker are one cause",
			[]change{func(t *testing.T, f *explain.Facts) { f.Rules = nightly(t) }, paused(control.ByWindow, tonight)},
			explain.VerdictHeld,
			[]string{"!window"},
			tonight,
			[]string{"closed; next at 2026-05-04T22:00:00Z"},
		},
		{
			"window of this configuration, and another one of a worker",
			[]change{func(t *testing.T, f *explain.Facts) { f.Rules = nightly(t) }, paused(control.ByWindow, tonight.Add(time.Hour))},
			explain.VerdictHeld,
			[]string{"!window", "!window"},
			tonight.Add(time.Hour),
			[]string{"reason window, by ann"},
		},
		{
			"pause that ends outside the window",
			[]change{func(t *testing.T, f *explain.Facts) { f.Rules = nightly(t) }, paused(control.ByHand, tonight.Add(7*time.Hour))},
			explain.VerdictHeld,
			[]string{"!window", "!pause", "!window", "!not_after"},
			never,
			[]string{"comes before 2026-05-05T22:00:00Z"},
		},
		{
			"pauses of several causes count together",
			[]change{paused(control.ByHand, now.Add(time.Hour)), paused(control.ByBreaker, now.Add(2*time.Hour))},
			explain.VerdictHeld,
			[]string{"!pause", "!breaker"},
			now.Add(2 * time.Hour),
			[]string{"pause and breaker are in the way"},
		},
		{
			"request expires before the pause ends",
			[]change{paused(control.ByHand, now.Add(48*time.Hour))},
			explain.VerdictHeld,
			[]string{"!pause", "!not_after"},
			never,
			[]string{"2026-05-05T12:00:00Z comes before 2026-05-06T12:00:00Z"},
		},
		{
			"pause that ends after the request has expired, and a window that never opens",
			[]change{paused(control.ByHand, now.Add(48*time.Hour)), func(t *testing.T, f *explain.Facts) {
				f.Rules = nightly(t)
				f.Rules.Takes = 12 * time.Hour
			}},
			explain.VerdictHeld,
			[]string{"!window", "!pause", "!not_after"},
			never,
			[]string{"never within a year"},
		},
		{
			"host is denied, and the group paused",
			[]change{paused(control.ByHand, never), func(_ *testing.T, f *explain.Facts) { f.Rules.Deny = policy.Patterns{"*"} }},
			explain.VerdictWillEnd,
			[]string{"!pause", "!deny"},
			never, nil,
		},
		{
			"consumer is paused by a hand that is not ours",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.PausedUntil = now.Add(time.Hour) }},
			explain.VerdictHeld,
			[]string{"!pause"},
			now.Add(time.Hour),
			[]string{"the control bucket does not say why"},
		},
		{
			"consumer is paused, and the bucket cannot be read",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.PausedUntil = now.Add(time.Hour) }, gap(explain.PartControl)},
			explain.VerdictHeld,
			[]string{"!pause"},
			never,
			[]string{"why is not known here"},
		},

		// What hands messages out, and takes them.
		{
			"no worker ever",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer = nil }},
			explain.VerdictHeld,
			[]string{"!never_served"},
			never,
			[]string{"start one"},
		},
		{
			"whether there is a worker is not known",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer = nil }, gap(explain.PartWorkers)},
			explain.VerdictQueued, nil, never, nil,
		},
		{
			"no worker now",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.Waiting = 0 }},
			explain.VerdictHeld,
			[]string{"!no_worker"},
			never,
			[]string{"none holds any"},
		},
		{
			"workers that do not ask, but hold messages, may be full",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.Waiting, f.Consumer.InFlight = 0, 3 }},
			explain.VerdictHeld,
			[]string{"!no_worker"},
			never,
			[]string{"a worker that is full does not ask"},
		},
		{
			"budget is full",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.InFlight = 20 }},
			explain.VerdictHeld,
			[]string{"!budget_full"},
			never,
			[]string{"20 messages of the group are in flight, and the budget is 20"},
		},
		{
			"budget is full of what was handed to workers that may be gone",
			[]change{func(_ *testing.T, f *explain.Facts) { f.Consumer.InFlight, f.Consumer.Waiting = 20, 0 }},
			explain.VerdictHeld,
			[]string{"!budget_full"},
			never,
			[]string{"no worker has asked"},
		},
		{
			"budget is full, and the message itself is part of that",
			[]change{handedOut, func(_ *testing.T, f *explain.Facts) { f.Consumer.InFlight = 20 }},
			explain.VerdictHandedOut,
			[]string{"handed_out"},
			now,
			[]string{"tried again within 5m0s"},
		},
		{
			"pause ends at a known time, and there is no worker",
			[]change{paused(control.ByHand, now.Add(time.Hour)), func(_ *testing.T, f *explain.Facts) { f.Consumer.Waiting = 0 }},
			explain.VerdictHeld,
			[]string{"!pause", "!no_worker"},
			never, nil,
		},

		// The host.
		{
			"host cannot be probed",
			[]change{func(_ *testing.T, f *explain.Facts) { f.State, f.ProbeErr = nil, errors.New("connection refused") }, gap(explain.PartEpoch)},
			explain.VerdictHeld,
			[]string{"!unknown_state"},
			never,
			[]string{"connection refused", "from here"},
		},

		// How far it has come.
		{"triggered", []change{event(restarting(1))}, explain.VerdictRunning, []string{"restarting"}, never, []string{"attempt 1 was triggered by worker w1", "the boot that it is to end is still running"}},
		{
			"triggered, and another boot runs",
			[]change{event(restarting(1)), func(_ *testing.T, f *explain.Facts) { f.State = &restart.State{Epoch: "boot 2"} }},
			explain.VerdictRunning,
			[]string{"restarting"},
			never,
			[]string{"another boot is running, and not ready"},
		},
		{"triggered, and held since, is verified all the same", []change{event(restarting(2)), paused(control.ByHand, never)}, explain.VerdictRunning, []string{"restarting"}, never, []string{"attempt 2"}},
		{
			"triggered, and nobody asks for work",
			[]change{event(restarting(1)), func(_ *testing.T, f *explain.Facts) { f.Consumer.Waiting = 0 }},
			explain.VerdictRunning,
			[]string{"restarting", "no_worker"},
			never, nil,
		},
		{"refused", []change{event(restarting(1), failed(now))}, explain.VerdictWaiting, []string{"failed"}, now.Add(5 * time.Minute), []string{"attempt 1 of 3", "busy", "within 5m0s", "waits for attempt 2 of 3"}},
		{"refused long ago", []change{event(failed(now.Add(-time.Hour)))}, explain.VerdictWaiting, []string{"failed"}, now, nil},
		{
			"refused, and restarted elsewhere since",
			[]change{event(failed(now)), func(_ *testing.T, f *explain.Facts) {
				f.State.Epoch, f.State.Since, f.Rules.DryRun, f.Queued.Request.MinUptime = "boot 2", now, true, restart.Duration(time.Hour)
			}},
			explain.VerdictWaiting,
			[]string{"failed"},
			now.Add(5 * time.Minute),
			[]string{"another boot is running since, which is verified instead"},
		},
		{"refused, and paused since", []change{event(failed(now)), paused(control.ByHand, now.Add(time.Hour))}, explain.VerdictHeld, []string{"failed", "!pause"}, now.Add(time.Hour), nil},
		{
			"handed out, and whether it was triggered cannot be read",
			[]change{handedOut, gap(explain.PartJournal)},
			explain.VerdictHandedOut,
			[]string{"handed_out"},
			now,
			[]string{"whether it was triggered is not known"},
		},
		{
			"ended, and its message is still there",
			[]change{event(journal.Event{Kind: journal.Skipped, Reason: restart.ReasonDenied, Detail: "denied", At: now})},
			explain.VerdictEnded,
			[]string{"ended"},
			never,
			[]string{"skipped (denied)", "still to be settled"},
		},
		{
			"outcome on record, and its message is still there",
			[]change{event(restarting(1)), func(_ *testing.T, f *explain.Facts) {
				f.Outcome = &restart.Outcome{ID: requestID, Kind: restart.Restarted, Reason: restart.ReasonVerified, At: now}
			}},
			explain.VerdictEnded,
			[]string{"ended"},
			never,
			[]string{"restarted (verified)"},
		},
		{"nothing queued", []change{notQueued}, explain.VerdictNothingQueued, []string{"nothing_queued"}, never, []string{"no earlier request is known"}},
		{
			"nothing queued, and no worker ever",
			[]change{notQueued, func(_ *testing.T, f *explain.Facts) { f.Consumer = nil }},
			explain.VerdictNothingQueued,
			[]string{"nothing_queued", "never_served"},
			never, nil,
		},
		{
			"restarted",
			[]change{notQueued, event(restarting(1)), func(_ *testing.T, f *explain.Facts) {
				// A database keeps times less precisely than the journal.
				f.Outcome = &restart.Outcome{ID: requestID, Kind: restart.Restarted, Reason: restart.ReasonVerified, At: now.Add(-2 * time.Minute)}
			}},
			explain.VerdictEnded,
			[]string{"nothing_queued", "ended"},
			never,
			[]string{"its latest request 01a1fbe2-e6cc-736c-b479-60539a1e765f ended restarted (verified)"},
		},
		{
			"given up",
			[]change{notQueued, event(failed(now.Add(-time.Minute))), func(_ *testing.T, f *explain.Facts) { f.Letter = &explain.Letter{Outcome: dead(now)} }},
			explain.VerdictEnded,
			[]string{"nothing_queued", "dead_letter"},
			never,
			[]string{"dead (attempts)", "mandrill dead requeue " + requestID.String()},
		},
		{
			"given up, and asked for again",
			[]change{notQueued, func(_ *testing.T, f *explain.Facts) {
				f.Letter = &explain.Letter{Outcome: dead(now), RequeuedAs: restart.RequeueID(requestID)}
			}},
			explain.VerdictEnded,
			[]string{"nothing_queued", "dead_letter"},
			never,
			[]string{"it was asked for again as " + restart.RequeueID(requestID).String()},
		},
		{
			"given up, and restarted by a later request",
			[]change{notQueued, func(_ *testing.T, f *explain.Facts) {
				f.Letter = &explain.Letter{Outcome: dead(now.Add(-time.Hour))}
				f.Outcome = &restart.Outcome{ID: uuid.New(), Kind: restart.Restarted, Reason: restart.ReasonVerified, At: now}
			}},
			explain.VerdictEnded,
			[]string{"nothing_queued", "ended"},
			never, nil,
		},
		{
			"settled, and only the journal can be read",
			[]change{notQueued, event(restarting(1)), gap(explain.PartDatabase)},
			explain.VerdictEnded,
			[]string{"nothing_queued", "ended"},
			never,
			[]string{"the history says how it ended"},
		},
		{
			"queue cannot be read",
			[]change{notQueued, gap(explain.PartQueue)},
			explain.VerdictUnknown, nil, never,
			[]string{"could not be read"},
		},
		{
			"pauses cannot be read",
			[]change{gap(explain.PartControl)},
			explain.VerdictQueued, nil, never, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := nothingInTheWay()
			for _, change := range tt.change {
				change(t, &f)
			}
			got := explain.Explain(f)
			for _, c := range got.Causes {
				told[string(c.Code)] = true
			}
			if got.Verdict != tt.verdict {
				t.Errorf("got verdict %s, want %s", got.Verdict, tt.verdict)
			}
			if diff := cmp.Diff(append([]string{}, tt.causes...), codes(got)); diff != "" {
				t.Errorf("causes (-want +got):\n%s", diff)
			}
			if !got.Next.Equal(tt.next) {
				t.Errorf("got next %s, want %s", got.Next, tt.next)
			}
			text := got.Summary
			for _, c := range got.Causes {
				text += "\n" + c.Detail
			}
			for _, says := range tt.says {
				if !strings.Contains(text, says) {
					t.Errorf("%q is not in:\n%s", says, text)
				}
			}
		})
	}
	for _, code := range causesInCode(t) {
		if !told[code] {
			t.Errorf("no case tells of %s", code)
		}
	}
}
