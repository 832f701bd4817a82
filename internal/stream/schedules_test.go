package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestEnsureSchedules_MakesAStreamInWhichTheServerSchedules(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	for range 2 { // the second finds it
		s, err := stream.EnsureSchedules(t.Context(), js, stream.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		if cfg := s.CachedInfo().Config; !cfg.AllowMsgSchedules || cfg.Replicas != 1 || cfg.MaxAge != 0 {
			t.Errorf("got %+v", cfg)
		}
		if _, err := stream.EnsureScheduleConsumer(t.Context(), js); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnsureSchedules_OnAClusterHasThreeReplicas(t *testing.T) {
	s, err := stream.EnsureSchedules(t.Context(), natsdtest.StartCluster(t, 3).JetStream(t), stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().Config.Replicas; n != 3 {
		t.Errorf("got %d replicas, want 3", n)
	}
}

func TestEnsureSchedules_SaysWhatWouldBreakThePromise(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	s, err := stream.EnsureSchedules(t.Context(), js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := js.DeleteStream(t.Context(), stream.Schedules); err != nil {
		t.Fatal(err)
	}
	cfg.MaxAge, cfg.MaxMsgs, cfg.AllowDirect, cfg.MaxMsgsPerSubject, cfg.AllowMsgTTL = time.Hour, 1000, true, 1, false
	_, err = stream.Retry(t.Context(), func(ctx context.Context) (jetstream.Stream, error) { return js.CreateStream(ctx, cfg) })
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.EnsureSchedules(t.Context(), js, stream.Settings{})
	wantSettings(t, err,
		`stream "MANDRILL_SCHEDULE": allow_msg_ttl is false and must be true`,
		`stream "MANDRILL_SCHEDULE": max_age is 1h0m0s and must be unlimited`,
		`stream "MANDRILL_SCHEDULE": max_msgs is 1000 and must be -1`,
		`stream "MANDRILL_SCHEDULE": max_msgs_per_subject is 1 and must be 16 or more, or unlimited`,
		`stream "MANDRILL_SCHEDULE": allow_direct is true and must be false`)
}

func TestEnsureScheduleConsumer_SaysWhatWouldLoseFirings(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	if _, err := stream.EnsureSchedules(t.Context(), js, stream.Settings{}); err != nil {
		t.Fatal(err)
	}
	_, err := js.CreateConsumer(t.Context(), stream.Schedules, jetstream.ConsumerConfig{
		Durable: stream.ScheduleConsumer, FilterSubject: "mandrill.schedule.>", AckPolicy: jetstream.AckAllPolicy, MaxDeliver: 3, AckWait: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.EnsureScheduleConsumer(t.Context(), js)
	wantSettings(t, err,
		`consumer "mandrill-schedules" of stream "MANDRILL_SCHEDULE": filter_subject is mandrill.schedule.> and must be mandrill.schedule.fire.*`,
		`consumer "mandrill-schedules" of stream "MANDRILL_SCHEDULE": ack_policy is AckAll and must be AckExplicit`,
		`consumer "mandrill-schedules" of stream "MANDRILL_SCHEDULE": max_deliver is 3 and must be -1`)
}

func wantSettings(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.As(err, new(*stream.SettingError)) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), err.Error()); diff != "" {
		t.Error(diff)
	}
}
