package main

import (
	"context"
	"fmt"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A drainResult is what bench drain prints.
type drainResult struct {
	benchConditions
	HandedBack  int       `json:"handed_back"`  // by each worker that was stopped
	HeldSeconds float64   `json:"held_seconds"` // from SIGTERM until another worker holds all of it; the median
	Runs        []float64 `json:"runs"`
}

func (a *app) benchDrainCommand() *cobra.Command {
	var o benchOptions
	var runs int
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "How long after a stop another worker holds what was handed back",
		Long: `Stop a worker by SIGTERM while it holds messages, none of which was triggered, beside another one that has room for
them, and take the time until that one holds them all.`,
		Example: `  mandrill bench drain
  mandrill bench drain -n 2000 --runs 5`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(maxHeld); err != nil {
				return err
			}
			if err := checkRuns(runs); err != nil {
				return err
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.drain(ctx, runs) })
		},
	}
	o.addFlags(cmd, 1000)
	cmd.Flags().IntVar(&runs, "runs", 3, "how often it is measured; the median is told")
	return cmd
}

func (b *benchmark) drain(ctx context.Context, runs int) error {
	result := drainResult{benchConditions: b.conditions(), HandedBack: b.options.n}
	for run := range runs {
		took, err := b.handOver(ctx, fmt.Sprintf("run %d of %d", run+1, runs))
		if err != nil {
			return err
		}
		result.Runs = append(result.Runs, took.Seconds())
	}
	result.HeldSeconds = bench.Median(result.Runs)
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "handed back\tseconds until held\t\n")
		fmt.Fprintf(w, "%d\t%.3f\t\n", result.HandedBack, result.HeldSeconds)
	})
}

// handOver stops a worker that holds all messages, and returns how long it takes until another holds them.
func (b *benchmark) handOver(ctx context.Context, what string) (took time.Duration, err error) {
	n := b.options.n
	leaving, staying := b.order(partStuck, n, n, defaultAckWait), b.order(partTaker, n, n, defaultAckWait)
	staying.Group = leaving.Group
	work, err := b.js.Stream(ctx, stream.Work)
	if err == nil {
		err = work.Purge(ctx) // of what the run before has left
	}
	if err != nil {
		return 0, fmt.Errorf("cannot empty the work stream: %w", err)
	}
	if err := b.prepare(ctx, what, leaving); err != nil {
		return 0, err
	}
	b.live.show(what, n)
	first, _, err := b.start(ctx, leaving)
	if err != nil {
		return 0, err
	}
	defer func() {
		if stopErr := first.Stop(); err == nil {
			err = stopErr
		}
	}()
	if _, err := b.await(ctx, first, eventHeld); err != nil {
		return 0, err
	}
	second, _, err := b.start(ctx, staying)
	if err != nil {
		return 0, err
	}
	defer func() {
		if stopErr := second.Stop(); err == nil {
			err = stopErr
		}
	}()
	// Only who waits for messages can be given any.
	err = bench.Await(ctx, func() (bool, error) {
		c, err := b.js.Consumer(ctx, stream.Work, stream.ConsumerName(leaving.Group))
		return err == nil && c.CachedInfo().NumWaiting > 0, err
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := first.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("cannot stop the worker: %w", err)
	}
	held, err := b.await(ctx, second, eventHeld)
	if err != nil {
		return 0, err
	}
	gone, err := b.await(ctx, first, eventDone)
	if err == nil && gone.HandedBack != n {
		err = fmt.Errorf("%d of %d messages were handed back", gone.HandedBack, n)
	}
	return held.At.Sub(began), err
}
