package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

// A heldResult is what holding messages has cost.
type heldResult struct {
	KiBPerMessage       float64      `json:"kib_per_message"` // resident memory of the worker, above what it was before the first
	Redelivered         int          `json:"redelivered"`
	ExtensionsPerSecond float64      `json:"extensions_per_second"` // while all were held
	Lost                int          `json:"lost"`                  // messages that were not settled or, of the worker, have no outcome
	HeapKiBPerMessage   float64      `json:"heap_kib_per_message"`
	StackKiBPerMessage  float64      `json:"stack_kib_per_message"`
	Seconds             float64      `json:"seconds"` // from the first pull until the last message was settled
	Before              bench.Memory `json:"before"`  // bytes
	Held                bench.Memory `json:"held"`    // the most while all were held
}

// An inflightResult is what bench inflight prints.
type inflightResult struct {
	benchConditions
	Mode        string  `json:"mode"` // full or bare
	HoldSeconds float64 `json:"hold_seconds"`
	AckWait     string  `json:"ack_wait"`
	heldResult
	// Bare is what the least takes that can hold messages, in the same run, and RatioToBare how much more memory a
	// message takes than that. They are there where the mode is full.
	Bare        *heldResult `json:"bare,omitempty"`
	RatioToBare float64     `json:"ratio_to_bare,omitempty"`
}

func newHeldResult(n int, r benchReport) heldResult {
	per := func(held, before uint64) float64 { return (float64(held) - float64(before)) / 1024 / float64(n) }
	return heldResult{
		KiBPerMessage: per(r.Held.RSS, r.Before.RSS), Redelivered: r.Delivered - n, ExtensionsPerSecond: r.Extensions,
		Lost: n - min(n, int(r.Done)), Seconds: r.Elapsed.Seconds(),
		HeapKiBPerMessage: per(r.Held.Heap, r.Before.Heap), StackKiBPerMessage: per(r.Held.Stack, r.Before.Stack),
		Before: r.Before, Held: r.Held,
	}
}

func (a *app) benchInflightCommand() *cobra.Command {
	var o benchOptions
	var hold, ackWait time.Duration
	var bare bool
	cmd := &cobra.Command{
		Use:   "inflight",
		Short: "What it takes to hold many messages at once",
		Long: `Hold messages, all at once, each at the point where its host is waited for; then let the hosts come back, and finish
them. What a message takes is the worker's resident memory above what it was before the first, as the kernel counts it.
Beside it, in the same run, the least that can hold messages: a sleeping goroutine and a timer for each.`,
		Example: `  mandrill bench inflight -n 100000
  mandrill bench inflight -n 1000000 --ack-wait 60s
  mandrill bench inflight -n 100000 --bare`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch err := o.check(maxHeld); {
			case err != nil:
				return err
			case hold <= 0 || hold > time.Hour:
				return usagef("--hold: %s is not between 0 and 1h", hold)
			case ackWait < time.Second || ackWait > time.Hour:
				return usagef("--ack-wait: %s is not between 1s and 1h", ackWait)
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.inflight(ctx, hold, ackWait, bare) })
		},
	}
	o.addFlags(cmd, 100_000)
	f := cmd.Flags()
	f.DurationVar(&hold, "hold", 20*time.Second, "how long all messages are held")
	f.DurationVar(&ackWait, "ack-wait", defaultAckWait, "length of a lease")
	f.BoolVar(&bare, "bare", false, "only a sleeping goroutine and a timer for each message, and no worker")
	return cmd
}

func (b *benchmark) inflight(ctx context.Context, hold, ackWait time.Duration, bare bool) error {
	n := b.options.n
	held := func(part partKind) (heldResult, error) {
		o := b.order(part, n, n, ackWait)
		o.Hold = hold
		r, err := b.run(ctx, string(part), o)
		return newHeldResult(n, r), err
	}
	result := inflightResult{benchConditions: b.conditions(), Mode: "bare", HoldSeconds: hold.Seconds(), AckWait: ackWait.String()}
	least, err := held(partAsleep)
	if err != nil {
		return err
	}
	if bare {
		result.heldResult = least
	} else {
		result.Mode, result.Bare = "full", &least
		if result.heldResult, err = held(partHeld); err != nil {
			return err
		}
		result.RatioToBare = bench.Ratio(result.KiBPerMessage, least.KiBPerMessage)
	}
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "\tKiB/message\theap\tstacks\tredelivered\tlost\textensions/s\tseconds\t\n")
		row := func(name string, r heldResult) {
			fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%d\t%d\t%.0f\t%.1f\t\n", name, r.KiBPerMessage, r.HeapKiBPerMessage,
				r.StackKiBPerMessage, r.Redelivered, r.Lost, r.ExtensionsPerSecond, r.Seconds)
		}
		row(result.Mode, result.heldResult)
		if result.Bare != nil {
			row("bare", *result.Bare)
			fmt.Fprintf(w, "of bare\t%.2f\t\n", result.RatioToBare)
		}
	})
}
