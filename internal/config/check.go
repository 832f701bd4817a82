package config

import (
	"fmt"
	"strings"
)

// A checker asks what only several settings together can answer. It is silent about a setting that is wrong already.
type checker struct {
	*Loaded
	bad      map[string]bool
	problems []error
}

func (l *Loaded) crossCheck(bad map[string]bool) []error {
	k := &checker{Loaded: l, bad: bad}
	c := &l.Config

	if c.Data == "" && !bad["data"] {
		k.add("data", "is empty, and neither XDG_STATE_HOME nor HOME says where it could be: set it")
	}
	k.connection(c)
	k.require(c.Retry.Base <= c.Retry.Cap, "retry.base", "is more than", "retry.cap")
	k.require(c.StableFor < c.VerifyTimeout, "stable_for", "is not less than", "verify_timeout")
	k.require(c.ProbeInterval <= c.VerifyTimeout, "probe_interval", "is more than", "verify_timeout")
	k.require(c.AckWait <= c.MaxLease, "ack_wait", "is more than", "max_lease")
	k.require(c.RestartTimeout+c.VerifyTimeout <= c.MaxLease, "max_lease",
		"does not leave a slow restart the time to be verified: it is less than the sum of", "restart_timeout", "verify_timeout")
	k.require(c.Retry.MaxAttempts <= c.MaxDeliveries, "max_deliveries",
		"leaves the last attempts unmade: it is less than", "retry.max_attempts")
	k.require(c.Simulated.RestartMin <= c.Simulated.RestartMax, "simulated.restart_min", "is more than", "simulated.restart_max")
	return k.problems
}

func (k *checker) connection(c *Config) {
	remote := c.NATS != "" || c.NATSContext != ""
	for _, key := range []string{"creds", "token", "tls.ca", "tls.cert", "tls.key"} {
		if !remote && lookup(key).get(c) != "" {
			k.add(key, "is for NATS servers of your own: it needs nats or nats_context")
		}
	}
	k.require(remote || c.Replicas <= 1, "replicas", "is too many for the one embedded server; it needs nats or nats_context")
	k.require(c.NATS == "" || c.NATSContext == "", "nats_context", "brings its own URL and cannot be set together with", "nats")
	k.require(c.Creds == "" || c.Token == "", "token", "cannot be set together with", "creds")
	k.require(c.TLS.Cert == "" || c.TLS.Key != "", "tls.cert", "needs", "tls.key")
	k.require(c.TLS.Key == "" || c.TLS.Cert != "", "tls.key", "needs", "tls.cert")
}

// require reports a problem of the setting key, which ends with how the others stand, unless ok, or unless one of
// them is wrong by itself.
func (k *checker) require(ok bool, key, problem string, others ...string) {
	ok = ok || k.bad[key]
	var cited []string
	for _, other := range others {
		ok = ok || k.bad[other]
		cited = append(cited, k.cite(other))
	}
	if ok {
		return
	}
	text := lookup(key).get(&k.Config) + " " + problem
	if len(others) > 0 {
		text += " " + strings.Join(cited, " and ")
	}
	k.add(key, text)
}

func (k *checker) add(key, text string) {
	k.problems = append(k.problems, &Problem{Key: key, Origin: k.origins[key], Text: text})
}

// cite returns a setting with its value and its origin.
func (k *checker) cite(key string) string {
	text := lookup(key).get(&k.Config)
	if text == "" {
		text = "empty"
	}
	return fmt.Sprintf("%s, which is %s (%s)", key, text, k.origins[key])
}
