package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

// A restartResult is what bench restart prints.
type restartResult struct {
	benchConditions
	Latency                    string  `json:"latency"`
	InFlight                   int     `json:"in_flight"`
	HostsPerSecond             float64 `json:"hosts_per_second"`
	RatioToIdeal               float64 `json:"ratio_to_ideal"` // of in flight over latency
	ProcessorMicrosecondsPer   float64 `json:"processor_us_per_message"`
	Seconds                    float64 `json:"seconds"`
	PeakResidentMemoryInFlight float64 `json:"peak_rss_kib"`
}

// fill computes the ratios of a report.
func (r *restartResult) fill(report benchReport, latency time.Duration) {
	r.Seconds = report.Elapsed.Seconds()
	r.HostsPerSecond = bench.Ratio(float64(r.N), r.Seconds)
	r.RatioToIdeal = bench.Ratio(r.HostsPerSecond, float64(r.InFlight)/latency.Seconds())
	r.ProcessorMicrosecondsPer = float64(report.Processor.Microseconds()) / float64(r.N)
	r.PeakResidentMemoryInFlight = float64(report.After.Peak) / 1024
}

func (a *app) benchRestartCommand() *cobra.Command {
	var o benchOptions
	var latency time.Duration
	var inFlight int
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "How many hosts a second, where each takes its time",
		Long: `Restart hosts that are down for a while each, so many at once, and compare with the ideal, in which nothing takes time
but the hosts: in flight, divided by latency.`,
		Example: `  mandrill bench restart
  mandrill bench restart --latency 500ms --in-flight 1000 -n 10000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch err := o.check(maxBench); {
			case err != nil:
				return err
			case latency <= 0 || latency > time.Hour:
				return usagef("--latency: %s is not between 0 and 1h", latency)
			case inFlight < 1 || inFlight > maxHeld:
				return usagef("--in-flight: %d is not between 1 and %d", inFlight, maxHeld)
			case o.n < inFlight:
				return usagef("--count: %d is less than --in-flight, %d", o.n, inFlight)
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.restart(ctx, latency, inFlight) })
		},
	}
	o.addFlags(cmd, 300_000)
	cmd.Flags().DurationVar(&latency, "latency", time.Second, "how long each host is down")
	cmd.Flags().IntVar(&inFlight, "in-flight", 5000, "how many are restarted at once")
	return cmd
}

func (b *benchmark) restart(ctx context.Context, latency time.Duration, inFlight int) error {
	o := b.order(partFull, b.options.n, inFlight, defaultAckWait)
	o.Latency = latency
	report, err := b.run(ctx, "restarting", o)
	if err != nil {
		return err
	}
	result := restartResult{benchConditions: b.conditions(), Latency: latency.String(), InFlight: inFlight}
	result.fill(report, latency)
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "hosts/s\tof ideal\tprocessor/message\tseconds\t\n")
		fmt.Fprintf(w, "%.0f\t%.3f\t%.0f µs\t%.1f\t\n", result.HostsPerSecond, result.RatioToIdeal, result.ProcessorMicrosecondsPer, result.Seconds)
	})
}
