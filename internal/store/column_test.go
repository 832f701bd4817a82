package store_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
)

// What a host answered may hold anything. An outcome whose checks cannot be read again would fail every question for it.
func TestChecksText_IsReadAgainAsItWas(t *testing.T) {
	text := rapid.Map(rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("\"\\/<&>\x01\b\t\n\r\x1f\x7f\u2028\U0001F642 a"))),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	), store.Text)
	check := rapid.Custom(func(t *rapid.T) restart.Check {
		return restart.Check{Name: text.Draw(t, "name"), Result: text.Draw(t, "result")}
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(check, 1, 5).Draw(t, "checks")
		stored := store.ChecksText(want)
		if !json.Valid([]byte(stored)) {
			t.Fatalf("%q is not JSON", stored)
		}
		var got store.Checks
		if err := got.Scan(stored); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, []restart.Check(got)); diff != "" {
			t.Errorf("read back from %q (-want +got):\n%s", stored, diff)
		}
	})
}

func TestChecksText_OfNoneIsEmpty(t *testing.T) {
	if got := store.ChecksText(nil); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
