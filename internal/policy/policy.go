// Package policy answers one question: may this host be restarted now? Its gates are pure functions of what they are
// given. They guard a trigger, never the verification of one, and a gate that cannot be evaluated says no.
package policy

import (
	"fmt"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// A Refusal is a gate's no for good: it ends the request as Kind.
type Refusal struct {
	Kind   restart.Kind
	Reason restart.Reason
	Detail string
}

// NotAfter refuses a request whose time has passed.
func NotAfter(r restart.Request, now time.Time) *Refusal {
	if !now.After(r.NotAfter) {
		return nil
	}
	return &Refusal{
		restart.Expired, restart.ReasonNotAfter,
		fmt.Sprintf("not_after %s has passed", r.NotAfter.Format(time.RFC3339)),
	}
}

// MinUptime refuses a host that has been up for less than the request wants. An error means that nobody knows how long
// it has been up: not now.
func MinUptime(r restart.Request, s restart.State, now time.Time) (*Refusal, error) {
	want := time.Duration(r.MinUptime)
	switch {
	case want == 0:
		return nil, nil
	case s.Since.IsZero():
		return nil, fmt.Errorf("min_uptime is %s, and the driver cannot tell the uptime of host %s", want, r.Host)
	case now.Sub(s.Since) >= want:
		return nil, nil
	}
	return &Refusal{
		restart.Skipped, restart.ReasonMinUptime,
		fmt.Sprintf("up since %s, which is less than %s", s.Since.UTC().Format(time.RFC3339), want),
	}, nil
}
