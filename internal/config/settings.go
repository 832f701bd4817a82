package config

import (
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A setting is one row of the table. Its text forms are the same in the file, the environment and a flag.
type setting struct {
	key    string
	kind   string
	def    string // empty: nothing, or, of data, what the environment says
	bounds string // for people
	doc    string // one line, with the unit where the type has none
	hidden bool   // it may hold a secret: an error never quotes it
	reset  func(*Config)
	set    func(*Config, string) error // of a list: adds one to what reset emptied
	get    func(*Config) string        // secrets masked
}

func (s *setting) list() bool { return s.reset != nil }

func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

func (s *setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

const (
	day     = 24 * time.Hour
	million = 1_000_000
)

// table holds every setting, in the order in which people read them. Nothing changes it.
var table = []setting{
	groups("group", func(c *Config) *[]restart.Group { return &c.Groups },
		"Groups that a worker serves, or that a request is published to; as a flag, repeatable."),
	domain("domain", "example.net", func(c *Config) *string { return &c.Domain },
		"What is appended to an instance's name without a dot to make its host's name."),

	urls("nats", func(c *Config) *URLs { return &c.NATS },
		"NATS servers. Empty means the embedded server, unless `nats_context` is set. User and password are never printed."),
	text("nats_context", func(c *Config) *string { return &c.NATSContext },
		"Context of the `nats` command, by name, which brings URL and credentials; instead of `nats`."),
	path("creds", func(c *Config) *string { return &c.Creds },
		"NATS credentials file; instead of `token`."),
	secret("token", func(c *Config) *Secret { return &c.Token },
		"NATS token. Secret: never printed. Prefer the environment to the flag, which every process of the machine can read."),
	path("tls.ca", func(c *Config) *string { return &c.TLS.CA },
		"PEM file of the authorities that may vouch for the NATS servers. Empty means the system's."),
	path("tls.cert", func(c *Config) *string { return &c.TLS.Cert },
		"PEM file of our certificate for the NATS servers; together with `tls.key`."),
	path("tls.key", func(c *Config) *string { return &c.TLS.Key },
		"PEM file of the key that belongs to `tls.cert`."),

	path("data", func(c *Config) *string { return &c.Data },
		"Folder of the embedded server and of the SQLite database."),
	syncing("sync", func(c *Config) *time.Duration { return &c.Sync },
		"When the embedded server syncs its writes to the disk: each one, or all of a span. A span is faster, and loses what it holds at a power failure."),
	database("database", func(c *Config) *Database { return &c.Database },
		"Where requests and outcomes are remembered: `postgres://user@host/name` for a fleet, or a SQLite file, as `sqlite:///path` or a path, for one worker alone. Empty means a SQLite file in the data folder. A password is never printed; prefer the environment, or `PGPASSFILE`."),
	duration("history.keep", "9600h", 9*day, 100*365*day, func(c *Config) *time.Duration { return &c.History.Keep },
		"How long requests and their outcomes are remembered; 9600h are 400 days."),
	integer("replicas", "0", 0, 5, func(c *Config) *int { return &c.Replicas },
		"Copies of every stream that is created. 0 means by the cluster's size: 1 on a single server, else 3."),

	duration("ack_wait", "30s", time.Second, time.Hour, func(c *Config) *time.Duration { return &c.AckWait },
		"Length of a lease: how long after a worker's last sign of life another one takes its messages over. Used when the consumer is created."),
	duration("max_lease", "1h", time.Second, day, func(c *Config) *time.Duration { return &c.MaxLease },
		"How long a worker holds one message at most, before it gives it back as unknown."),
	integer("max_in_flight", "2000", 1, million, func(c *Config) *int { return &c.MaxInFlight },
		"Messages that one worker holds at once, for each group."),
	integer("budget", "2000", 1, million, func(c *Config) *int { return &c.Budget },
		"Messages of a group that all workers together hold at once. The default is for the simulated driver, the only one there is. Used when the consumer is created."),
	integer("max_deliveries", "50", 1, million, func(c *Config) *int { return &c.MaxDeliveries },
		"Deliveries after which a message is not tried again, but ends dead as poison."),
	duration("grace", "25s", 0, time.Hour, func(c *Config) *time.Duration { return &c.Grace },
		"How long a worker that stops lets what was triggered end, before it hands that back too."),

	duration("restart_timeout", "2m", 100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.RestartTimeout },
		"How long the driver has to take one restart."),
	duration("verify_timeout", "10m", 100*time.Millisecond, day, func(c *Config) *time.Duration { return &c.VerifyTimeout },
		"How long a host has to come back, be ready, and stay so for `stable_for`."),
	duration("stable_for", "0s", 0, time.Hour, func(c *Config) *time.Duration { return &c.StableFor },
		"How long a host must stay ready until its restart counts. The default is for the simulated driver, the only one there is."),
	duration("probe_timeout", "10s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.ProbeTimeout },
		"How long one probe of a host may take."),
	duration("probe_interval", "1s", 10*time.Millisecond, time.Minute, func(c *Config) *time.Duration { return &c.ProbeInterval },
		"Longest pause between two probes of a host that is waited for."),
	duration("save_timeout", "30s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.SaveTimeout },
		"How long one try to save to the database may take."),

	duration("retry.base", "1s", time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Retry.Base },
		"Longest pause before the second attempt; it doubles with each further one."),
	duration("retry.cap", "5m", time.Millisecond, day, func(c *Config) *time.Duration { return &c.Retry.Cap },
		"Longest pause before any attempt."),
	integer("retry.max_attempts", "3", 1, 1000, func(c *Config) *int { return &c.Retry.MaxAttempts },
		"Attempts to restart a host, the first included, after which the request ends dead."),

	integer("publish.window", "4096", 1, million, func(c *Config) *int { return &c.Publish.Window },
		"Publishes that wait for their confirmation at once."),
	duration("publish.timeout", "10s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.Publish.Timeout },
		"How long one publish is tried."),

	integer("driver.slots", "1000", 1, million, func(c *Config) *int { return &c.Driver.Slots },
		"Calls of the driver at once, for each worker."),
	duration("simulated.restart_min", "0s", 0, time.Hour, func(c *Config) *time.Duration { return &c.Simulated.RestartMin },
		"Shortest restart of a simulated host."),
	// The simulated driver takes zero for its own default.
	duration("simulated.restart_max", "1s", time.Nanosecond, time.Hour, func(c *Config) *time.Duration { return &c.Simulated.RestartMax },
		"Longest restart of a simulated host; 1ns is as good as none."),
	unsigned("simulated.seed", "0", func(c *Config) *uint64 { return &c.Simulated.Seed },
		"Seed of the simulated driver's random numbers; 0 is a seed like any other."),
	rate("simulated.failure_rate", func(c *Config) *float64 { return &c.Simulated.FailureRate },
		"Share of simulated restarts that are refused."),
	rate("simulated.hang_rate", func(c *Config) *float64 { return &c.Simulated.HangRate },
		"Share of simulated restarts that get no answer, one in two of which is taken all the same."),
	rate("simulated.late_rate", func(c *Config) *float64 { return &c.Simulated.LateRate },
		"Share of simulated restarts that take effect late, or not at all."),
	rate("simulated.slow_rate", func(c *Config) *float64 { return &c.Simulated.SlowRate },
		"Share of simulated hosts whose restarts take much longer than the others'."),

	oneOf("log.level", "info", []string{"trace", "debug", "info", "warn", "error"},
		func(c *Config) *string { return &c.Log.Level },
		"Least level that is logged."),
	oneOf("log.format", "auto", []string{"auto", "console", "json"},
		func(c *Config) *string { return &c.Log.Format },
		"How log lines look: `auto` is for people on a terminal, JSON otherwise."),
}

// lookup returns the setting of a key, or nil.
func lookup(key string) *setting {
	for i := range table {
		if table[i].key == key {
			return &table[i]
		}
	}
	return nil
}

// members returns the names of the settings in a section of the file, without the section; none if it is not one.
func members(section string) []string {
	var names []string
	for _, s := range table {
		if name, ok := strings.CutPrefix(s.key, section+"."); ok {
			names = append(names, name)
		}
	}
	return names
}
