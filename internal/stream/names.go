// Package stream knows the names, subjects and settings of every stream, bucket and consumer, and brings them about.
//
// Nothing else in Mandrill spells a subject. A stream that is absent is created; one that is present is checked, and
// a setting that would break the promise is an error which names the setting, while anything else stays as it was set.
package stream

import (
	"crypto/sha1"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// The streams.
const (
	Work    = "MANDRILL"
	Journal = "MANDRILL_JOURNAL"
	Dead    = "MANDRILL_DEAD"

	// Campaigns hands campaigns out that are not over. What they are to do, and how far they are, is in CampaignBucket.
	Campaigns = "MANDRILL_CAMPAIGN"
)

// What NATS puts before a bucket's name: that of the stream on which it stands, and the subjects of its changes.
const (
	bucketStream  = "KV_"
	bucketSubject = "$KV."
)

// CampaignBucket is the bucket of the campaigns' documents, CampaignBucketStream the stream that it stands on, and
// CampaignChanges where each change of it passes, on plain NATS, on its way there.
const (
	CampaignBucket       = "mandrill-campaigns"
	CampaignBucketStream = bucketStream + CampaignBucket
	CampaignChanges      = bucketSubject + CampaignBucket + ".>"
)

// Control is the bucket of what steers the workers of a fleet, ControlStream the stream that it stands on, and
// ControlChanges where each change of it passes, on plain NATS, on its way there.
const (
	Control        = "mandrill-control"
	ControlStream  = bucketStream + Control
	ControlChanges = bucketSubject + Control + ".>"
)

// VersionHeader carries restart.WireVersion.
const VersionHeader = "Mandrill-Version"

const (
	workPrefix    = "mandrill.restart."
	journalPrefix = "mandrill.journal."
	deadPrefix    = "mandrill.dead."
	outcomePrefix = "mandrill.outcome."

	campaignPrefix = "mandrill.campaign."

	consumerPrefix         = "mandrill-"
	campaignConsumerPrefix = "mandrill-campaigns-"
)

// ConsumerName returns the name of a group's one durable consumer.
func ConsumerName(group restart.Group) string { return consumerPrefix + string(group) }

// GroupOf returns the group whose consumer is called so.
func GroupOf(consumer string) (group restart.Group, ok bool) {
	name, ok := strings.CutPrefix(consumer, consumerPrefix)
	if !ok {
		return "", false
	}
	group, err := restart.ParseGroup(name)
	return group, err == nil
}

// WorkSubject returns where requests for a host are published: one at a time is taken.
func WorkSubject(group restart.Group, host restart.Host) string {
	return workPrefix + string(group) + "." + string(host)
}

// WorkFilter returns what a group's consumer takes.
func WorkFilter(group restart.Group) string { return workPrefix + string(group) + ".>" }

// ParseWorkSubject returns the group and the host that a work subject names.
func ParseWorkSubject(subject string) (restart.Group, restart.Host, error) {
	rest, ok := strings.CutPrefix(subject, workPrefix)
	if !ok {
		return "", "", fmt.Errorf("%q is not a work subject", subject)
	}
	g, h, ok := strings.Cut(rest, ".")
	if !ok {
		return "", "", fmt.Errorf("%q names no host", subject)
	}
	group, err := restart.ParseGroup(g)
	if err != nil {
		return "", "", fmt.Errorf("subject %q: %w", subject, err)
	}
	host, err := restart.ParseHost(h)
	if err != nil {
		return "", "", fmt.Errorf("subject %q: %w", subject, err)
	}
	if string(host) != h {
		return "", "", fmt.Errorf("subject %q: host is not in lower case", subject)
	}
	return group, host, nil
}

// JournalSubject returns where a request's events are appended.
func JournalSubject(group restart.Group, id uuid.UUID, host restart.Host) string {
	return journalPrefix + string(group) + "." + id.String() + "." + string(host)
}

// JournalByID returns the filter for all events under an id, whatever group and host they name.
func JournalByID(id uuid.UUID) string { return journalPrefix + "*." + id.String() + ".>" }

// JournalByGroup returns the filter for all events of a group; of all groups, if it is empty.
func JournalByGroup(group restart.Group) string {
	if group == "" {
		return journalPrefix + ">"
	}
	return journalPrefix + string(group) + ".>"
}

// JournalByHost returns the filter for the events of all requests for a host.
func JournalByHost(group restart.Group, host restart.Host) string {
	return journalPrefix + string(group) + ".*." + string(host)
}

// ParseJournalSubject returns what a journal subject names.
func ParseJournalSubject(subject string) (group restart.Group, id uuid.UUID, host restart.Host, err error) {
	rest, ok := strings.CutPrefix(subject, journalPrefix)
	tokens := strings.SplitN(rest, ".", 3)
	if !ok || len(tokens) != 3 {
		return "", uuid.Nil, "", fmt.Errorf("%q is not a journal subject", subject)
	}
	id, err = uuid.Parse(tokens[1])
	if err != nil {
		return "", uuid.Nil, "", fmt.Errorf("journal subject %q: %w", subject, err)
	}
	return restart.Group(tokens[0]), id, restart.Host(tokens[2]), nil
}

// DeadSubject returns where the dead letter of one work message goes, by the message's own subject, which a foreign
// publisher may have chosen badly.
func DeadSubject(workSubject string, workSequence uint64) string {
	return fmt.Sprintf("%s%s.%d", deadPrefix, strings.TrimPrefix(workSubject, workPrefix), workSequence)
}

// DeadFilter returns the filter for the dead letters of one host.
func DeadFilter(group restart.Group, host restart.Host) string {
	return deadPrefix + string(group) + "." + string(host) + ".*"
}

// OutcomeSubject returns where a host's outcomes are told, on plain NATS, to those who wait and watch.
func OutcomeSubject(group restart.Group, host restart.Host) string {
	return outcomePrefix + string(group) + "." + string(host)
}

// CampaignConsumerName returns the name of the one durable consumer of a group's campaigns.
func CampaignConsumerName(group restart.Group) string { return campaignConsumerPrefix + string(group) }

// CampaignSubject returns where a campaign is handed to the workers that serve its group.
func CampaignSubject(group restart.Group, id uuid.UUID) string {
	return campaignPrefix + string(group) + "." + id.String()
}

// CampaignFilter returns what the consumer of a group's campaigns takes.
func CampaignFilter(group restart.Group) string { return campaignPrefix + string(group) + ".*" }

// ParseCampaignSubject returns the group and the campaign that a subject names.
func ParseCampaignSubject(subject string) (restart.Group, uuid.UUID, error) {
	rest, ok := strings.CutPrefix(subject, campaignPrefix)
	g, text, both := strings.Cut(rest, ".")
	if !ok || !both {
		return "", uuid.Nil, fmt.Errorf("%q is not a campaign's subject", subject)
	}
	group, err := restart.ParseGroup(g)
	if err != nil {
		return "", uuid.Nil, fmt.Errorf("subject %q: %w", subject, err)
	}
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return "", uuid.Nil, fmt.Errorf("subject %q: %q is not a campaign's id", subject, text)
	}
	return group, id, nil
}

