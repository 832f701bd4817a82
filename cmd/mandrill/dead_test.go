package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/mayhem-mandrill/mandrill/internal/deadletter"
	"github.com/mayhem-mandrill/mandrill/internal/natsd/natsdtest"
	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/stream"
)

// A morgue is a server with dead letters, and no worker.
type morgue struct {
	server *natsdtest.Server
	js     jetstream.JetStream
	work   jetstream.Stream
	dead   jetstream.Stream
	box    *deadletter.Box
}

func newMorgue(t *testing.T, letters ...deadletter.Letter) *morgue {
	t.Helper()
	m := &morgue{server: natsdtest.Start(t)}
	m.js = m.server.JetStream(t)
	streams, err := stream.Ensure(t.Context(), m.js, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	m.work, m.dead = streams.Work, streams.Dead
	if m.box, err = deadletter.Open(t.Context(), m.js); err != nil {
		t.Fatal(err)
	}
	for _, l := range letters {
		m.bury(t, l)
	}
	return m
}

func (m *morgue) bury(t *testing.T, l deadletter.Letter) {
	t.Helper()
	if err := m.box.Bury(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

func (m *morgue) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runHere(t, append(args, "--nats", m.server.URL())...)
}

// runHere runs the program in this process, without a terminal or anything of the machine's own.
func runHere(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	a := newApp()
	a.environ, a.stdin, a.stdout, a.stderr = []string{"HOME=" + t.TempDir()}, nil, &out, file
	code = a.run(args)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), string(text)
}

// mustRun runs the program, which must exit with the code, and returns its standard output.
func (m *morgue) mustRun(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, stdout, stderr := m.run(t, args...)
	if code != want {
		t.Errorf("%s: got exit code %d, want %d:\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
	return stdout
}

func (m *morgue) letters(t *testing.T) (entries []deadletter.Entry) {
	t.Helper()
	for e, err := range m.box.Letters(t.Context(), deadletter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// requests returns what is on the work stream.
func (m *morgue) requests(t *testing.T) (requests []restart.Request) {
	t.Helper()
	info, err := m.work.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for sequence := max(1, info.State.FirstSeq); sequence <= info.State.LastSeq; sequence++ {
		msg, err := m.work.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		group, host, err := stream.ParseWorkSubject(msg.Subject)
		if err != nil {
			t.Fatal(err)
		}
		r, err := restart.Decode(restart.Envelope{Group: group, Host: host, Stored: noon, FallbackID: idOf(0)}, msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		r.Raw = nil
		requests = append(requests, r)
	}
	return requests
}

// letterOf returns the letter of the n-th request, which was given up n seconds after noon.
func letterOf(t *testing.T, n int, r restart.Request) deadletter.Letter {
	t.Helper()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	o := ended(r, restart.Dead, restart.ReasonAttempts)
	o.Detail = "3 attempts used up: refused for now"
	return deadletter.Letter{
		Outcome: o, WorkSubject: stream.WorkSubject(r.Group, r.Host), WorkSequence: uint64(n), Stored: r.RequestedAt,
		Deliveries: 4, Version: "1", Data: data,
	}
}

func deadHost(t *testing.T, n int) deadletter.Letter {
	t.Helper()
	return letterOf(t, n, stored(n, restart.Host(fmt.Sprintf("host-%d.example.net", n))))
}

func malformedLetter(n int, data []byte) deadletter.Letter {
	return deadletter.Letter{
		Outcome: restart.Outcome{
			ID: idOf(n), Host: "bad.example.net", Group: "web", Kind: restart.Dead, Reason: restart.ReasonMalformed,
			Detail: "not a request", At: noon,
		},
		WorkSubject: "mandrill.restart.web.bad.example.net", WorkSequence: uint64(n), Stored: noon, Deliveries: 1, Data: data,
	}
}

func TestDeadList_LatestComesFirstAndNoMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 2), deadHost(t, 3), deadHost(t, 1))
	want := strings.Join([]string{
		"GIVEN UP              HOST                GROUP  REASON    ATTEMPTS  LAST ERROR                           ID                                    REQUEUED AS",
		"2026-11-21T12:00:05Z  host-3.example.net  web    attempts  1         3 attempts used up: refused for now  00000000-0000-7000-8000-000000000003  -",
		"2026-11-21T12:00:04Z  host-2.example.net  web    attempts  1         3 attempts used up: refused for now  00000000-0000-7000-8000-000000000002  -",
		"",
	}, "\n")
	if diff := cmp.Diff(want, m.mustRun(t, exitDone, "dead", "list", "--limit", "2")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	m.mustRun(t, exitDone, "dead", "requeue", idOf(3).String())
	var rows []deadRow
	if err := json.Unmarshal([]byte(m.mustRun(t, exitDone, "dead", "list", "--output", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[0].ID != idOf(3) || rows[0].RequeuedAs != restart.RequeueID(idOf(3)) || rows[0].RequeuedAt.IsZero() {
		t.Errorf("got %+v, want three, the first marked", rows)
	}
}

// One letter that cannot be read must neither hide the others nor go unnoticed by a script.
func TestDead_LetterThatCannotBeReadIsToldByTheExitCode(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1))
	if _, err := m.js.Publish(t.Context(), "mandrill.dead.web.x.7", []byte("no letter")); err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"list"}, {"list", "--output", "json"}, {"requeue", "--all"}} {
		code, stdout, stderr := m.run(t, append([]string{"dead"}, verb...)...)
		if code != exitPartly || !strings.Contains(stdout, "host-1.example.net") || !strings.Contains(stderr, "mandrill.dead.web.x.7") {
			t.Errorf("%v: got exit code %d, want %d, the other letter and the name of this one:\n%s%s", verb, code, exitPartly, stdout, stderr)
		}
	}
	m.mustRun(t, exitDone, "dead", "show", idOf(1).String())
	m.mustRun(t, exitDone, "dead", "requeue", idOf(1).String())
	if got := m.mustRun(t, exitDone, "dead", "purge", "--all"); got != "removed 2\n" {
		t.Errorf("got %q, want both removed", got)
	}
	m.mustRun(t, exitDone, "dead", "list")
}

func TestDeadShow_TellsAll(t *testing.T) {
	t.Parallel()
	l := deadHost(t, 1)
	m := newMorgue(t, l)
	id := idOf(1).String()
	m.mustRun(t, exitDone, "dead", "requeue", id)
	got := m.mustRun(t, exitDone, "dead", "show", id)
	for _, line := range []string{
		"request        " + id,
		"host           host-1.example.net",
		"group          web",
		"reason         attempts",
		"last error     3 attempts used up: refused for now",
		"given up at    2026-11-21T12:00:03.623456Z",
		"attempts       1",
		"deliveries     4",
		"worker         worker-1",
		"from           7",
		"work subject   mandrill.restart.web.host-1.example.net",
		"work sequence  1",
		"stored at      2026-11-21T12:00:01.123456Z",
		"wire version   1",
		"requeued as    " + restart.RequeueID(idOf(1)).String(),
		fmt.Sprintf("came           %d bytes", len(l.Data)),
		"as text        " + string(l.Data),
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("there is no %q in\n%s", line, got)
		}
	}
	var letters []deadletter.Letter
	if err := json.Unmarshal([]byte(m.mustRun(t, exitDone, "dead", "show", id, "--output", "json")), &letters); err != nil {
		t.Fatal(err)
	}
	l.RequeuedAs, l.RequeuedAt = restart.RequeueID(idOf(1)), letters[0].RequeuedAt
	if diff := cmp.Diff([]deadletter.Letter{l}, letters); diff != "" || l.RequeuedAt.IsZero() {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// Whoever finds out what a sender does wrong needs its very bytes; a terminal must not obey them.
func TestDeadShow_MalformedIsShownAsTextAndInHexadecimal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data []byte
		text string // empty: none
	}{
		"text":      {[]byte(`host: "a"`), `host: "a"`},
		"controls":  {[]byte("\x1b[2Jhello\n"), `"\x1b[2Jhello\n"`},
		"no UTF-8":  {[]byte("\xff\xfe{\x00}\x00"), ""},
		"nothing":   {[]byte{}, "-"},
		"many":      {bytes.Repeat([]byte("0123456789abcdef"), 4096), strings.Repeat("0123456789abcdef", 4096)},
		"of no use": {[]byte("{}{}"), "{}{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMorgue(t, malformedLetter(1, tt.data))
			got := m.mustRun(t, exitDone, "dead", "show", idOf(1).String())
			if !strings.HasSuffix(got, hex.Dump(tt.data)) {
				t.Errorf("the bytes are not there:\n%.2000s", got)
			}
			if text := "as text        " + tt.text + "\n"; strings.Contains(got, text) != (tt.text != "") || strings.Contains(got, "\x1b") {
				t.Errorf("text: got %.2000q, want it to have %.100q", got, tt.text)
			}
		})
	}
}

func TestDeadShow_SaysThatOnlyTheBeginningWasKept(t *testing.T) {
	t.Parallel()
	l := malformedLetter(1, []byte("beginning"))
	l.DataSize = 1 << 20
	got := newMorgue(t, l).mustRun(t, exitDone, "dead", "show", idOf(1).String())
	if !strings.Contains(got, "came           1048576 bytes, of which the first 9 were kept\n") {
		t.Errorf("got\n%s", got)
	}
}

// Two letters of one id: its sender has sent it twice.
func TestDeadShow_ShowsEachLetterOfAnID(t *testing.T) {
	t.Parallel()
	first, second := deadHost(t, 1), deadHost(t, 1)
	second.WorkSequence, second.Stored = 9, second.Stored.Add(time.Hour)
	m := newMorgue(t, first, second)
	if got := m.mustRun(t, exitDone, "dead", "show", idOf(1).String()); strings.Count(got, "work sequence") != 2 {
		t.Errorf("got\n%s", got)
	}
}

func TestDeadList_TextShowsWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	l := malformedLetter(1, []byte("x"))
	l.Outcome.Detail = "\x1b[2J\n" + strings.Repeat("long ", 1000)
	l.Outcome.Host = ""
	got := newMorgue(t, l).mustRun(t, exitDone, "dead", "list")
	if strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 || len(got) > 600 {
		t.Errorf("got %q", got)
	}
}

