package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// ourStreams are all that may be tried on.
var ourStreams = []string{
	stream.Work, stream.Journal, stream.Dead, stream.Campaigns, stream.Schedules, stream.ControlStream, stream.CampaignBucketStream,
}

// A try is a subject, and the roles that may publish to it, or subscribe to it: w(orker), p(ublisher), o(perator) and
// v(iewer).
type try struct{ subject, roles string }

// tries are what somebody might publish to: what the program uses, what the server's interface offers, and what would do
// harm. Group batch is one that none of worker and publisher is for.
func tries() []try {
	all := []try{
		{"mandrill.restart.web.h", "wpo"},
		{"mandrill.restart.batch.h", "o"},
		{"mandrill.journal.web.id.h", "wo"},
		{"mandrill.journal.batch.id.h", "o"},
		{"mandrill.dead.web.h.1", "wo"},
		{"mandrill.dead.batch.h.1", "o"},
		{"mandrill.outcome.web.h", "w"},
		{"mandrill.outcome.batch.h", ""},
		{"mandrill.campaign.web.id", "wo"},
		{"mandrill.campaign.batch.id", "o"},
		{"mandrill.schedule.def.x", "o"},
		{"mandrill.schedule.fire.x", "o"},
		{"mandrill.schedule.result.x", "w"},
		{"mandrill.worker.status", "ov"},
		{"mandrill.worker.in_flight.x", "wov"},
		{"mandrill.worker.outcome", ""},
		{"mandrill.other", ""},
		{"$SRV.PING.mandrill-worker", "wov"},
		{"$SRV.PING", ""},
		{"$SRV.INFO", ""},
		{"$SRV.STATS.mandrill-worker", ""},
		{"$KV.mandrill-control.pause.web.manual", "wo"},
		{"$KV.mandrill-control.pause.batch.manual", "o"},
		{"$KV.mandrill-control.pause._all.manual", "o"},
		{"$KV.mandrill-control.told.web.breaker", "w"},
		{"$KV.mandrill-control.told.batch.breaker", ""},
		{"$KV.mandrill-control.budget.web", "wo"},
		{"$KV.mandrill-control.budget.batch", "o"},
		{"$KV.mandrill-control.row.web", "wo"},
		{"$KV.mandrill-control.row.batch", "o"},
		{"$KV.mandrill-control.store.web", "w"},
		{"$KV.mandrill-control.store.batch", ""},
		{"$KV.mandrill-control.abort.id", "wo"},
		{"$KV.mandrill-campaigns.spec.id", "wo"},
		{"$KV.mandrill-campaigns.progress.id", "wo"},
		{"$KV.other.key", ""},
		{"_INBOX.of.somebody", "w"}, // by which it answers
		{"_R_.of.somebody", "w"},
		{"$JS.ACK.MANDRILL.mandrill-web.1.1.1.1.0", "w"},
		{"$JS.ACK.MANDRILL.mandrill-batch.1.1.1.1.0", ""},
		{"$JS.ACK.hub.hash.MANDRILL.mandrill-web.1.1.1.1.0", "w"},
		{"$JS.ACK.hub.hash.MANDRILL.mandrill-batch.1.1.1.1.0", ""},
		{"$JS.ACK.MANDRILL_CAMPAIGN.mandrill-campaigns-web.1.1.1.1.0", "w"},
		{"$JS.ACK.MANDRILL_CAMPAIGN.mandrill-campaigns-batch.1.1.1.1.0", ""},
		{"$JS.ACK.MANDRILL_SCHEDULE.mandrill-schedules.1.1.1.1.0", "w"},
		{"$JS.API.INFO", "w"},
		{"$JS.API.STREAM.NAMES", ""},
		{"$JS.API.STREAM.LIST", ""},
		{"$JS.API.STREAM.CREATE.OTHER", ""},
		{"$JS.API.ACCOUNT.PURGE.MANDRILL", ""},
		{"$JS.API.META.LEADER.STEPDOWN", ""},
		{"$SYS.REQ.SERVER.PING", ""},
		{"$SYS.ACCOUNT.MANDRILL.SERVER.CONNS", ""},

		{"$JS.API.CONSUMER.LIST.MANDRILL", "ov"},
		{"$JS.API.CONSUMER.INFO.MANDRILL.mandrill-web", "wpov"},
		{"$JS.API.CONSUMER.INFO.MANDRILL.mandrill-batch", "ov"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL.mandrill-web.mandrill.restart.web.>", "wo"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL.mandrill-batch.mandrill.restart.batch.>", "o"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL.mandrill-web.mandrill.restart.batch.>", "o"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL", ""},
		{"$JS.API.CONSUMER.PAUSE.MANDRILL.mandrill-web", "wo"},
		{"$JS.API.CONSUMER.PAUSE.MANDRILL.mandrill-batch", "o"},
		{"$JS.API.CONSUMER.MSG.NEXT.MANDRILL.mandrill-web", "w"},
		{"$JS.API.CONSUMER.MSG.NEXT.MANDRILL.mandrill-batch", ""},
		{"$JS.API.CONSUMER.DELETE.MANDRILL.mandrill-web", ""},
		{"$JS.API.CONSUMER.CREATE.MANDRILL_JOURNAL.x", ""},
		{"$JS.API.CONSUMER.CREATE.MANDRILL_DEAD.x", "o"},
		{"$JS.API.CONSUMER.MSG.NEXT.MANDRILL_DEAD.x", "o"},
		{"$JS.API.CONSUMER.DELETE.MANDRILL_DEAD.x", "o"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL_CAMPAIGN.mandrill-campaigns-web.mandrill.campaign.web.*", "w"},
		{"$JS.API.CONSUMER.CREATE.MANDRILL_CAMPAIGN.mandrill-campaigns-batch.mandrill.campaign.batch.*", ""},
		{"$JS.API.CONSUMER.DELETE.MANDRILL_CAMPAIGN.mandrill-campaigns-web", ""},
		{"$JS.API.CONSUMER.CREATE.KV_mandrill-control.x", "wo"},
		{"$JS.API.CONSUMER.CREATE.KV_mandrill-campaigns.x", ""},
		{"$JS.API.DIRECT.GET.KV_mandrill-control.$KV.mandrill-control.x", "wov"},
		{"$JS.API.DIRECT.GET.KV_mandrill-campaigns.$KV.mandrill-campaigns.x", "wov"},
		{"$JS.API.DIRECT.GET.MANDRILL_JOURNAL.x", ""},
	}
	may := func(role string, streams ...string) map[string]string {
		found := map[string]string{}
		for _, s := range streams {
			found[s] = role
		}
		return found
	}
	reads := may("wov", stream.Work, stream.Journal, stream.Dead, stream.Campaigns, stream.ControlStream, stream.CampaignBucketStream)
	reads[stream.Work], reads[stream.Schedules] = "wpov", "wo"
	gets := may("wov", stream.Work, stream.Journal, stream.Dead)
	gets[stream.Work], gets[stream.Campaigns], gets[stream.Schedules] = "wpov", "wo", "wo"
	for call, roles := range map[string]map[string]string{
		"STREAM.INFO": reads, "STREAM.MSG.GET": gets, "STREAM.CREATE": may("w", ourStreams...),
		"STREAM.UPDATE": nil, "STREAM.DELETE": nil, "STREAM.SNAPSHOT": nil, "STREAM.RESTORE": nil, "STREAM.PEER.REMOVE": nil,
		"STREAM.LEADER.STEPDOWN": nil, "CONSUMER.NAMES": nil,
		"STREAM.PURGE": may("o", stream.Schedules), "STREAM.MSG.DELETE": {stream.Work: "w", stream.Dead: "o"},
	} {
		for _, name := range ourStreams {
			all = append(all, try{"$JS.API." + call + "." + name, roles[name]})
		}
	}
	for _, name := range ourStreams {
		all = append(all,
			try{"$JS.API.CONSUMER.DURABLE.CREATE." + name + ".x", ""},
			try{"$JS.API.CONSUMER.LEADER.STEPDOWN." + name + ".x", ""},
			try{"$JS.API.CONSUMER.RESET." + name + ".x", ""},
			try{"$JS.API.CONSUMER.UNPIN." + name + ".x", ""})
	}
	return all
}

func listens() []try {
	return []try{
		{"_INBOX.x.*", "wpov"},
		{"mandrill.outcome.web.>", "wpo"},
		{"mandrill.outcome.batch.>", "o"},
		{"mandrill.restart.web.>", ""},
		{"mandrill.journal.>", ""},
		{"mandrill.worker.status", "w"},
		{"$SRV.PING.mandrill-worker", "w"},
		{"$KV.mandrill-control.>", "w"},
		{"$KV.mandrill-campaigns.>", "wo"},
		{"$JS.ACK.>", ""},
		{"$JS.EVENT.ADVISORY.>", ""},
		{"$JS.API.>", ""},
		{"$SYS.>", ""},
		{">", ""},
	}
}

// Whoever is given a role may do what is in its column, and the server refuses all else.
func TestRoles_OfTheExampleMayDoTheirJobAndNoMore(t *testing.T) {
	t.Parallel()
	s := newSecured(t, exampleConfig)
	for _, r := range roles {
		letter := map[role]string{roleWorker: "w", rolePublisher: "p", roleOperator: "o", roleViewer: "v"}[r]
		conn, complaints := s.as(t, r)
		for _, tt := range tries() {
			// Not a payload that the server would take for what it is asked for.
			if err := conn.Publish(tt.subject, []byte("?")); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, conn, complaints, fmt.Sprintf("%s: publish to %s", r, tt.subject), tt.subject, !strings.Contains(tt.roles, letter))
		}
		for _, tt := range listens() {
			sub, err := conn.SubscribeSync(tt.subject)
			if err != nil {
				t.Fatal(err)
			}
			wantRefused(t, conn, complaints, fmt.Sprintf("%s: subscribe to %s", r, tt.subject), tt.subject, !strings.Contains(tt.roles, letter))
			_ = sub.Unsubscribe()
		}
	}
}

