package campaign

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseBatches_SaysWhichOneIsWrongAndWhy(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "is empty"},
		{"0", `"0" is nothing`},
		{"0%", `"0%" is nothing`},
		{"101%", `"101%" is more than 100 percent`},
		{"-1", `"-1" is negative`},
		{"-5%", `"-5%" is negative`},
		{"+5", `"+5" is not a whole number`},
		{"5.5%", `"5.5%" is not a whole number`},
		{"%", `"%" is not a whole number`},
		{"five", `"five" is not a whole number`},
		{"1000001", "more than 1000000 hosts"},
		{"1,,5%", "batch 2: is empty"},
		{"1,5%,0%", `batch 3: "0%" is nothing`},
		{"1,101%", "batch 2: "},
		{"5%,1%", "batch 2: 1% is less than the 5% before it"},
		{"5,2", "batch 2: 2 is less than the 5 before it"},
	} {
		if _, err := ParseBatches(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got error %v, want one with %q", tt.text, err, tt.want)
		}
	}
}

func TestParseBatches_ReadsGrowingSizes(t *testing.T) {
	got, err := ParseBatches("1, 5%,25%")
	if diff := cmp.Diff([]Amount{{Count: 1}, {Percent: 5}, {Percent: 25}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestAmount_SaysItselfInTheWayItIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Amount{Count: rapid.IntRange(1, maxCount).Draw(t, "count")}
		if rapid.Bool().Draw(t, "share") {
			want = Amount{Percent: rapid.IntRange(1, 100).Draw(t, "percent")}
		}
		if got, err := ParseAmount(want.String()); err != nil || got != want {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

// Of few hosts, a share must neither stop a campaign nor let more be down than asked.
func TestAmount_RoundsABatchUpAndALimitDownAndNeitherToNothing(t *testing.T) {
	for _, tt := range []struct{ percent, total, atLeast, atMost int }{
		{5, 100, 5, 5}, {5, 1, 1, 1}, {5, 30, 2, 1}, {25, 10, 3, 2}, {100, 7, 7, 7}, {1, 300, 3, 3},
	} {
		a := Amount{Percent: tt.percent}
		if a.atLeast(tt.total) != tt.atLeast || a.atMost(tt.total) != tt.atMost {
			t.Errorf("%v of %d: got %d and %d, want %d and %d", a, tt.total, a.atLeast(tt.total), a.atMost(tt.total), tt.atLeast, tt.atMost)
		}
	}
}
