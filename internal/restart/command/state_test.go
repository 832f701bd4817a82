package command

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestProbe_ReadsEpochReadyAndSince(t *testing.T) {
	since := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for printed, want := range map[string]restart.State{
		"1":                                 {Epoch: "1", Ready: true},
		"1\n":                               {Epoch: "1", Ready: true},
		"  1 \r\n":                          {Epoch: "1", Ready: true},
		"2026-05-04 12:00:00\n":             {Epoch: "2026-05-04 12:00:00", Ready: true},
		"sha256:ä\n":                        {Epoch: "sha256:ä", Ready: true},
		"ready\n":                           {Epoch: "ready", Ready: true},
		"1\nready: yes\n":                   {Epoch: "1", Ready: true},
		"1\nready: no\n":                    {Epoch: "1"},
		"1\r\n\r\nready:no\r\n\n":           {Epoch: "1"},
		"1\nsince: 2026-05-04T12:00:00Z":    {Epoch: "1", Ready: true, Since: since},
		"1\n since: 2026-05-04T12:00:00.5Z": {Epoch: "1", Ready: true, Since: since.Add(500 * time.Millisecond)},
		"1\nsince: 2026-05-04T14:00:00+02:00\nready: no\n": {Epoch: "1", Since: since},
		strings.Repeat("e", 256):                           {Epoch: restart.Epoch(strings.Repeat("e", 256)), Ready: true},
	} {
		got, err := parseState(printed)
		if err != nil {
			t.Errorf("%q: %v", printed, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: state (-want +got):\n%s", printed, diff)
		}
	}
}

// What cannot be understood must not count as another boot, nor as ready.
func TestProbe_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	for printed, want := range map[string]string{
		"":                                   "it is empty",
		"\n":                                 "it is empty",
		" \t\n1\n":                           "it is empty",
		"\nready: yes\n":                     "it is empty",
		"ready: no\n":                        `not an epoch but "ready: no"`,
		"since: 2026-05-04T12:00:00Z\n":      "not an epoch but",
		"a\tb\n":                             "cannot be printed",
		"a\x00b\n":                           "cannot be printed",
		"\x1b[2J1\n":                         "cannot be printed",
		"a\u202eb\n":                         "cannot be printed",
		"\xff\n":                             "cannot be printed",
		"-f\n":                               "option",
		strings.Repeat("e", 257):             "257 bytes",
		"1\nready\n":                         "must say yes or no",
		"1\nready: true\n":                   "must say yes or no",
		"1\nready: No\n":                     "must say yes or no",
		"1\nREADY: no\n":                     `the line "READY: no" is neither`,
		"1\nready : no\n":                    `is neither`,
		"1\nraedy: no\n":                     `the line "raedy: no" is neither`,
		"1\n2\n":                             `the line "2" is neither`,
		"1\nready: no\nready: yes\n":         `"ready" twice`,
		"1\nsince: yesterday\n":              "RFC 3339",
		"1\nsince: 2026-05-04 12:00:00\n":    "RFC 3339",
		"1\n" + strings.Repeat("x", 1<<20):   "and more is neither",
		"1\nx: " + strings.Repeat("\a", 200): "is neither",
	} {
		got, err := parseState(printed)
		if err == nil {
			t.Errorf("%.40q: got %+v, want an error", printed, got)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %q, want %q in it", printed, err, want)
		}
		if len(err.Error()) > 1200 {
			t.Errorf("%.40q: got an error of %d bytes", printed, len(err.Error()))
		}
		if diff := cmp.Diff(restart.State{}, got); diff != "" {
			t.Errorf("%.40q: a state beside an error (-want +got):\n%s", printed, diff)
		}
	}
}

// Only an epoch that a trigger could carry is taken from a probe.
func FuzzProbe_EpochCanBeUsed(f *testing.F) {
	for _, seed := range []string{"1\n", "1\nready: no\n", "\n", "-1", "1\nsince: 2026-05-04T12:00:00Z\n", "\xff", "\u2028a\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, printed string) {
		state, err := parseState(printed)
		if err == nil && checkEpoch(state.Epoch) != nil {
			t.Errorf("got epoch %q", state.Epoch)
		}
		if err == nil && strings.TrimSpace(string(state.Epoch)) != string(state.Epoch) {
			t.Errorf("got epoch %q, with space around it", state.Epoch)
		}
	})
}
