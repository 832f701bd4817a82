package restart

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The fear: a request is read as something else than what every other reader of JSON takes it for.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"id":"0198a7b0-1c2d-7000-8000-000000000001","instance":"a","host":"b","group":"c"}`, `{}`, ` { } `, `{"id":""}`, `{"id":"a",}`,
		`{,"id":"a"}`, `{"id":"a" "host":"b"}`, `{"id":"a"}}`, `{"id":"a"} x`, `{"host":"a","host":"b"}`, `{"host":"a","HOST":"b"}`,
		`{"requested_at":""}`, `{"not_after":null}`, `{"min_uptime":"168h"}`, "{\"reason\":\"\xff\"}", "{\"reason\":\"é\u2028\"}", `{"reason":"\u0000"}`,
		"{\"reason\":\"\x7f\"}", "{\"reason\":\"\t\"}", "\ufeff{}", `{"id":"`, `{"id"`, `{`, ``, `{"unknown":"x"}`, "\v{}", "{\u00a0}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(wantSameAsJSON)
}

func TestScan_ReadsWhatJSONReads(t *testing.T) {
	part := rapid.SampledFrom([]string{
		`{`, `}`, `"id"`, `"host"`, `"Host"`, `"requested_at"`, `"other"`, `:`, `,`, `"a"`, `""`, `null`, `7`, `"\n"`, ` `, "\n", `"é"`, "\"\xff\"",
	})
	rapid.Check(t, func(rt *rapid.T) {
		wantSameAsJSON(t, []byte(strings.Join(rapid.SliceOfN(part, 0, 14).Draw(rt, "parts"), "")))
	})
}

func wantSameAsJSON(t *testing.T, data []byte) {
	got, plain := scan(data)
	if !plain {
		return
	}
	want, err := unmarshal(data)
	if err != nil {
		t.Fatalf("%q is taken, and is none: %v", data, err)
	}
	for _, p := range []*payload{&got, &want} {
		for _, text := range []*[]byte{&p.id, &p.host, &p.group, &p.instance, &p.reason, &p.requestedBy, &p.campaign, &p.replayOf, &p.requeued} {
			*text = append([]byte{}, *text...) // where there is none, it is empty
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(payload{})); diff != "" {
		t.Errorf("%q (-want +got):\n%s", data, diff)
	}
}

// What Encode writes must be plain, or nobody gains anything.
func TestScan_WhatIsEncodedIsPlain(t *testing.T) {
	r := Request{Instance: "cattle-a1b2", Reason: "kernel update", RequestedBy: "ann@example.net", Campaign: "c", ReplayOf: "r", MinUptime: 1}
	if err := r.Complete("example.net", time.Now()); err != nil {
		t.Fatal(err)
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, plain := scan(data); !plain {
		t.Errorf("%s is not plain", data)
	}
}
