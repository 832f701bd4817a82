package restart_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

var (
	now      = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	id       = uuid.MustParse("0198a7b0-1c2d-7000-8000-000000000001")
	fallback = uuid.MustParse("5a7b0c3e-6d52-5f0e-9d0a-000000000001")
	envelope = restart.Envelope{Group: "default", Host: "host-1.example.net", Stored: now, FallbackID: fallback}
)

func newRequest() restart.Request {
	return restart.Request{
		ID: id, Instance: "host-1", Host: "host-1.example.net", Group: "default", Reason: "leaks <memory> & \"more\"",
		RequestedBy: "roman", RequestedAt: now, NotAfter: now.Add(day), Campaign: "c", ReplayOf: "r", RequeuedFrom: "q",
		MinUptime: restart.Duration(7 * day),
	}
}

func TestRequest_CompleteFillsInWhatIsLeftOpen(t *testing.T) {
	zone := time.FixedZone("", 7200)
	r := restart.Request{Instance: "Host-1"}
	if err := r.Complete("example.net", now.In(zone)); err != nil {
		t.Fatal(err)
	}
	if r.ID.Version() != 7 {
		t.Errorf("id: got %s, of version %s, want a UUIDv7", r.ID, r.ID.Version())
	}
	want := restart.Request{
		ID: r.ID, Instance: "Host-1", Host: "host-1.example.net", Group: "default",
		RequestedAt: now, NotAfter: now.Add(day),
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if r.RequestedAt.Location() != time.UTC || r.NotAfter.Location() != time.UTC {
		t.Errorf("times: got %s and %s, want UTC", r.RequestedAt, r.NotAfter)
	}
}

func TestRequest_CompleteLeavesWhatIsSet(t *testing.T) {
	r, want := newRequest(), newRequest()
	if err := r.Complete("elsewhere.org", now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestRequest_CompleteNamesTheBadField(t *testing.T) {
	for _, tt := range []struct {
		name, field string
		change      func(*restart.Request)
	}{
		{"no host and no instance", "instance", func(r *restart.Request) { r.Host, r.Instance = "", "" }},
		{"a bad instance", "instance", func(r *restart.Request) { r.Host, r.Instance = "", "a;b" }},
		{"not_after is now", "not_after", func(r *restart.Request) { r.NotAfter = now }},
		{"not_after has passed", "not_after", func(r *restart.Request) { r.NotAfter = now.Add(-1) }},
		{"its default has passed", "not_after", func(r *restart.Request) { r.RequestedAt, r.NotAfter = now.Add(-day), time.Time{} }},
		{"a bad host", "host", func(r *restart.Request) { r.Host = "a b" }},
		{"a bad group", "group", func(r *restart.Request) { r.Group = "a.b" }},
		{"beyond the journal's horizon by a clock ahead", "not_after", func(r *restart.Request) {
			r.RequestedAt = now.Add(2 * day)
			r.NotAfter = r.RequestedAt.Add(6 * day)
		}},
		{"it lives too long", "not_after", func(r *restart.Request) { r.NotAfter = now.Add(7*day + 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest()
			tt.change(&r)
			wantField(t, r.Complete("example.net", now), tt.field)
		})
	}
}

func TestRequest_ValidateNamesTheBadField(t *testing.T) {
	for _, tt := range []struct {
		name, field string
		change      func(*restart.Request)
	}{
		{"no id", "id", func(r *restart.Request) { r.ID = uuid.Nil }},
		{"no host", "host", func(r *restart.Request) { r.Host = "" }},
		{"a host in upper case", "host", func(r *restart.Request) { r.Host = "Host-1.example.net" }},
		{"no group", "group", func(r *restart.Request) { r.Group = "" }},
		{"no requested_at", "requested_at", func(r *restart.Request) { r.RequestedAt = time.Time{} }},
		{"no not_after", "not_after", func(r *restart.Request) { r.NotAfter = time.Time{} }},
		{"not_after before requested_at", "not_after", func(r *restart.Request) { r.NotAfter = now.Add(-1) }},
		{"a life of more than 7 days", "not_after", func(r *restart.Request) { r.NotAfter = now.Add(7*day + 1) }},
		{"a life that cannot be counted", "not_after", func(r *restart.Request) { r.NotAfter = now.AddDate(5000, 0, 0) }},
		{"a time before all years", "requested_at", func(r *restart.Request) {
			r.RequestedAt = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)
			r.NotAfter = r.RequestedAt.Add(hour)
		}},
		{"a time after all years", "not_after", func(r *restart.Request) {
			r.RequestedAt = time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC)
			r.NotAfter = r.RequestedAt.Add(2 * hour)
		}},
		{"a reason without end", "reason", func(r *restart.Request) { r.Reason = strings.Repeat("x", 4097) }},
		{"a name without end", "requested_by", func(r *restart.Request) { r.RequestedBy = strings.Repeat("x", 1<<20) }},
		{"a negative min_uptime", "min_uptime", func(r *restart.Request) { r.MinUptime = -1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest()
			tt.change(&r)
			wantField(t, r.Validate(), tt.field)
		})
	}
	for name, change := range map[string]func(*restart.Request){
		"as it is":               func(*restart.Request) {},
		"a life of 7 days":       func(r *restart.Request) { r.NotAfter = now.Add(7 * day) },
		"a life of no time":      func(r *restart.Request) { r.NotAfter = now },
		"without min_uptime":     func(r *restart.Request) { r.MinUptime = 0 },
		"an id of another kind":  func(r *restart.Request) { r.ID = uuid.New() },
		"an instance of any ilk": func(r *restart.Request) { r.Instance = "a b;c" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest()
			change(&r)
			if err := r.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The names and forms on the wire are other people's, too.
func TestRequest_EncodeWritesWhatTheManualSays(t *testing.T) {
	r := newRequest()
	r.Reason = "leaks"
	for _, tt := range []struct {
		request restart.Request
		want    string
	}{
		{r, `{"id":"0198a7b0-1c2d-7000-8000-000000000001","instance":"host-1","host":"host-1.example.net","group":"default",` +
			`"reason":"leaks","requested_by":"roman","requested_at":"2026-05-04T12:00:00Z","not_after":"2026-05-05T12:00:00Z",` +
			`"campaign":"c","replay_of":"r","requeued_from":"q","min_uptime":"168h0m0s"}`},
		{
			restart.Request{ID: id, Instance: "h", Host: "h", Group: "g", RequestedAt: now, NotAfter: now, Raw: []byte("x")},
			`{"id":"0198a7b0-1c2d-7000-8000-000000000001","instance":"h","host":"h","group":"g",` +
				`"requested_at":"2026-05-04T12:00:00Z","not_after":"2026-05-04T12:00:00Z"}`,
		},
	} {
		got, err := tt.request.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, string(got)); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
}

func TestDecode_GivesBackWhatWasEncoded(t *testing.T) {
	want := newRequest()
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want.Raw = data
	for _, version := range []string{"", "1"} {
		env := envelope
		env.Version = version
		if diff := cmp.Diff(want, mustDecode(t, env, string(data))); diff != "" {
			t.Errorf("version %q: request (-want +got):\n%s", version, diff)
		}
	}
}

func TestDecode_FillsInWhatIsLeftOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		data string
		want restart.Request
	}{
		"everything": {`{}`, restart.Request{
			ID: fallback, Instance: "host-1.example.net", RequestedAt: now, NotAfter: now.Add(day),
		}},
		"what is null": {`{"id":null,"instance":null,"host":null,"group":null,"requested_at":null,"not_after":null,"min_uptime":null}`, restart.Request{
			ID: fallback, Instance: "host-1.example.net", RequestedAt: now, NotAfter: now.Add(day),
		}},
		"not_after, from requested_at": {`{"requested_at":"2026-05-01T14:00:00+02:00"}`, restart.Request{
			ID: fallback, Instance: "host-1.example.net", RequestedAt: now.Add(-3 * day), NotAfter: now.Add(-2 * day),
		}},
		"requested_at, from the stream": {`{"instance":"x","not_after":"2026-05-04T13:00:00.5Z"}`, restart.Request{
			ID: fallback, Instance: "x", RequestedAt: now, NotAfter: now.Add(hour + 500*time.Millisecond),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.Host, tt.want.Group, tt.want.Raw = envelope.Host, envelope.Group, []byte(tt.data)
			got := mustDecode(t, envelope, tt.data)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got.RequestedAt.Location() != time.UTC || got.NotAfter.Location() != time.UTC {
				t.Errorf("times: got %s and %s, want UTC", got.RequestedAt, got.NotAfter)
			}
		})
	}
}

// Every delivery of a message must be the same request, or its journal would be empty each time.
func TestDecode_ReplacesAnIDThatIsUnusable(t *testing.T) {
	for _, wire := range []string{
		`""`, `null`, `7`, `1e999`, `-0`, `true`, `[]`, `{}`, `["0198a7b0-1c2d-7000-8000-000000000001"]`, `{"a":[1,{}]}`, `"x"`,
		`"00000000-0000-0000-0000-000000000000"`, `"0198a7b0-1c2d-7000-8000-00000000000"`, `"0198a7b0-1c2d-7000-8000-0000000000011"`,
		`" 0198a7b0-1c2d-7000-8000-000000000001"`, `"0198a7b0-1c2d-7000-8000-00000000000g"`, `"` + strings.Repeat("a", 1<<16) + `"`,
	} {
		if got := mustDecode(t, envelope, `{"id":`+wire+`}`).ID; got != fallback {
			t.Errorf("id %.60s: got %s, want the fallback", wire, got)
		}
	}
	for _, wire := range []string{
		`"0198a7b0-1c2d-7000-8000-000000000001"`, `"0198A7B0-1C2D-7000-8000-000000000001"`, `"\u0030198a7b0-1c2d-7000-8000-000000000001"`,
	} {
		if got := mustDecode(t, envelope, `{"id":`+wire+`}`).ID; got != id {
			t.Errorf("id %s: got %s, want %s", wire, got, id)
		}
	}
}

func TestDecode_KeepsWhatItDoesNotKnow(t *testing.T) {
	const data = `{ "colour":"red", "host":"host-1.example.net", "deep":{"a":[1e999,null]} }`
	r := mustDecode(t, envelope, data)
	if string(r.Raw) != data {
		t.Errorf("got %s, want %s", r.Raw, data)
	}
}

func TestDecode_RefusesAndNamesTheBadField(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct{ name, field, data string }{
		// Permission to publish for one group and host is just that.
		{"another group than the subject's", "group", `{"group":"other"}`},
		{"the subject's group in upper case", "group", `{"group":"Default"}`},
		{"another host than the subject's", "host", `{"host":"host-2.example.net"}`},
		{"the subject's host in upper case", "host", `{"host":"HOST-1.example.net"}`},
		{"the last of two hosts counts", "host", `{"host":"host-1.example.net","host":"host-2.example.net"}`},
		{"a field's name in upper case counts", "host", `{"HOST":"host-2.example.net"}`},
		{"a very long host", "host", `{"host":"` + long + `"}`},
		{"a very long group", "group", `{"group":"` + long + `"}`},

		{"instance is a number", "instance", `{"instance":7}`},
		{"instance is a list", "instance", `{"instance":["a"]}`},
		{"host is an object", "host", `{"host":{}}`},
		{"group is true", "group", `{"group":true}`},
		{"reason is a number", "reason", `{"reason":` + strings.Repeat("9", 1<<20) + `}`},
		{"requested_by is a list", "requested_by", `{"requested_by":[]}`},

		{"requested_at is a number", "requested_at", `{"requested_at":1777896000}`},
		{"requested_at is no time", "requested_at", `{"requested_at":"yesterday"}`},
		{"requested_at is empty", "requested_at", `{"requested_at":""}`},
		{"requested_at has no zone", "requested_at", `{"requested_at":"2026-05-04T12:00:00"}`},
		{"requested_at is before all years", "requested_at", `{"requested_at":"0000-01-01T00:00:00Z","not_after":"0000-01-01T00:00:00Z"}`},
		{"not_after is a date", "not_after", `{"not_after":"2026-05-04"}`},
		{"not_after is very long", "not_after", `{"not_after":"` + long + `"}`},
		{"not_after is before requested_at", "not_after", `{"requested_at":"2026-05-04T12:00:00Z","not_after":"2026-05-04T11:59:59Z"}`},
		{"not_after is before the stream's time", "not_after", `{"not_after":"2026-05-04T11:59:59Z"}`},
		{"not_after is more than 7 days later", "not_after", `{"requested_at":"2026-05-04T12:00:00Z","not_after":"2026-05-11T12:00:01Z"}`},
		{"not_after is after all years", "not_after", `{"requested_at":"9999-12-31T23:00:00Z","not_after":"9999-12-31T23:30:00-02:00"}`},

		{"min_uptime is a number", "min_uptime", `{"min_uptime":3600}`},
		{"min_uptime has no unit", "min_uptime", `{"min_uptime":"3600"}`},
		{"min_uptime is in days", "min_uptime", `{"min_uptime":"7d"}`},
		{"min_uptime is empty", "min_uptime", `{"min_uptime":""}`},
		{"min_uptime is negative", "min_uptime", `{"min_uptime":"-1ns"}`},
		{"min_uptime cannot be counted", "min_uptime", `{"min_uptime":"9999999h"}`},
		{"min_uptime is very long", "min_uptime", `{"min_uptime":"` + long + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := restart.Decode(envelope, []byte(tt.data))
			if diff := cmp.Diff(restart.Request{}, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			wantField(t, err, tt.field)
			wantShort(t, err)
		})
	}
}

func TestDecode_RefusesWhatIsNoRequest(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":            ``,
		"null":               `null`,
		"a text":             `"host-1"`,
		"a number":           `1e999`,
		"a list":             `[{}]`,
		"half of one":        `{"host":"host-1.example.net"`,
		"two":                `{}{}`,
		"a byte order mark":  "\ufeff{}",
		"UTF-16":             "\xff\xfe{\x00}\x00",
		"NUL":                "\x00",
		"NUL in a text":      "{\"host\":\"\x00\"}",
		"no quotes":          `{host:"a"}`,
		"a comment":          `{} // now`,
		"YAML":               "host: host-1.example.net\n",
		"the original's own": "Message(instance_name='cattle-a1b2')",
		"a stream's answer":  `{"stream":"MANDRILL","seq":7,"domain":"hub","duplicate":true}`,
		"an API's answer":    `{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"description":"host"}}`,
		"too deep":           `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := restart.Decode(envelope, []byte(data))
			if err == nil {
				t.Fatalf("got %+v, want an error", got)
			}
			wantShort(t, err)
		})
	}
}

func TestDecode_RefusesAVersionThatItDoesNotKnow(t *testing.T) {
	for _, version := range []string{"0", "2", "1.0", " 1", "v1", "\x00", strings.Repeat("1", 1<<20)} {
		env := envelope
		env.Version = version
		_, err := restart.Decode(env, []byte(`{}`))
		if err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("version %.20q: got %v, want an error that names it", version, err)
			continue
		}
		wantShort(t, err)
	}
}

// wantShort keeps a stranger's megabyte out of the log, the database and the dead letter.
func wantShort(t *testing.T, err error) {
	t.Helper()
	if n := len(fmt.Sprint(err)); n > 1000 {
		t.Errorf("got an error of %d bytes", n)
	}
}

func mustDecode(t testing.TB, env restart.Envelope, data string) restart.Request {
	t.Helper()
	r, err := restart.Decode(env, []byte(data))
	if err != nil {
		t.Fatalf("%.100s: %v", data, err)
	}
	return r
}

// With the header, or one field of a request, whatever else is there was meant for us.
func TestDecode_TakesFieldsThatNobodyKnows(t *testing.T) {
	newer := envelope
	newer.Version = restart.WireVersion
	mustDecode(t, newer, `{"priority":7}`)
	mustDecode(t, envelope, `{"priority":7,"Reason":"kernel"}`)
}

// Nothing that arrives may stop a worker, and what it takes must be what every other worker would take.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, ``, `[]`, `7`, `"x"`, `{"id":7}`, `{"id":"0198a7b0-1c2d-7000-8000-000000000001"}`, `{"id":1e999}`,
		`{"id":"{0198a7b0-1c2d-7000-8000-000000000001}"}`, `{"id":"a","ID":"b"}`, `{"host":"host-1.example.net","host":"b"}`,
		`{"Host":"host-1.example.net","gROUP":"default"}`, "\ufeff{}", "{\"reason\":\"\x00\"}", "{\"reason\":\"\\u0000\"}",
		"{\"reason\":\"\xff\xfe\"}", `{"reason":"\ud800"}`, `{"instance":"a b;c\n"}`, `{"x":1e999,"y":-0.0e-999}`,
		`{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{"x":` + strings.Repeat(`{"x":`, 200),
		`{"x":` + strings.Repeat("9", 1000) + `}`, `{"requested_at":"2026-05-04T12:00:00.999999999Z"}`,
		`{"requested_at":"0001-01-01T00:00:00Z"}`, `{"requested_at":"0001-01-01T00:00:00+23:59"}`,
		`{"requested_at":"9999-12-31T23:59:59-23:59"}`, `{"requested_at":"9999-12-30T23:59:59Z","not_after":"9999-12-31T23:59:59-23:59"}`,
		`{"requested_at":"0000-01-01T00:00:00+23:59","not_after":"0000-01-01T00:00:00Z"}`, `{"not_after":"2026-05-11T12:00:00Z"}`,
		`{"requested_at":null,"min_uptime":null}`, `{"min_uptime":"168h"}`, `{"min_uptime":"-1h"}`, `{"min_uptime":"2562047h47m16.854775807s"}`,
		`{"min_uptime":"1.0000000001ns"}`, `{"min_uptime":168}`, `{"unknown":{"host":"b"}}`, `{"Request":{"host":"b"}}`,
	} {
		f.Add([]byte(seed), "")
	}
	f.Add([]byte(`{}`), "1")
	f.Add([]byte(`{}`), "2")
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		env := envelope
		env.Version = version
		came := bytes.Clone(data)
		r, err := restart.Decode(env, data)
		if !bytes.Equal(came, data) {
			t.Fatal("the message was changed")
		}
		if err != nil {
			if diff := cmp.Diff(restart.Request{}, r); diff != "" {
				t.Errorf("a request beside an error (-want +got):\n%s", diff)
			}
			wantShort(t, err)
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("what was taken is not valid: %v", err)
		}
		if r.Host != env.Host || r.Group != env.Group || version != "" && version != restart.WireVersion || !json.Valid(data) {
			t.Fatalf("got host %q in group %q, version %q", r.Host, r.Group, version)
		}
		wire, err := r.Encode()
		if err != nil {
			t.Fatalf("what was taken cannot be encoded: %v", err)
		}
		again := mustDecode(t, env, string(wire))
		r.Raw, again.Raw = nil, nil
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("request after another way over the wire (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, bm := range []struct{ name, reason string }{
		{"Plain", "kernel update"},
		{"Escaped", `"kernel" & more`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			r := newRequest()
			r.Reason = bm.reason
			data, err := r.Encode()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := restart.Decode(envelope, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCampaignID_DependsOnCampaignAndHostAndNothingElse(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	ids := []uuid.UUID{restart.CampaignID(a, "web-1"), restart.CampaignID(a, "web-2"), restart.CampaignID(b, "web-1")}
	if restart.CampaignID(a, "web-1") != ids[0] || ids[0] == ids[1] || ids[0] == ids[2] || ids[0].Version() != 5 {
		t.Errorf("got %v", ids)
	}
}
