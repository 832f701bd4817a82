package stream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// SubjectsOf returns the subjects that match a filter and that a stream holds something on, sorted. It needs no consumer,
// so that whoever only looks needs no permission to create one: that is a permission to have anything delivered anywhere.
func SubjectsOf(ctx context.Context, s jetstream.Stream, filter string) ([]string, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("cannot look at what stream %q holds: %w", s.CachedInfo().Config.Name, err)
	}
	return slices.Sorted(maps.Keys(info.State.Subjects)), nil
}

// KeysOf returns the keys of a bucket that begin with the prefix, which ends with a dot or is empty, sorted. One that was
// deleted may be among them. It needs no consumer.
func KeysOf(ctx context.Context, js jetstream.JetStream, bucket, prefix string) ([]string, error) {
	s, err := js.Stream(ctx, bucketStream+bucket)
	if err != nil {
		return nil, fmt.Errorf("cannot look at bucket %q: %w", bucket, err)
	}
	root := bucketSubject + bucket + "."
	keys, err := SubjectsOf(ctx, s, root+prefix+">")
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], root)
	}
	return keys, err
}
