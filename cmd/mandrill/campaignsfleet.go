package main

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/handler"
	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/fleet"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// fleetDownFresh is for how long what the workers said counts. A campaign's own hosts are known exactly, from its
	// progress; this is about all others.
	fleetDownFresh = 2 * time.Second
	fleetDownWait  = 2 * time.Second // for workers that do not answer
)

// A fleetDown knows which hosts of the fleet are being restarted: those that the workers say they have triggered and are
// waiting for. What a worker holds that has died a moment ago, or does not answer, it does not know of.
type fleetDown struct {
	conn *nats.Conn

	mu       sync.Mutex
	asked    time.Time
	messages []fleet.Message
}

// of returns the hosts of a campaign's group that are down for anything but the campaign.
func (d *fleetDown) of(ctx context.Context, spec *campaign.Spec) (hosts []restart.Host, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.asked) > fleetDownFresh {
		if d.messages, _, err = fleet.InFlight(ctx, d.conn, fleetDownWait); err != nil {
			return nil, err
		}
		d.asked = now
	}
	for _, m := range d.messages {
		down := m.Attempt > 0 && (m.Phase == string(handler.PhaseRestart) || m.Phase == string(handler.PhaseVerify))
		if m.Group == spec.Group && down && m.ID != restart.CampaignID(spec.ID, m.Host) {
			hosts = append(hosts, m.Host)
		}
	}
	return hosts, nil
}