// What is listed is the latest, however the marks have mixed the order up.
func TestLatestRows_AreTheLatestAndFew(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 10).Draw(t, "limit")
		seconds := rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 60).Draw(t, "seconds")
		latest := latestRows{limit: limit}
		var all []time.Time
		for _, s := range seconds {
			at := noon.Add(time.Duration(s) * time.Second)
			all = append(all, at)
			latest.add(deadRow{At: at})
			if limit > 0 && len(latest.rows) > 2*limit {
				t.Fatalf("holds %d rows for %d", len(latest.rows), limit)
			}
		}
		latest.trim()
		slices.SortFunc(all, func(a, b time.Time) int { return b.Compare(a) })
		if limit > 0 {
			all = all[:min(limit, len(all))]
		}
		var got []time.Time
		for _, r := range latest.rows {
			got = append(got, r.At)
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Fatalf("rows (-want +got):\n%s", diff)
		}
	})
}

// A reason that --reason does not know could not be chosen.
func TestDead_EveryReasonOfTheDeadCanBeChosen(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile(filepath.Join(root, "internal/restart/outcome.go"))
	if err != nil {
		t.Fatal(err)
	}
	var want []restart.Reason
	for _, match := range regexp.MustCompile(`(?m)Reason = "(\w+)"\s+// dead:`).FindAllSubmatch(code, -1) {
		want = append(want, restart.Reason(match[1]))
	}
	if diff := cmp.Diff(want, deadReasons); diff != "" || len(want) == 0 {
		t.Errorf("reasons (-code +flag):\n%s", diff)
	}
}

