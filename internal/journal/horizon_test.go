package journal

import (
	"testing"
	"testing/synctest"
	"time"
)

// An empty journal that is believed too long, or too early, is a second restart.
func TestJournal_CoversWhatIsYoungerThanItselfAndItsMemory(t *testing.T) {
	const memory = 8 * 24 * time.Hour
	for _, tt := range []struct {
		name         string
		journal, msg time.Duration // ages
		maxAge       time.Duration
		want         bool
	}{
		{"stored now", 100 * memory, 0, memory, true},
		{"stored just inside the margin", 100 * memory, memory - time.Hour - 1, memory, true},
		{"stored at the margin", 100 * memory, memory - time.Hour, memory, false},
		{"stored at the age limit", 100 * memory, memory, memory, false},
		{"stored when the journal was created", time.Minute, time.Minute, memory, true},
		{"stored just before the journal was created", time.Minute, time.Minute + 1, memory, false},
		{"stored long ago, and the journal forgets nothing", 100 * memory, 99 * memory, 0, true},
		{"stored before a journal that forgets nothing", time.Minute, time.Hour, 0, false},
		{"stored in the future, by a clock ahead of ours", memory, -time.Minute, memory, true},
		{"the journal remembers less than the margin", memory, 0, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				j := &Journal{cfg: Config{Created: now.Add(-tt.journal), MaxAge: tt.maxAge}}
				if got := j.Covers(now.Add(-tt.msg)); got != tt.want {
					t.Errorf("got %t, want %t", got, tt.want)
				}
			})
		})
	}
}
