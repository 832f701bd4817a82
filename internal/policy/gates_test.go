package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/policy"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

var (
	goes   = policy.Answer{Verdict: policy.Go}
	probes = policy.Answer{Verdict: policy.Probe}
)

func skipped(reason restart.Reason, detail string) policy.Answer {
	return policy.Answer{Verdict: policy.Never, Refusal: policy.Refusal{Kind: restart.Skipped, Reason: reason, Detail: detail}}
}

func waits(gate policy.Gate, until time.Time, detail string) policy.Answer {
	return policy.Answer{Verdict: policy.Later, Wait: policy.Wait{Gate: gate, Detail: detail, Until: until}}
}

// ask is about a host of which nothing is wrong: now is Monday, 4 May 2026, 12:00.
func ask() policy.Asked {
	return policy.Asked{
		Request: restart.Request{Host: "db-1.example.net", Group: "db", NotAfter: now.Add(time.Hour)},
		State:   &restart.State{Epoch: "boot 1", Since: now.Add(-time.Hour), Ready: true},
		Now:     now,
	}
}

// wantOpinion asks one gate beside which no other says no, so that all together must say the same.
func wantOpinion(t *testing.T, gate policy.Gate, r policy.Rules, a policy.Asked, want policy.Answer) {
	t.Helper()
	for _, got := range r.All(a) {
		if got.Gate != gate {
			continue
		}
		if diff := cmp.Diff(want, got.Answer); diff != "" {
			t.Errorf("%s (-want +got):\n%s", gate, diff)
		}
		if want == goes && a.State == nil {
			want = probes
		}
		if diff := cmp.Diff(want, r.Ask(a)); diff != "" {
			t.Errorf("all gates (-want +got):\n%s", diff)
		}
		return
	}
	t.Fatalf("no gate is called %s", gate)
}

