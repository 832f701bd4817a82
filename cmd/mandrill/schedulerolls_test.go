package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/campaign"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// rolls is what the firings of a schedule of rolls need.
type rolls struct {
	js   jetstream.JetStream
	docs *campaign.Documents
	roll json.RawMessage
}

func newRolls(t *testing.T) *rolls {
	t.Helper()
	r := &rolls{js: natsdtest.Start(t).JetStream(t)}
	kv, err := stream.EnsureCampaigns(t.Context(), r.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	control, err := stream.EnsureControl(t.Context(), r.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if r.docs, err = campaign.NewDocuments(r.js, kv, control); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), r.js, stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.EnsureConsumer(t.Context(), r.js, restart.DefaultGroup, stream.Settings{AckWait: time.Minute, Budget: 1}); err != nil {
		t.Fatal(err)
	}
	one := []campaign.Amount{{Count: 1}}
	template := rollTemplate{
		Group: restart.DefaultGroup, Hosts: []restart.Host{"cattle-1.example.net"}, Order: campaign.OrderGiven, Batches: one, MaxUnavailable: one[0],
	}
	if r.roll, err = json.Marshal(template); err != nil {
		t.Fatal(err)
	}
	return r
}

// firing is a run of a schedule that was made by hand.
func (r *rolls) firing(name string, id uuid.UUID, validFor time.Duration) schedule.Firing {
	now := time.Now()
	return schedule.Firing{
		ID: id, Definition: schedule.Definition{Name: name, Roll: r.roll, ValidFor: restart.Duration(validFor)},
		Planned: now, Fired: now, NotAfter: now.Add(validFor), Manual: true,
	}
}

func (r *rolls) do(t *testing.T, f schedule.Firing) schedule.Result {
	t.Helper()
	w := &firings{service: &service{}, js: r.js}
	result, err := w.roll(t.Context(), f)
	if err != nil {
		t.Error(err)
	}
	return result
}

// The fear: somebody runs the schedule by hand as the clock strikes, and the fleet is restarted twice at the same time.
func TestFirings_OfRunsThatBeginAtTheSameMomentOneGoesAhead(t *testing.T) {
	r := newRolls(t)
	for round := range 20 {
		name := fmt.Sprintf("nightly-%d", round)
		results := make([]schedule.Result, 4)
		var racing sync.WaitGroup
		for i := range results {
			racing.Go(func() { results[i] = r.do(t, r.firing(name, uuid.New(), time.Hour)) })
		}
		racing.Wait()
		made := ""
		for _, result := range results {
			if result.Outcome == schedule.Started && made != "" {
				t.Errorf("round %d: campaigns %s and %s run at the same time", round, made, result.Made)
			}
			if result.Outcome == schedule.Started {
				made = result.Made
			}
		}
		if made == "" {
			t.Errorf("round %d: none was started: %+v", round, results)
		}
	}
}

// A worker that dies between taking the turn and handing the campaign in must neither lose the run nor hold up the schedule
// for ever.
func TestFirings_TurnOfARunThatWasNotHandedInIsKeptForItUntilItsTimeIsOver(t *testing.T) {
	r := newRolls(t)
	first := uuid.New()
	turn := campaign.Turn{Campaign: campaignOf(first), Until: time.Now().Add(time.Hour)}
	if err := r.docs.TakeTurn(t.Context(), "nightly", campaign.Turn{}, turn); err != nil {
		t.Fatal(err)
	}
	if got := r.do(t, r.firing("nightly", uuid.New(), time.Hour)); got.Outcome != schedule.Skipped {
		t.Errorf("another run meanwhile: got %+v, want it skipped", got)
	}
	if got := r.do(t, r.firing("nightly", first, time.Hour)); got.Outcome != schedule.Started {
		t.Errorf("the run itself: got %+v, want it started", got)
	}

	turn = campaign.Turn{Campaign: campaignOf(uuid.New()), Until: time.Now()}
	if err := r.docs.TakeTurn(t.Context(), "weekly", campaign.Turn{}, turn); err != nil {
		t.Fatal(err)
	}
	if got := r.do(t, r.firing("weekly", uuid.New(), time.Hour)); got.Outcome != schedule.Started {
		t.Errorf("after its time: got %+v, want it started", got)
	}
}

// Who runs a schedule again while the campaign of the last run is still at it, or after it, is told what stands.
func TestFirings_RunAfterRunWaitsForTheEndOfTheCampaignBefore(t *testing.T) {
	r := newRolls(t)
	first := r.do(t, r.firing("nightly", uuid.New(), time.Hour))
	if first.Outcome != schedule.Started {
		t.Fatalf("got %+v", first)
	}
	if got := r.do(t, r.firing("nightly", uuid.New(), time.Hour)); got.Outcome != schedule.Skipped {
		t.Errorf("while it runs: got %+v, want it skipped", got)
	}
	id := uuid.MustParse(first.Made)
	spec, err := r.docs.Spec(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := r.docs.Withdraw(t.Context(), spec, campaign.Mark{By: "ops", At: time.Now()}); err != nil || !done {
		t.Fatalf("got %v, %v", done, err)
	}
	if got := r.do(t, r.firing("nightly", uuid.New(), time.Hour)); got.Outcome != schedule.Started {
		t.Errorf("after it is over: got %+v, want it started", got)
	}
}

// noOutcomes is a database that knows of no request.
type noOutcomes struct{ store.Store }

func (noOutcomes) Outcome(context.Context, uuid.UUID) (restart.Outcome, error) {
	return restart.Outcome{}, store.ErrNotFound
}

// The fear: the worker dies between beginning a run and saying so, and the run is said to be missed.
func TestFirings_KnowWhatAnEarlierDeliveryHasBegun(t *testing.T) {
	r := newRolls(t)
	work, err := r.js.Stream(t.Context(), stream.Work)
	if err != nil {
		t.Fatal(err)
	}
	w := &firings{service: &service{streams: stream.Streams{Work: work}, store: noOutcomes{}}, js: r.js}
	rolled := r.firing("nightly", uuid.New(), time.Hour)
	single := r.firing("leaks", uuid.New(), time.Hour)
	single.Roll, single.Restart = nil, &schedule.Restart{Group: restart.DefaultGroup, Host: "cattle-2.example.net"}
	for _, f := range []schedule.Firing{rolled, single} {
		if got, begun, err := w.begun(t.Context(), f); err != nil || begun {
			t.Errorf("%s, of which nothing was done: got %+v, %v, %v", f.Name, got, begun, err)
		}
	}
	r.do(t, rolled)
	request := restart.Request{
		ID: single.ID, Host: single.Restart.Host, Group: single.Restart.Group, RequestedAt: time.Now().UTC(), NotAfter: single.NotAfter.UTC(),
	}
	data, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.Publish(t.Context(), stream.WorkSubject(request.Group, request.Host), data); err != nil {
		t.Fatal(err)
	}
	for id, f := range map[uuid.UUID]schedule.Firing{campaignOf(rolled.ID): rolled, single.ID: single} {
		got, begun, err := w.begun(t.Context(), f)
		if err != nil || !begun || got.Outcome != schedule.Started || got.Made != id.String() {
			t.Errorf("%s: got %+v, %v, %v; want %s started", f.Name, got, begun, err, id)
		}
	}
}
