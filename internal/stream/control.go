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
	return ensureBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: Control, Description: "Mandrill: what steers the workers", History: controlHistory,
		Storage: jetstream.FileStorage, Replicas: s.Replicas,
	})
}

// ensureBucket creates a bucket if it is absent and checks it if it is present.
func ensureBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return Retry(ctx, func(ctx context.Context) (jetstream.KeyValue, error) {
		kv, err := js.KeyValue(ctx, want.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = createBucket(ctx, js, want)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use bucket %q: %w", want.Bucket, err)
		}
		status, err := kv.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot look at bucket %q: %w", want.Bucket, err)
		}
		return kv, checkBucket(status, want)
	})
}

func createBucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	replicas := cfg.Replicas
	if replicas == 0 {
		cfg.Replicas = replicasOnCluster
	}
	kv, err := js.CreateKeyValue(ctx, cfg)
	if replicas == 0 && errorCode(err) == codeReplicasOnOne {
		cfg.Replicas = 1
		kv, err = js.CreateKeyValue(ctx, cfg)
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // somebody else was faster
		kv, err = js.KeyValue(ctx, cfg.Bucket)
	}
	return kv, err
}

// checkBucket compares what decides whether an entry stays until its time has come.
func checkBucket(status jetstream.KeyValueStatus, want jetstream.KeyValueConfig) error {
	c := check{stream: bucketStream + want.Bucket}
	c.mustLast(status.TTL(), want.TTL)
	if b, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		c.must("storage", b.StreamInfo().Config.Storage, jetstream.FileStorage)
	}
	return errors.Join(c.errs...)
}