func TestGate_NotAfter(t *testing.T) {
	for _, tt := range []struct {
		name string
		now  time.Time
		want policy.Answer
	}{
		{"an hour is left", now, goes},
		{"it is that very moment", now.Add(time.Hour), goes},
		{"a nanosecond has passed", now.Add(time.Hour + 1), policy.Answer{Verdict: policy.Never, Refusal: policy.Refusal{
			Kind: restart.Expired, Reason: restart.ReasonNotAfter, Detail: "not_after 2026-05-04T13:00:00Z has passed",
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ask()
			a.Now = tt.now
			wantOpinion(t, policy.GateNotAfter, policy.Rules{}, a, tt.want)
			a.State = nil
			wantOpinion(t, policy.GateNotAfter, policy.Rules{}, a, tt.want)
		})
	}
}

// A host that is denied must not be restarted because somebody asked for it by another of its names.
func TestGate_Deny(t *testing.T) {
	for _, tt := range []struct {
		deny, host, by string // by is empty if it goes
	}{
		{"", "db-1.example.net", ""},
		{"web-*|db-1.example.net", "db-1.example.net", "db-1.example.net"},
		{"DB-1.Example.NET", "db-1.example.net", "db-1.example.net"},
		{"db-?.example.net", "db-1.example.net", "db-?.example.net"},
		{"db-?.example.net", "db-10.example.net", ""},
		{"db-1.example.net", "db-1.example.network", ""},
		{"db-1.example.net", "sub.db-1.example.net", ""},
		{"db-1.example.net", "db-1xexample.net", ""},
		{"*.example.net", "db-1.rack-2.example.net", "*.example.net"},
		{"*.example.net", "example.net", ""},
		{"db-1*net", "db-1.example.net", "db-1*net"},
		{"*", "db-1.example.net", "*"},
		{"db-??*", "db-1.example.net", "db-??*"}, // a dot is a character like any other

		{"db-1", "db-1.example.net", "db-1"},
		{"db-?", "db-1.example.net", "db-?"},
		{"db-1", "db-10.example.net", ""},
		{"example", "db-1.example.net", ""},
		{"db-1.example.net", "db-1", "db-1.example.net"},
		{"*.example.net", "db-1", "*.example.net"},
		{"db-1.example.net", "db-10", ""},
		{"db-1.example.net", "db-1.example.org", ""},
	} {
		t.Run(tt.deny+" and "+tt.host, func(t *testing.T) {
			a := ask()
			a.Request.Host = restart.Host(tt.host)
			want := goes
			if tt.by != "" {
				want = skipped(restart.ReasonDenied, fmt.Sprintf("host %q is denied by %q", tt.host, tt.by))
			}
			wantOpinion(t, policy.GateDeny, policy.Rules{Deny: mustPatterns(t, tt.deny)}, a, want)
		})
	}
}

// Where a name leaves open which host is meant, it is not one of the only ones.
func TestGate_Only(t *testing.T) {
	for _, tt := range []struct {
		only, host string
		listed     bool
	}{
		{"", "db-1.example.net", true},
		{"db-1.example.net", "db-1.example.net", true},
		{"web-1.example.net|db-*", "db-1.example.net", true},
		{"*.example.net", "db-1.example.net", true},
		{"*", "db-1.example.net", true},
		{"db-2.example.net", "db-1.example.net", false},
		{"db-?", "db-1.example.net", false},
		{"db-1", "db-1.example.net", false},
		{"db-1.example.net", "db-1", false},
		{"db-1", "db-1", true},
	} {
		t.Run(tt.only+" and "+tt.host, func(t *testing.T) {
			a := ask()
			a.Request.Host = restart.Host(tt.host)
			want := goes
			if !tt.listed {
				want = skipped(restart.ReasonNotListed, fmt.Sprintf("host %q matches none of the only patterns", tt.host))
			}
			wantOpinion(t, policy.GateOnly, policy.Rules{Only: mustPatterns(t, tt.only)}, a, want)
		})
	}
}

// A worker that restarts its own machine dies with the trigger in its hands.
func TestGate_Self(t *testing.T) {
	byBoot := skipped(restart.ReasonSelf, "the worker runs on it: its boot is the worker's own")
	as := func(name string) policy.Answer {
		return skipped(restart.ReasonSelf, fmt.Sprintf("the worker runs on it, as %q", name))
	}
	boot1, boot2 := &restart.State{Epoch: "boot 1"}, &restart.State{Epoch: "boot 2"}
	for _, tt := range []struct {
		name  string
		self  policy.Self
		host  restart.Host
		state *restart.State
		want  policy.Answer
	}{
		{"nothing is known of the machine", policy.Self{}, "db-1.example.net", boot1, goes},
		{"nothing is known of the machine, and the host has no epoch", policy.Self{}, "db-1.example.net", &restart.State{}, goes},
		{"its full name", policy.Self{Names: []restart.Host{"a", "db-1.example.net"}}, "db-1.example.net", boot1, as("db-1.example.net")},
		{"its full name, before the probe", policy.Self{Names: []restart.Host{"db-1.example.net"}}, "db-1.example.net", nil, as("db-1.example.net")},
		{"the machine's name has no domain", policy.Self{Names: []restart.Host{"db-1"}}, "db-1.example.net", boot1, as("db-1")},
		{"the host's name has no domain", policy.Self{Names: []restart.Host{"db-1.example.net"}}, "db-1", boot1, as("db-1.example.net")},
		{"neither has a domain", policy.Self{Names: []restart.Host{"db-1"}}, "db-1", boot1, as("db-1")},
		{"another domain", policy.Self{Names: []restart.Host{"db-1.example.org"}}, "db-1.example.net", boot1, goes},
		{"a name that begins like it", policy.Self{Names: []restart.Host{"db", "db-10", "db-1.example"}}, "db-1.example.net", boot1, goes},
		{"its address", policy.Self{Names: []restart.Host{"10.0.0.1"}}, "10.0.0.1", boot1, as("10.0.0.1")},
		{"an address beside it", policy.Self{Names: []restart.Host{"10.0.0.1"}}, "10.0.0.2", boot1, goes},
		{"its boot, by whatever name", policy.Self{Names: []restart.Host{"a"}, Boot: "boot 1"}, "db-1.example.net", boot1, byBoot},
		{"another boot", policy.Self{Boot: "boot 1"}, "db-1.example.net", boot2, goes},
		{"a boot that is not known yet", policy.Self{Boot: "boot 1"}, "db-1.example.net", nil, probes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ask()
			a.Request.Host, a.State = tt.host, tt.state
			wantOpinion(t, policy.GateSelf, policy.Rules{Self: tt.self}, a, tt.want)
		})
	}
}

