package command

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestOutput_KeepsTheEndHoweverItIsWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(rt, "max")
		out := &output{max: limit}
		var all []byte
		for _, chunk := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 50)).Draw(rt, "chunks") {
			n, err := out.Write(chunk)
			if n != len(chunk) || err != nil {
				rt.Fatalf("Write of %d bytes: got %d, %v", len(chunk), n, err)
			}
			all = append(all, chunk...)
			if want := all[max(0, len(all)-limit):]; !bytes.Equal(out.kept, want) {
				rt.Fatalf("got %q, want %q", out.kept, want)
			}
			if want := len(all) > limit; out.cut != want {
				rt.Fatalf("cut: got %t, want %t", out.cut, want)
			}
		}
	})
}

func TestOutput_DoesNotGrow(t *testing.T) {
	const limit, chunk = 4096, 32 << 10
	out := &output{max: limit}
	for n := range 10_000 {
		_, _ = out.Write(make([]byte, n%chunk))
	}
	if c := cap(out.kept); c > 4*limit {
		t.Errorf("got %d bytes of memory for %d", c, limit)
	}
}
