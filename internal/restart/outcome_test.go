package restart_test

import (
	"testing"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/plainjson/plainjsontest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

func TestOutcome_IsEncodedAsByEncodingJSON(t *testing.T) {
	plainjsontest.Run(t, (*restart.Outcome).EncodeInto)
}

func BenchmarkOutcome_EncodeInto(b *testing.B) {
	o := restart.Outcome{
		ID: id, Host: "host-1.example.net", Group: "default", Kind: restart.Restarted, Reason: restart.ReasonVerified,
		Detail: "another boot runs, and is ready", At: now.Add(4 * time.Second),
		Receipt: restart.Receipt{
			RequestedBy: "roman", RequestedAt: now, Worker: "worker-1-0a1b2c3d", Attempt: 1,
			From: "0198a7b0-1c2d-7000-8000-00000000000a", To: "0198a7b0-1c2d-7000-8000-00000000000b",
			TriggeredAt: now.Add(time.Second), VerifiedAt: now.Add(3 * time.Second), Down: restart.Duration(1234 * time.Millisecond),
			Checks: []restart.Check{{Name: "epoch", Result: "another boot runs"}, {Name: "ready", Result: "ready"}},
		},
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		data, err := o.EncodeInto(buf)
		if err != nil {
			b.Fatal(err)
		}
		buf = data
	}
}
