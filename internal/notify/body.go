package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
)

// newRender returns what makes the body of a message: the template, or the default if it is empty. A template that does
// not give JSON for any notice of the samples is an error.
func newRender(text string) (func(Notice) ([]byte, error), error) {
	if text == "" {
		return renderText, nil
	}
	t, err := template.New("body").Funcs(template.FuncMap{"json": toJSON, "escape": escape}).Parse(text)
	if err != nil {
		return nil, err
	}
	render := func(n Notice) ([]byte, error) { return execute(t, n) }
	for _, kind := range Kinds {
		for _, n := range samples(kind) {
			if _, err := render(n); err != nil {
				return nil, fmt.Errorf("for a notice of kind %s: %w", kind, err)
			}
		}
	}
	return render, nil
}

func execute(t *template.Template, n Notice) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, n); err != nil {
		return nil, err
	}
	var body json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &body); err != nil {
		return nil, fmt.Errorf("it does not give JSON (write {{json .Field}}, without quotes around it): %w", err)
	}
	return body, nil
}

// renderText returns what Slack, and whoever understands its messages, takes.
func renderText(n Notice) ([]byte, error) {
	return json.Marshal(struct {
		Text string `json:"text"`
	}{escape(n.Text())})
}

func toJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

// escape returns the text without what Slack would take for a link or a call to everybody in the channel: much of it was
// written by whoever may publish a request.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// samples returns notices of a kind that between them have, and lack, everything that a real one may. Their texts hold
// what breaks JSON that is pasted together.
func samples(kind Kind) []Notice {
	const rough = "say \"no\"\\\n\t<!channel> & so on"
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return []Notice{
		{Kind: kind, At: at},
		{
			Kind: kind, Group: "web", Host: "cattle-a1b2.example.net", ID: uuid.Max, Cause: rough, By: rough, Why: rough,
			Detail: rough, At: at, Until: at.Add(time.Hour), More: 41,
		},
	}
}
