package monitor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// N11, and with it N01, N03, N04, N05. What the originals print of each check: its name and the time since the start.
func TestRun_ReplaysTheTracesOfTheOriginals(t *testing.T) {
	every := func(seconds int, initialDelay bool, v monitor.Verdict) monitor.Spec {
		s := spec(fmt.Sprintf("health %d", seconds), time.Duration(seconds)*time.Second, always(v))
		if initialDelay {
			s.InitialDelay = s.Every
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		cfg    monitor.Config
		want   string
		reason monitor.Reason
		cause  string
	}{
		{
			name: "three together every 3 s",
			cfg: monitor.Config{For: 9 * time.Second, Monitors: []monitor.Spec{
				spec("health 1", 3*time.Second, always(monitor.Good)),
				spec("health 2", 3*time.Second, always(monitor.Good)),
				spec("health 3", 3*time.Second, always(monitor.Good)),
			}},
			want: `
check health 1 @0.0
check health 2 @0.0
check health 3 @0.0
check health 1 @3.0
check health 2 @3.0
check health 3 @3.0
check health 1 @6.0
check health 2 @6.0
check health 3 @6.0
`,
			reason: monitor.ReasonDeadline,
		},
		{
			name: "3, 5 and 7 s, at once, ended after 23 s",
			cfg: monitor.Config{For: 23 * time.Second, StopOn: monitor.FirstFailure, Monitors: []monitor.Spec{
				every(3, false, monitor.Good), every(5, false, monitor.Good), every(7, false, monitor.Good),
			}},
			want: `
check health 3 @0.0
check health 5 @0.0
check health 7 @0.0
check health 3 @3.0
check health 5 @5.0
check health 3 @6.0
check health 7 @7.0
check health 3 @9.0
check health 5 @10.0
check health 3 @12.0
check health 7 @14.0
check health 5 @15.0
check health 3 @15.0
check health 3 @18.0
check health 5 @20.0
check health 7 @21.0
check health 3 @21.0
`,
			reason: monitor.ReasonDeadline,
		},
		{
			name: "3, 5 and 16 s, waiting first, ended by the third",
			cfg: monitor.Config{StopOn: monitor.FirstFailure, Monitors: []monitor.Spec{
				every(3, true, monitor.Good), every(5, true, monitor.Good), every(16, true, monitor.Bad),
			}},
			want: `
check health 3 @3.0
check health 5 @5.0
check health 3 @6.0
check health 3 @9.0
check health 5 @10.0
check health 3 @12.0
check health 3 @15.0
check health 5 @15.0
check health 16 @16.0
`,
			reason: monitor.ReasonFailure, cause: "health 16",
		},
		{
			name: "3 and 5 s, waiting first, ended after 16 s",
			cfg: monitor.Config{For: 16 * time.Second, StopOn: monitor.FirstFailure, Monitors: []monitor.Spec{
				every(3, true, monitor.Good), every(5, true, monitor.Good),
			}},
			want: `
check health 3 @3.0
check health 5 @5.0
check health 3 @6.0
check health 3 @9.0
check health 5 @10.0
check health 3 @12.0
check health 3 @15.0
check health 5 @15.0
`,
			reason: monitor.ReasonDeadline,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ending, rec := run(t, t.Context(), tt.cfg)
				var got []string
				for _, o := range rec.observations {
					got = append(got, fmt.Sprintf("check %s @%.1f", o.Name, o.Offset.Seconds()))
				}
				want := strings.Split(strings.TrimSpace(tt.want), "\n")
				if diff := cmp.Diff(tiesSorted(want), tiesSorted(got)); diff != "" {
					t.Errorf("trace (-want +got):\n%s", diff)
				}
				if ending.Reason != tt.reason {
					t.Errorf("Reason: got %s, want %s", ending.Reason, tt.reason)
				}
				if cause := ending.Cause; tt.cause == "" && cause != nil || tt.cause != "" && (cause == nil || cause.Name != tt.cause) {
					t.Errorf("Cause: got %+v, want %q", cause, tt.cause)
				}
			})
		})
	}
}

// tiesSorted sorts the lines of each time, and leaves the times in their order.
func tiesSorted(lines []string) []string {
	at := func(line string) string { return line[strings.LastIndex(line, "@"):] }
	for i := 0; i < len(lines); {
		j := i
		for j < len(lines) && at(lines[j]) == at(lines[i]) {
			j++
		}
		slices.Sort(lines[i:j])
		i = j
	}
	return lines
}
