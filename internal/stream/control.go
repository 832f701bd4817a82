package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// controlHistory is how many values of a key are kept, for whoever asks who changed it.
const controlHistory = 8

// EnsureControl creates the control bucket if it is absent and checks it if it is present. A setting that would break the
// promise is a *SettingError.
func EnsureControl(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.KeyValue, error) {
	return retry(ctx, func(ctx context.Context) (jetstream.KeyValue, error) {
		kv, err := js.KeyValue(ctx, Control)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = createControl(ctx, js, s.Replicas)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use bucket %q: %w", Control, err)
		}
		status, err := kv.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot look at bucket %q: %w", Control, err)
		}
		return kv, checkControl(status)
	})
}

func createControl(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	cfg := jetstream.KeyValueConfig{
		Bucket: Control, Description: "Mandrill: what steers the workers", History: controlHistory,
		Storage: jetstream.FileStorage, Replicas: replicas,
	}
	if replicas == 0 {
		cfg.Replicas = replicasOnCluster
	}
	kv, err := js.CreateKeyValue(ctx, cfg)
	if replicas == 0 && errorCode(err) == codeReplicasOnOne {
		cfg.Replicas = 1
		kv, err = js.CreateKeyValue(ctx, cfg)
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // somebody else was faster
		kv, err = js.KeyValue(ctx, Control)
	}
	return kv, err
}

// checkControl compares what decides whether an entry stays until somebody changes it.
func checkControl(status jetstream.KeyValueStatus) error {
	c := check{stream: ControlStream}
	c.mustLast(status.TTL(), forever)
	if b, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		c.must("storage", b.StreamInfo().Config.Storage, jetstream.FileStorage)
	}
	return errors.Join(c.errs...)
}
