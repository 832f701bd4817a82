package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
	"github.com/mayhem-mandrill/mandrill/internal/store"
	"github.com/mayhem-mandrill/mandrill/internal/store/storetest"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 123_456_000, time.UTC)

// idOf returns an id that a reader of a failed test knows again.
func idOf(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", n)) }

// stored returns the n-th request, asked for at noon and n seconds.
func stored(n int, host restart.Host) restart.Request {
	return restart.Request{
		ID: idOf(n), Instance: string(host), Host: host, Group: "web", Reason: "leaks", RequestedBy: "roman@laptop",
		RequestedAt: noon.Add(time.Duration(n) * time.Second), NotAfter: noon.Add(24 * time.Hour),
	}
}

func ended(r restart.Request, kind restart.Kind, reason restart.Reason) restart.Outcome {
	return restart.Outcome{
		ID: r.ID, Host: r.Host, Group: r.Group, Kind: kind, Reason: reason, Detail: "as it ended",
		At: r.RequestedAt.Add(2500 * time.Millisecond),
		Receipt: restart.Receipt{
			RequestedAt: r.RequestedAt, Worker: "worker-1", Attempt: 1, From: "7", To: "8",
			TriggeredAt: r.RequestedAt.Add(time.Second), VerifiedAt: r.RequestedAt.Add(2 * time.Second),
		},
	}
}

// newMemory returns a database with these requests, and these outcomes.
func newMemory(t *testing.T, requests []restart.Request, outcomes ...restart.Outcome) *storetest.Memory {
	t.Helper()
	db := &storetest.Memory{}
	for _, r := range requests {
		if err := db.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range outcomes {
		if _, err := db.Finish(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func printed(t *testing.T, db store.Store, out output) string {
	t.Helper()
	var w bytes.Buffer
	if _, err := printHistory(t.Context(), &w, out, db.History(t.Context(), store.Filter{})); err != nil {
		t.Fatal(err)
	}
	return w.String()
}

func TestHistory_TextIsATableForPeople(t *testing.T) {
	t.Parallel()
	a, b := stored(1, "a.example.net"), stored(2, "long-name.example.net")
	b.RequestedBy = ""
	want := strings.Join([]string{
		"REQUESTED             HOST                   GROUP  OUTCOME    REASON    SECONDS  REQUESTED BY  ID",
		"2026-11-21T12:00:02Z  long-name.example.net  web    -          -         -        -             00000000-0000-7000-8000-000000000002",
		"2026-11-21T12:00:01Z  a.example.net          web    restarted  verified  2.5      roman@laptop  00000000-0000-7000-8000-000000000001",
		"",
	}, "\n")
	got := printed(t, newMemory(t, []restart.Request{a, b}, ended(a, restart.Restarted, restart.ReasonVerified)), outputText)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// Whoever may publish may write what they like into a request. It must not clear an operator's screen, or pretend to be
// another line of the table.
func TestHistory_TextShowsWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\x1b[2J", "a\nb", "a\rb", "a\tb", "\x07", "\x7f", "\u009b2J", "\u202egnp.exe", "\u200bx", "\ufeffx", "a\u2028b", "\xff",
	} {
		r := stored(1, "a.example.net")
		r.RequestedBy, r.Reason, r.Campaign = text, text, text
		r.Raw = []byte(`{"x":"` + text + `"}`)
		db := newMemory(t, []restart.Request{r}, restart.Outcome{ID: r.ID, Kind: restart.Dead, Detail: text})
		s, err := tellStory(t.Context(), db, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		var told bytes.Buffer
		if err := s.print(&told); err != nil {
			t.Fatal(err)
		}
		list := printed(t, db, outputText)
		if n := strings.Count(list, "\n"); n != 2 {
			t.Errorf("%q: got a table of %d lines, want 2", text, n)
		}
		for _, shown := range []string{list, told.String()} {
			if strings.Contains(shown, text) {
				t.Errorf("%q is shown as it is:\n%s", text, shown)
			}
		}
	}
	for _, text := range []string{"Zoë (Zürich)", "日本", "\ufffd", `say "please"`, "-"} {
		if got := plain(text); got != text {
			t.Errorf("got %q, want %q as it is", got, text)
		}
	}
	for _, text := range []string{"", " ", "\n"} {
		if got := plain(text); got != "-" {
			t.Errorf("%q: got %q, want a dash", text, got)
		}
	}
}

// One line that is too long must not make every line so.
func TestTable_WidthsAreBounded(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	table := newTable(&w, "A", "B")
	for _, cell := range []string{"x", strings.Repeat("y", 4096)} {
		if err := table.row(cell, "z"); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	if second := strings.Split(w.String(), "\n")[1]; len(second) > 100 {
		t.Errorf("a short row got %d bytes", len(second))
	}
}

// The history may be larger than memory: after the first page, a row is printed before the next is read.
func TestHistory_HoldsNoMoreThanAPage(t *testing.T) {
	t.Parallel()
	const rows = 5000
	for _, out := range []output{outputText, outputJSON, outputCSV} {
		t.Run(string(out), func(t *testing.T) {
			t.Parallel()
			var w countingWriter
			most := 0
			n, err := printHistory(t.Context(), &w, out, func(yield func(store.Entry, error) bool) {
				for i := range rows {
					most = max(most, i-w.lines)
					if !yield(store.Entry{Request: stored(i, "a.example.net")}, nil) {
						return
					}
				}
			})
			if err != nil || n != rows {
				t.Fatalf("got %d rows, %v, want %d", n, err, rows)
			}
			if most > 1000 { // a page, and what the buffer of 64 KiB holds
				t.Errorf("%d rows were read and not yet printed", most)
			}
			if w.lines < rows {
				t.Errorf("got %d lines, want one for each of %d rows", w.lines, rows)
			}
		})
	}
}

type countingWriter struct{ lines int }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.lines += bytes.Count(p, []byte("\n"))
	return len(p), nil
}

func TestHistory_JSONIsOneArrayOfRequestsWithOutcomes(t *testing.T) {
	t.Parallel()
	a, b := stored(1, "a.example.net"), stored(2, "b.example.net")
	b.MinUptime = restart.Duration(time.Hour)
	outcome := ended(a, restart.Skipped, restart.ReasonMinUptime)
	got := printed(t, newMemory(t, []restart.Request{a, b}, outcome), outputJSON)
	var elements []map[string]any
	if err := json.Unmarshal([]byte(got), &elements); err != nil || len(elements) != 2 {
		t.Fatalf("got %v, want two elements: %s", err, got)
	}
	if value, there := elements[0]["outcome"]; !there || value != nil {
		t.Errorf("got outcome %v, want null for a request that has none", value)
	}
	wantOutcome, err := json.Marshal(outcome)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(anyJSON(t, wantOutcome), elements[1]["outcome"]); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	for i, r := range []restart.Request{b, a} {
		wire, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		delete(elements[i], "outcome")
		if diff := cmp.Diff(anyJSON(t, wire), any(elements[i])); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
	if got := printed(t, newMemory(t, nil), outputJSON); got != "[]\n" {
		t.Errorf("got %q of nothing, want an empty array", got)
	}
}

func TestHistory_CSVIsReadBackAsItWas(t *testing.T) {
	t.Parallel()
	a, b := stored(1, "a.example.net"), stored(2, "b.example.net")
	a.Reason = "one, \"two\"\nand ; =three"
	a.MinUptime = restart.Duration(time.Hour)
	rows, err := csv.NewReader(strings.NewReader(
		printed(t, newMemory(t, []restart.Request{a, b}, ended(a, restart.Dead, restart.ReasonNotReady)), outputCSV))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		historyColumns,
		{
			b.ID.String(), "b.example.net", "web", "b.example.net", "leaks", "roman@laptop", "2026-11-21T12:00:02.123456Z",
			"2026-11-22T12:00:00.123456Z", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
		},
		{
			a.ID.String(), "a.example.net", "web", "a.example.net", a.Reason, "roman@laptop", "2026-11-21T12:00:01.123456Z",
			"2026-11-22T12:00:00.123456Z", "", "", "", "1h0m0s", "dead", "not_ready", "as it ended", "2026-11-21T12:00:03.623456Z",
			"2.500000", "worker-1", "1", "7", "8", "2026-11-21T12:00:02.123456Z", "2026-11-21T12:00:03.123456Z",
		},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got := printed(t, newMemory(t, nil), outputCSV); got != strings.Join(historyColumns, ",")+"\n" {
		t.Errorf("got %q of nothing, want the header", got)
	}
}

// What ends early must not look whole to a program, and must not be lost for a person.
func TestHistory_ThatEndsEarlySaysSo(t *testing.T) {
	t.Parallel()
	cause := errors.New("gone")
	one := store.Entry{Request: stored(1, "a.example.net")}
	for name, entries := range map[string]func(stop context.CancelCauseFunc) iter.Seq2[store.Entry, error]{
		"by the database": func(context.CancelCauseFunc) iter.Seq2[store.Entry, error] {
			return func(yield func(store.Entry, error) bool) { _ = yield(one, nil) && yield(store.Entry{}, cause) }
		},
		"by a signal": func(stop context.CancelCauseFunc) iter.Seq2[store.Entry, error] {
			return func(yield func(store.Entry, error) bool) {
				for yield(one, nil) {
					stop(cause)
				}
			}
		},
	} {
		for _, out := range []output{outputText, outputJSON, outputCSV} {
			ctx, stop := context.WithCancelCause(t.Context())
			var w bytes.Buffer
			n, err := printHistory(ctx, &w, out, entries(stop))
			stop(nil)
			if n != 1 || !errors.Is(err, cause) {
				t.Errorf("%s, %s: got %d rows, %v, want 1 and the cause", name, out, n, err)
			}
			if !strings.Contains(w.String(), "a.example.net") {
				t.Errorf("%s, %s: what was read is not printed: %q", name, out, w.String())
			}
			if out == outputJSON && json.Valid(w.Bytes()) {
				t.Errorf("%s: half of an array is closed: %s", name, w.String())
			}
		}
	}
}

// A full disk or a closed pipe ends the reading, whatever the number of rows.
func TestHistory_EndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	for _, out := range []output{outputText, outputJSON, outputCSV} {
		n, err := printHistory(t.Context(), brokenWriter{}, out, func(yield func(store.Entry, error) bool) {
			for i := 0; i < 100_000 && yield(store.Entry{Request: stored(i, "a.example.net")}, nil); i++ {
			}
		})
		if !errors.Is(err, errBroken) || n > 10_000 {
			t.Errorf("%s: got %v after %d rows", out, err, n)
		}
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestStory_TellsAttemptsReceiptAndOutcome(t *testing.T) {
	t.Parallel()
	r := stored(1, "a.example.net")
	db := newMemory(t, []restart.Request{r}, func() restart.Outcome {
		o := ended(r, restart.Restarted, restart.ReasonVerified)
		o.Receipt.Attempt = 2
		return o
	}())
	first := restart.Attempt{
		Request: r.ID, Number: 1, Worker: "worker-0", StartedAt: r.RequestedAt, From: "7", Error: "refused for now",
	}
	if err := db.Attempted(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s, err := tellStory(t.Context(), db, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	if err := s.print(&w); err != nil {
		t.Fatal(err)
	}
	const want = `request        00000000-0000-7000-8000-000000000001
host           a.example.net
group          web
instance       a.example.net
reason         leaks
requested by   roman@laptop
requested at   2026-11-21T12:00:01.123456Z
not after      2026-11-22T12:00:00.123456Z
min uptime     -
campaign       -
replay of      -
requeued from  -

ATTEMPT  WORKER    STARTED                      ENDED                        FROM  TO  ERROR
1        worker-0  2026-11-21T12:00:01.123456Z  -                            7     -   refused for now
2        worker-1  2026-11-21T12:00:02.123456Z  2026-11-21T12:00:03.123456Z  7     8   -

outcome        restarted
reason         verified
detail         as it ended
at             2026-11-21T12:00:03.623456Z
seconds        2.500
worker         worker-1
attempt        2
from           7
to             8
triggered at   2026-11-21T12:00:02.123456Z
verified at    2026-11-21T12:00:03.123456Z
down           -
`
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
}

// Of a message that could not be read there is an outcome, and no request.
func TestStory_IsToldWhereOnlyHalfIsOnRecord(t *testing.T) {
	t.Parallel()
	waiting, unread := stored(1, "a.example.net"), stored(2, "b.example.net")
	db := newMemory(t, []restart.Request{waiting}, restart.Outcome{
		ID: unread.ID, Host: unread.Host, Group: unread.Group, Kind: restart.Dead, Reason: restart.ReasonMalformed, At: noon,
	})
	for id, want := range map[uuid.UUID][]string{
		waiting.ID: {"attempts       never triggered", "outcome        none yet"},
		unread.ID:  {"request        not on record", "reason         malformed", "seconds        -", "host           b.example.net"},
	} {
		s, err := tellStory(t.Context(), db, id)
		if err != nil {
			t.Fatal(err)
		}
		var w bytes.Buffer
		if err := s.print(&w); err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(w.String(), line+"\n") {
				t.Errorf("%s: got no line %q:\n%s", id, line, w.String())
			}
		}
	}
	if _, err := tellStory(t.Context(), db, idOf(3)); err == nil || !strings.Contains(err.Error(), idOf(3).String()) {
		t.Errorf("got %v, want an error that names the id", err)
	}
}

func TestStory_ShowsTheBytesThatSayMore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		want bool
		raw  func(encoded string) string
	}{
		{"nothing came", false, func(string) string { return "" }},
		{"as we would write it", false, func(s string) string { return s }},
		{"a more precise time", false, func(s string) string {
			return strings.Replace(s, `"requested_at":"2026-11-21T12:00:01.123456Z"`, `"requested_at":"2026-11-21T12:00:01.123456789Z"`, 1)
		}},
		{"what was left to us", false, func(string) string { return `{"reason":"leaks"}` }},
		{"an unknown field", true, func(s string) string { return `{"colour":"red",` + s[1:] }},
		{"another value", true, func(s string) string { return strings.Replace(s, "leaks", "leaks\\u0000", 1) }},
		{"no JSON", true, func(string) string { return "x" }},
	} {
		r := stored(1, "a.example.net")
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if raw := tt.raw(string(encoded)); raw != "" {
			r.Raw = []byte(raw)
		}
		if got := saysMore(r); got != tt.want {
			t.Errorf("%s: got %t, want %t: %s", tt.name, got, tt.want, r.Raw)
		}
	}
}

func TestParseID_TakesOnlyWhatWePrint(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "{" + idOf(1).String() + "}", "urn:uuid:" + idOf(1).String(), strings.ReplaceAll(idOf(1).String(), "-", "")} {
		if id, err := parseID("history", text); err == nil {
			t.Errorf("%q: got %s, want an error", text, id)
		}
	}
	if id, err := parseID("history", strings.ToUpper(idOf(1).String())); err != nil || id != idOf(1) {
		t.Errorf("got %s, %v", id, err)
	}
}
