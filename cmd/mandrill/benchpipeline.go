package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

// serialShare is how many times fewer messages are done one at a time: it is that much slower, more or less.
const serialShare = 20

// A pipelineRate is how fast one of the things went that are compared.
type pipelineRate struct {
	N                 int       `json:"n"` // in each run
	MessagesPerSecond float64   `json:"messages_per_second"`
	RatioToRaw        float64   `json:"ratio_to_raw"` // of the medians
	Runs              []float64 `json:"runs"`         // messages a second

	// ProcessorPer is the processor time of the measured process; the server's is not in it. It is the median, and says
	// more than rates do where others use the machine too.
	ProcessorPer float64 `json:"processor_us_per_message"`
	processor    []float64
}

// A pipelineResult is what bench pipeline prints.
type pipelineResult struct {
	benchConditions
	Raw    pipelineRate `json:"raw"`
	Serial pipelineRate `json:"serial"`
	Bare   pipelineRate `json:"bare"`
	Full   pipelineRate `json:"full"`
}

// fill computes medians and ratios of the runs.
func (r *pipelineResult) fill() {
	for _, rate := range []*pipelineRate{&r.Raw, &r.Serial, &r.Bare, &r.Full} {
		rate.MessagesPerSecond, rate.ProcessorPer = bench.Median(rate.Runs), bench.Median(rate.processor)
	}
	for _, rate := range []*pipelineRate{&r.Raw, &r.Serial, &r.Bare, &r.Full} {
		rate.RatioToRaw = bench.Ratio(rate.MessagesPerSecond, r.Raw.MessagesPerSecond)
	}
}

func (a *app) benchPipelineCommand() *cobra.Command {
	var o benchOptions
	var runs int
	cmd := &cobra.Command{
		Use:   "pipeline",
		Short: "How many messages a second, beside nats.go alone",
		Long: `Let messages through, in turns: raw is nats.go alone, which fetches and acknowledges; serial is one message at a
time, of fewer; bare is consumer, lease and settlement around a save and a restart of nothing; full is the worker as it is,
with fence, gates, durable SQLite and simulated hosts that are back at once. Messages are published before the time is
taken, which ends when the server knows that the last is settled.`,
		Example: `  mandrill bench pipeline
  mandrill bench pipeline -n 20000 --runs 5 --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(maxBench); err != nil {
				return err
			}
			if err := checkRuns(runs); err != nil {
				return err
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.pipeline(ctx, runs) })
		},
	}
	o.addFlags(cmd, 100_000)
	cmd.Flags().IntVar(&runs, "runs", 3, "how often each is measured; the medians are compared")
	return cmd
}

func (b *benchmark) pipeline(ctx context.Context, runs int) error {
	n := b.options.n
	result := pipelineResult{
		benchConditions: b.conditions(),
		Raw:             pipelineRate{N: n}, Serial: pipelineRate{N: max(1, n/serialShare)}, Bare: pipelineRate{N: n}, Full: pipelineRate{N: n},
	}
	compared := []struct {
		part     partKind
		inFlight int
		rate     *pipelineRate
	}{
		{partRaw, defaultInFlight, &result.Raw},
		{partSerial, 1, &result.Serial},
		{partBare, defaultInFlight, &result.Bare},
		{partFull, defaultInFlight, &result.Full},
	}
	for run, turn := range bench.Turns(len(compared), runs) {
		for _, i := range turn {
			c := compared[i]
			what := fmt.Sprintf("run %d of %d: %s", run+1, runs, c.part)
			r, err := b.run(ctx, what, b.order(c.part, c.rate.N, c.inFlight, defaultAckWait))
			if err != nil {
				return err
			}
			c.rate.Runs = append(c.rate.Runs, bench.Ratio(float64(c.rate.N), r.Elapsed.Seconds()))
			c.rate.processor = append(c.rate.processor, float64(r.Processor)/float64(time.Microsecond)/float64(c.rate.N))
		}
	}
	result.fill()
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "\tmessages/s\tof raw\tprocessor µs/message\t\n")
		for _, c := range compared {
			fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.1f\t\n", c.part, c.rate.MessagesPerSecond, c.rate.RatioToRaw, c.rate.ProcessorPer)
		}
	})
}
