package main

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/mayhem-mandrill/mandrill/internal/config"
	"github.com/mayhem-mandrill/mandrill/internal/lag"
	"github.com/mayhem-mandrill/mandrill/internal/ops"
)

// vitals are what a process measures of itself and, where it is configured, serves.
type vitals struct {
	metrics    *ops.Metrics
	lag        *lag.Meter
	supervisor *supervisor
	ops        *ops.Server // nil: nothing is served
}

// newVitals measures and serves nothing yet. ready returns what keeps the process from its work. The caller must close
// the supervisor.
func (a *app) newVitals(cfg config.Config, ready func() []ops.Problem, log zerolog.Logger) (*vitals, error) {
	v := &vitals{metrics: ops.NewMetrics(nil)}
	var registry *prometheus.Registry
	if cfg.Ops.Listen != "" {
		registry = prometheus.NewRegistry()
		v.metrics = ops.NewMetrics(registry)
	}
	v.metrics.Version(ourVersion())
	var err error
	v.lag, err = lag.New(lag.Config{
		Threshold: cfg.Lag.Threshold,
		Observe: func(lag time.Duration) {
			v.metrics.Lag(lag)
			v.supervisor.beat()
		},
		Changed: func(overloaded bool) {
			v.metrics.Overloaded(overloaded)
			log.Warn().Bool("overloaded", overloaded).Stringer("lag", v.lag.Last()).Msg("this process gets to run late")
		},
	})
	if err != nil {
		return nil, err
	}
	if registry != nil {
		v.ops, err = ops.New(ops.Config{
			Listen: cfg.Ops.Listen, Registry: registry, Pprof: cfg.Ops.Pprof, Logger: log,
			Ready: func() []ops.Problem { return append(ready(), v.overload()...) },
		})
		if err != nil {
			return nil, usagef("ops.%w", err)
		}
	}
	v.supervisor, err = newSupervisor(a.getenv, ready, log)
	return v, err
}

func (v *vitals) overload() []ops.Problem {
	if !v.lag.Overloaded() {
		return nil
	}
	return []ops.Problem{{
		Name: "overloaded", Detail: fmt.Sprintf("this process gets to run %s late", v.lag.Last()), Advisory: true,
	}}
}
