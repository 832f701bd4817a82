package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Schedules is the stream of definitions, firings and results of schedules, and ScheduleConsumer the one durable consumer
// of the firings.
const (
	Schedules        = "MANDRILL_SCHEDULE"
	ScheduleConsumer = "mandrill-schedules"
)

const (
	schedulePrefix       = "mandrill.schedule."
	scheduleDefPrefix    = schedulePrefix + "def."
	scheduleFirePrefix   = schedulePrefix + "fire."
	scheduleResultPrefix = schedulePrefix + "result."
)

// AllScheduleDefs is the filter for the definitions of all schedules.
const AllScheduleDefs = scheduleDefPrefix + "*"

// ScheduleDef returns where a schedule's definition stands.
func ScheduleDef(name string) string { return scheduleDefPrefix + name }

// ScheduleFire returns where a schedule's firings are stored.
func ScheduleFire(name string) string { return scheduleFirePrefix + name }

// ScheduleResult returns where it stands what has become of a schedule's firings.
func ScheduleResult(name string) string { return scheduleResultPrefix + name }

// ScheduleOf returns the name of the schedule that a definition or firing on that subject is of.
func ScheduleOf(subject string) string {
	return strings.TrimPrefix(strings.TrimPrefix(subject, scheduleDefPrefix), scheduleFirePrefix)
}

const (
	// maxFirings is how many firings of one schedule wait for a worker; more push out the oldest.
	maxFirings = 128
	minFirings = 16 // that an operator may have set instead

	scheduleAckWait = 30 * time.Second
)

func schedulesConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Schedules,
		Description:       "Mandrill: schedules, their firings, and what has become of them",
		Subjects:          []string{scheduleDefPrefix + "*", scheduleFirePrefix + "*", scheduleResultPrefix + "*"},
		Discard:           jetstream.DiscardOld, // the server schedules in no other
		MaxMsgsPerSubject: maxFirings,
		AllowMsgSchedules: true,
		AllowMsgTTL:       true,
		AllowRollup:       true,
		Duplicates:        duplicateWindow,
	}
}

// EnsureSchedules creates the stream of schedules if it is absent and checks it if it is present. A setting that would
// break the promise is a *SettingError.
func EnsureSchedules(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.Stream, error) {
	return Retry(ctx, func(ctx context.Context) (jetstream.Stream, error) {
		found, err := js.Stream(ctx, Schedules)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			found, err = create(ctx, js, schedulesConfig(), s.Replicas)
		case err != nil:
			err = fmt.Errorf("cannot look at stream %q: %w", Schedules, err)
		}
		if err != nil {
			return nil, err
		}
		return found, checkSchedules(found.CachedInfo().Config)
	})
}

// EnsureScheduleConsumer creates the consumer of firings if it is absent and checks it if it is present. A setting that
// would break the promise is a *SettingError. How long its leases are is the operator's choice.
func EnsureScheduleConsumer(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	return ensureConsumer(ctx, js, Schedules, jetstream.ConsumerConfig{
		Durable:       ScheduleConsumer,
		FilterSubject: scheduleFirePrefix + "*",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       scheduleAckWait,
		MaxDeliver:    -1,
	})
}

// checkSchedules compares what decides whether a definition stays until it is removed, fires, and is read as it is. It
// differs from checkStream in what a stream must be that pushes out old messages by design.
func checkSchedules(got jetstream.StreamConfig) error {
	c := check{stream: Schedules}
	c.must("subjects", strings.Join(got.Subjects, ","), strings.Join(schedulesConfig().Subjects, ","))
	// False is what a server before 2.12 makes of it. One before 2.14 schedules single times alone, and refuses a definition
	// with a cron expression.
	c.must("allow_msg_schedules", got.AllowMsgSchedules, true)
	c.must("allow_msg_ttl", got.AllowMsgTTL, true)
	c.must("retention", got.Retention, jetstream.LimitsPolicy)
	c.must("storage", got.Storage, jetstream.FileStorage)
	c.mustLast(got.MaxAge, forever)
	c.must("max_msgs", got.MaxMsgs, int64(-1)) // firings of one schedule must not push out another's definition
	c.must("max_bytes", got.MaxBytes, int64(-1))
	if n := got.MaxMsgsPerSubject; n >= 0 && n < minFirings {
		c.add("max_msgs_per_subject", fmt.Sprint(n), fmt.Sprintf("%d or more, or unlimited", minFirings))
	}
	c.must("allow_direct", got.AllowDirect, false) // a follower that is behind would show a paused schedule as running
	c.must("no_ack", got.NoAck, false)
	c.must("sealed", got.Sealed, false)
	c.must("deny_purge", got.DenyPurge, false)
	c.must("subject_transform", got.SubjectTransform != nil, false)
	c.must("mirror", got.Mirror != nil, false)
	c.must("sources", len(got.Sources), 0)
	return errors.Join(c.errs...)
}
