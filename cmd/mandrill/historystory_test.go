package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A check's result holds what a host or its driver printed: a terminal must not obey it.
func TestStory_TellsHowLongAHostWasDownAndWhatWasSeenOfIt(t *testing.T) {
	t.Parallel()
	r := stored(1, "a.example.net")
	o := ended(r, restart.Restarted, restart.ReasonVerified)
	o.Receipt.Down = restart.Duration(2750 * time.Millisecond)
	o.Receipt.Checks = []restart.Check{
		{Name: "epoch", Result: "42, was 41"}, {Name: "ready", Result: "yes"}, {Name: "epoch", Result: "\x1b[2J"},
	}
	s, err := tellStory(t.Context(), newMemory(t, []restart.Request{r}, o), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	if err := s.print(&told); err != nil {
		t.Fatal(err)
	}
	const want = "\ndown           2.75s\ncheck          epoch: 42, was 41\ncheck          ready: yes\n" +
		`check          "epoch: \x1b[2J"` + "\n"
	if !strings.HasSuffix(told.String(), want) {
		t.Errorf("got\n%s\nwant at its end\n%s", told.String(), want)
	}
}
