package restarttest

import (
	"errors"
	"strings"
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// nastyNames are no names of hosts, but could pass for the host's own where they are cut, folded, resolved or expanded.
func nastyNames(host restart.Host) []restart.Host {
	return []restart.Host{
		"",
		" ",
		".",
		"..",
		"../" + host,
		host + "/../" + host,
		" " + host,
		host + " ",
		host + "\n",
		host + "\x00",
		host + ".",
		"." + host,
		host + ";rm -rf /",
		host + "&&reboot",
		host + "|reboot",
		"$(reboot)",
		"`reboot`",
		"'" + host + "'",
		"{host}",
		"%h",
		"*",
		host + "?a=b",
		host + "#a",
		host + ":22",
		"root@" + host,
		"-" + host,
		"-oProxyCommand=reboot",
		restart.Host(strings.ToUpper(string("a" + host))),
		"höst." + host,
		"\u202e" + host,
		"\xff" + host,
		restart.Host(strings.Repeat("a", 300)),
	}
}

func testNastyNames(t *testing.T, s *subject) {
	epoch := s.ready(t, "").Epoch
	// Faults that wait for the next call show whether one got through.
	if s.RefuseNext != nil {
		s.RefuseNext()
	}
	if s.FailProbes != nil {
		s.FailProbes(1)
	}
	for _, name := range nastyNames(s.Host) {
		if err := name.Check(); err == nil {
			t.Fatalf("the suite takes %q for no name of a host, and it is one", name)
		}
		if err := s.probe(t, name); err == nil {
			t.Errorf("Probe of %q: got nil, want an error", name)
		}
		trigger := s.trigger(epoch, s.Patience)
		trigger.Host = name
		if err := s.restartBy(t, trigger); !errors.Is(err, restart.ErrPermanent) {
			t.Errorf("Restart of %q: got %v, want an error that wraps %q", name, err, restart.ErrPermanent)
		}
	}
	// The probe comes first, because a restart may have to look at the host as a probe does.
	if s.FailProbes != nil {
		wantUnknown(t, "Probe", s.probe(t, s.Host))
	}
	if s.RefuseNext != nil {
		wantClass(t, s.restart(t, epoch), restart.ErrRefused)
	}
	s.wantUnharmed(t, epoch)
}
