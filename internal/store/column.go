package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mayhem-mandrill/mandrill/internal/restart"
)

// ChecksText returns checks as databases keep them: as JSON, and nothing for none. Their texts must be as Text returns
// them. It is written by hand, because json.Marshal is a tenth of what an outcome costs.
func ChecksText(checks []restart.Check) string {
	if len(checks) == 0 {
		return ""
	}
	text := make([]byte, 0, 256)
	separator := byte('[')
	for _, c := range checks {
		text = append(text, separator)
		text = appendJSON(append(text, `{"check":`...), c.Name)
		text = append(appendJSON(append(text, `,"result":`...), c.Result), '}')
		separator = ','
	}
	return string(append(text, ']'))
}

func appendJSON(text []byte, s string) []byte {
	text = append(text, '"')
	for i := range len(s) {
		switch b := s[i]; {
		case b == '"' || b == '\\':
			text = append(text, '\\', b)
		case b < ' ':
			text = fmt.Appendf(text, `\u%04x`, b)
		default:
			text = append(text, b)
		}
	}
	return append(text, '"')
}

// Checks scan what ChecksText returned, or null.
type Checks []restart.Check

// Scan implements sql.Scanner. It shares nothing with what was scanned before.
func (c *Checks) Scan(src any) error {
	var checks []restart.Check
	switch text := src.(type) {
	case nil:
	case string:
		if err := json.Unmarshal([]byte(text), &checks); err != nil {
			return fmt.Errorf("cannot decode checks: %w", err)
		}
	default:
		return fmt.Errorf("checks are stored as a %T", src)
	}
	*c = checks
	return nil
}

// A Span scans microseconds, or null for zero.
type Span restart.Duration

// Scan implements sql.Scanner.
func (s *Span) Scan(src any) error {
	switch us := src.(type) {
	case nil:
		*s = 0
	case int64:
		*s = Span(time.Duration(us) * time.Microsecond)
	default:
		return fmt.Errorf("span is stored as a %T", src)
	}
	return nil
}
