package stream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

func TestEnsureControl_MakesABucketThatForgetsNothing(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	for range 2 { // the second finds it
		kv, err := stream.EnsureControl(t.Context(), js, stream.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), stream.StoreKey("web"), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(t.Context(), "KV_"+stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if cfg.Replicas != 1 || cfg.Storage != jetstream.FileStorage || cfg.MaxAge != 0 {
		t.Errorf("got %+v, want one replica, in files, without an age limit", cfg)
	}
}

func TestEnsureControl_NamesEverySettingThatWouldForget(t *testing.T) {
	for setting, cfg := range map[string]jetstream.KeyValueConfig{
		"storage": {Bucket: stream.Control, Storage: jetstream.MemoryStorage},
		"max_age": {Bucket: stream.Control, TTL: time.Hour},
	} {
		t.Run(setting, func(t *testing.T) {
			js := natsdtest.Start(t).JetStream(t)
			if _, err := js.CreateKeyValue(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			_, err := stream.EnsureControl(t.Context(), js, stream.Settings{})
			var wrong *stream.SettingError
			if !errors.As(err, &wrong) || wrong.Setting != setting {
				t.Errorf("got %v, want an error that names %s", err, setting)
			}
		})
	}
}

func TestEnsureControl_OnAClusterHasThreeReplicas(t *testing.T) {
	cluster := natsdtest.StartCluster(t, 3)
	kv, err := stream.EnsureControl(t.Context(), cluster.JetStream(t), stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := status.(*jetstream.KeyValueBucketStatus).StreamInfo().Config.Replicas; n != 3 {
		t.Errorf("got %d replicas, want 3", n)
	}
}
