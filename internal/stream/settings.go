package stream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	// journalMaxAge is how long the journal remembers, at least: a day longer than a request may live.
	journalMaxAge = restart.MaxLifetime + 24*time.Hour
	deadMaxAge    = 30 * 24 * time.Hour

	duplicateWindow = 2 * time.Minute

	// campaignMaxAge is how long a campaign's documents are kept at least after their last write: longer than a campaign
	// may go on, whose specification is written once.
	campaignMaxAge = 90 * 24 * time.Hour

	// Least age limits: none may be set, or any may.
	forever time.Duration = 0
	anyAge  time.Duration = 1
)

// Settings are what a deployment may choose. They count when something is created; what is there is left as it was set.
type Settings struct {
	Replicas int           // of every stream; 0 means 1 on a single server and 3 on a cluster
	AckWait  time.Duration // for how long a message is leased to a worker
	Budget   int           // how many messages of a group may be held at once, by all workers together
	// PausedUntil is until when a consumer hands nothing out; zero means that it does at once.
	PausedUntil time.Time
}

// A SettingError is a setting of what is there already that would break the promise. It is never changed for its
// owner, who may have meant it.
type SettingError struct {
	Stream   string
	Consumer string // empty if the setting is the stream's own
	Setting  string // as it stands on the wire, and in the nats tool
	Got      string
	Want     string
}

func (e *SettingError) Error() string {
	owner := fmt.Sprintf("stream %q", e.Stream)
	if e.Consumer != "" {
		owner = fmt.Sprintf("consumer %q of stream %q", e.Consumer, e.Stream)
	}
	return fmt.Sprintf("%s: %s is %s and must be %s", owner, e.Setting, e.Got, e.Want)
}

func workConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 Work,
		Description:          "Mandrill: requests that are queued or in flight, one at a time for a group and host",
		Subjects:             []string{workPrefix + ">"},
		Retention:            jetstream.WorkQueuePolicy,
		MaxMsgsPerSubject:    1,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		Duplicates:           duplicateWindow,
	}
}

func journalConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Journal,
		Description:       "Mandrill: what requests have triggered; without it no request may trigger anything",
		Subjects:          []string{journalPrefix + ">"},
		MaxAge:            journalMaxAge,
		MaxMsgsPerSubject: -1,
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		DenyPurge:         true,
		Duplicates:        duplicateWindow,
	}
}

func deadConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Dead,
		Description:       "Mandrill: requests that were given up",
		Subjects:          []string{deadPrefix + ">"},
		MaxAge:            deadMaxAge,
		MaxMsgsPerSubject: -1,
		Discard:           jetstream.DiscardNew, // a letter that finds no room is an error, and pushes out no other
		Duplicates:        duplicateWindow,
	}
}

func campaignsConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 Campaigns,
		Description:          "Mandrill: campaigns that are not over",
		Subjects:             []string{campaignPrefix + ">"},
		Retention:            jetstream.WorkQueuePolicy,
		MaxMsgsPerSubject:    1,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		Duplicates:           duplicateWindow,
	}
}

func campaignConsumerConfig(group restart.Group, s Settings) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       CampaignConsumerName(group),
		FilterSubject: CampaignFilter(group),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.AckWait,
		MaxDeliver:    -1,
	}
}

func consumerConfig(group restart.Group, s Settings) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable:       ConsumerName(group),
		FilterSubject: WorkFilter(group),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: s.Budget,
	}
	if !s.PausedUntil.IsZero() {
		cfg.PauseUntil = &s.PausedUntil
	}
	return cfg
}

// checkStream compares what decides whether a confirmed message is there until its own time has come. Limits on number
// and size are not among it: with "discard new" they refuse, aloud, and drop nothing.
func checkStream(got, want jetstream.StreamConfig, minAge time.Duration) error {
	c := check{stream: want.Name}
	c.must("subjects", strings.Join(got.Subjects, ","), strings.Join(want.Subjects, ","))
	c.must("retention", got.Retention, want.Retention)
	c.must("storage", got.Storage, jetstream.FileStorage)
	c.must("discard", got.Discard, want.Discard)
	c.must("max_msgs_per_subject", got.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	c.must("discard_new_per_subject", got.DiscardNewPerSubject, want.DiscardNewPerSubject)
	c.mustLast(got.MaxAge, minAge)

	c.must("no_ack", got.NoAck, false)
	c.must("sealed", got.Sealed, false)
	c.must("persist_mode", got.PersistMode, jetstream.DefaultPersistMode)
	c.must("allow_rollup_hdrs", got.AllowRollup, false) // by which a publisher removes what others published
	c.must("allow_msg_ttl", got.AllowMsgTTL, false)     // by which a message removes itself
	c.must("subject_transform", got.SubjectTransform != nil, false)
	c.must("mirror", got.Mirror != nil, false)
	c.must("sources", len(got.Sources), 0)
	if want.DenyDelete {
		c.must("deny_delete", got.DenyDelete, true)
	}
	if want.DenyPurge {
		c.must("deny_purge", got.DenyPurge, true)
	}
	return errors.Join(c.errs...)
}

// checkConsumer compares what decides whether a message is handed out until it is settled, whole, and to its own group.
func checkConsumer(stream string, got, want jetstream.ConsumerConfig) error {
	c := check{stream: stream, consumer: want.Durable}
	filters := got.FilterSubjects
	if got.FilterSubject != "" {
		filters = []string{got.FilterSubject}
	}
	c.must("filter_subject", strings.Join(filters, ","), want.FilterSubject)
	c.must("ack_policy", got.AckPolicy, want.AckPolicy)
	c.must("max_deliver", got.MaxDeliver, want.MaxDeliver)
	c.must("backoff", len(got.BackOff), 0) // it would replace ack_wait
	c.must("headers_only", got.HeadersOnly, false)
	return errors.Join(c.errs...)
}

// A check collects what is wrong with one stream or consumer, so that an operator can mend it all at once.
type check struct {
	stream, consumer string
	errs             []error
}

func (c *check) must(setting string, got, want any) {
	if got != want {
		c.add(setting, fmt.Sprint(got), fmt.Sprint(want))
	}
}

func (c *check) mustLast(got, atLeast time.Duration) {
	switch {
	case got == forever, atLeast != forever && got >= atLeast:
	case atLeast == forever:
		c.add("max_age", got.String(), "unlimited")
	default:
		c.add("max_age", got.String(), atLeast.String()+" or more, or unlimited")
	}
}

func (c *check) add(setting, got, want string) {
	if got == "" {
		got = "empty"
	}
	c.errs = append(c.errs, &SettingError{Stream: c.stream, Consumer: c.consumer, Setting: setting, Got: got, Want: want})
}
