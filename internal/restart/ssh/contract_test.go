package ssh_test

import (
	"testing"

	"github.com/mayhem-mandrill/mandrill/internal/restart/restarttest"
)

func TestDriver_KeepsTheContract(t *testing.T) {
	restarttest.Run(t, func(t *testing.T) restarttest.Subject {
		f := newFixture(t, nil)
		return f.subject(t, mustNew(t, f.cfg))
	})
}
