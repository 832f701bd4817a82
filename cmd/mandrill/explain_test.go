package main

import (
	"strings"
	"testing"
)

// Fear: whoever may not read everything is told nothing, or is not told what is left out.
func TestExplain_PermissionThatIsMissingIsAGapAndNoFailure(t *testing.T) {
	t.Parallel()
	s, reload := newGuardedScene(t)
	w := s.startWorker(t, "worker")
	s.publish(t, []string{"a-1"})
	s.awaitEmpty(t)
	reload("$JS.API.STREAM.INFO.MANDRILL_JOURNAL")
	told := s.do(t, "explain", "a-1", "--database", s.database)
	for _, want := range []string{"ended restarted (verified)", "not known: journal: no answer within 5s"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not in:\n%s", want, told)
		}
	}
	w.stop(t)
}
