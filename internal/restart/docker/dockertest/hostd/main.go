// Hostd is all that there is in a container that stands for a host: it counts its boots, and behaves as it is told.
//
// What it is to do in every boot stands in its environment; the files are in a folder that it shares with the test.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	boots  = "/host/boots"  // has one line for each boot
	next   = "/host/next"   // says how the next boot goes: "unready" or "flap", and a duration
	ready  = "/host/ready"  // is there while the health check succeeds
	asked  = "/host/asked"  // is there once this boot has been asked to end
	forget = 24 * time.Hour // longer than any boot
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "health" {
		if _, err := os.Stat(ready); err != nil {
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	// Whoever sees that the boot is counted may ask it to end at once.
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM)

	// What the boot before has left is gone, and the boot is counted, before anybody can be told that it is ready.
	if err := errors.Join(remove(ready), remove(asked)); err != nil {
		return err
	}
	count, err := countBoot()
	if err != nil {
		return err
	}
	if from := os.Getenv("EXITS_FROM"); from != "" {
		if n, err := strconv.Atoi(from); err != nil || count >= n {
			return err
		}
	}
	up, down, again, err := plan()
	if err != nil {
		return err
	}
	for {
		select {
		case <-time.After(forget):
			return nil
		case <-ask:
			if err := touch(asked); err != nil || os.Getenv("IGNORES_TERM") == "" {
				return err
			}
		case <-up:
			err = touch(ready)
		case <-down:
			err = remove(ready)
		case <-again:
			err = touch(ready)
		}
		if err != nil {
			return err
		}
	}
}

// countBoot returns the number of this boot, from 1.
func countBoot() (int, error) {
	f, err := os.OpenFile(boots, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintln(f, time.Now().UTC().Format(time.RFC3339Nano))
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	lines, err := os.ReadFile(boots)
	return strings.Count(string(lines), "\n"), err
}

// plan returns when this boot becomes ready, when it is so no more, and when it is again; what never happens is nil.
func plan() (up, down, again <-chan time.Time, err error) {
	order, err := os.ReadFile(next)
	switch {
	case os.Getenv("NEVER_READY") != "":
		return nil, nil, nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return time.After(0), nil, nil, nil
	case err != nil:
		return nil, nil, nil, err
	}
	if err := remove(next); err != nil {
		return nil, nil, nil, err
	}
	what, how, _ := strings.Cut(string(order), " ")
	d, err := time.ParseDuration(how)
	if err != nil {
		return nil, nil, nil, err
	}
	if what == "flap" {
		return time.After(0), time.After(d), time.After(2 * d), nil
	}
	return time.After(d), nil, nil, nil
}

func touch(name string) error { return os.WriteFile(name, nil, 0o644) }

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
