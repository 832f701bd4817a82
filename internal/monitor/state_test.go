package monitor_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
)

// The fear: one lost packet stops a campaign, or one lucky answer starts it again.
func TestRun_StatesNeedRows(t *testing.T) {
	const g, b, u = monitor.Good, monitor.Bad, monitor.Unknown
	for _, tt := range []struct {
		name                string
		failures, successes int
		verdicts            []monitor.Verdict
		want                []string // changes
	}{
		{"AtOnce", 1, 1, []monitor.Verdict{g, g, b, b, g}, []string{"0 unknown to good", "2 good to failed", "4 failed to good"}},
		{"Rows", 3, 2, []monitor.Verdict{g, g, b, b, g, b, b, b, g, b, g, g}, []string{"1 unknown to good", "7 good to failed", "11 failed to good"}},
		{"FailsWithoutEverHavingBeenGood", 2, 1, []monitor.Verdict{b, b, b}, []string{"1 unknown to failed"}},
		{"UnknownAloneDecidesNothing", 1, 1, []monitor.Verdict{u, u, u, u}, nil},
		{"UnknownChangesNoState", 1, 1, []monitor.Verdict{g, u, u, b, u, u}, []string{"0 unknown to good", "3 good to failed"}},
		{"UnknownEndsARowOfGood", 1, 2, []monitor.Verdict{b, g, u, g, u, g, g}, []string{"0 unknown to failed", "6 failed to good"}},
		{"UnknownDoesNotExcuseBad", 2, 1, []monitor.Verdict{g, b, u, b}, []string{"0 unknown to good", "3 good to failed"}},
		{"NoSuchVerdict", 1, 1, []monitor.Verdict{7, -1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := spec("a", time.Second, answers(tt.verdicts...))
				s.Failures, s.Successes = tt.failures, tt.successes
				_, rec := run(t, t.Context(), monitor.Config{
					Monitors: []monitor.Spec{s}, For: time.Duration(len(tt.verdicts)) * time.Second,
				})
				var got []string
				for _, o := range rec.observations {
					if o.Before != o.After {
						got = append(got, fmt.Sprintf("%d %s to %s", o.Seq, o.Before, o.After))
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("changes (-want +got):\n%s", diff)
				}
				before := monitor.StateUnknown
				for _, o := range rec.observations {
					if o.Before != before {
						t.Errorf("beat %d: got %s before, want %s", o.Seq, o.Before, before)
					}
					before = o.After
				}
			})
		})
	}
}
