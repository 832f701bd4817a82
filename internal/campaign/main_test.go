package campaign

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// began is when the campaigns of these tests were created, where the time does not matter.
var began = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// hostNames returns n hosts.
func hostNames(n int) []restart.Host {
	hosts := make([]restart.Host, n)
	for i := range hosts {
		hosts[i] = restart.Host(fmt.Sprintf("web-%d.example.net", i))
	}
	return hosts
}

// newSpec returns the spec of a campaign over n hosts.
func newSpec(n int, batches, maxUnavailable string, edit ...func(*Spec)) *Spec {
	sizes, err := ParseBatches(batches)
	if err != nil {
		panic(err)
	}
	most, err := ParseAmount(maxUnavailable)
	if err != nil {
		panic(err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		panic(err)
	}
	s := &Spec{
		ID: id, Group: "default", Hosts: hostNames(n), Order: OrderGiven, Batches: sizes, MaxUnavailable: most,
		Created: began, NotAfter: began.Add(24 * time.Hour), By: "ops", Reason: "kernel",
	}
	for _, e := range edit {
		e(s)
	}
	if err := s.Validate(); err != nil {
		panic(err)
	}
	return s
}
