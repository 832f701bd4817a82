package simulated

import (
	"fmt"
	"time"
)

const (
	defaultRestartMax = time.Second
	defaultUptime     = 30 * 24 * time.Hour
	defaultSlowFactor = 10
	defaultLateMax    = 5 * time.Second
)

// Config says how the hosts of a fleet behave. The zero value is a fleet without faults. A rate is a probability
// between 0 and 1, drawn apart from the others.
type Config struct {
	// Seed decides every draw: in two fleets with one seed, the n-th restart call and the n-th boot of a host go alike,
	// however the calls of different hosts are mixed. Zero is a seed like any other.
	Seed uint64

	// RestartMin and RestartMax bound how long a host is down. A RestartMax of zero means one second, or RestartMin if
	// that is more; a nanosecond is as good as none.
	RestartMin, RestartMax time.Duration

	// Uptime is how long every host has been up when the fleet is made. Zero means 30 days.
	Uptime time.Duration

	FailureRate float64 // of restart calls: refused, nothing is done
	HangRate    float64 // of restart calls: no answer until the context ends; one in two is taken all the same
	LostRate    float64 // of restart calls: taken, but the answer is lost

	// LateRate is the share of restart calls that take effect up to LateMax after the call, or not at all if that is
	// longer than the call allows. A LateMax of zero means five seconds.
	LateRate float64
	LateMax  time.Duration

	// SlowRate is the share of hosts that are down SlowFactor times as long as others. A SlowFactor of zero means ten.
	SlowRate   float64
	SlowFactor float64

	FlapRate         float64 // of boots: up, but ready only after as long again as a host may be down
	ProbeFailureRate float64 // of probes
}

// withDefaults returns the configuration with its zero values replaced, or an error that names a field.
func (c Config) withDefaults() (Config, error) {
	for _, rate := range []struct {
		field string
		value float64
	}{
		{"failure_rate", c.FailureRate},
		{"hang_rate", c.HangRate},
		{"lost_rate", c.LostRate},
		{"late_rate", c.LateRate},
		{"slow_rate", c.SlowRate},
		{"flap_rate", c.FlapRate},
		{"probe_failure_rate", c.ProbeFailureRate},
	} {
		// The condition is written so that NaN is refused too.
		if !(rate.value >= 0 && rate.value <= 1) {
			return Config{}, fmt.Errorf("%s: %v is not between 0 and 1", rate.field, rate.value)
		}
	}

	if c.RestartMax == 0 {
		c.RestartMax = max(defaultRestartMax, c.RestartMin)
	}
	if c.Uptime == 0 {
		c.Uptime = defaultUptime
	}
	if c.LateMax == 0 {
		c.LateMax = defaultLateMax
	}
	if c.SlowFactor == 0 {
		c.SlowFactor = defaultSlowFactor
	}
	switch {
	case c.RestartMin < 0:
		return Config{}, fmt.Errorf("restart_min: %s is negative", c.RestartMin)
	case c.RestartMax < c.RestartMin:
		return Config{}, fmt.Errorf("restart_max: %s is less than restart_min, %s", c.RestartMax, c.RestartMin)
	case c.Uptime < 0:
		return Config{}, fmt.Errorf("uptime: %s is negative", c.Uptime)
	case c.LateMax < 0:
		return Config{}, fmt.Errorf("late_max: %s is negative", c.LateMax)
	case !(c.SlowFactor >= 1):
		return Config{}, fmt.Errorf("slow_factor: %v is less than 1", c.SlowFactor)
	}
	return c, nil
}
