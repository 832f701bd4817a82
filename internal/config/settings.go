package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/monitor"
	"github.com/mayhem-mandrill/mandrill/internal/notify"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A setting is one row of the table. Its text forms are the same in the file, the environment and a flag.
type setting struct {
	key     string
	kind    string
	def     string // empty: nothing, or, of data, what the environment says
	realDef string // with any driver but the simulated one; empty: def
	bounds  string // for people
	doc     string // one line, with the unit where the type has none
	hidden  bool   // it may hold a secret: an error never quotes it as a whole
	byGroup bool   // it may differ from group to group
	commas  bool   // of a list: they separate its items in a variable and a flag
	reset   func(*Config)
	set     func(*Config, string) error // of a list: adds one to what reset emptied
	get     func(*Config) string        // secrets masked

	monitorType string // of a monitor's: the only type that has it; empty: all
	required    bool   // of a monitor's: it has no default and cannot be left out
}

// kindBool is the name by which pflag knows a flag that needs no value.
const kindBool = "bool"

func (s *setting) list() bool { return s.reset != nil }

// perGroup returns the setting as one that may differ from group to group.
func (s setting) perGroup() setting {
	s.byGroup = true
	return s
}

// whenReal returns the setting with another default for a driver that restarts something real.
func (s setting) whenReal(def string) setting {
	s.realDef = def
	return s
}

// defaultText returns the default for people, with the quotes given around what is a value.
func (s *setting) defaultText(quote string) string {
	text := quote + s.def + quote
	if s.realDef != "" {
		text += " with the simulated driver, else " + quote + s.realDef + quote
	}
	return text
}

func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