// StoreKey returns where the control bucket says which database a group's workers remember in.
func StoreKey(group restart.Group) string { return "store." + string(group) }

// The keys of the control bucket, beside StoreKey.
const (
	PausePrefix  = "pause."  // then group and cause: what holds a group back
	ToldPrefix   = "told."   // then group and cause: people were told of that pause
	BudgetPrefix = "budget." // then group: how many of its messages may be held at once, by all workers together
	RowPrefix    = "row."    // then group: hosts in a row that did not come back
	AbortPrefix  = "abort."  // then campaign: it was aborted, and no request of it may trigger anything
)

// FallbackID returns the id of a work message that brought no usable one: derived from the stream's creation and the
// message's sequence, so that every delivery of it has the same.
func FallbackID(streamCreatedUnixNano int64, workSequence uint64) uuid.UUID {
	name := make([]byte, 0, 128) // stays on the stack: each delivery asks
	name = append(append(name, fallbackSpace[:]...), Work+"/"...)
	name = append(strconv.AppendInt(name, streamCreatedUnixNano, 10), '/')
	hash := sha1.Sum(strconv.AppendUint(name, workSequence, 10))
	id := uuid.UUID(hash[:16])
	id[6] = id[6]&0x0f | 0x50 // version 5
	id[8] = id[8]&0x3f | 0x80 // the variant of RFC 9562
	return id
}

// RequestID returns the id that a worker reads in a stored work message, which need not be in its headers where a foreign
// publisher wrote it: that of the request or, of one that brought none or cannot be read, the fallback id.
func RequestID(msg *jetstream.RawStreamMsg, workCreated time.Time, group restart.Group, host restart.Host) uuid.UUID {
	fallback := FallbackID(workCreated.UnixNano(), msg.Sequence)
	r, err := restart.Decode(restart.Envelope{
		Version: msg.Header.Get(VersionHeader), Group: group, Host: host, Stored: msg.Time, FallbackID: fallback,
	}, msg.Data)
	if err != nil {
		return fallback
	}
	return r.ID
}

var fallbackSpace = uuid.MustParse("5a7b0c3e-6d52-5f0e-9d0a-6d616e647269")