func TestGate_Pause(t *testing.T) {
	hour, day := now.Add(time.Hour), now.Add(24*time.Hour)
	byHand := policy.Hold{Reason: "manual", Why: "network works", By: "roman"}
	breaker := policy.Hold{Reason: "breaker", Until: day}
	monitor := policy.Hold{Reason: "monitor-disk", Until: hour}
	for _, tt := range []struct {
		name  string
		holds []policy.Hold
		want  policy.Answer
	}{
		{"nothing holds the group", nil, goes},
		{
			"by hand, until somebody resumes",
			[]policy.Hold{byHand},
			waits(policy.GatePause, time.Time{}, "paused until it is resumed, reason manual, by roman: network works"),
		},
		{
			"until a time",
			[]policy.Hold{monitor},
			waits(policy.GatePause, hour, "paused until 2026-05-04T13:00:00Z, reason monitor-disk"),
		},
		{
			"the longest of two",
			[]policy.Hold{monitor, breaker},
			waits(policy.GatePause, day, "paused until 2026-05-05T12:00:00Z, reason breaker; the longest of 2 pauses"),
		},
		{
			"what nobody knows the end of is the longest",
			[]policy.Hold{breaker, byHand, monitor},
			waits(policy.GatePause, time.Time{}, "paused until it is resumed, reason manual, by roman: network works; the longest of 3 pauses"),
		},
		{"one of which nothing is known", []policy.Hold{{}}, waits(policy.GatePause, time.Time{}, "paused until it is resumed, reason ")},
		{
			"until the next nanosecond",
			[]policy.Hold{{Reason: "x", Until: now.Add(1)}},
			waits(policy.GatePause, now.Add(1), "paused until 2026-05-04T12:00:00Z, reason x"),
		},
		{"it has just ended", []policy.Hold{{Reason: "x", Until: now}}, goes},
		{
			"one has ended, and another has not",
			[]policy.Hold{{Reason: "x", Until: now.Add(-time.Hour)}, monitor},
			waits(policy.GatePause, hour, "paused until 2026-05-04T13:00:00Z, reason monitor-disk"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ask()
			a.Paused = tt.holds
			wantOpinion(t, policy.GatePause, policy.Rules{}, a, tt.want)
			a.State = nil
			wantOpinion(t, policy.GatePause, policy.Rules{}, a, tt.want)
		})
	}
}

func TestGate_Aborted(t *testing.T) {
	a := ask()
	a.Request.Campaign = "c1"
	wantOpinion(t, policy.GateAborted, policy.Rules{}, a, goes)
	a.Paused = []policy.Hold{{By: "ann", Why: "wrong image", Aborts: true}}
	want := policy.Answer{Verdict: policy.Never, Refusal: policy.Refusal{
		Kind: restart.Cancelled, Reason: restart.ReasonAborted, Detail: "its campaign c1 was aborted by ann: wrong image",
	}}
	wantOpinion(t, policy.GateAborted, policy.Rules{}, a, want)
	a.Paused = append([]policy.Hold{{Reason: "manual"}}, a.Paused...)
	if got := (policy.Rules{}).Ask(a); got != want {
		t.Errorf("paused too: got %+v, want %+v", got, want)
	}
}

