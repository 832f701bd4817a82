package config

import (
	"strings"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// Config is what is in effect, checked. Its fields are named after the keys; the manual says what each one does.
type Config struct {
	Groups []restart.Group // the key is group
	Domain string

	NATS        URLs   // empty: the embedded server, unless there is a NATSContext
	NATSContext string // a context of the nats command, which brings its own URL
	Creds       string
	Token       Secret
	TLS         TLS

	Data     string
	Sync     time.Duration // of the embedded server; zero: every write
	Database Database      // empty: a file in Data
	History  History
	Replicas int // zero: by the cluster's size

	AckWait       time.Duration
	MaxLease      time.Duration
	MaxInFlight   int
	Budget        int
	StopAfter     int
	MaxDeliveries int
	Grace         time.Duration

	RestartTimeout time.Duration
	VerifyTimeout  time.Duration
	StableFor      time.Duration
	ProbeTimeout   time.Duration
	ProbeInterval  time.Duration
	SaveTimeout    time.Duration
	Retry          Retry
	Publish        Publish

	Window Window
	Deny   []string
	Only   []string
	Self   []string
	DryRun bool

	Driver    Driver
	Simulated Simulated
	Command   Command
	SSH       SSH
	Docker    Docker
	Webhook   Webhook

	SlowPhase time.Duration // zero: never logged
	Monitor   Monitor
	Monitors  []MonitorSpec // in the order of the file
	Notify    Notify

	Ops Ops
	Lag Lag
	Log Log

	// own has what is in effect for the groups that the file has a section for. These are pointers because fmt prints
	// what it finds in a field that is not exported as it stands, secrets too, but follows no pointer there.
	own map[restart.Group]*Config
}

// For returns what is in effect for a group: c itself, unless the file has a section for the group. What is changed in c
// after Load is not in effect for a group that has one.
func (c *Config) For(group restart.Group) Config {
	if own, ok := c.own[group]; ok {
		return *own
	}
	return *c
}

// TLS names the files of a secured connection to NATS.
type TLS struct{ CA, Cert, Key string }

// Retry says when and how often a restart that was refused is tried again.
type Retry struct {
	Base, Cap   time.Duration
	MaxAttempts int
}

// Publish bounds the publisher.
type Publish struct {
	Window  int
	Timeout time.Duration
}

// Window says when hosts may be restarted. What its texts mean is for the policy to say.
type Window struct {
	Open, Except []string
	Zone         string
	RestartTakes time.Duration
}

// The kinds of drivers.
const (
	DriverSimulated = "simulated"
	DriverCommand   = "command"
	DriverSSH       = "ssh"
	DriverDocker    = "docker"
	DriverWebhook   = "webhook"
)

// Driver is what holds for every driver.
type Driver struct {
	Kind  string
	Slots int
}

// Simulated shapes the simulated driver.
type Simulated struct {
	RestartMin, RestartMax                    time.Duration
	Seed                                      uint64
	FailureRate, HangRate, LateRate, SlowRate float64
}

// Command tells the command driver what to run.
type Command struct {
	Probe, Restart []string // program and arguments
	Compare        restart.Compare
	MaxDelay       time.Duration // zero: unknown
	Env            []string      // names of variables
	Output         int           // bytes
}

// SSH tells the ssh driver how to reach hosts, and what to run there.
type SSH struct {
	User       string
	Port       int
	Key, Agent string
	KnownHosts []string
	Jump       string
	Reboot     string // empty: the driver's own, as are BootID and Uptime
	Ready      string
	BootID     string
	Uptime     string
	Timeout    time.Duration
}

// Docker tells the docker driver where the engine is, and which container is a host.
type Docker struct {
	Endpoint               string
	TLSCA, TLSCert, TLSKey string
	Label                  string
	StopTimeout            time.Duration
}

// Webhook tells the webhook driver whom to ask.
type Webhook struct {
	ProbeURL, RestartURL string
	Secret               Secret
	MaxDelay             time.Duration // zero: unknown
	CA                   string
}

// History says how long requests and outcomes are remembered.
type History struct{ Keep time.Duration }

// Ops says where health and metrics are served.
type Ops struct {
	Listen string // empty: nowhere
	Pprof  bool
}

// Lag says how late a worker may get to run.
type Lag struct{ Threshold time.Duration }

// Log says what is logged, and how.
type Log struct{ Level, Format string }

// A Secret is text that prints as ****, wherever it is printed; string(s) is the text itself.
type Secret string

const mask = "****"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URLs is one URL or several, separated by commas. What stands before an @ in one of them prints as ****, because a
// user's name alone is a token to NATS; string(u) is the text itself.
type URLs string

func (u URLs) String() string {
	parts := strings.Split(string(u), ",")
	for i, part := range parts {
		at := strings.LastIndexByte(part, '@')
		if at < 0 {
			continue
		}
		scheme, _, ok := strings.Cut(part[:at], "://")
		if ok {
			scheme += "://"
		} else {
			scheme = ""
		}
		parts[i] = scheme + mask + part[at:]
	}
	return strings.Join(parts, ",")
}

// GoString implements fmt.GoStringer.
func (u URLs) GoString() string { return u.String() }

// MarshalText implements encoding.TextMarshaler.
func (u URLs) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
