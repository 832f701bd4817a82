// Package plainjsontest holds what is encoded by hand against encoding/json.
package plainjsontest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Run encodes values of T, with anything in each of their fields, also in those that come to be: what is added to the
// struct and not to encode is found.
func Run[T any](t *testing.T, encode func(value *T, buf []byte) ([]byte, error)) {
	values := rapid.MakeCustom[T](rapid.MakeConfig{
		Types: map[reflect.Type]*rapid.Generator[any]{reflect.TypeFor[time.Time](): times().AsAny()},
		Kinds: map[reflect.Kind]*rapid.Generator[any]{reflect.String: texts().AsAny()},
	})
	var buf []byte
	rapid.Check(t, func(t *rapid.T) {
		value := values.Draw(t, "value")
		want, wantErr := json.Marshal(value)
		got, err := encode(&value, buf)
		if (err != nil) != (wantErr != nil) || !bytes.Equal(got, want) {
			t.Fatalf("got  %s, %v\nwant %s, %v", got, err, want, wantErr)
		}
		buf = got // which is overwritten, or too short, the next time
	})
}

// texts returns texts with all that JSON writes in another way, and what is not UTF-8.
func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "restarted, and ready after 2 s"}),
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("\"\\/<>&\x00\b\t\n\v\f\r\x1b\x1f\x7f\u0080\u2028\u2029\ufffd\U0001F642 a"))),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
}

// times returns times of which most have a form in RFC 3339: an object with another has none in JSON.
func times() *rapid.Generator[time.Time] {
	usual := timesWithin(0, 9999, 23*3600)
	return rapid.OneOf(rapid.Just(time.Time{}), usual, usual, usual, usual, usual, timesWithin(-1, 10001, 26*3600))
}

func timesWithin(first, last, offset int) *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		zone := time.FixedZone("", rapid.IntRange(-offset, offset).Draw(t, "offset"))
		nanos := rapid.OneOf(rapid.SampledFrom([]int{0, 5e8, 123e6}), rapid.IntRange(0, 999_999_999)).Draw(t, "nanoseconds")
		return time.Date(rapid.IntRange(first, last).Draw(t, "year"), time.December, 31, 23, 59, 59, nanos, zone)
	})
}
