package stream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

var campaignSettings = stream.Settings{AckWait: time.Second}

// A worker that does not serve a group must not get its campaigns, and each is to be found once however often it is
// handed in.
func TestEnsureCampaigns_HandsEachCampaignToTheConsumerOfItsGroup(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	consumers := map[string]jetstream.Consumer{}
	for range 2 { // the second finds what the first made
		if _, err := stream.EnsureCampaigns(t.Context(), js, stream.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{"web", "db"} {
			c, err := stream.EnsureCampaignConsumer(t.Context(), js, restart.Group(group), campaignSettings)
			if err != nil {
				t.Fatal(err)
			}
			consumers[group] = c
		}
	}
	id := uuid.New()
	if _, err := js.Publish(t.Context(), stream.CampaignSubject("db", id), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stream.CampaignSubject("db", id), nil); err == nil {
		t.Error("it was handed in twice: got no error")
	}
	for group, want := range map[string]uint64{"web": 0, "db": 1} {
		if info, err := consumers[group].Info(t.Context()); err != nil || info.NumPending != want {
			t.Errorf("group %s: got %+v, %v; want %d waiting", group, info, err, want)
		}
	}
}

func TestEnsureCampaigns_RefusesABucketThatForgetsACampaignThatStillRuns(t *testing.T) {
	js := natsdtest.Start(t).JetStream(t)
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: stream.CampaignBucket, TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	_, err := stream.EnsureCampaigns(t.Context(), js, stream.Settings{})
	var wrong *stream.SettingError
	if !errors.As(err, &wrong) || wrong.Setting != "max_age" {
		t.Errorf("got %v, want an error that names max_age", err)
	}
}

func TestCampaignSubject_NamesItsGroupAndCampaignAndNoOther(t *testing.T) {
	id := uuid.New()
	if g, got, err := stream.ParseCampaignSubject(stream.CampaignSubject("web", id)); err != nil || g != "web" || got != id {
		t.Errorf("got %q, %s, %v", g, got, err)
	}
	for _, subject := range []string{
		"", "mandrill.campaign.web", "mandrill.campaign." + id.String(), "mandrill.campaign.web.x", "mandrill.campaign.." + id.String(),
		"mandrill.campaign.web." + id.String() + ".x", "mandrill.restart.web." + id.String(),
	} {
		if _, _, err := stream.ParseCampaignSubject(subject); err == nil {
			t.Errorf("%q: got no error", subject)
		}
	}
}
