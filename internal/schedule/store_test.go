package schedule_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/schedule"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestStore_OfSeveralWhoAddANameOneWins(t *testing.T) {
	t.Parallel()
	store := ensure(t, natsdtest.Start(t).JetStream(t))
	var won atomic.Int32
	var adding sync.WaitGroup
	for range 8 {
		d := definition(t, "nightly", "24h")
		adding.Go(func() {
			switch err := store.Add(t.Context(), d, time.Now()); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, schedule.ErrExists):
				t.Error(err)
			}
		})
	}
	adding.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have added it", won.Load())
	}
	if err := store.Remove(t.Context(), "nightly"); err != nil {
		t.Error(err)
	}
	add(t, store, definition(t, "nightly", "24h"))
}

func TestStore_RefusesWhatHasPassedAndWhatIsNotThere(t *testing.T) {
	t.Parallel()
	store := ensure(t, natsdtest.Start(t).JetStream(t))
	past := time.Now().Add(-time.Minute).Truncate(time.Second)
	err := store.Add(t.Context(), at(t, "past", past), time.Now())
	if want := `cannot add schedule "past": at: ` + past.UTC().Format(time.RFC3339) + " has passed"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, do := range []func() error{
		func() error { return store.Remove(t.Context(), "none") },
		func() error { _, err := store.Get(t.Context(), "none"); return err },
		func() error { _, err := store.Pause(t.Context(), "none"); return err },
		func() error { _, err := store.Resume(t.Context(), "none", time.Now()); return err },
	} {
		if err := do(); !errors.Is(err, schedule.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	add(t, store, at(t, "waits", time.Now().Add(time.Hour)))
	if _, err := store.Pause(t.Context(), "waits"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Resume(t.Context(), "waits", time.Now().Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "has passed") {
		t.Errorf("a time that passed in the pause: got %v", err)
	}
	if err := store.Remove(t.Context(), "waits"); err != nil {
		t.Error(err)
	}
	add(t, store, definition(t, "kept", "24h"))
	for _, name := range []string{"*", ">", "", "kept.x"} {
		if err := store.Remove(t.Context(), name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
	if all, err := store.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestStore_PauseAndResumeKeepWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	js := natsdtest.Start(t).JetStream(t)
	store := ensure(t, js)
	d := definition(t, "nightly", "24h")
	d.Restart, d.Roll = nil, json.RawMessage(`{"group":"web","batch":"1,5%","odd":[1]}`)
	add(t, store, d)
	before, err := store.Get(t.Context(), "nightly")
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(before.Raw), "{", `{"newer":{"a":1},`, 1)
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: stream.ScheduleDef("nightly"), Data: []byte(newer), Header: nats.Header{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Pause(t.Context(), "nightly"); err != nil {
		t.Fatal(err)
	}
	paused, err := store.Get(t.Context(), "nightly")
	if err != nil || !paused.Paused {
		t.Errorf("got %+v, %v", paused, err)
	}
	now := time.Now().Add(time.Minute)
	if _, err := store.Resume(t.Context(), "nightly", now); err != nil {
		t.Fatal(err)
	}
	after, err := store.Get(t.Context(), "nightly")
	if err != nil || after.Paused || !after.Since.Equal(now) || !after.At.Equal(before.At) || string(after.Roll) != string(d.Roll) {
		t.Errorf("got %+v, %v", after, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(after.Raw, &fields); err != nil || string(fields["newer"]) != `{"a":1}` || fields["paused"] != nil {
		t.Errorf("got %s, %v", after.Raw, err)
	}
}

func TestStore_KeepsTheLastResults(t *testing.T) {
	t.Parallel()
	js := natsdtest.Start(t).JetStream(t)
	store, rec := ensure(t, js), newRecorder()
	serve(t, schedule.ServerConfig{Store: store, Do: rec.do})
	add(t, store, definition(t, "busy", "24h"))
	var last string
	for range schedule.MaxResults + 5 {
		id, err := store.RunNow(t.Context(), "busy", "")
		if err != nil {
			t.Fatal(err)
		}
		last = id.String()
	}
	eventually(t, "the last result", func() bool {
		all, err := store.Results(t.Context(), "busy")
		return err == nil && len(all) == schedule.MaxResults && all[len(all)-1].ID.String() == last
	})
}

// What the server is told decides when it fires, and where to.
func TestStore_TellsTheServerTheTimes(t *testing.T) {
	t.Parallel()
	js := natsdtest.Start(t).JetStream(t)
	store := ensure(t, js)
	s, err := js.Stream(t.Context(), stream.Schedules)
	if err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for want, d := range map[[2]string]schedule.Definition{
		{"0 0 3 * * TUE", "Europe/Berlin"}:           {Spec: mustCron(t, "0 3 * * TUE", "Europe/Berlin")},
		{"0 0 3 * * *", "America/Santiago"}:          {Spec: mustCron(t, "0 3 * * TUE", "America/Santiago")},
		{"0 */15 * * * *", ""}:                       definition(t, "", "15m"),
		{"*/30 * * * * *", ""}:                       definition(t, "", "30s"),
		{"0 0 */6 * * *", ""}:                        definition(t, "", "6h"),
		{"0 0 0 * * *", ""}:                          definition(t, "", "24h"),
		{"@at " + when.Format(time.RFC3339Nano), ""}: at(t, "", when),
	} {
		spec := d.Spec
		d = definition(t, "told", "24h")
		d.Spec = spec
		add(t, store, d)
		msg, err := s.GetLastMsgForSubject(t.Context(), stream.ScheduleDef("told"))
		if err != nil {
			t.Fatal(err)
		}
		got := [2]string{msg.Header.Get("Nats-Schedule"), msg.Header.Get("Nats-Schedule-Time-Zone")}
		if got != want || msg.Header.Get("Nats-Schedule-Target") != stream.ScheduleFire("told") {
			t.Errorf("got %v, want %q", msg.Header, want)
		}
		if err := store.Remove(t.Context(), "told"); err != nil {
			t.Fatal(err)
		}
	}
}