// wantRefused looks at what the server has complained of since the last time.
func wantRefused(t *testing.T, conn *nats.Conn, complaints <-chan error, what, subject string, want bool) {
	t.Helper()
	if err := conn.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	var refused bool
	// The complaint is before the flush's answer on the wire; only its handler may be late.
	wait := time.After(patience)
	if !want {
		wait = time.After(10 * time.Millisecond)
	}
	select {
	case err := <-complaints:
		refused = strings.Contains(err.Error(), `"`+subject+`"`)
		if !refused {
			t.Errorf("%s: got %v", what, err)
		}
	case <-wait:
	}
	if refused != want {
		t.Errorf("%s: got refused %t, want %t", what, refused, want)
	}
}

// A server does not ask whether a client may publish to the reply subject that it names. Were they in one account,
// publishers and viewers could have an answer stored as a request for any host.
func TestRoles_OfTheExampleCannotSendAnswersWhereTheyMayNotPublish(t *testing.T) {
	t.Parallel()
	s := newSecured(t, exampleConfig)
	w := s.startWebWorker(t)
	w.awaitLine(t, "worker is ready", says("worker is ready"))
	operator, _ := s.as(t, roleOperator)
	victims := []string{
		"mandrill.restart.batch.victim", "mandrill.restart.web.victim", "mandrill.journal.web.0b2f7c8e-33a5-5d7a-9f0c-7e1a5f3c2d10.victim",
		"mandrill.dead.web.victim.1", "mandrill.campaign.web.victim", "mandrill.schedule.fire.victim", "$KV.mandrill-control.pause.web.manual",
		"$JS.ACK.MANDRILL.mandrill-web.1.1.1.1.0", "mandrill.worker.status",
	}
	for _, r := range []role{roleViewer, rolePublisher} {
		conn, _ := s.as(t, r)
		for _, tt := range tries() {
			letter := map[role]string{rolePublisher: "p", roleViewer: "v"}[r]
			if !strings.Contains(tt.roles, letter) {
				continue
			}
			for i, victim := range victims {
				if r == rolePublisher && strings.HasPrefix(victim, "mandrill.restart.web.") {
					continue // which it may ask for anyway
				}
				subject := tt.subject
				if strings.HasPrefix(subject, "mandrill.restart.web.") {
					subject = fmt.Sprintf("mandrill.restart.web.own-%d", i)
				}
				if err := conn.PublishRequest(subject, victim, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := conn.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	// What follows on the same path has come, so what was sent before has come too.
	s.must(t, roleViewer, "status", "--data", s.workerData)
	s.must(t, rolePublisher, "publish", "last", "--group", "web", "--wait")
	for _, name := range ourStreams {
		if got := subjectsOf(t, operator, name); slices.ContainsFunc(got, func(subject string) bool {
			return slices.Contains(victims, subject)
		}) {
			t.Errorf("stream %s has what was sent as an answer: %v", name, got)
		}
	}
	if n := s.fleet.BootsOf("victim"); n != 0 {
		t.Errorf("got %d boots of a host that nobody may ask for, want 0", n)
	}
}

// subjectsOf returns what is in a stream, as an operator may ask.
func subjectsOf(t *testing.T, conn *nats.Conn, name string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js := newJetStream(t, conn)
	found, err := js.Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	subjects, err := stream.SubjectsOf(ctx, found, ">")
	if err != nil {
		t.Fatal(err)
	}
	return subjects
}

// Whoever lacks a permission is told which one, and which role has it.
func TestProcess_WhatARoleLacksIsNamed(t *testing.T) {
	t.Parallel()
	s := newSecured(t, exampleConfig)
	w := s.startWebWorker(t)
	w.awaitLine(t, "worker is ready", says("worker is ready"))
	id := anyID.FindString(s.must(t, roleOperator, "roll", "one", "two", "--group", "web", "--batch", "1", "--settle", "10m"))
	broken := s.publishMalformed(t)
	eventually(t, "a dead letter", func() bool { return strings.Contains(s.must(t, roleOperator, "dead", "list"), broken) })
	for _, tt := range []struct {
		role    role
		args    []string
		subject string
		needs   string
	}{
		{roleViewer, []string{"pause", "web"}, "$KV.mandrill-control.pause.web.manual", "operator"},
		{roleViewer, []string{"resume", "web"}, "KV_mandrill-control", "operator"},
		{roleViewer, []string{"budget", "web", "3"}, "$KV.mandrill-control.budget.web", "operator"},
		{roleViewer, []string{"roll", "three", "--group", "web"}, "$KV.mandrill-campaigns.spec.", "operator"},
		{roleViewer, []string{"campaign", "abort", id}, "$KV.mandrill-control.abort." + id, "operator"},
		{roleViewer, []string{"campaign", "pause", id}, "$KV.mandrill-campaigns.pause." + id, "operator"},
		{roleViewer, []string{"schedule", "list"}, "MANDRILL_SCHEDULE", "operator"},
		{roleViewer, []string{"dead", "list"}, "$JS.API.CONSUMER.CREATE.MANDRILL_DEAD", "operator"},
		{roleViewer, []string{"publish", "four", "--group", "web", "--publish-timeout", "500ms"}, "mandrill.restart.web.four.example.net", "publisher"},
		{rolePublisher, []string{"publish", "four", "--group", "batch", "--publish-timeout", "500ms"}, "mandrill.restart.batch.four.example.net", "publisher"},
		{rolePublisher, []string{"status"}, "$JS.API.STREAM.INFO.KV_mandrill-control", "viewer"},
		{rolePublisher, []string{"pause", "web"}, "$JS.API.STREAM.INFO.KV_mandrill-control", "operator"},
		{roleOperator, []string{"worker", "--group", "other", "--data", t.TempDir()}, "$KV.mandrill-control.store.other", "worker"},
		{roleWorker, []string{"worker", "--group", "batch", "--data", t.TempDir()}, "$KV.mandrill-control.store.batch", "worker"},
		{roleWorker, []string{"pause", "batch"}, "$KV.mandrill-control.pause.batch.manual", "operator"},
	} {
		t.Run(string(tt.role)+"/"+strings.Join(tt.args, "_"), func(t *testing.T) {
			t.Parallel()
			p := s.run(t, tt.role, tt.args...)
			if code := p.exitCode(t); code != exitFailed && code != exitPartly {
				t.Errorf("got exit code %d, want %d", code, exitFailed)
			}
			said := p.text()
			said = said[strings.LastIndex(strings.TrimSpace(said), "\nmandrill: ")+1:]
			if !strings.Contains(said, tt.subject) || !strings.Contains(said, fmt.Sprintf("%q", tt.needs)) {
				t.Errorf("it must name %s and role %s, and said:\n%s", tt.subject, tt.needs, said)
			}
		})
	}
}

// An acknowledgement without permission is lost without a word to who sends it, and what was restarted is handed out again.
func TestProcess_AWorkerThatMayNotAcknowledgeSaysSoAndTakesNothing(t *testing.T) {
	t.Parallel()
	s, _ := newGuardedScene(t, "$JS.ACK.>")
	w := run(t, "worker", []string{fleetVariable + "=" + s.hosts.URL}, "",
		"worker", "--data", s.workerData, "--database", s.database, "--nats", s.url)
	w.wantExit(t, exitFailed)
	wantText(t, w, "a permission that a worker needs is missing")
	wantText(t, w, "$JS.ACK.MANDRILL.mandrill-default.")
	if lines := w.said(says("worker is ready")); len(lines) > 0 {
		t.Error("it must not become ready")
	}
}
