package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/rs/zerolog"
)

// M41, M45: what was opened last is closed first, and an error is reported and does not stop the later steps.
func TestClosers_CloseEverythingInReverseWhateverFails(t *testing.T) {
	c := closers{log: zerolog.Nop()}
	var closed []string
	full, gone := errors.New("disk is full"), errors.New("connection is gone")
	c.add("server", func() error { closed = append(closed, "server"); return nil })
	c.add("connection", func() error { closed = append(closed, "connection"); return gone })
	c.add("database", func() error { closed = append(closed, "database"); return full })

	err := c.closeAll()
	if want := []string{"database", "connection", "server"}; !slices.Equal(closed, want) {
		t.Errorf("got %q closed, want %q", closed, want)
	}
	if !errors.Is(err, full) || !errors.Is(err, gone) {
		t.Errorf("got %v, want both errors", err)
	}
	if err := c.closeAll(); err != nil || len(closed) != 3 {
		t.Errorf("a second time: got %v, and %q closed", err, closed)
	}
}
