package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

// monitorSettings are the settings of the monitoring daemon.
var monitorSettings = []string{
	"monitor.stop_on", "monitor.command", "monitor.command_timeout", "monitor.exit_code",
	"ops.listen", "ops.pprof", "lag.threshold", "log.level", "log.format",
}

func (a *app) monitorCommand() *cobra.Command {
	var span time.Duration
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Run the configured health checks, without any worker",
		Long: `Run the health checks of the configuration's section monitors until stopped, or until --monitor-stop-on or --for says so;
then say how it ended. It needs no NATS and pauses no group: a worker that has the same configuration does.

Exit code 0: it was stopped, its time was over, or there is nothing to check; that of --monitor-exit-code: monitors have
failed, and ended it.`,
		Example: `  mandrill monitor --config mandrill.yaml
  mandrill monitor --config mandrill.yaml --monitor-stop-on first_failure --for 10m --output json`,
		Args: noArgs,
	}
	cmd.Flags().DurationVar(&span, "for", 0, "end after this time")
	out := addOutput(cmd)
	config.AddFlags(cmd.Flags(), monitorSettings...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if span < 0 || span == 0 && cmd.Flags().Changed("for") {
			return usagef("--for: %s is not in the future", span)
		}
		loaded, err := a.loadConfig(cmd, nil)
		if err != nil {
			return err
		}
		specs, err := loaded.Specs()
		if err != nil {
			return err
		}
		cfg := loaded.Config
		log := a.newLogger(cfg.Log)
		report, err := a.runDaemon(cmd.Context(), cfg, specs, span, log)
		if err != nil {
			return err
		}
		acted := report.act(cmd.Context(), cfg.Monitor, log)
		if *out == outputJSON {
			return errors.Join(acted, a.printJSON(report))
		}
		return errors.Join(acted, a.printMonitorReport(report))
	}
	return cmd
}

// runDaemon runs monitors with what a process knows of itself beside them, until they end or ctx does.
func (a *app) runDaemon(ctx context.Context, cfg config.Config, specs []monitor.Spec, span time.Duration, log zerolog.Logger) (r monitorReport, err error) {
	failing := failing{names: map[string]bool{}}
	v, err := a.newVitals(cfg, failing.problems, log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, v.supervisor.close()) }()
	runner, err := newRunner(cfg, specs, span, v.metrics, failing.observe, log)
	if err != nil {
		return r, err
	}
	beside, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop(nil)
	all.Go(func() { _ = v.lag.Run(beside) }) // which ends with its context
	if v.ops != nil {
		all.Go(func() {
			if err := v.ops.Run(beside); err != nil {
				stop(err) // nobody could see what the checks see
			}
		})
	}
	ending, err := runner.Run(beside)
	v.supervisor.stop()
	if cause := context.Cause(beside); err == nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	return reportOf(ending), err
}

// failing is which monitors are failed.
type failing struct {
	mu    sync.Mutex
	names map[string]bool
}

func (f *failing) observe(o monitor.Observation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.After == monitor.StateFailed {
		f.names[o.Name] = true
	} else {
		delete(f.names, o.Name)
	}
}

func (f *failing) problems() []ops.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	return problemsOf(slices.Sorted(maps.Keys(f.names)))
}

// problemsOf says that monitors are failed.
func problemsOf(failed []string) []ops.Problem {
	if len(failed) == 0 {
		return nil
	}
	return []ops.Problem{{Name: "monitors", Detail: "failed: " + strings.Join(failed, ", "), Advisory: true}}
}
