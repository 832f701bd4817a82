package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

// leastCost is the least number of messages whose cost is measured: with fewer, it is that of starting.
const leastCost = 1000

// A costRow is what one number of messages costs.
type costRow struct {
	N                      int     `json:"n"`
	MicrosecondsPer        float64 `json:"us_per_message"`
	ProcessorPer           float64 `json:"processor_us_per_message"`
	PeakKiB                float64 `json:"peak_rss_kib"`
	RatioToSmaller         float64 `json:"ratio_to_smaller"` // of the time per message to that of the row before; 0 in the first
	micros, processor, kib []float64
}

// A costResult is what bench cost prints.
type costResult struct {
	benchConditions
	Rows []costRow `json:"rows"`
}

// costSizes returns the numbers of messages up to n: powers of ten below it, and n.
func costSizes(n int) (sizes []int) {
	for size := leastCost; size < n; size *= 10 {
		sizes = append(sizes, size)
	}
	return append(sizes, n)
}

func (a *app) benchCostCommand() *cobra.Command {
	var o benchOptions
	var runs int
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "How time and memory grow with the number of messages",
		Long: `Let more and more messages through the worker, as 'bench pipeline' does with full: 1,000, ten times as many, and so on
up to --count. What grows with their number, beside the time, would show.`,
		Example: `  mandrill bench cost
  mandrill bench cost -n 1000000 --runs 3`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(maxBench); err != nil {
				return err
			}
			if err := checkRuns(runs); err != nil {
				return err
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.cost(ctx, runs) })
		},
	}
	o.addFlags(cmd, 100_000)
	cmd.Flags().IntVar(&runs, "runs", 1, "how often each is measured; the medians are told")
	return cmd
}

func (b *benchmark) cost(ctx context.Context, runs int) error {
	sizes := costSizes(b.options.n)
	result := costResult{benchConditions: b.conditions(), Rows: make([]costRow, len(sizes))}
	for run, turn := range bench.Turns(len(sizes), runs) {
		for _, i := range turn {
			row := &result.Rows[i]
			row.N = sizes[i]
			what := fmt.Sprintf("run %d of %d: %d messages", run+1, runs, row.N)
			r, err := b.run(ctx, what, b.order(partFull, row.N, defaultInFlight, defaultAckWait))
			if err != nil {
				return err
			}
			per := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(row.N) }
			row.micros = append(row.micros, per(r.Elapsed))
			row.processor = append(row.processor, per(r.Processor))
			row.kib = append(row.kib, float64(r.After.Peak)/1024)
		}
	}
	for i := range result.Rows {
		row := &result.Rows[i]
		row.MicrosecondsPer, row.ProcessorPer, row.PeakKiB = bench.Median(row.micros), bench.Median(row.processor), bench.Median(row.kib)
		if i > 0 {
			row.RatioToSmaller = bench.Ratio(row.MicrosecondsPer, result.Rows[i-1].MicrosecondsPer)
		}
	}
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "messages\tµs/message\tof the row before\tprocessor µs/message\tpeak memory MiB\t\n")
		for _, row := range result.Rows {
			fmt.Fprintf(w, "%d\t%.1f\t%.2f\t%.1f\t%.0f\t\n", row.N, row.MicrosecondsPer, row.RatioToSmaller, row.ProcessorPer, row.PeakKiB/1024)
		}
	})
}
