package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

// confirmAbove is how many of something may be done on a terminal without being asked.
const confirmAbove = 10

// errDeclined is what a person said no to.
var errDeclined = errors.New("nothing was done: not confirmed")

// confirm asks a person on a terminal before something is done to more than confirmAbove, unless yes was said already.
// Without a terminal nobody is there to be asked.
func (a *app) confirm(ctx context.Context, yes bool, n int, question string) error {
	if yes || n <= confirmAbove || !isTerminal(a.stdin) {
		return nil
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	// A terminal's read cannot be cancelled; a process that a signal ends does not wait for it.
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.stdin).ReadString('\n') // what was not answered was declined
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case said := <-answer:
		if said == "y" || said == "yes" {
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return context.Cause(ctx)
	}
}
