package journaltest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/journal"
	"github.com/mayhem-mandrill/mandrill/internal/journal/journaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory_KeepsTheContract(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journaltest.Journal {
		return &journaltest.Memory{Horizon: 7 * 24 * time.Hour}
	})
}

func TestMemory_FailsAsItIsTold(t *testing.T) {
	lost := errors.New("no answer")
	for _, tt := range []struct {
		name   string
		stored bool
		events int
	}{
		{"the append is lost", false, 0},
		{"its answer is lost", true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &journaltest.Memory{BeforeAppend: func(journal.Key, journal.Event) (bool, error) { return tt.stored, lost }}
			key := journal.Key{Group: "default", ID: uuid.New(), Host: "a"}
			_, err := m.Append(t.Context(), key, journal.Event{}, journal.Event{Kind: journal.Cancelled})
			if !errors.Is(err, lost) {
				t.Errorf("got %v, want %v", err, lost)
			}
			if got := len(m.Events(key.ID)); got != tt.events {
				t.Errorf("got %d events, want %d", got, tt.events)
			}
		})
	}
}
