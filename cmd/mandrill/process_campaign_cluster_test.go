package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/restart/simulated"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// The fear: a node of the cluster dies, another that is behind answers in its place, and the campaign forgets hosts, asks
// for them twice, or waits for ever. The node that dies is always the one that leads a stream which the campaign stands on.
func TestProcess_CampaignOutlivesTheNodesOfACluster(t *testing.T) {
	t.Parallel()
	const (
		count, most = 160, 10
		down        = time.Second
	)
	c := startCluster(t)
	s := newHosts(t, simulated.Config{RestartMin: down, RestartMax: down})
	s.usePostgres(t)
	s.url = c.urls()
	c.awaitReady(t, s)
	var all []*process
	for i := range 2 {
		all = append(all, s.startWorker(t, fmt.Sprintf("worker %d", i), "--log-level", "info", "--ack-wait", "2s"))
	}
	hosts := instances("clustered", count)
	id := s.roll(t, hosts, "--batch", "10", "--max-unavailable", fmt.Sprint(most))

	for _, led := range []string{stream.CampaignBucketStream, stream.Campaigns, stream.Work} {
		s.awaitBoots(t, s.fleet.Boots()+most/2) // it is at it
		node := s.leaderOf(t, led)
		c.kill(t, node)
		killed, before := time.Now(), s.fleet.Boots()
		if before > count-2*most {
			t.Fatalf("%d of %d hosts had booted before the leader of %s was killed", before, count, led)
		}
		s.awaitBoots(t, before+2*most) // more than what was asked for by then
		t.Logf("node %d, which led %s, was killed after %d boots; after %s without it there were %d more",
			node, led, before, time.Since(killed).Round(time.Millisecond), 2*most)
		c.start(t, node)
		for _, name := range []string{stream.CampaignBucketStream, stream.Campaigns, stream.Work, stream.Journal, "KV_" + stream.Control} {
			s.awaitReplicated(t, name)
		}
	}
	over := s.awaitCampaign(t, id, "over", isOver)
	s.awaitEmpty(t)
	for _, w := range all {
		w.stop(t)
	}
	if n := over.Progress.Counts().Ended[restart.Restarted]; over.Progress.State != campaign.Ended || n != count {
		t.Errorf("the campaign is %s, with %d of %d restarted: %s", over.Progress.State, n, count, over.Progress.Why)
	}
	s.wantEachRestartedOnce(t, hosts)
	if n := s.mostDownAtOnce(t, hosts, down); n > most {
		t.Errorf("%d hosts were down at once, want %d at most", n, most)
	}
	s.wantExactReport(t, id, hosts)
}

// leaderOf returns the number of the node that leads a stream.
func (s *scene) leaderOf(t *testing.T, name string) (node int) {
	t.Helper()
	eventually(t, "stream "+name+" has a leader", func() bool {
		held, err := s.js.Stream(t.Context(), name)
		if err != nil || held.CachedInfo().Cluster == nil {
			return false
		}
		leader := held.CachedInfo().Cluster.Leader
		node = slices.IndexFunc([]int{0, 1, 2}, func(n int) bool { return nodeName(n) == leader })
		return node >= 0
	})
	return node
}

// awaitReplicated waits until every node has all of a stream.
func (s *scene) awaitReplicated(t *testing.T, name string) {
	t.Helper()
	eventually(t, "every node has all of "+name, func() bool {
		held, err := s.js.Stream(t.Context(), name)
		if err != nil || held.CachedInfo().Cluster == nil {
			return false
		}
		replicas := held.CachedInfo().Cluster.Replicas
		return len(replicas) == 2 && replicas[0].Current && replicas[1].Current && !replicas[0].Offline && !replicas[1].Offline
	})
}