func (s *setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

const (
	day     = 24 * time.Hour
	million = 1_000_000
)

// realDrivers are the kinds of drivers that restart something real.
var realDrivers = []string{DriverCommand, DriverSSH, DriverDocker, DriverWebhook}

// table holds every setting, in the order in which people read them. Nothing changes it.
var table = []setting{
	groups("group", func(c *Config) *[]restart.Group { return &c.Groups },
		"Groups that a worker serves, or that a request is published to; as a flag, repeatable."),
	domain("domain", "example.net", func(c *Config) *string { return &c.Domain },
		"What is appended to an instance's name without a dot to make its host's name."),

	urls("nats", func(c *Config) *URLs { return &c.NATS },
		"NATS servers. Empty means the embedded server, unless `nats_context` is set. User and password are never printed."),
	text("nats_context", "", func(c *Config) *string { return &c.NATSContext },
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
		"Messages of a group that all workers together hold at once. Used when the consumer is created.").whenReal("20").perGroup(),
	integer("stop_after", "3", 1, 1000, func(c *Config) *int { return &c.StopAfter },
		"Hosts in a row that were restarted and did not come back, after which the group is paused until it is resumed.").perGroup(),
	integer("max_deliveries", "50", 1, million, func(c *Config) *int { return &c.MaxDeliveries },
		"Deliveries after which a message is not tried again, but ends dead as poison."),
	duration("grace", "25s", 0, time.Hour, func(c *Config) *time.Duration { return &c.Grace },
		"How long a worker that stops lets what was triggered end, before it hands that back too."),

	duration("restart_timeout", "2m", 100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.RestartTimeout },
		"How long the driver has to take one restart.").perGroup(),
	duration("verify_timeout", "10m", 100*time.Millisecond, day, func(c *Config) *time.Duration { return &c.VerifyTimeout },
		"How long a host has to come back, be ready, and stay so for `stable_for`.").perGroup(),
	duration("stable_for", "0s", 0, time.Hour, func(c *Config) *time.Duration { return &c.StableFor },
		"How long a host must stay ready until its restart counts.").whenReal("10s").perGroup(),
	duration("probe_timeout", "10s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.ProbeTimeout },
		"How long one probe of a host may take.").perGroup(),
	duration("probe_interval", "1s", 10*time.Millisecond, time.Minute, func(c *Config) *time.Duration { return &c.ProbeInterval },
		"Longest pause between two probes of a host that is waited for; it grows where a worker waits for more than 5,000 hosts of a group for each second of it.").perGroup(),
	duration("save_timeout", "30s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.SaveTimeout },
		"How long one try to save to the database may take."),

	duration("retry.base", "1s", time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Retry.Base },
		"Longest pause before the second attempt; it doubles with each further one.").perGroup(),
	duration("retry.cap", "5m", time.Millisecond, day, func(c *Config) *time.Duration { return &c.Retry.Cap },
		"Longest pause before any attempt.").perGroup(),
	integer("retry.max_attempts", "3", 1, 1000, func(c *Config) *int { return &c.Retry.MaxAttempts },
		"Attempts to restart a host, the first included, after which the request ends dead.").perGroup(),

	integer("publish.window", "4096", 1, million, func(c *Config) *int { return &c.Publish.Window },
		"Publishes that wait for their confirmation at once."),
	duration("publish.timeout", "10s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.Publish.Timeout },
		"How long one publish is tried."),

	policed("window.open", parseHours, func(c *Config) *[]string { return &c.Window.Open },
		"When hosts may be restarted, such as `mon-fri 22:00-04:00`. Empty means always.").perGroup(),
	policed("window.except", parseDates, func(c *Config) *[]string { return &c.Window.Except },
		"Dates on which no window opens, such as `2026-12-24` or `2026-12-24/2027-01-02`.").perGroup(),
	checked(text("window.zone", "UTC", func(c *Config) *string { return &c.Window.Zone },
		"Time zone of windows and dates, by its IANA name, such as `Europe/Berlin`."), parseZone).perGroup(),
	duration("window.restart_takes", "5m", 0, day, func(c *Config) *time.Duration { return &c.Window.RestartTakes },
		"How long a restart is expected to take: it must still fit into what is left of the window.").perGroup(),
	policed("deny", parsePattern, func(c *Config) *[]string { return &c.Deny },
		"Patterns of the names of hosts that are never restarted, such as `db-*.example.net`.").perGroup(),
	policed("only", parsePattern, func(c *Config) *[]string { return &c.Only },
		"Patterns of the names of the only hosts that are restarted. Empty means all.").perGroup(),
	names("self", func(c *Config) *[]string { return &c.Self },
		"Names of the machine that the worker runs on, beside its own host name; it never restarts that."),
	boolean("dry_run", func(c *Config) *bool { return &c.DryRun },
		"Decide about every request, and restart nothing.").perGroup(),

	oneOf("driver.kind", DriverSimulated, append([]string{DriverSimulated}, realDrivers...),
		func(c *Config) *string { return &c.Driver.Kind },
		"What restarts hosts. The simulated driver restarts nothing real.").perGroup(),
	integer("driver.slots", "1000", 1, million, func(c *Config) *int { return &c.Driver.Slots },
		"Calls of the driver at once, for each worker.").whenReal("50").perGroup(),
	duration("simulated.restart_min", "0s", 0, time.Hour, func(c *Config) *time.Duration { return &c.Simulated.RestartMin },
		"Shortest restart of a simulated host.").perGroup(),
	// The simulated driver takes zero for its own default.
	duration("simulated.restart_max", "1s", time.Nanosecond, time.Hour, func(c *Config) *time.Duration { return &c.Simulated.RestartMax },
		"Longest restart of a simulated host; 1ns is as good as none.").perGroup(),
	unsigned("simulated.seed", "0", func(c *Config) *uint64 { return &c.Simulated.Seed },
		"Seed of the simulated driver's random numbers; 0 is a seed like any other.").perGroup(),
	rate("simulated.failure_rate", func(c *Config) *float64 { return &c.Simulated.FailureRate },
		"Share of simulated restarts that are refused.").perGroup(),
	rate("simulated.hang_rate", func(c *Config) *float64 { return &c.Simulated.HangRate },
		"Share of simulated restarts that get no answer, one in two of which is taken all the same.").perGroup(),
	rate("simulated.late_rate", func(c *Config) *float64 { return &c.Simulated.LateRate },
		"Share of simulated restarts that take effect late, or not at all.").perGroup(),
	rate("simulated.slow_rate", func(c *Config) *float64 { return &c.Simulated.SlowRate },
		"Share of simulated hosts whose restarts take much longer than the others'.").perGroup(),

	list("command.probe", func(c *Config) *[]string { return &c.Command.Probe },
		"Program, and its arguments, that says which boot of a host is running; no shell reads it. `{host}` and `{group}` stand for themselves as whole arguments.").perGroup(),
	list("command.restart", func(c *Config) *[]string { return &c.Command.Restart },
		"Program, and its arguments, that restarts a host; it may also have `{epoch}`, `{id}`, `{attempt}` and `{within}`.").perGroup(),
	compare("command.compare", func(c *Config) *restart.Compare { return &c.Command.Compare },
		"Where the restart program compares the boot that it may end with the one that is running: when it takes the request, or at the moment of effect.").perGroup(),
	duration("command.max_delay", "0s", 0, day, func(c *Config) *time.Duration { return &c.Command.MaxDelay },
		"How late a restart that was taken may still take effect. 0s means unknown, which is enough only with `at_effect`.").perGroup(),
	variables("command.env", func(c *Config) *[]string { return &c.Command.Env },
		"Names of the worker's environment variables that the programs get too. Few others are passed on.").perGroup(),
	integer("command.output", "4096", 1, 1<<20, func(c *Config) *int { return &c.Command.Output },
		"Bytes that are kept of what a program prints, on each of its two streams.").perGroup(),

	text("ssh.user", "root", func(c *Config) *string { return &c.SSH.User },
		"User at the hosts.").perGroup(),
	integer("ssh.port", "22", 1, 65535, func(c *Config) *int { return &c.SSH.Port },
		"Port of the hosts.").perGroup(),
	path("ssh.key", func(c *Config) *string { return &c.SSH.Key },
		"Private key, not encrypted.").perGroup(),
	path("ssh.agent", func(c *Config) *string { return &c.SSH.Agent },
		"Socket of an agent, used without `ssh.key`. SSH_AUTH_SOCK is never read by itself: an agent that happens to be there must not be what opens the hosts. Write `${SSH_AUTH_SOCK}` in the file if it is to be used.").perGroup(),
	paths("ssh.known_hosts", func(c *Config) *[]string { return &c.SSH.KnownHosts },
		"Files with the keys of the hosts, in the form of OpenSSH's known_hosts. A host with another key is refused.").perGroup(),
	text("ssh.jump", "", func(c *Config) *string { return &c.SSH.Jump },
		"Host by whose way all others are reached, as `[user@]host[:port]`. Empty means directly.").perGroup(),
	text("ssh.reboot", "", func(c *Config) *string { return &c.SSH.Reboot },
		"Command that reboots, for the host's shell. Empty means the driver's own.").perGroup(),
	text("ssh.ready", "", func(c *Config) *string { return &c.SSH.Ready },
		"Command that exits with 0 when the host does its work, for the host's shell. Empty means that a host that can be reached is ready.").perGroup(),
	path("ssh.boot_id", func(c *Config) *string { return &c.SSH.BootID },
		"File at the host that names its boot. Empty means the kernel's.").perGroup(),
	path("ssh.uptime", func(c *Config) *string { return &c.SSH.Uptime },
		"File at the host that says how long it has been up. Empty means the kernel's.").perGroup(),
	duration("ssh.timeout", "15s", 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.SSH.Timeout },
		"How long connecting to a host may take.").perGroup(),

	text("docker.endpoint", "", func(c *Config) *string { return &c.Docker.Endpoint },
		"Engine, as `unix:///path` or `tcp://host:port`. Empty means what DOCKER_HOST says, or else the default socket.").perGroup(),
	path("docker.tls_ca", func(c *Config) *string { return &c.Docker.TLSCA },
		"PEM file of the authorities that may vouch for the engine. Empty means the system's.").perGroup(),
	path("docker.tls_cert", func(c *Config) *string { return &c.Docker.TLSCert },
		"PEM file of our certificate for the engine; together with `docker.tls_key`.").perGroup(),
	path("docker.tls_key", func(c *Config) *string { return &c.Docker.TLSKey },
		"PEM file of the key that belongs to `docker.tls_cert`.").perGroup(),
	text("docker.label", "", func(c *Config) *string { return &c.Docker.Label },
		"Label of a container that has the host's name. Empty means that the container itself has it.").perGroup(),
	// The docker driver takes zero for its own default.
	duration("docker.stop_timeout", "10s", time.Second, time.Hour, func(c *Config) *time.Duration { return &c.Docker.StopTimeout },
		"How long a container has to end before it is killed, in whole seconds.").perGroup(),

	text("webhook.probe_url", "", func(c *Config) *string { return &c.Webhook.ProbeURL },
		"URL that answers which boot of `{host}` is running. It is printed: keep secrets out of it.").perGroup(),
	text("webhook.restart_url", "", func(c *Config) *string { return &c.Webhook.RestartURL },
		"URL that is asked to restart a host. It is printed: keep secrets out of it.").perGroup(),
	secret("webhook.secret", func(c *Config) *Secret { return &c.Webhook.Secret },
		"Key of the requests' signatures; empty means that they are not signed. Secret: never printed. Prefer the environment to the flag.").perGroup(),
	duration("webhook.max_delay", "0s", 0, day, func(c *Config) *time.Duration { return &c.Webhook.MaxDelay },
		"How late the server may let a request take effect that it has taken. 0s means unknown, and must be replaced.").perGroup(),
	path("webhook.ca", func(c *Config) *string { return &c.Webhook.CA },
		"PEM file of the authorities that may vouch for the server. Empty means the system's.").perGroup(),

	duration("slow_phase", "30s", 0, day, func(c *Config) *time.Duration { return &c.SlowPhase },
		"A message that is longer than this in one phase, other than waiting for its host or for a slot, is logged. 0s means never."),

	oneOf("monitor.stop_on", string(monitor.Never), stopOns, func(c *Config) *string { return &c.Monitor.StopOn },
		"When monitors end what they guard, which is the worker, or `mandrill monitor`: when the first has failed, when all are failed at the same time, or never."),
	program("monitor.command", func(c *Config) *[]string { return &c.Monitor.Command },
		"Program, and its arguments, that is run once at that end, with the report as JSON on its input; no shell reads it."),
	duration("monitor.command_timeout", "30s", 100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Monitor.CommandTimeout },
		"How long that program may take, before it is killed."),
	integer("monitor.exit_code", "1", 1, 125, func(c *Config) *int { return &c.Monitor.ExitCode },
		"Exit code at that end."),

	notifyURL("notify.url", func(c *Config) *Secret { return &c.Notify.URL },
		"URL of http or https to which notifications are posted. Empty means that nobody is told. Secret: never printed. Prefer the environment to the flag."),
	secret("notify.secret", func(c *Config) *Secret { return &c.Notify.Secret },
		"Key of the notifications' signatures; empty means that they are not signed. Secret: never printed. Prefer the environment to the flag."),
	template("notify.template", func(c *Config) *Secret { return &c.Notify.Template },
		"Template of their body, which is JSON. Empty means what Slack takes. Never printed, because it may hold a service's key."),
	kinds("notify.on", func(c *Config) *[]notify.Kind { return &c.Notify.On },
		"Which kinds are told. Empty means all."),
	integer("notify.queue", strconv.Itoa(notify.DefaultQueue), 1, million, func(c *Config) *int { return &c.Notify.Queue },
		"How many notifications may wait to be sent."),
	duration("notify.every", formatDuration(notify.DefaultEvery), time.Millisecond, day, func(c *Config) *time.Duration { return &c.Notify.Every },
		"Interval in which at most one is sent of one kind and group."),
	duration("notify.timeout", formatDuration(notify.DefaultTimeout), 100*time.Millisecond, 10*time.Minute, func(c *Config) *time.Duration { return &c.Notify.Timeout },
		"How long one attempt to send may take."),
	duration("notify.grace", formatDuration(notify.DefaultGrace), time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Notify.Grace },
		"How long a worker that stops tries to send what waits."),
	duration("notify.retry_base", formatDuration(notify.DefaultRetryBase), time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Notify.RetryBase },
		"About how long the pause before the second attempt is; it doubles with each further one."),
	duration("notify.retry_cap", formatDuration(notify.DefaultRetryCap), time.Millisecond, day, func(c *Config) *time.Duration { return &c.Notify.RetryCap },
		"About how long a pause before any attempt may become, unless the server asks for more."),
	duration("notify.retry_total", formatDuration(notify.DefaultRetryTotal), time.Millisecond, 7*day, func(c *Config) *time.Duration { return &c.Notify.RetryTotal },
		"How long one is tried in all."),

	text("ops.listen", "", func(c *Config) *string { return &c.Ops.Listen },
		"Where a worker serves health and metrics over HTTP, such as `:9108`. Without a host that is loopback. Empty means nowhere."),
	boolean("ops.pprof", func(c *Config) *bool { return &c.Ops.Pprof },
		"Serve profiles there too, under /debug/pprof: whoever can connect can look into the worker's memory."),
	duration("lag.threshold", "250ms", time.Millisecond, time.Minute, func(c *Config) *time.Duration { return &c.Lag.Threshold },
		"How late a worker may get to run before it calls itself overloaded."),

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

// differs reports whether what a key or a section of the file names may differ from group to group.
func differs(key string) bool {
	return slices.ContainsFunc(table, func(s setting) bool {
		return s.byGroup && (s.key == key || strings.HasPrefix(s.key, key+"."))
	})
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
