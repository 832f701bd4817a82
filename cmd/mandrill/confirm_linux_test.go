package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a terminal: what a person types, and what a program reads.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// Whoever mistypes a filter must be able to say no before a thousand hosts are restarted.
func TestConfirm_OnATerminalTakesOnlyYesForYes(t *testing.T) {
	for answer, want := range map[string]error{
		"y\n": nil, "YES\n": nil, "n\n": errDeclined, "\n": errDeclined, "yess\n": errDeclined, "\x04": errDeclined,
	} {
		t.Run(fmt.Sprintf("%q", answer), func(t *testing.T) {
			person, program := openTerminal(t)
			a := &app{stdin: program, stderr: program}
			if _, err := person.WriteString(answer); err != nil {
				t.Fatal(err)
			}
			if err := a.confirm(t.Context(), false, confirmAbove+1, "Restart them?"); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestConfirm_AsksNobodyWhereItIsNotNeeded(t *testing.T) {
	_, program := openTerminal(t)
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer end.Close()
	for name, tt := range map[string]struct {
		stdin *os.File
		yes   bool
		n     int
	}{
		"SaidBefore": {program, true, 1000}, "Few": {program, false, confirmAbove}, "NoTerminal": {pipe, false, 1000},
	} {
		if err := (&app{stdin: tt.stdin, stderr: program}).confirm(t.Context(), tt.yes, tt.n, "Restart them?"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfirm_EndsWithASignal(t *testing.T) {
	person, program := openTerminal(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("stopped by SIGINT")
	cancel(gone)
	if err := (&app{stdin: program, stderr: program}).confirm(ctx, false, 1000, "Restart them?"); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	if _, err := person.WriteString("n\n"); err != nil { // lets the read go
		t.Fatal(err)
	}
}
