package bench

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// However the network cuts it into pieces, not one real name may reach the server.
func TestRenamer_RenamesWhateverThePieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{"mandrill", "MANDRILL", "mandr", "ill", "m", "ma", "\r\n", ".x", "MAN", "DRILL"})).Draw(t, "parts")
		text := strings.Join(parts, "") + "\r\n"
		r := renamer{pairs: [][2]string{{"mandrill", "bnchabcd"}, {"MANDRILL", "BNCHABCD"}}}
		var got bytes.Buffer
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			got.Write(r.rename(rest[:n]))
			rest = rest[n:]
		}
		want := strings.NewReplacer("mandrill", "bnchabcd", "MANDRILL", "BNCHABCD").Replace(text)
		if got.String() != want {
			t.Fatalf("%q: got %q, want %q", text, got.String(), want)
		}
	})
}

func TestScratch_IsAsLongAsTheRealNameAndNobodyElses(t *testing.T) {
	one, two := NewScratch(), NewScratch()
	if len(one) != len(realName) || one == two || strings.ToLower(string(one)) != string(one) {
		t.Errorf("got %q and %q", one, two)
	}
}

// What cannot be renamed would reach the real streams.
func TestCheckURLs_RefusesWhatCannotBeRenamed(t *testing.T) {
	for urls, ok := range map[string]bool{
		"nats://a:4222": true, "a:4222": true, "nats://u:p@a, nats://b": true,
		"tls://a": false, "ws://a": false, "nats://a,wss://b": false,
	} {
		if err := Scratch("").CheckURLs(urls); (err == nil) != ok {
			t.Errorf("%s: got %v", urls, err)
		}
	}
}
