package config

import (
	"fmt"
	"strings"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A checker asks what only several settings together can answer. It is silent about a setting that is wrong already.
type checker struct {
	*effect
	scope    string // what stands before the key of a setting that may differ from group to group
	problems []error
}

// checkWhole asks about what is the same for all groups.
func (e *effect) checkWhole() []error {
	k := &checker{effect: e}
	c := &e.config
	if c.Data == "" && !k.bad["data"] {
		k.add("data", "is empty, and neither XDG_STATE_HOME nor HOME says where it could be: set it")
	}
	k.connection(c)
	k.require(c.AckWait <= c.MaxLease, "ack_wait", "is more than", "max_lease")
	k.require(c.Notify.RetryBase <= c.Notify.RetryCap, "notify.retry_base", "is more than", "notify.retry_cap")
	return k.problems
}

// checkGroup asks about what may differ from group to group; about what the driver cannot do without only if it is in
// use.
func (e *effect) checkGroup(scope string, inUse bool) []error {
	k := &checker{effect: e, scope: scope}
	c := &e.config
	k.require(c.Retry.Base <= c.Retry.Cap, "retry.base", "is more than", "retry.cap")
	k.require(c.StableFor < c.VerifyTimeout, "stable_for", "is not less than", "verify_timeout")
	k.require(c.ProbeInterval <= c.VerifyTimeout, "probe_interval", "is more than", "verify_timeout")
	k.require(c.RestartTimeout+c.VerifyTimeout <= c.MaxLease, "max_lease",
		"does not leave a slow restart the time to be verified: it is less than the sum of", "restart_timeout", "verify_timeout")
	k.require(c.Retry.MaxAttempts <= c.MaxDeliveries, "max_deliveries",
		"leaves the last attempts unmade: it is less than", "retry.max_attempts")
	k.require(c.Simulated.RestartMin <= c.Simulated.RestartMax, "simulated.restart_min", "is more than", "simulated.restart_max")
	k.require(c.Docker.TLSCert == "" || c.Docker.TLSKey != "", "docker.tls_cert", "needs", "docker.tls_key")
	k.require(c.Docker.TLSKey == "" || c.Docker.TLSCert != "", "docker.tls_key", "needs", "docker.tls_cert")
	if inUse && !k.bad["driver.kind"] {
		k.driver(c)
	}
	return k.problems
}

// driver asks for what the driver cannot do without.
func (k *checker) driver(c *Config) {
	switch c.Driver.Kind {
	case DriverCommand:
		k.need(len(c.Command.Probe) > 0, "driver.kind", "command.probe")
		k.need(len(c.Command.Restart) > 0, "driver.kind", "command.restart")
		k.need(c.Command.MaxDelay > 0 || c.Command.Compare == restart.CompareAtEffect, "command.compare", "command.max_delay")
	case DriverSSH:
		k.need(len(c.SSH.KnownHosts) > 0, "driver.kind", "ssh.known_hosts")
		k.need(c.SSH.Key != "" || c.SSH.Agent != "", "driver.kind", "ssh.key", "ssh.agent")
	case DriverWebhook:
		k.need(c.Webhook.ProbeURL != "", "driver.kind", "webhook.probe_url")
		k.need(c.Webhook.RestartURL != "", "driver.kind", "webhook.restart_url")
		k.need(c.Webhook.MaxDelay > 0, "driver.kind", "webhook.max_delay")
	}
}

// need reports that the setting key is missing, and every alternative to it, unless ok. by is the setting that wants it.
func (k *checker) need(ok bool, by, key string, alternatives ...string) {
	problem := "is missing"
	for _, other := range alternatives {
		ok = ok || k.bad[other]
		problem += ", and so is " + k.name(other)
	}
	if ok || k.bad[by] || k.bad[key] {
		return
	}
	k.add(key, problem+"; it is needed by "+k.cite(by))
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
	text := lookup(key).get(&k.config) + " " + problem
	if len(others) > 0 {
		text += " " + strings.Join(cited, " and ")
	}
	k.add(key, text)
}

func (k *checker) add(key, text string) {
	k.problems = append(k.problems, &Problem{Key: k.name(key), Origin: k.origins[key], Text: text})
}

// cite returns a setting with its value and its origin.
func (k *checker) cite(key string) string {
	text := lookup(key).get(&k.config)
	if text == "" {
		text = "empty"
	}
	return fmt.Sprintf("%s, which is %s (%s)", k.name(key), text, k.origins[key])
}

// name returns how a message names a setting.
func (k *checker) name(key string) string {
	if lookup(key).byGroup {
		return k.scope + key
	}
	return key
}
