package plainjson_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mayhem-mandrill/mandrill/internal/plainjson"
	"github.com/mayhem-mandrill/mandrill/internal/plainjson/plainjsontest"
)

// everything has a field for each method.
type everything struct {
	Text     string    `json:"text"`
	OptText  string    `json:"opt_text,omitempty"`
	ID       uuid.UUID `json:"id"`
	Time     time.Time `json:"time"`
	OptTime  time.Time `json:"opt_time,omitzero"`
	OptInt   int       `json:"opt_int,omitempty"`
	OptTrue  bool      `json:"opt_true,omitempty"`
	Inner    inner     `json:"inner"`
	Elements []inner   `json:"elements,omitempty"`
}

type inner struct {
	Text string `json:"text,omitempty"`
}

func (e *everything) encodeInto(buf []byte) ([]byte, error) {
	w := plainjson.NewWriter(buf)
	w.String("text", e.Text)
	w.OptString("opt_text", e.OptText)
	w.UUID("id", e.ID)
	w.Time("time", e.Time)
	w.OptTime("opt_time", e.OptTime)
	w.OptInt("opt_int", e.OptInt)
	w.OptTrue("opt_true", e.OptTrue)
	w.Begin("inner", '{')
	w.OptString("text", e.Inner.Text)
	w.End('}')
	if len(e.Elements) > 0 {
		w.Begin("elements", '[')
		for _, element := range e.Elements {
			w.Begin("", '{')
			w.OptString("text", element.Text)
			w.End('}')
		}
		w.End(']')
	}
	return w.Bytes()
}

// What differs by one byte is read as something else by somebody, or by nobody.
func TestWriter_WritesWhatEncodingJSONWrites(t *testing.T) {
	plainjsontest.Run(t, (*everything).encodeInto)
}

func TestWriter_StringWritesEachByte(t *testing.T) {
	for b := range 256 {
		wantText(t, string([]byte{byte(b)}))
	}
}

func FuzzWriter_String(f *testing.F) {
	for _, seed := range []string{"", "a", `"\"`, "<&>", "\u0080\u2028\u2029\ufffd", "\xff\xed\xa0\x80", "é\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(wantText)
}

func wantText(t *testing.T, s string) {
	t.Helper()
	want, err := json.Marshal(map[string]string{"text": s})
	if err != nil {
		t.Fatal(err)
	}
	w := plainjson.NewWriter(nil)
	w.String("text", s)
	if got, err := w.Bytes(); err != nil || string(got) != string(want) {
		t.Errorf("%q: got %s, %v, want %s", s, got, err, want)
	}
}

func TestWriter_TakesNoMemoryWhereTheBufferIsLongEnough(t *testing.T) {
	e := everything{Text: "a", OptText: "b", ID: uuid.New(), Time: time.Now(), OptInt: 1, Elements: []inner{{"c"}, {"d"}}}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { _, _ = e.encodeInto(buf) }); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