func TestGate_Window(t *testing.T) {
	nightly := []string{"mon-fri 22:00-24:00"}
	berlin := mustLoad(t, "Europe/Berlin")
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 5, day, hour, minute, 0, 0, berlin) }
	const texts = "(mon-fri 22:00-24:00; Europe/Berlin)"
	for _, tt := range []struct {
		name   string
		except []string
		takes  time.Duration
		now    time.Time
		want   policy.Answer
	}{
		{"it is open", nil, 0, at(4, 22, 0), goes},
		{"it is open at 23:59", nil, 0, at(4, 23, 59), goes},
		{
			"it closes at 00:00", nil, 0, at(5, 0, 0),
			waits(policy.GateWindow, at(5, 22, 0), "closed; next at 2026-05-05T22:00:00+02:00 "+texts),
		},
		{
			"it is closed over the weekend", nil, time.Minute, at(9, 0, 0),
			waits(policy.GateWindow, at(11, 22, 0), "closed; next at 2026-05-11T22:00:00+02:00 "+texts),
		},
		{"a restart just fits", nil, 10 * time.Minute, at(4, 23, 50), goes},
		{
			"a restart does not fit any more", nil, 10 * time.Minute, at(4, 23, 51),
			waits(policy.GateWindow, at(5, 22, 0), "closes at 2026-05-05T00:00:00+02:00, and a restart takes 10m0s; "+
				"next at 2026-05-05T22:00:00+02:00 "+texts),
		},
		{
			"it has no time that is long enough", nil, 3 * time.Hour, at(4, 22, 0),
			waits(policy.GateWindow, time.Time{}, "closes at 2026-05-05T00:00:00+02:00, and a restart takes 3h0m0s; "+
				"never within a year "+texts),
		},
		{
			"it opens only after the request's end",
			[]string{"2026-05-04/2026-05-31"},
			0, at(4, 22, 0),
			waits(policy.GateWindow, time.Date(2026, 6, 1, 22, 0, 0, 0, berlin), "closed; next at 2026-06-01T22:00:00+02:00 "+
				"(mon-fri 22:00-24:00; except 2026-05-04/2026-05-31; Europe/Berlin)"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ask()
			a.Now, a.Request.NotAfter = tt.now, tt.now.Add(time.Hour)
			r := policy.Rules{Windows: mustParse(t, nightly, tt.except, "Europe/Berlin"), Takes: tt.takes}
			tt.want.Wait.Until = tt.want.Wait.Until.UTC()
			wantOpinion(t, policy.GateWindow, r, a, tt.want)
			a.State = nil
			wantOpinion(t, policy.GateWindow, r, a, tt.want)
		})
	}
}

// What a request asks of the host's uptime can only be answered by a probe that knows it.
func TestGate_MinUptime(t *testing.T) {
	up := func(since time.Time) *restart.State { return &restart.State{Epoch: "boot 1", Since: since} }
	for _, tt := range []struct {
		name  string
		asked time.Duration
		state *restart.State
		want  policy.Answer
	}{
		{"nothing is asked, and the host was not probed", 0, nil, goes},
		{"nothing is asked, and nothing known", 0, up(time.Time{}), goes},
		{"the host was not probed", time.Hour, nil, probes},
		{"up for as long", time.Hour, up(now.Add(-time.Hour)), goes},
		{
			"a nanosecond too young", time.Hour, up(now.Add(-time.Hour + 1)),
			skipped(restart.ReasonMinUptime, "up since 2026-05-04T11:00:00Z, which is less than 1h0m0s"),
		},
		{
			"the driver cannot tell", time.Hour, up(time.Time{}),
			waits(policy.GateMinUptime, time.Time{}, "min_uptime is 1h0m0s, and the driver cannot tell the uptime of host db-1.example.net"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ask()
			a.Request.MinUptime, a.State = restart.Duration(tt.asked), tt.state
			wantOpinion(t, policy.GateMinUptime, policy.Rules{}, a, tt.want)
		})
	}
}

func TestGate_DryRun(t *testing.T) {
	a := ask()
	wantOpinion(t, policy.GateDryRun, policy.Rules{DryRun: true}, a, skipped(restart.ReasonDryRun, "would have been restarted"))
	wantOpinion(t, policy.GateDryRun, policy.Rules{}, a, goes)
	a.State = nil
	wantOpinion(t, policy.GateDryRun, policy.Rules{DryRun: true}, a, probes)
}

func TestAnswer_IsNoGoByItself(t *testing.T) {
	if (policy.Answer{}).Verdict == policy.Go {
		t.Error("the zero answer is a go")
	}
}

