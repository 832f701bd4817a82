package ops

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Problem is something that whoever asks for readiness should know.
type Problem struct {
	Name   string `json:"name"`   // one word, such as nats, database or overloaded
	Detail string `json:"detail"` // a sentence for people
	// Advisory says that the work goes on all the same, if not as well.
	Advisory bool `json:"advisory,omitempty"`
}

// Liveness says whether the process can go on without a restart.
type Liveness struct {
	Live   bool   `json:"live"`
	Detail string `json:"detail,omitempty"` // why not
}

// Readiness says whether the process can do its work.
type Readiness struct {
	Ready    bool      `json:"ready"`
	Problems []Problem `json:"problems,omitempty"` // advisory ones too
}

func liveness(err error) Liveness {
	if err != nil {
		return Liveness{Detail: err.Error()}
	}
	return Liveness{Live: true}
}

func readiness(problems []Problem) Readiness {
	return Readiness{
		Ready:    !slices.ContainsFunc(problems, func(p Problem) bool { return !p.Advisory }),
		Problems: problems,
	}
}

func (l Liveness) good() bool { return l.Live }

func (l Liveness) text() string {
	if l.Live {
		return "live\n"
	}
	return "not live\n" + oneLine(l.Detail) + "\n"
}

func (r Readiness) good() bool { return r.Ready }

func (r Readiness) text() string {
	var b strings.Builder
	if !r.Ready {
		b.WriteString("not ")
	}
	b.WriteString("ready\n")
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s: %s", p.Name, oneLine(p.Detail))
		if p.Advisory {
			b.WriteString(" (advisory)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

// answer writes 200 or 503, as JSON to whoever prefers that, and as text to everybody else.
func answer(w http.ResponseWriter, r *http.Request, a interface {
	good() bool
	text() string
},
) {
	body, contentType := []byte(a.text()), "text/plain; charset=utf-8"
	if prefersJSON(r.Header.Values("Accept")) {
		if data, err := json.Marshal(a); err == nil { // which bool and string cannot make fail
			body, contentType = append(data, '\n'), "application/json"
		}
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept")
	header.Set("X-Content-Type-Options", "nosniff")
	if !a.good() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body) // a client that has gone need not hear it
}

// prefersJSON reports whether the Accept headers ask for JSON by name, and for text less.
func prefersJSON(accept []string) bool {
	var asJSON, asText float64
	for _, item := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch mediaType {
		case "application/json":
			asJSON = max(asJSON, q)
		case "text/plain", "text/*":
			asText = max(asText, q)
		}
	}
	return asJSON > asText
}