func TestDeadPurge_RemovesWhatIsChosenAndCountsIt(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1), deadHost(t, 2), deadHost(t, 3), malformedLetter(4, nil))
	m.mustRun(t, exitDone, "dead", "requeue", idOf(1).String())
	if got := m.mustRun(t, exitDone, "dead", "purge", "--requeued"); got != "removed 1\n" {
		t.Errorf("requeued ones: got %q", got)
	}
	if got := m.mustRun(t, exitDone, "dead", "purge", "--reason", "malformed", "--output", "json"); got != `{"removed":1}`+"\n" {
		t.Errorf("malformed ones: got %q", got)
	}
	if got := m.mustRun(t, exitDone, "dead", "purge", "--older-than", "87600h"); got != "removed 0\n" {
		t.Errorf("of ten years ago: got %q", got)
	}
	if got := m.letters(t); len(got) != 2 || got[0].Outcome.ID != idOf(2) || got[1].Outcome.ID != idOf(3) {
		t.Errorf("got %+v, want what was not chosen", got)
	}
	if m.mustRun(t, exitFailed, "dead", "purge", idOf(2).String(), idOf(9).String()); len(m.letters(t)) != 2 {
		t.Error("an id that has no letter must leave all as they are")
	}
}

func TestDeadPurge_SaysWhyNothingWasRemoved(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, deadHost(t, 1))
	cfg := m.dead.CachedInfo().Config
	cfg.DenyDelete = true
	if _, err := m.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := m.run(t, "dead", "purge", "--all")
	if code != exitFailed || stdout != "removed 0\n" || !strings.Contains(stderr, "cannot remove dead letter mandrill.dead.web.host-1.example.net.1") {
		t.Errorf("got exit code %d, %q and %q", code, stdout, stderr)
	}
}