// Every set of gates that say no, with and without a probe: the first of them decides, and Go takes all of them and a
// probe. So no gate can be overlooked because of another.
func TestAsk_IsDecidedByTheFirstNo(t *testing.T) {
	says := []struct {
		gate    policy.Gate
		probed  bool // it can only say no of a host that was probed
		verdict policy.Verdict
		reason  restart.Reason
		no      func(*policy.Rules, *policy.Asked)
	}{
		{policy.GateNotAfter, false, policy.Never, restart.ReasonNotAfter, func(_ *policy.Rules, a *policy.Asked) { a.Request.NotAfter = now.Add(-1) }},
		{policy.GateDeny, false, policy.Never, restart.ReasonDenied, func(r *policy.Rules, _ *policy.Asked) { r.Deny = policy.Patterns{"db-*"} }},
		{policy.GateOnly, false, policy.Never, restart.ReasonNotListed, func(r *policy.Rules, _ *policy.Asked) { r.Only = policy.Patterns{"web-*"} }},
		{policy.GateSelf, true, policy.Never, restart.ReasonSelf, func(r *policy.Rules, _ *policy.Asked) { r.Self.Boot = "boot 1" }},
		{policy.GateAborted, false, policy.Never, restart.ReasonAborted, func(_ *policy.Rules, a *policy.Asked) {
			a.Paused = append(a.Paused, policy.Hold{Aborts: true})
		}},
		{policy.GatePause, false, policy.Later, "", func(_ *policy.Rules, a *policy.Asked) { a.Paused = append(a.Paused, policy.Hold{}) }},
		{policy.GateWindow, false, policy.Later, "", func(r *policy.Rules, _ *policy.Asked) {
			r.Windows = mustParse(t, []string{"22:00-04:00"}, nil, "UTC")
		}},
		{policy.GateMinUptime, true, policy.Never, restart.ReasonMinUptime, func(_ *policy.Rules, a *policy.Asked) { a.Request.MinUptime = restart.Duration(2 * time.Hour) }},
		{policy.GateDryRun, true, policy.Never, restart.ReasonDryRun, func(r *policy.Rules, _ *policy.Asked) { r.DryRun = true }},
	}
	for set := range 1 << len(says) {
		for _, probed := range []bool{false, true} {
			r, a, want := policy.Rules{}, ask(), policy.Answer{Verdict: policy.Go}
			if !probed {
				a.State, want.Verdict = nil, policy.Probe
			}
			var no []string
			for i, s := range says {
				if set&(1<<i) == 0 {
					continue
				}
				s.no(&r, &a)
				no = append(no, string(s.gate))
				if s.probed && !probed || want.Verdict == policy.Later || want.Verdict == policy.Never {
					continue
				}
				want = policy.Answer{Verdict: s.verdict, Refusal: policy.Refusal{Reason: s.reason}}
				if s.verdict == policy.Later {
					want.Wait.Gate = s.gate
				}
			}
			got := r.Ask(a)
			if got.Verdict != want.Verdict || got.Wait.Gate != want.Wait.Gate || got.Refusal.Reason != want.Refusal.Reason {
				t.Errorf("no from %s, probed %t: got %+v, want %+v", strings.Join(no, ", "), probed, got, want)
			}
			wantOwnOpinions(t, r, a, func(i int) policy.Verdict {
				switch {
				case set&(1<<i) == 0:
					return policy.Go
				case says[i].probed && !probed:
					return policy.Probe
				}
				return says[i].verdict
			})
		}
	}
}

// wantOwnOpinions wants each gate to say what it would say alone.
func wantOwnOpinions(t *testing.T, r policy.Rules, a policy.Asked, want func(i int) policy.Verdict) {
	t.Helper()
	for i, opinion := range r.All(a) {
		if opinion.Verdict != want(i) {
			t.Errorf("%s: got %s, want %s", opinion.Gate, opinion.Verdict, want(i))
		}
	}
}

func BenchmarkAsk(b *testing.B) {
	r := policy.Rules{
		Windows: mustParse(b, []string{"mon-fri 10:00-15:00"}, nil, "Europe/Berlin"), Takes: time.Minute,
		Deny: mustPatterns(b, "web-*|*.example.org"), Only: mustPatterns(b, "db-*"),
		Self: policy.Self{Names: []restart.Host{"worker-1.example.net"}, Boot: "boot 7"},
	}
	a := ask()
	b.ReportAllocs()
	for b.Loop() {
		if answer := r.Ask(a); answer.Verdict != policy.Go {
			b.Fatal(answer)
		}
	}
}
