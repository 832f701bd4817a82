package bench

import (
	"testing"
	"time"
)

func TestParseStatus_ReadsResidentMemory(t *testing.T) {
	got, err := parseStatus([]byte("Name:\tmandrill\nVmPeak:\t 999 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\nThreads:\t5\n"))
	if want := (Memory{RSS: 200 << 10, Peak: 300 << 10}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, broken := range []string{"", "\nVmRSS:\t1 kB\n", "\nVmRSS:\tmuch kB\nVmHWM:\t1 kB\n"} {
		if _, err := parseStatus([]byte(broken)); err == nil {
			t.Errorf("%q: got no error", broken)
		}
	}
}

// A process may be called anything, so that fields must not be counted from the beginning.
func TestParseStat_IsNotMisledByTheName(t *testing.T) {
	got, err := parseStat([]byte("7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1"))
	if err != nil || got != 3*time.Second {
		t.Errorf("got %s, %v, want 3s", got, err)
	}
	for _, broken := range []string{"", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4194560 1 0 0 0 x 50 0"} {
		if _, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("%q: got no error", broken)
		}
	}
}
