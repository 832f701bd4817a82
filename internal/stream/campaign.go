package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// EnsureCampaigns creates the stream that hands campaigns out and the bucket of their documents where they are absent,
// and checks them where they are present. A setting that would break the promise is a *SettingError.
func EnsureCampaigns(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.KeyValue, error) {
	kv, err := ensureBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: CampaignBucket, Description: "Mandrill: what campaigns are to do, and how far they are", History: 1,
		TTL: campaignMaxAge, Storage: jetstream.FileStorage, Replicas: s.Replicas,
	})
	if err != nil {
		return nil, err
	}
	_, err = Retry(ctx, func(ctx context.Context) (jetstream.Stream, error) {
		queue, err := find(ctx, js, campaignsConfig(), forever)
		if err == nil && queue == nil {
			queue, err = create(ctx, js, campaignsConfig(), s.Replicas)
		}
		return queue, err
	})
	return kv, err
}

// EnsureCampaignConsumer creates the consumer of a group's campaigns if it is absent and checks it if it is present; it
// never changes one. A setting that would break the promise is a *SettingError.
func EnsureCampaignConsumer(ctx context.Context, js jetstream.JetStream, group restart.Group, s Settings) (jetstream.Consumer, error) {
	if s.AckWait <= 0 {
		return nil, fmt.Errorf("cannot create a consumer for campaigns of group %q: ack wait %s must be above zero", group, s.AckWait)
	}
	return ensureConsumer(ctx, js, Campaigns, campaignConsumerConfig(group, s))
}
