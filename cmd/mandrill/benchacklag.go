package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/bench"
)

// A lagResult is how long messages waited between their steps, at one load.
type lagResult struct {
	Share             float64 `json:"share"` // of the capacity
	N                 int     `json:"n"`
	MessagesPerSecond float64 `json:"messages_per_second"` // as they were published, and settled
	lags
}

// An ackLagResult is what bench acklag prints.
type ackLagResult struct {
	benchConditions
	CapacityPerSecond float64   `json:"capacity_per_second"`
	At10Percent       lagResult `json:"at_10_percent"`
	At80Percent       lagResult `json:"at_80_percent"`
}

func (a *app) benchAckLagCommand() *cobra.Command {
	var o benchOptions
	var span time.Duration
	cmd := &cobra.Command{
		Use:   "acklag",
		Short: "How late messages are acknowledged, at 10 % and 80 % of capacity",
		Long: `Find out how many messages the worker does in a second, first as 'bench pipeline' does with full, then while as many are
published; publish 10 % and 80 % of that, and time the steps of each message: from the later end of save and restart until
its outcome is written, while it is written, and from then until its acknowledgement was sent, and until the server has
answered what was sent after it.`,
		Example: `  mandrill bench acklag
  mandrill bench acklag --span 30s --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(maxBench); err != nil {
				return err
			}
			if span < time.Second || span > time.Hour {
				return usagef("--span: %s is not between 1s and 1h", span)
			}
			return a.benchmark(cmd, o, func(ctx context.Context, b *benchmark) error { return b.ackLag(ctx, span) })
		},
	}
	o.addFlags(cmd, 50_000)
	cmd.Flags().DurationVar(&span, "span", 10*time.Second, "how long each load lasts")
	return cmd
}

func (b *benchmark) ackLag(ctx context.Context, span time.Duration) error {
	alone, err := b.run(ctx, "capacity", b.order(partFull, b.options.n, defaultInFlight, defaultAckWait))
	if err != nil {
		return err
	}
	// Publishing takes its share of the machine too: more than what is done beside it cannot be asked for.
	all := lagResult{Share: 1}
	took, err := b.load(ctx, &all, bench.Ratio(float64(b.options.n), alone.Elapsed.Seconds()), span)
	if err != nil {
		return err
	}
	result := ackLagResult{
		benchConditions:   b.conditions(),
		CapacityPerSecond: bench.Ratio(float64(all.N), took.Seconds()),
		At10Percent:       lagResult{Share: 0.1}, At80Percent: lagResult{Share: 0.8},
	}
	loads := []*lagResult{&result.At10Percent, &result.At80Percent}
	for _, load := range loads {
		if _, err := b.load(ctx, load, result.CapacityPerSecond, span); err != nil {
			return err
		}
	}
	return b.print(result, result.benchConditions, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "load\tmessages/s\tms\tp50\tp99\tmax\t\n")
		for _, load := range loads {
			for _, row := range []struct {
				name string
				q    bench.Quantiles
			}{
				{"ends to Finish", load.EndsToFinish},
				{"Finish", load.Finish},
				{"Finish to ack sent", load.AckSent},
				{"Finish to ack confirmed", load.AckConfirmed},
			} {
				fmt.Fprintf(w, "%.0f %%\t%.0f\t%s\t%.3f\t%.3f\t%.3f\t\n", 100*load.Share, load.MessagesPerSecond, row.name, row.q.P50, row.q.P99, row.q.Max)
			}
		}
	})
}

// load publishes a share of the capacity to a worker that is timed. It returns the time until all was settled.
func (b *benchmark) load(ctx context.Context, load *lagResult, capacity float64, span time.Duration) (took time.Duration, err error) {
	rate := load.Share * capacity
	load.N = max(1, int(rate*span.Seconds()))
	o := b.order(partLag, load.N, defaultInFlight, defaultAckWait)
	if err := b.makeConsumer(ctx, o); err != nil {
		return 0, err
	}
	b.live.show(fmt.Sprintf("%.0f %% of capacity", 100*load.Share), load.N)
	p, _, err := b.start(ctx, o)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = b.publish(ctx, o.Group, load.N, rate)
	published := time.Since(began)
	var r benchReport
	if err == nil {
		r, err = b.await(ctx, p, eventDone)
	}
	took = time.Since(began)
	if stopErr := p.Stop(); err == nil {
		err = stopErr
	}
	if err == nil {
		err = r.check(o)
	}
	load.MessagesPerSecond = bench.Ratio(float64(load.N), published.Seconds())
	load.lags = r.Lags
	return took, err
}