// TestPermissions_OfTheDeadLettersSuffice: whoever is given what the manual says, and nothing more, can use every verb.
func TestPermissions_OfTheDeadLettersSuffice(t *testing.T) {
	t.Parallel()
	allowed := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	reader := &server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	for _, b := range blocks(t, "text") {
		for line := range strings.Lines(b.text) {
			what, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
			subject = strings.ReplaceAll(strings.TrimSpace(subject), "<group>", "web")
			for _, p := range []*server.Permissions{allowed, reader} {
				switch {
				case b.kind != "permissions" && b.kind != "permissions_dead" || p == reader && b.name != "reader":
				case what == "publish":
					p.Publish.Allow = append(p.Publish.Allow, subject)
				case what == "subscribe":
					p.Subscribe.Allow = append(p.Subscribe.Allow, subject)
				default:
					t.Errorf("%s: %q is no permission", b.page, line)
				}
			}
		}
	}
	if len(reader.Publish.Allow) == 0 || len(allowed.Publish.Allow) <= len(reader.Publish.Allow) {
		t.Fatal("no permissions are all permissions")
	}
	for _, tt := range []struct {
		user  *server.Permissions
		verbs [][]string
	}{
		{reader, [][]string{{"list"}, {"requeue", "--all", "--dry-run"}}},
		{allowed, [][]string{{"list"}, {"show", idOf(1).String()}, {"requeue", "--all"}, {"purge", "--all"}, {"purge", "--all"}}},
	} {
		url := startRestricted(t, tt.user)
		if tt.user == allowed { // who may bury, too
			conn, err := nats.Connect(url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			data, err := json.Marshal(deadHost(t, 1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Request("mandrill.dead.web.host-1.example.net.1", data, patience); err != nil {
				t.Fatal(err)
			}
		}
		for _, verb := range tt.verbs {
			code, stdout, stderr := runHere(t, append(append([]string{"dead"}, verb...), "--nats", url)...)
			if code != exitDone || strings.Contains(stderr, "permit") {
				t.Errorf("%v: got exit code %d:\n%s%s", verb, code, stdout, stderr)
			}
		}
	}
}
